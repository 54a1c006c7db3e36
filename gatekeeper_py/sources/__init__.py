"""Where the policy comes from: async iterators of deliveries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a source holds now.

    ``text`` is the policy document, ``None`` when there is none to be had; then ``problem`` says
    why. ``mode`` replaces the document's. ``resource_version`` is the source's own name for this
    state, where it has one.
    """

    text: str | None
    mode: str | None = None
    resource_version: str | None = None
    problem: str = ""
