"""The fast path: which images are approved whatever the namespace, the mode and the time.

Source: docs/fast-path.md, "What is plainly approved". A rule is *plain* when everything written in full
under it is approved by ``decide`` for every namespace and at every instant; so the fast path is a
function of the document alone, and a lapse changes nothing in it. Every doubt makes a rule not plain,
which costs a question to the webhook and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.expression import Place, Places
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.overlap import Overlaps
from gatekeeper_py.core.images.pattern import ANY
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    InvalidReference,
    Location,
    effective_tag,
    locate,
    parse_reference,
)
from gatekeeper_py.core.policy.finding import Finding, Remark, Remarks
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.parse.places import as_findings
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule

Endpoint = Literal["validating", "mutating"]
ENDPOINTS: Final[tuple[Endpoint, ...]] = ("validating", "mutating")

TOO_MANY: Final = "the expression has no room for more rules"
NEVER_ASKED: Final = "no mirror rewrites anything"

T = TypeVar("T")

_DNS_HOST: Final = re.compile(r"[a-z0-9.-]+(?::[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """An allow rule, and why its images are asked about on each endpoint; an empty text when they are not."""

    rule: Rule
    validating: str = ""
    mutating: str = ""

    def why_not(self, endpoint: Endpoint) -> str:
        return self.validating if endpoint == "validating" else self.mutating


@dataclass(frozen=True, kw_only=True)
class FastPath:
    """What is plain under a policy.

    ``validating`` and ``mutating`` are the expressions for the webhooks' ``matchConditions``: true when
    the webhook must be asked. ``None`` means always, and then no condition belongs there. Where no mirror
    rewrites anything the mutating one is never true, unless nothing is plain at all.
    """

    rules: tuple[RuleVerdict, ...]
    places: Mapping[Endpoint, Places]
    validating: str | None
    mutating: str | None

    def expression(self, endpoint: Endpoint) -> str | None:
        return self.validating if endpoint == "validating" else self.mutating

    def approves(self, image: str, endpoint: Endpoint) -> bool:
        """Whether an image is plainly approved, or nothing is asked about on the endpoint."""
        return cel.holding(self.places[endpoint], image) is not None

    def skips(self, request: AdmissionRequest, endpoint: Endpoint) -> bool:
        """Whether an API server with the expression answers a request itself."""
        return bool(self.places[endpoint]) and cel.skips(self.places[endpoint], request)

    def tightens(self, previous: FastPath | None) -> bool:
        """Whether something that was plain before is not now; unknown counts as everything.

        Such a change must reach the API server before anything that relies on it.
        """
        if previous is None:
            return True
        return any(
            cel.covering(self.places[endpoint], place) is None
            for endpoint in ENDPOINTS
            for place in previous.places[endpoint] - self.places[endpoint]
        )

    def why(self, image: str, endpoint: Endpoint) -> str:
        """In words on one line, why an image is plainly approved or not."""
        if self.places[endpoint] == cel.EVERYTHING:
            return NEVER_ASKED
        place = cel.holding(self.places[endpoint], image)
        if place is not None:
            rule = next(
                verdict.rule
                for verdict in self.rules
                if not verdict.why_not(endpoint) and place == _place(verdict.rule)
            )
            return f"it lies under {rule}"
        if len(image) > cel.MAX_TEXT_LENGTH:
            return f"it is longer than {cel.MAX_TEXT_LENGTH} characters"
        if not cel.is_canonical(image):
            return "it is not written in full: registry/repository, then :tag, @sha256:digest, both or none"
        try:
            reference = parse_reference(image)
            location = locate(reference)
        except InvalidReference as problem:
            return f"it is never approved: {problem}"
        tag = effective_tag(reference)
        for verdict in self.rules:
            if verdict.rule.pattern.matches(location, tag, reference.digest):
                because = verdict.why_not(endpoint) or f"that is plain only when written as {location.name}"
                return f"{verdict.rule} has it, but {because}"
        return "no allow rule has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What in a policy can take an approval back, or change an image."""

    denied: Overlaps[Rule]
    mirrored: Overlaps[tuple[Mirror, Rule]]
    rewritten: Overlaps[Mirror]
    declares_pods: bool
    looked_up: Overlaps[Rule]


Guard = Callable[[Rule, Surroundings], str]
"""Why a rule is not plain; an empty text when this is no obstacle."""


def compile_fastpath(policy: Policy) -> FastPath:
    """Compile a policy, whatever its mode."""
    return _compile(policy, GUARDS, MUTATING_GUARDS)


