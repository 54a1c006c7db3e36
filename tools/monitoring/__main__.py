"""Write monitoring/dashboard.json: ``python -m tools.monitoring``."""

from __future__ import annotations

from tools.monitoring.dashboard import PATH, rendered

PATH.write_text(rendered(), encoding="utf-8")
