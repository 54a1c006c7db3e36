"""The laws of the exact difference, checked with the product's decision and with an independent one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import naive
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.compare.difference import Change, Difference
from property.policy_pairs import NOW

Pair = tuple[CompiledPolicy, CompiledPolicy]
Example = tuple[str, str | None]
"""An image and a namespace."""
CHANGES: Final[tuple[Change, ...]] = ("approved", "rejected", "rewritten")


def compiled(document: dict[str, Any]) -> CompiledPolicy:
    return parse_policy(json.dumps(document)).at(NOW)


def documents_of(pair: Pair) -> list[dict[str, Any]]:
    """Return the documents of two policies whose texts are JSON."""
    return [json.loads(policy.policy.text) for policy in pair]


def observe(pair: Pair, examples: Iterable[Example]) -> dict[Change, Example]:
    """Return an example of each change that some of the images have.

    Fails if the product and the independent implementation decide differently.
    """
    documents = documents_of(pair)
    seen: dict[Change, Example] = {}
    for image, namespace in examples:
        before, after = (policy.decide(namespace, image).approved for policy in pair)
        expected = tuple(naive.approved(document, image, namespace, NOW) for document in documents)
        assert (before, after) == expected, (image, namespace)
        change = _change(pair, image, namespace, (before, after))
        if change is not None:
            seen.setdefault(change, (image, namespace))
    return seen


def violations(pair: Pair, found: Difference, seen: dict[Change, Example]) -> list[str]:
    """Return the laws that a difference violates, given the observed examples; empty if all hold."""
    answers = {"approved": found.widens, "rejected": found.narrows, "rewritten": found.rewrites}
    wrong = [f"no image is {change}, but {seen[change]} is" for change in seen if not answers[change]]
    witnessed = {witness.change for witness in found.witnesses}
    wrong += [f"{change} has no witness" for change in CHANGES if answers[change] and change not in witnessed]
    documents = documents_of(pair)
    for witness in found.witnesses:
        claimed = (witness.before == "approved", witness.after == "approved")
        example = (witness.image, witness.namespace)
        if claimed != tuple(naive.approved(document, *example, NOW) for document in documents):
            wrong.append(f"{example} is not judged as its witness says")
        if _change(pair, *example, claimed) != witness.change:
            wrong.append(f"{example} is not {witness.change}")
    return wrong


def _change(pair: Pair, image: str, namespace: str | None, approved: tuple[bool, bool]) -> Change | None:
    before, after = approved
    if before != after:
        return "approved" if after else "rejected"
    old, new = (_rewritten(policy, image, namespace) for policy in pair)
    return "rewritten" if old != new else None


def _rewritten(policy: CompiledPolicy, image: str, namespace: str | None) -> str | None:
    if not len(policy.mirrors) or policy.mode(namespace) != "mutate":
        return None
    return policy.rewrite(namespace, image)
