"""A webhook server that takes part in a comparison, and how to start it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gatekeeper_py import __version__

PLAIN: Final = "benchmarks.load.plain"
"""Module that runs our server without TLS, to measure the cost of TLS."""


@dataclass(frozen=True)
class Launch:
    """Where a contestant must serve: TLS on 127.0.0.1:``port`` with a P-256 certificate for localhost.

    gatekeeper-py also serves metrics and health, on ``health_port``.
    """

    port: int
    health_port: int
    certificate: Path
    key: Path
    policy: Path


@dataclass(frozen=True)
class Contestant:
    """A server that answers reviews at ``path``; ``environment`` is added to the runner's own.

    It is ready when it answers a good review as expected and, if it has ``/readyz``, when that answers 200.
    The runner ends it with SIGTERM, then SIGKILL.
    """

    name: str
    version: str
    argv: Callable[[Launch], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/validate-image"
    has_readyz: bool = False


def ours(
    *, options: Sequence[str] = (), module: str = "gatekeeper_py", arguments: Sequence[str] = ()
) -> Contestant:
    """Return gatekeeper-py with its default settings, and logs at info.

    ``options`` follow ``serve`` on the command line; ``arguments`` precede it.
    """

    def argv(launch: Launch) -> list[str]:
        return [
            sys.executable, "-m", module, *arguments, "serve",
            "--policy", str(launch.policy),
            "--listen", f"127.0.0.1:{launch.port}",
            "--health-listen", f"127.0.0.1:{launch.health_port}",
            "--tls-cert", str(launch.certificate),
            "--tls-key", str(launch.key),
            *options,
        ]  # fmt: skip

    return Contestant(name="gatekeeper-py", version=__version__, argv=argv, has_readyz=True)
