"""A webhook server that takes part in a comparison, and how to start it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Launch:
    """Where a contestant must serve: TLS on 127.0.0.1:``port`` with a P-256 certificate for localhost.

    ``cpu`` is the core that the runner pins the process to.
    """

    port: int
    certificate: Path
    key: Path
    policy: Path
    cpu: int


@dataclass(frozen=True)
class Contestant:
    """A server that answers reviews at ``path``; ``environment`` is added to the runner's own.

    It is ready when it answers a good review as expected. The runner ends it with SIGTERM, then SIGKILL.
    """

    name: str
    version: str
    argv: Callable[[Launch], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/validate-image"
