"""Write all generated files that changed: ``python -m tools.generated``, or ``make manifests``."""

from __future__ import annotations

import sys

from tools import chart, webhook_manifests
from tools.monitoring import dashboard


def main() -> None:
    """Write the files. The chart is last, because it has copies of some of the others."""
    for files in (
        webhook_manifests.manifests,
        lambda: {dashboard.PATH: dashboard.rendered()},
        chart.files,
    ):
        for path, text in files().items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
