"""Group images by verdict, each with its uses. Pure: no I/O.

A cluster may have 50,000 Pods, so objects are not kept. Each use of an image is one small tuple. The uses of
an image are kept only if the report lists the image.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from gatekeeper_py.core.admission.judge import Checked, Verdict
from gatekeeper_py.core.admission.messages import BY_LOOKUP
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.rules import Rule


class Usage(NamedTuple):
    """Where an image is used; ``namespace`` is ``None`` in a cluster-scoped object.

    ``mode`` is the mode that applies to the object; ``None`` if the namespace is exempt or the mode is
    unknown. ``cluster`` is set only if a report covers several clusters.
    """

    kind: str
    namespace: str | None
    name: str
    path: str
    mode: Mode | None = None
    cluster: str | None = None

    @property
    def only_warned(self) -> bool:
        """Whether a rejected image only causes a warning here."""
        return self.mode is not None and not self.mode.refuses

    def as_json(self) -> dict[str, Any]:
        fields = {**self._asdict(), "mode": self.mode and self.mode.name}
        if self.cluster is None:
            del fields["cluster"]
        return fields


class Use(NamedTuple):
    """One use of an image."""

    image: str
    usage: Usage


Effect = Literal["refused", "warned", "excepted", "approved", "exempt"]
"""What the policy does about one use of an image. A rejected image is refused only in a mode that refuses. An
approved image that does not meet a requirement with ``mode: warn`` causes a warning in every mode."""


class Tallied(NamedTuple):
    """A verdict, as an audit counts it where the image is used. Equal ones look the same in a report.

    In an ``exempt`` namespace, the webhook does not review the image.
    """

    verdict: Verdict
    exempt: bool = False

    @property
    def in_words(self) -> Literal["approved", "rejected", "exempt"]:
        return "exempt" if self.exempt else self.verdict.in_words

    @property
    def reason(self) -> Reason:
        """Why the image is rejected or approved, or what it lacks if the rules approve it."""
        decided = self.verdict.decision.reason
        return (self.unmet[0].reason if self.unmet and decided == "allowed" else "") or decided

    @property
    def runs_by_exception(self) -> bool:
        """Whether only an exception approves the image. In an exempt namespace, it needs none."""
        return self.verdict.decision.reason == "exception" and self.in_words == "approved"

    @property
    def unmet(self) -> tuple[Checked, ...]:
        """The requirements that only warn, and that the image does not meet although it is approved."""
        return self.verdict.warned if self.in_words == "approved" else ()

    @property
    def always_listed(self) -> bool:
        """Whether a report lists the image even without approved images."""
        return self.in_words == "rejected" or self.runs_by_exception or bool(self.unmet)

    @property
    def key(self) -> tuple[Any, ...]:
        """The values that a report shows; it sorts by the first four. Hashing a rule would be slow."""
        verdict, decision = self.verdict, self.verdict.decision
        order = (verdict.image, self.in_words, decision.reason, decision.detail)
        return *order, decision.exception, verdict.requirements

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tallied) and self.key == other.key

    @property
    def note(self) -> str:
        """What the image lacks, who signed it, or the detail; if no rule matches, only the expired rule."""
        if self.unmet:
            return "; ".join(each.detail for each in self.unmet)
        if self.reason in {"denied", "invalid", *BY_LOOKUP}:
            return self.verdict.decision.detail
        if self.verdict.signatures:
            return ", ".join(map(str, self.verdict.signatures))
        return self.verdict.decision.detail.partition("; ")[2]

    def as_json(self) -> dict[str, Any]:
        names = ("image", "canonical", "verdict", "reason", "detail", "exception")
        fields = self.verdict.as_json(*names, *(("requirements",) if self.verdict.requirements else ()))
        return fields | {"verdict": self.in_words}

    def effect(self, usage: Usage) -> Effect:
        """Return what the policy does about one use of the image."""
        if self.runs_by_exception:
            return "excepted"
        if self.in_words != "rejected":
            return "warned" if self.unmet else self.in_words
        return "warned" if usage.only_warned else "refused"


def interned(usage: Usage) -> Usage:
    """Return an equal usage whose kind, namespace and path are interned, to save memory.

    JSON parsers create a new text for each value, but there are few kinds, namespaces and paths.
    """
    namespace = None if usage.namespace is None else sys.intern(usage.namespace)
    return usage._replace(kind=sys.intern(usage.kind), namespace=namespace, path=sys.intern(usage.path))


def usage_order(usage: Usage) -> tuple[str, ...]:
    return usage.cluster or "", usage.kind, usage.namespace or "", usage.name, usage.path


def only_warned(usages: Iterable[Usage]) -> bool:
    """Return whether a rejected image with these uses only causes warnings."""
    return all(usage.only_warned for usage in usages)


RuleKey = tuple[str, int]
"""List and index of a rule."""


def rule_key(rule: Rule) -> RuleKey:
    return rule.list, rule.index


@dataclass(slots=True)
class RuleUse:
    """How often one rule decided: the distinct images, and the number of places where they are used."""

    images: set[str]
    places: int = 0


def to_keep(verdict: Verdict) -> Verdict:
    """Return the verdict without what only one object has, and what can be derived, to save memory."""
    slot = Slot((), verdict.slot.noun, verdict.image, problem=verdict.slot.problem)
    return verdict._replace(slot=slot, decision=replace(verdict.decision, parsed=None))


class Tally:
    """The images found so far, and the uses of those that reports list; with ``keep_approved``, of all."""

    __slots__ = ("_keep_approved", "_rules", "_usages", "objects")

    def __init__(self, *, keep_approved: bool) -> None:
        self.objects = 0
        self._keep_approved = keep_approved
        self._usages: dict[Tallied, list[Usage]] = {}
        self._rules: dict[RuleKey, RuleUse] = {}

    def add(self, image: Tallied, usage: Usage) -> None:
        """Count one place where an image is used, and the rule that decided, if any.

        A place in an exempt namespace counts for no rule, because the webhook does not review it.
        """
        usages = self._usages.get(image)
        if usages is None:
            usages = self._usages[image._replace(verdict=to_keep(image.verdict))] = []
        rule = image.verdict.decision.rule
        if rule is not None and not image.exempt:
            use = self._rules.setdefault(rule_key(rule), RuleUse(set()))
            use.images.add(image.verdict.image)
            use.places += 1
        if self._keep_approved or image.always_listed:
            usages.append(interned(usage))

    def merge(self, other: Tally) -> None:
        """Take over the contents of another tally, which must not be used afterwards."""
        self.objects += other.objects
        for image, usages in other._usages.items():
            self._usages.setdefault(image, []).extend(usages)
        for key, use in other._rules.items():
            mine = self._rules.setdefault(key, RuleUse(set()))
            mine.images |= use.images
            mine.places += use.places

    @property
    def rules(self) -> Mapping[RuleKey, RuleUse]:
        """The rules that decided on at least one image."""
        return self._rules

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of objects read, and the number of images, including those not listed.

        ``warned`` are the rejected images that only cause warnings, and ``excepted`` the approved ones that
        only an exception approves. ``unmet`` are the approved ones that do not meet a requirement with
        ``mode: warn``.
        """
        verdicts = Counter(image.in_words for image in self._usages)
        return {
            "objects": self.objects,
            "images": len(self._usages),
            "approved": verdicts["approved"],
            "excepted": sum(image.runs_by_exception for image in self._usages),
            "rejected": verdicts["rejected"],
            "warned": sum(
                image.in_words == "rejected" and only_warned(usages) for image, usages in self._usages.items()
            ),
            "exempt": verdicts["exempt"],
            "unmet": sum(bool(image.unmet) for image in self._usages),
        }

    def listed(self) -> Iterator[tuple[Tallied, list[Usage]]]:
        """Yield each listed image with its usages, both sorted by their fields."""
        for image in sorted(self._usages, key=lambda image: image.key[:4]):
            if self._keep_approved or image.always_listed:
                yield image, sorted(self._usages[image], key=usage_order)
