"""Find the exceptions that can be deleted. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from gatekeeper_py.core.exceptions.document import ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.policy.exceptions import approving_rule
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.inventory.tally import Tally

Why = Literal["unused", "approved", "expired"]

WHY: Final[dict[Why, str]] = {
    "unused": "no object needs it",
    "approved": "the policy approves its images anyway",
    "expired": "it has expired",
}


class UnusedException(NamedTuple):
    """One entry, and why it can be deleted."""

    key: DocumentKey
    entry: ExceptionEntry
    why: Why


def unused_exceptions(policy: CompiledPolicy, tally: Tally) -> Iterator[UnusedException]:
    """Yield the entries of the policy's exceptions that nothing needs.

    ``tally`` is an audit of the whole cluster with these exceptions. If several entries approve an image, it
    needs only the one that ends last.
    """
    needed = {
        (found.source, found.namespace, found.index)
        for image, _ in tally.listed()
        if image.runs_by_exception and (found := image.exception) is not None
    }
    scan = Scan()
    for key, entry, state in policy.exceptions.states(policy.grants, policy.instant):
        if state == "expired":
            yield UnusedException(key, entry, "expired")
        elif state == "live" and (*key, entry.index) not in needed:
            rule = approving_rule(policy, key, entry, scan)
            yield UnusedException(key, entry, "unused" if rule is None else "approved")
