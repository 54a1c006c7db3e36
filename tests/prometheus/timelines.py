"""Timelines on which the alerts are tested: the series, and when each alert fires.

Times are minutes since the Unix epoch, at which the clock of promtool starts. In the values, ``0x10`` is a
sample of 0 and ten more, one each minute; ``_x10`` is ten minutes without one; ``stale`` ends a series.
Every alert has a timeline on which it fires and recovers, and one on which it stays silent. An alert on a
counter fires at the first event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The expected states of one alert on some series.

    ``silent`` and ``fires`` are minutes. ``labels`` and ``description`` are those of the alert at the first
    minute of ``fires``.
    """

    alert: str
    name: str
    series: Mapping[str, str]
    silent: Sequence[int]
    fires: Sequence[int] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


FILES: Final = Path(__file__).parent / "alerts"

TIMELINES: Final = tuple(
    Timeline(**entry)
    for path in sorted(FILES.glob("*.yaml"))
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
)
