"""gatekeeper-py as a contestant, with the defaults that a user gets, and logs at info."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.contestant import Contestant, Launch
from gatekeeper_py import __version__

PLAIN = "benchmarks.load.plain"
"""The same server without TLS, to measure the cost of TLS."""


def contestant(
    *,
    options: Sequence[str] = (),
    path: str = "/validate-image",
    module: str = "gatekeeper_py",
    python: str = sys.executable,
) -> Contestant:
    """Return the contestant. ``options`` are for ``serve``; ``python`` may be of another installation."""

    def argv(launch: Launch) -> list[str]:
        return [
            python, "-m", module, "serve",
            "--policy", str(launch.policy),
            "--listen", f"127.0.0.1:{launch.port}",
            "--health-listen", "127.0.0.1:0",
            "--tls-cert", str(launch.certificate),
            "--tls-key", str(launch.key),
            *options,
        ]  # fmt: skip

    return Contestant(name="gatekeeper-py", version=__version__, argv=argv, path=path)
