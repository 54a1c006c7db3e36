"""The data that was read from an installation, before it is assessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """One Pod: whether it is ready, and what its health listener answers.

    ``policy`` is the JSON object at a replica's ``/policy``. ``metrics`` holds samples by name and labels, as
    written in the text format. ``problem`` is why the Pod could not be read.
    """

    name: str
    ready: bool
    policy: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The objects of an installation, ``None`` for one that does not exist.

    ``secret_readable`` is false if the caller may not read the Secret. ``webhooks`` holds the
    configurations that exist, by path.
    """

    namespace: dict[str, Any] | None
    owner: dict[str, Any] | None
    service: dict[str, Any] | None
    deployment: dict[str, Any] | None
    controller: dict[str, Any] | None
    policy: dict[str, Any] | None
    settings: dict[str, Any] | None
    secret: dict[str, Any] | None
    secret_readable: bool = True
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    replicas: tuple[PodFacts, ...] = ()
    controllers: tuple[PodFacts, ...] = ()
