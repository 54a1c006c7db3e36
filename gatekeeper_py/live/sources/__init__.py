"""Where the policy and the exceptions come from, and what the sources deliver."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatekeeper_py.core.policy.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The current state of a policy source.

    ``text`` is the policy document, or ``None`` when there is none. ``mode`` replaces the document's mode.
    ``resource_version`` is the source's own version, if it has one.

    A ``problem`` that is not empty is the reason why this state is not acceptable, whatever the text is.
    ``findings`` may then list the errors of the source in detail.
    """

    text: str | None
    mode: str | None = None
    resource_version: str | None = None
    problem: str = ""
    findings: tuple[Finding, ...] = ()

    def same_state(self, other: Delivery) -> bool:
        """Return whether two deliveries are equal except for their versions."""
        return replace(self, resource_version=None) == replace(other, resource_version=None)
