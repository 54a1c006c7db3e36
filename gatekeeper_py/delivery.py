"""What a policy source delivers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatekeeper_py.core.policy.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The current state of a policy source.

    ``text`` is the policy document, or ``None`` when there is none. ``mode`` replaces the document's mode.
    ``resource_version`` is the source's own version, if it has one.

    When ``problem`` is not empty, it says why this state is not acceptable, whatever the text.
    ``findings`` then list the errors of the source, if there is more to say.
    """

    text: str | None
    mode: str | None = None
    resource_version: str | None = None
    problem: str = ""
    findings: tuple[Finding, ...] = ()

    def same_state(self, other: Delivery) -> bool:
        """Whether the two differ in nothing but the version."""
        return replace(self, resource_version=None) == replace(other, resource_version=None)
