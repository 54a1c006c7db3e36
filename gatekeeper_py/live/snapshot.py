"""The live policy: the only mutable state that reviews share.

``LivePolicy.install`` replaces it with one assignment. A review takes the policy once, so one policy judges
all of it.
"""

from __future__ import annotations

from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.policy.policy import CompiledPolicy


class LivePolicy:
    """Holds the live policy, ``None`` until the first good one, and the exceptions in use."""

    __slots__ = ("exceptions", "snapshot")

    def __init__(self) -> None:
        self.snapshot: CompiledPolicy | None = None
        self.exceptions = NO_EXCEPTIONS

    def install(self, snapshot: CompiledPolicy) -> None:
        """Make a policy live. Reviews in progress keep the one they started with."""
        self.snapshot = snapshot.excepting(self.exceptions)

    def use_exceptions(self, exceptions: Exceptions) -> None:
        """Use other exceptions from now on, with this policy and the next ones."""
        self.exceptions = exceptions
        if self.snapshot is not None:
            self.snapshot = self.snapshot.excepting(exceptions)
