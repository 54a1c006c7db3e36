"""What a policy source delivers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The current state of a policy source.

    ``text`` is the policy document, or ``None`` when there is none; ``problem`` then gives the reason.
    ``mode`` replaces the document's mode. ``resource_version`` is the source's own version, if it has one.
    """

    text: str | None
    mode: str | None = None
    resource_version: str | None = None
    problem: str = ""