def not_plain(policy: Policy) -> tuple[Finding, ...]:
    """A piece of information for each allow rule whose images are always asked about."""
    remarks = Remarks()
    remarks.extend(
        Remark(
            severity="information",
            code="not-plain",
            path=(verdict.rule.list, verdict.rule.index),
            message=f"the fast path leaves {verdict.rule} to the webhook: {verdict.validating}",
        )
        for verdict in compile_fastpath(policy).rules
        if verdict.validating
    )
    return as_findings(policy.text, remarks)


def _namespaces(rule: Rule, _: Surroundings) -> str:
    return "" if rule.namespaces is None else "it is for some namespaces"


def _until(rule: Rule, _: Surroundings) -> str:
    return "" if rule.until is None else "it lapses"


def _host(rule: Rule, _: Surroundings) -> str:
    if is_glob(rule.pattern.host):
        return "its host has a wildcard"
    return "" if _DNS_HOST.fullmatch(rule.pattern.host) else "its host is no DNS name"


def _hub(rule: Rule, _: Surroundings) -> str:
    return "Docker Hub's images have many spellings" if rule.pattern.host == DOCKER_HUB else ""


def _path(rule: Rule, _: Surroundings) -> str:
    return "its path has a wildcard" if any(map(is_glob, rule.pattern.segments)) else ""


def _tag(rule: Rule, _: Surroundings) -> str:
    return "" if rule.pattern.tag is None else "it wants a tag"


def _digest(rule: Rule, _: Surroundings) -> str:
    return "" if rule.pattern.digest in {None, ANY} else "it wants one digest"


def _spelling(rule: Rule, _: Surroundings) -> str:
    """The law's own words: an image with the text of the place must be read as one in the place.

    The registry ``foo:443`` is folded to ``foo``, and ``foo/app`` is an image of Docker Hub's.
    """
    pattern = rule.pattern
    below = ("x",) if pattern.subtree else ()
    try:
        read = locate(parse_reference(_place(rule).text + "".join(below)))
    except InvalidReference:
        return "no image can have such a name"
    meant = Location(pattern.host, (*pattern.segments, *below))
    return "" if read == meant else "its name without the port is read as something else"


def _denied(rule: Rule, around: Surroundings) -> str:
    other = _find(around.denied, rule)
    return "" if other is None else f"{other} may refuse some of it"


def _mirrored(rule: Rule, around: Surroundings) -> str:
    found = _find(around.mirrored, rule)
    if found is None:
        return ""
    mirror, other = found
    return f"mirrors[{mirror.index}] leads to it from what {other} may refuse"


def _looked_up(rule: Rule, around: Surroundings) -> str:
    other = _find(around.looked_up, rule)
    return "" if other is None else f"{other} looks up some of its images in their registry"


def _declared(_: Rule, around: Surroundings) -> str:
    return "resources declares further images of Pods" if around.declares_pods else ""


def _rewritten(rule: Rule, around: Surroundings) -> str:
    mirror = _find(around.rewritten, rule)
    return "" if mirror is None else f"mirrors[{mirror.index}] rewrites some of it"


RULE_FIELDS: Final = {
    "list": "only allow rules are pre-approved; what deny rules overlap is not",
    "index": "only names the rule in findings",
    "pattern": "the guards on host, path, tag, digest and spelling",
    "namespaces": "a rule with namespaces is not pre-approved",
    "until": "a rule that expires is not pre-approved",
    "owner": "only shown",
    "reason": "only shown",
    "verify": "a rule that looks up its images is not pre-approved",
    "on_error": "matters with verify only",
    "pin": "implies verify",
}
"""What the fast path makes of each field of a rule. A test fails until a new field is here."""

GUARDS: Final[Mapping[str, Guard]] = MappingProxyType(
    {
        "namespaces": _namespaces,
        "until": _until,
        "host": _host,
        "hub": _hub,
        "path": _path,
        "tag": _tag,
        "digest": _digest,
        "spelling": _spelling,
        "denied": _denied,
        "mirrored": _mirrored,
        "declared": _declared,
        "looked-up": _looked_up,
    }
)
"""What keeps a rule from being plain, by name. Each is needed: a test takes them out one at a time."""

MUTATING_GUARDS: Final[Mapping[str, Guard]] = MappingProxyType({"rewritten": _rewritten})
"""What keeps it from being plain on the mutating endpoint, beyond :data:`GUARDS`."""


