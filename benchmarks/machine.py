"""The machine and the versions of a run. Figures can only be interpreted together with these."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LATEST: Final = ROOT / "benchmarks" / "results" / "latest"
"""The folder of results that are not committed."""

PACKAGES: Final = ("aiohttp", "orjson", "uvloop", "msgspec", "prometheus-client", "structlog")


def describe() -> dict[str, Any]:
    """Return the commit, machine, versions and load of a run.

    The keys are ``commit``, ``dirty``, ``machine`` (must be equal in compared runs), ``versions`` and
    ``load_average``.
    """
    changes = _git(
        "status", "--porcelain", "--", "gatekeeper_py", "k8s", "benchmarks", ":!benchmarks/results"
    )
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": changes not in {"", None},
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "kernel": platform.release().partition("-")[0],
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            **{name: _version(name) for name in PACKAGES},
        },
        "load_average": os.getloadavg()[0],
    }


def _processor() -> str:
    """Return the model name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(described: Mapping[str, Any]) -> str:
    """Return the commit of a described run, as text for a report."""
    return f"{(described['commit'] or 'unknown')[:12]}{' with changes' if described['dirty'] else ''}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # an unpacked archive
    return done.stdout.strip()
