"""Group images by verdict, each with its uses. Pure: no I/O.

A cluster may have 50,000 Pods, so objects are not kept. Each use of an image is one small tuple. The uses of
an image are kept only if the report lists the image.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from gatekeeper_py.core.admission.judge import Signature
from gatekeeper_py.core.admission.messages import BY_LOOKUP
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.rules import Rule


class ImageException(msgspec.Struct, frozen=True, omit_defaults=True):
    """The exception by which an image runs, with the fields of ``explain --format json``."""

    source: Source
    namespace: str
    index: int
    image: str
    until: str
    reason: str
    owner: str | None
    grant: int
    also: tuple[ImageException, ...] = ()

    @property
    def by(self) -> str:
        """The owner, or the namespace of the document if it names no owner."""
        return self.namespace if self.owner is None else self.owner


class JudgedImage(NamedTuple):
    """An image as written, with its verdict.

    One image has several instances if its verdict depends on the namespace. ``canonical`` is ``None`` when
    the image is invalid. In an exempt namespace the verdict is ``exempt``, and ``reason`` is that of the
    policy's decision. ``image`` is empty when the field is missing or not text. ``exception`` is set if an
    exception approves the image. ``signature`` is empty if no registry was queried for a signature, and
    ``None`` if there is no valid one.
    """

    image: str
    canonical: str | None
    verdict: Literal["approved", "rejected", "exempt"]
    reason: Reason
    detail: str
    exception: ImageException | None = None
    signature: Signature | Literal[""] | None = ""

    @property
    def runs_by_exception(self) -> bool:
        """Whether only an exception approves the image. In an exempt namespace, it needs none."""
        return self.verdict == "approved" and self.reason == "exception"

    @property
    def always_listed(self) -> bool:
        """Whether a report lists the image even without approved images."""
        return self.verdict == "rejected" or self.runs_by_exception

    def as_json(self) -> dict[str, Any]:
        fields = self._asdict()
        if self.exception is None:
            del fields["exception"]
        else:
            fields["exception"] = msgspec.to_builtins(self.exception)
        if self.signature == "":
            del fields["signature"]
        else:
            fields["signature"] = self.signature and self.signature._asdict()
        return fields

    @property
    def note(self) -> str:
        """The detail without what only repeats the image: if no rule matches, only which rule expired."""
        if self.signature:
            return str(self.signature)
        if self.reason in {"denied", "invalid", *BY_LOOKUP}:
            return self.detail
        return self.detail.partition("; ")[2]


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


Effect = Literal["refused", "warned", "excepted", "approved", "exempt"]
"""What the policy does about one use of an image. A rejected image is refused only in a mode that refuses."""


def effect(image: JudgedImage, usage: Usage) -> Effect:
    if image.runs_by_exception:
        return "excepted"
    if image.verdict != "rejected":
        return image.verdict
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


class Tally:
    """The images found so far, and the uses of those that reports list; with ``keep_approved``, of all."""

    __slots__ = ("_keep_approved", "_rules", "_usages", "objects")

    def __init__(self, *, keep_approved: bool) -> None:
        self.objects = 0
        self._keep_approved = keep_approved
        self._usages: dict[JudgedImage, list[Usage]] = {}
        self._rules: dict[RuleKey, RuleUse] = {}

    def add(self, image: JudgedImage, usage: Usage, rule: Rule | None = None) -> None:
        """Count one place where an image is used, and the rule that decided, if any.

        A place in an exempt namespace counts for no rule, because the webhook does not review it.
        """
        usages = self._usages.setdefault(image, [])
        if rule is not None and image.verdict != "exempt":
            use = self._rules.setdefault(rule_key(rule), RuleUse(set()))
            use.images.add(image.image)
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
        only an exception approves.
        """
        verdicts = Counter(image.verdict for image in self._usages)
        return {
            "objects": self.objects,
            "images": len(self._usages),
            "approved": verdicts["approved"],
            "excepted": sum(image.runs_by_exception for image in self._usages),
            "rejected": verdicts["rejected"],
            "warned": sum(
                image.verdict == "rejected" and only_warned(usages) for image, usages in self._usages.items()
            ),
            "exempt": verdicts["exempt"],
        }

    def listed(self) -> Iterator[tuple[JudgedImage, list[Usage]]]:
        """Yield each listed image with its usages, both sorted by their fields."""
        for image in sorted(self._usages, key=_image_order):
            if self._keep_approved or image.always_listed:
                yield image, sorted(self._usages[image], key=usage_order)


def _image_order(image: JudgedImage) -> tuple[str, str, str, str]:
    return image.image, image.verdict, image.reason, image.detail
