"""Suggest rules for the images in use: the fewest rules of one width that approve them. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from gatekeeper_py.cli.inventory.tally import Usage, Use, usage_order
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.validation import validating
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.pattern import InvalidPattern, parse_pattern, split_port
from gatekeeper_py.core.images.reference import (
    Location,
    escape,
)
from gatekeeper_py.core.policy.document import ENFORCE, PolicyDocument
from gatekeeper_py.core.policy.lint.platforms import open_registry
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy

By = Literal["registry", "path", "repository"]

NOTHING: Final = Policy(document=PolicyDocument(mode=ENFORCE, allow=()), text="", mode=ENFORCE)
"""A policy that approves no image: the base if the user gives none."""


@dataclass(slots=True)
class Group:
    """Images that one rule approves, or that are left out for one reason.

    ``example`` is the first use in alphabetical order, so it does not depend on the order of the objects.
    """

    images: set[str] = field(default_factory=set)
    uses: int = 0
    example: Use | None = None

    def add(self, use: Use) -> None:
        self.images.add(use.image)
        self.uses += 1
        self._keep(use)

    def merge(self, other: Group) -> None:
        self.images |= other.images
        self.uses += other.uses
        if other.example is not None:
            self._keep(other.example)

    def _keep(self, use: Use) -> None:
        if self.example is None or _order(use) < _order(self.example):
            self.example = use


class LeftOut(NamedTuple):
    """An image that no suggested rule covers, and the reason; both are escaped."""

    image: str
    why: str


class Suggestion:
    """Collects rules that approve the images in use which ``base`` does not approve.

    ``left_out`` holds the images that are invalid or denied, and those that no pattern can express. Images in
    the ``exempt`` namespaces are ignored.
    """

    def __init__(self, base: CompiledPolicy, by: By, exempt: AbstractSet[str] = frozenset()) -> None:
        self.objects = 0
        self.rules: dict[str, Group] = {}
        self.left_out: dict[LeftOut, Group] = {}
        self._base = base
        self._by: By = by
        self._exempt = exempt

    def empty(self) -> Suggestion:
        return Suggestion(self._base, self._by, self._exempt)

    def merge(self, other: Suggestion) -> None:
        """Take over the contents of another instance, which must not be used afterwards."""
        self.objects += other.objects
        for pattern, group in other.rules.items():
            self.rules.setdefault(pattern, Group()).merge(group)
        for image, group in other.left_out.items():
            self.left_out.setdefault(image, Group()).merge(group)

    def take(self, request: AdmissionRequest) -> None:
        """Add the images of an object that the base does not approve."""
        self.objects += 1
        if request.namespace in self._exempt:
            return
        judging = validating(request, self._base)
        for slot in judging.slots:
            verdict = judging.judge(slot)
            if verdict is None or verdict.approved:
                continue
            decision = verdict.decision
            image = slot.value if isinstance(slot.value, str) else ""
            use = Use(escape(image), Usage(request.kind, request.namespace, request.name, slot.path))
            pattern = None
            if decision.reason == "unlisted" and decision.parsed is not None:
                pattern = pattern_for(decision.parsed, self._by)
            if pattern is not None:
                self.rules.setdefault(pattern, Group()).add(use)
            else:
                why = "no pattern can name it" if decision.reason == "unlisted" else decision.detail
                self.left_out.setdefault(LeftOut(use.image, escape(why)), Group()).add(use)

    def listed(self) -> Iterator[tuple[str, Group]]:
        """Yield the patterns in alphabetical order."""
        yield from sorted(self.rules.items())

    def listed_left_out(self) -> Iterator[tuple[LeftOut, Group]]:
        yield from sorted(self.left_out.items())


def pattern_for(image: Image, by: By) -> str | None:
    """Return the pattern of the given width for an image; ``None`` if no pattern matches the image.

    Patterns of one width do not overlap, so no suggested rule is redundant.
    """
    text = _pattern_text(image.location, by)
    try:
        pattern = parse_pattern(text)
    except InvalidPattern:  # a part of the host is longer than a pattern allows
        return None
    return text if pattern.matches(image) and not pattern.any_host else None


def _pattern_text(location: Location, by: By) -> str:
    name, port = split_port(location.host)
    dotless = "." not in name and not name.startswith("[") and name != "localhost"
    # A host without a dot and port would be read as a user of Docker Hub, so write even the default port.
    host = f"{name}:443" if dotless and not port else location.host
    # No suggested rule approves a whole registry where anyone can publish.
    if by == "registry" and open_registry(location.host) is None:
        return f"{host}/" if dotless else host
    if by == "repository" or len(location.segments) == 1:
        return "/".join((host, *location.segments))
    return f"{host}/{location.segments[0]}/**"


def _order(use: Use) -> tuple[str, tuple[str, ...]]:
    return use.image, usage_order(use.usage)