def _compile(policy: Policy, guards: Mapping[str, Guard], mutating_guards: Mapping[str, Guard]) -> FastPath:
    around = _surroundings(policy)

    def problem(rule: Rule, tests: Mapping[str, Guard]) -> str:
        return next(filter(None, (guard(rule, around) for guard in tests.values())), "")

    verdicts = []
    for rule in policy.allow:
        anywhere = problem(rule, guards)
        mutating = anywhere or problem(rule, mutating_guards)
        verdicts.append(RuleVerdict(rule=rule, validating=anywhere, mutating=mutating))
    places = {endpoint: _room_for(verdicts, endpoint) for endpoint in ENDPOINTS}
    if places["mutating"] and not policy.mirrors:
        # In no mode does that webhook do anything.
        places["mutating"] = cel.EVERYTHING
    return FastPath(
        rules=tuple(_with_room(verdict, places) for verdict in verdicts),
        places=MappingProxyType(places),
        validating=_expression(places["validating"]),
        mutating=_expression(places["mutating"]),
    )


def _surroundings(policy: Policy) -> Surroundings:
    denied: Overlaps[Rule] = Overlaps()
    # Lapsed ones too: clocks differ, and there is nothing to gain from a rule that should be removed.
    for rule in policy.deny:
        pattern = rule.pattern
        denied.add(pattern.host, pattern.segments, rule, subtree=pattern.subtree)
    looked_up: Overlaps[Rule] = Overlaps()
    for rule in policy.allow:
        if rule.verify:
            looked_up.add(rule.pattern.host, rule.pattern.segments, rule, subtree=rule.pattern.subtree)
    mirrored: Overlaps[tuple[Mirror, Rule]] = Overlaps()
    rewritten: Overlaps[Mirror] = Overlaps()
    for mirror in policy.mirrors:
        source = mirror.source
        _add_all(rewritten, source.host, source.segments, mirror)
        # Hub names get their library/ only when they are whole, so there the path is no help.
        path = () if source.host == DOCKER_HUB else source.segments
        refused = denied.find(source.host, path, subtree=True) or denied.find(
            source.host, path, subtree=False
        )
        if refused is not None:
            for to in mirror.targets:
                _add_all(mirrored, to.host, to.segments, (mirror, refused))
    return Surroundings(
        denied=denied,
        mirrored=mirrored,
        rewritten=rewritten,
        declares_pods=any((entry.group, entry.kind) == POD for entry in policy.document.resources),
        looked_up=looked_up,
    )


def _add_all(overlaps: Overlaps[T], host: str, segments: tuple[str, ...], told: T) -> None:
    """Add one end of a mirror: the repository of that name, and all below it."""
    for subtree in (False, True):
        overlaps.add(host, segments, told, subtree=subtree)


def _find(overlaps: Overlaps[T], rule: Rule) -> T | None:
    pattern = rule.pattern
    return overlaps.find(pattern.host, pattern.segments, subtree=pattern.subtree)


def _place(rule: Rule) -> Place:
    pattern = rule.pattern
    text = "/".join((pattern.host, *pattern.segments, *([""] if pattern.subtree else [])))
    return Place(text, pinned=pattern.digest is not None)


def _room_for(verdicts: Iterable[RuleVerdict], endpoint: Endpoint) -> Places:
    """The widest plain places, as many as an expression can hold: registries, then by depth."""
    plain = {_place(verdict.rule) for verdict in verdicts if not verdict.why_not(endpoint)}
    widest_first = sorted(plain, key=lambda place: (place.depth == 0, place.depth, place))
    fitting, above = 0, min(len(widest_first), cel.MAX_PLACES) + 1
    while above - fitting > 1:
        middle = (fitting + above) // 2
        if cel.fits(frozenset(widest_first[:middle])):
            fitting = middle
        else:
            above = middle
    return frozenset(widest_first[:fitting])


def _with_room(verdict: RuleVerdict, places: Mapping[Endpoint, Places]) -> RuleVerdict:
    """The verdict on a rule, with those that were left out."""

    def said(endpoint: Endpoint) -> str:
        if places[endpoint] == cel.EVERYTHING:
            return ""
        left_out = _place(verdict.rule) not in places[endpoint]
        return verdict.why_not(endpoint) or (TOO_MANY if left_out else "")

    return RuleVerdict(rule=verdict.rule, validating=said("validating"), mutating=said("mutating"))


def _expression(places: Places) -> str | None:
    return cel.expression(places) if places else None
