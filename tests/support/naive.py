"""A second implementation of the decision on one image and of the search for images.

It is written from the specification alone (policy.md, exceptions.md, signatures.md, interface.md), and shares
no code with the product: no parser, no pattern, no index. It reads the document as plain data, checks every
rule in turn, and is slow; it only remembers how it read a pattern or an image. Tests of compiled policies and
of the images that are judged compare their results with it.

The document must be one that ``check`` accepts: nothing is validated here.

* ``validate``: what the validating endpoint says of an image as it stands in the object.
* ``mutate``: what the mutating endpoint writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

HUB: Final = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
SHAPE: Final = re.compile(
    r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?)"
    r"/(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)
SOME_DIGEST: Final = "sha256:" + "0" * 64
"""Stands for a digest that nobody looked up; of the patterns for digests, only ``@*`` should match it."""

Document = dict[str, Any]
Documents = dict[tuple[str, str], list[dict[str, Any]]]
"""Entries of exceptions by the source and the namespace of their document, in the order of the document.

The source is ``namespace``, ``installation`` or ``break-glass``; documents that are bad are left out by the
caller.
"""


# ------------------------------------------------------------------------------------------------------------
# The world: what registries would answer


class Error(Exception):
    """A registry gave no answer that can be used (everything but 200 and 404)."""


class LookUp(NamedTuple):
    """One question to a registry.

    ``kind`` is ``exists`` or ``signed``. ``image`` is ``HOST/PATH:TAG`` or ``HOST/PATH@DIGEST``, with the
    host as rules see it. ``signatures`` is the repository that holds signatures, if it is not the image's
    own.
    """

    kind: str
    image: str
    signatures: str | None = None


World = Callable[[LookUp], Any]
"""Answers ``exists`` with a digest, or with ``None`` for what is missing; ``signed`` with the names of the
keys and identities that signed (an iterable, perhaps empty); raises ``Error`` for trouble."""


# ------------------------------------------------------------------------------------------------------------
# Questions and answers


@dataclass(frozen=True)
class Question:
    """Everything that a decision depends on.

    ``mode`` is the ConfigMap key of that name. ``world`` is ``None`` offline. ``pulled`` is false for
    ``imagePullPolicy: Never``; ``template`` is true for everything that is not a Pod.
    """

    policy: Document
    image: str
    now: datetime
    namespace: str | None = None
    mode: str | None = None
    documents: Documents | None = None
    pulled: bool = True
    template: bool = False
    world: World | None = None


class Requirement(NamedTuple):
    """What became of a requirement that matches.

    ``number`` is its index; ``met`` is ``None`` where a look-up would be needed.
    ``reason`` is empty unless the requirement is not met, or is met only because ``onError`` keeps
    (``unverified``). ``also`` are reasons that another reading of the specification gives.
    """

    number: int
    met: bool | None
    reason: str = ""
    warn: bool = False
    also: frozenset[str] = frozenset()


class Judgement(NamedTuple):
    """The answer.

    ``reason`` is that of ``explain``. ``also`` are further reasons that the specification can be read to give
    for the same verdict. ``lookups`` are all that may be asked.
    """

    approved: bool
    reason: str
    requirements: tuple[Requirement, ...] = ()
    lookups: frozenset[LookUp] = frozenset()
    also: frozenset[str] = frozenset()

    @property
    def warned(self) -> bool:
        """Whether a requirement that only warns is not met."""
        return any(each.warn and each.met is False for each in self.requirements)


class Asking:
    """Asks the world, and remembers what it asked. Every question that may be asked is asked."""

    def __init__(self, question: Question) -> None:
        off = question.world is None or question.template or not question.pulled
        self.world: World | None = None if off else question.world
        self.asked: set[LookUp] = set()

    def exists(self, image: Image) -> str | None:
        answer: str | None = self._ask(LookUp("exists", image.text()))
        return answer

    def signers(self, image: Image, requirement: dict[str, Any]) -> set[str]:
        return set(self._ask(LookUp("signed", image.text(), requirement.get("signatures"))))

    def _ask(self, lookup: LookUp) -> Any:
        assert self.world is not None, "nothing is looked up offline"
        self.asked.add(lookup)
        return self.world(lookup)


# ------------------------------------------------------------------------------------------------------------
# The decision


def validate(question: Question) -> Judgement:
    """Return what the validating endpoint says of an image as it stands in the object."""
    asking, mode = Asking(question), mode_of(question)
    seen = read(question.image)
    if seen is None:
        judged = _rejected("invalid")
    elif question.template and mode == "mutate":
        judged = _template(question, seen, asking)
    else:
        judged = _of_name(question, seen, asking)
    if seen is not None and not question.template and by_name(question, seen) != "denied":
        plan = mutate(question)
        asking.asked |= plan.lookups
        if plan.denied or judged.reason == "denied":
            judged = _rejected("denied")
        elif plan.refused:
            # A mirror with `deny` leaves it as written, and the validating endpoint rejects it.
            others = frozenset() if judged.approved else frozenset({judged.reason}) | judged.also
            judged = _rejected(plan.refused)._replace(also=others - {plan.refused})
    return judged._replace(lookups=frozenset(asking.asked))


def _rejected(reason: str) -> Judgement:
    return Judgement(approved=False, reason=reason)


def _template(question: Question, seen: Image, asking: Asking) -> Judgement:
    """Judge an image of a workload in ``mutate``: "each image after its mirror rewrite"."""
    if by_name(question, seen) == "denied":
        return _rejected("denied")
    mirror = None if denied(question, seen) else mirror_of(question, seen)
    if mirror is None:
        return _of_name(question, seen, asking)
    verified = bool(mirror.get("verify") or mirror.get("pin"))
    if verified and not question.pulled:
        return _of_name(question, seen, asking)
    names = candidates(question, mirror, question.image)
    if not verified:
        targets = names[:1]
    else:
        targets = [name for name in names if name and by_name(question, name[1]) in {"allowed", "exception"}]
    judged = [_of_name(question, name[1], asking) for name in targets if name]
    if not judged:
        return _of_name(question, seen, asking)
    return next((each for each in judged if each.approved), judged[0])


def _of_name(question: Question, seen: Image, asking: Asking) -> Judgement:
    """Judge a name, then the requirements that match it."""
    reason = by_name(question, seen)
    if reason not in {"allowed", "exception"}:
        return _rejected(reason)
    found: set[str] = set()
    results = [
        _requirement(question, index, requirement, seen, asking, found)
        for index, requirement in enumerate(question.policy.get("require", ()))
        if required(question, requirement, seen)
    ]
    unmet = [each for each in results if each.met is False and not each.warn]
    judged = Judgement(approved=True, reason=reason, requirements=tuple(results))
    names = [seen, *(seen.at(digest) for digest in sorted(found))]
    denials = [name for each in names for name in denied(question, each)]
    if any(refused(question, name) for name in names):
        # "A digest that was looked up is judged, too"
        return _rejected("denied")._replace(requirements=tuple(results))
    if denials:
        judged = judged._replace(reason="exception")
    if unmet:
        overridden = {"require"} | ({"deny"} if denials else set())
        if excepted_names(question, seen, [*denials, seen], overridden):
            judged = judged._replace(reason="exception")
        else:
            judged = Judgement(
                approved=False, reason=unmet[0].reason, requirements=tuple(results), also=unmet[0].also
            )
    return judged


def by_name(question: Question, seen: Image) -> str:
    """Return ``allowed``, ``exception``, ``denied`` or ``unlisted``: section 4, steps 2 to 4."""
    denials = denied(question, seen)
    if denials:
        return "exception" if excepted_names(question, seen, denials, {"deny"}) else "denied"
    if allowed(question, seen):
        return "allowed"
    return "exception" if excepted_names(question, seen, [seen], set()) else "unlisted"


def allowed(question: Question, seen: Image) -> bool:
    return any(
        applies(rule, question.namespace, question.now) and matches(rule, seen)
        for rule in question.policy["allow"]
    )


def denied(question: Question, seen: Image) -> list[Image]:
    """Return the names of an image that deny rules match: its own, and those of its origins."""
    found = []
    for rule in question.policy.get("deny", ()):
        if applies(rule, question.namespace, question.now):
            spared = [] if isinstance(rule, str) else rule.get("except", [])
            found += [
                name
                for name in (seen, *origins(question.policy, seen))
                if matches(rule, name) and not _spared(question, spared, name)
            ]
    return found


def refused(question: Question, seen: Image) -> bool:
    """Return whether deny rules match an image, and no exception approves it."""
    denials = denied(question, seen)
    return bool(denials) and not excepted_names(question, seen, denials, {"deny"})


def _spared(question: Question, entries: list[Any], name: Image) -> bool:
    """Return whether a live entry of ``except`` matches a name."""
    return any(applies(entry, question.namespace, question.now) and matches(entry, name) for entry in entries)


def mode_of(question: Question) -> str:
    """Return the mode of the namespace: the first live override, the ConfigMap's, the document's."""
    for override in question.policy.get("namespaces", ()):
        named = {"namespaces": override["names"]}
        if "until" in override:
            named["until"] = override["until"]
        if applies(named, question.namespace, question.now):
            return str(override["mode"])
    return question.mode or str(question.policy["mode"])


# ------------------------------------------------------------------------------------------------------------
# Requirements


def required(question: Question, requirement: dict[str, Any], seen: Image) -> list[Image]:
    """Return the names (the image's, its origins') by which a requirement matches an image."""
    if not applies(_named(requirement), question.namespace, question.now):
        return []
    return [
        name
        for name in (seen, *origins(question.policy, seen))
        if any(matches(pattern, name) for pattern in requirement["images"])
        and not _spared(question, requirement.get("except", []), name)
    ]


def needs_digest(requirement: dict[str, Any]) -> bool:
    return bool(requirement.get("digest") or requirement.get("signedBy"))


def needs_look_up(requirement: dict[str, Any]) -> bool:
    return bool(requirement.get("exists") or requirement.get("signedBy"))


def keeps(requirement: dict[str, Any]) -> bool:
    """Return whether an error approves: "keep (approve) | deny; default: deny with signedBy, else keep"."""
    default = "deny" if requirement.get("signedBy") else "keep"
    return requirement.get("mode") != "warn" and requirement.get("onError", default) == "keep"


def _requirement(
    question: Question,
    index: int,
    requirement: dict[str, Any],
    seen: Image,
    asking: Asking,
    found: set[str],
) -> Requirement:
    """Judge one requirement that matches. Digests that are looked up go to ``found``."""
    met, reason, also = _state(question, requirement, seen, asking, found)
    return Requirement(index, met, reason, requirement.get("mode") == "warn", frozenset(also))


State = tuple[bool | None, str, set[str]]


def _state(
    question: Question, requirement: dict[str, Any], seen: Image, asking: Asking, found: set[str]
) -> State:
    online = asking.world is not None
    if needs_digest(requirement) and seen.digest is None:
        if mode_of(question) == "mutate":
            return _unpinned_in_mutate(question, requirement, seen, asking, found)
        others: set[str] = set()
        if needs_look_up(requirement) and online:
            # For the message, and for "as `denied`, if a look-up found a digest that a deny rule names".
            others = {_facts(question, requirement, seen, asking, found)[1]} & {"absent"}
        return False, "unpinned", others
    if not needs_look_up(requirement):
        return True, "", set()
    if not online:
        # "What is not pulled is not looked up", and "what needs a look-up counts as met, and says so".
        return _offline(question, requirement)
    return _facts(question, requirement, seen, asking, found)


def _offline(question: Question, requirement: dict[str, Any]) -> State:
    """Judge what needs a look-up. Without a live key, no look-up is needed."""
    if question.pulled and requirement.get("signedBy") and not live_signers(question, requirement):
        return False, "unsigned", set()
    return None, "", set()


def _unpinned_in_mutate(
    question: Question, requirement: dict[str, Any], seen: Image, asking: Asking, found: set[str]
) -> State:
    """Judge a name without a digest that should have one, where the webhook writes digests."""
    if not question.pulled or not contactable(question, seen.host):
        return False, "unpinned", set()
    if asking.world is None:
        # "as if the webhook had written it where it may"
        if not may_pin(question, seen, SOME_DIGEST):
            return False, "unpinned", set()
        return _offline(question, requirement)
    try:
        digest = asking.exists(seen)
    except Error:
        if not keeps(requirement):
            return False, "unverified", {"unpinned"}
        if requirement.get("signedBy"):
            return False, "unpinned", {"unverified"}
        return True, "unverified", set()
    if digest is None:
        return False, "absent" if needs_look_up(requirement) else "unpinned", {"absent", "unpinned"}
    # The digest is known and was not written: "whatever the mutating webhook did not pin"
    _, reason, _ = _facts(question, requirement, seen, asking, found)
    found.add(digest)
    return False, "unpinned", {reason} - {""}


def _facts(
    question: Question, requirement: dict[str, Any], seen: Image, asking: Asking, found: set[str]
) -> State:
    """Ask whether an image exists, or who signed it. Returns as if it had a digest.

    A valid signature of a digest in the name proves that the image exists.
    """
    digest = seen.digest if requirement.get("signedBy") else None
    if digest is None:
        try:
            digest = asking.exists(seen)
        except Error:
            return keeps(requirement), "unverified", set()
        if digest is None:
            return False, "absent", set()
        found.add(digest)
    if not requirement.get("signedBy"):
        return True, "", set()
    state = signature(question, requirement, seen.at(digest), asking)
    if state == "error":
        return keeps(requirement), "unverified", set()
    return state == "signed", "" if state == "signed" else "unsigned", set()


def signature(question: Question, requirement: dict[str, Any], pinned: Image, asking: Asking) -> str:
    """Return ``signed``, ``unsigned`` or ``error`` for a name with a digest."""
    live = live_signers(question, requirement)
    try:
        return "signed" if live and asking.signers(pinned, requirement) & live else "unsigned"
    except Error:
        return "error"


def live_signers(question: Question, requirement: dict[str, Any]) -> set[str]:
    """Return the names in ``signedBy`` whose keys are live."""
    live = {key["name"] for key in question.policy.get("keys", ()) if alive(key, question.now)}
    return live & set(requirement["signedBy"])


def contactable(question: Question, host: str) -> bool:
    """Return whether ``mirrors`` or a requirement names a host literally, or ``registries`` lists it."""
    hosts = {fold(registry["host"]) for registry in question.policy.get("registries", ())}
    for mirror in question.policy.get("mirrors", ()):
        hosts |= {end(to)[0] for to in targets_of(mirror)}
    for requirement in question.policy.get("require", ()):
        hosts |= {read_pattern(pattern).host for pattern in requirement["images"]}
    return host in hosts


def may_pin(question: Question, seen: Image, digest: str) -> bool:
    """Return whether a digest may be written to a name that is approved.

    "When the pinned name would be rejected by `allow` (a tag rule never matches a digest) [...], it is left
    unpinned".
    """
    return by_name(question, seen.at(digest)) in {"allowed", "exception"}


# ------------------------------------------------------------------------------------------------------------
# What the mutating endpoint writes


class Plan(NamedTuple):
    """What the mutating endpoint does to an image.

    ``refused`` is ``absent`` or ``unverified`` where a mirror denies; ``denied`` says that a digest that was
    looked up is denied: then nothing is written.
    """

    written: str | None = None
    refused: str = ""
    denied: bool = False
    lookups: frozenset[LookUp] = frozenset()


def mutate(question: Question) -> Plan:
    """Return what the mutating endpoint writes in place of a new image."""
    seen = read(question.image)
    if (
        mode_of(question) != "mutate"
        or question.template
        or seen is None
        or by_name(question, seen) == "denied"
    ):
        return Plan()
    asking = Asking(question)
    plan = _mirrored(question, seen, asking)
    if not plan.denied and not plan.refused:
        plan = _pinned(question, plan, asking)
    written = None if plan.denied or plan.written == question.image else plan.written
    return plan._replace(written=written, lookups=frozenset(asking.asked))


def _mirrored(question: Question, seen: Image, asking: Asking) -> Plan:  # noqa: C901, PLR0912
    """Return what mirrors make of an image, and its pin if the mirror has one."""
    mirror = None if denied(question, seen) else mirror_of(question, seen)  # exceptions change no rewrite
    if mirror is None:
        return Plan()
    every = candidates(question, mirror, question.image)
    left = [each for each in every if each and by_name(question, each[1]) in {"allowed", "exception"}]
    if not (mirror.get("verify") or mirror.get("pin")):
        return _to(every[0]) if every[0] else Plan()
    if not left:
        return Plan()
    if asking.world is None:
        # Nothing is looked up: offline, or `imagePullPolicy: Never`.
        return Plan()
    trouble, winner = False, None
    for text, name in left:
        try:
            digest = asking.exists(name)
        except Error:
            trouble = True
        else:
            if digest is not None and winner is None:
                winner = text, name, digest
    if winner is None:
        action = mirror.get("onError" if trouble else "onMissing", "keep")
        if action == "deny":
            return Plan(refused="unverified" if trouble else "absent")
        if action == "rewrite":
            return _to(left[0])
        return Plan()
    text, name, digest = winner
    if refused(question, seen.at(digest)) or refused(question, name.at(digest)):
        return Plan(denied=True)
    pins = mirror.get("pin") and name.digest is None and may_pin(question, name, digest)
    if pins and not unvouched(question, name, digest, asking):
        return Plan(f"{text}@{digest}")
    return _to((text, name))


def _to(target: tuple[str, Image]) -> Plan:
    return Plan(target[0])


def _pinned(question: Question, plan: Plan, asking: Asking) -> Plan:
    """Return the plan with the digest that requirements want, where it may be written."""
    text = plan.written or question.image
    seen = _read(text)
    if seen.digest or by_name(question, seen) not in {"allowed", "exception"}:
        return plan
    wanting = [
        requirement
        for requirement in question.policy.get("require", ())
        if needs_digest(requirement) and required(question, requirement, seen)
    ]
    if not wanting or asking.world is None or not contactable(question, seen.host):
        return plan
    try:
        digest = asking.exists(seen)
    except Error:
        return plan
    if digest is None:
        return plan
    if refused(question, seen.at(digest)):
        return plan._replace(denied=True)
    if not may_pin(question, seen, digest):
        return plan
    if unvouched(question, seen, digest, asking):
        return plan
    return plan._replace(written=f"{qualified(text)}@{digest}")


def unvouched(question: Question, seen: Image, digest: str, asking: Asking) -> bool:
    """Return whether a digest may not be written because it lacks a signature that a requirement asks for."""
    names, pinned = (seen, seen.at(digest)), seen.at(digest)
    states = [
        (signature(question, requirement, pinned, asking), requirement)
        for requirement in question.policy.get("require", ())
        if requirement.get("signedBy") and any(required(question, requirement, name) for name in names)
    ]
    return any(
        requirement.get("mode") != "warn"
        and (state == "unsigned" or (state == "error" and not keeps(requirement)))
        for state, requirement in states
    )


def mirror_of(question: Question, seen: Image) -> dict[str, Any] | None:
    """Return the mirror that takes an image: that with the longest ``from``, unless it spares the image."""
    longest, chosen = -1, None
    for mirror in question.policy.get("mirrors", ()):
        host, path = end(mirror["from"])
        if under(seen, host, path) and len(path) > longest:
            longest, chosen = len(path), mirror
    spared = chosen is not None and any(matches(pattern, seen) for pattern in chosen.get("except", ()))
    return None if spared else chosen


def candidates(question: Question, mirror: dict[str, Any], image: str) -> list[tuple[str, Image] | None]:
    """Return the names that a mirror can make of an image; ``None`` for one that cannot be written."""
    seen, tag, digest = _read(image), *written_parts(image)
    rest = seen.path[len(end(mirror["from"])[1]) :]
    made: list[tuple[str, Image] | None] = []
    for to in targets_of(mirror):
        name = "/".join((to.rstrip("/"), *rest))
        text = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        result = read(text)
        good = result is not None and result.host == end(to)[0] and len(name) <= 255
        made.append((text, result) if good and result is not None else None)
    return made


def targets_of(mirror: dict[str, Any]) -> list[str]:
    to = mirror["to"]
    return [to] if isinstance(to, str) else list(to)


def written_parts(image: str) -> tuple[str | None, str | None]:
    """Return the tag and the digest as they are written."""
    name, _, digest = image.partition("@")
    last = name.rpartition("/")[2]
    _, colon, tag = last.rpartition(":")
    return (tag if colon else None), (digest or None)


def qualified(image: str) -> str:
    """Write a name in full: "what a rewrite emits is always fully qualified"."""
    host, slash, rest = image.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host or host != host.lower()):
        host, rest = "docker.io", image
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in rest:
        rest = "library/" + rest
    return f"{host}/{rest}"


def same(one: str | None, other: str | None) -> bool:
    """Return whether two names have the same tag and digest, and are one image however it is spelled."""
    if one is None or other is None:
        return one is other
    return (read(one), written_parts(one)) == (read(other), written_parts(other))


# ------------------------------------------------------------------------------------------------------------
# Exceptions


def excepted_names(question: Question, seen: Image, names: list[Image], overridden: set[str]) -> bool:
    """Return whether exceptions approve an image with names that must be matched.

    "where no `allow` rule approves the image, they must match its own name, too"
    """
    if not allowed(question, seen):
        names = [*names, seen]
    return all(
        any(
            _excepts(question, key, position, name, overridden)
            for key, entries in (question.documents or {}).items()
            for position in range(len(entries))
        )
        for name in names
    )


def _excepts(
    question: Question, key: tuple[str, str], position: int, name: Image, overridden: set[str]
) -> bool:
    """Return whether one entry, with a grant of its source that overrides enough, approves a name: law 1."""
    (source, where), entry = key, (question.documents or {})[key][position]
    if source == "namespace" and where != question.namespace:
        return False
    if source != "namespace" and not applies(_named(entry), question.namespace, question.now):
        return False
    return (
        matches(entry["image"], name)
        and _counts(question, key, position)
        and any(
            _granted(grant, name, question.namespace, question.now)
            and _inside(grant, entry, question.now)
            and overridden <= overrides(grant)
            for grant in _grants(question, source)
        )
    )


def _counts(question: Question, key: tuple[str, str], position: int) -> bool:
    """Return whether an entry is among the first ``most`` live entries of its document: law 2."""
    grants = _grants(question, key[0])
    most = max(
        (g.get("most", 20) for g in grants if applies(_named(g), question.namespace, question.now)), default=0
    )
    live = [
        number
        for number, entry in enumerate((question.documents or {})[key])
        if any(_inside(grant, entry, question.now) and meets(key, entry, grant) for grant in grants)
    ]
    return position in live[:most]


def _grants(question: Question, source: str) -> list[dict[str, Any]]:
    return [grant for grant in question.policy.get("exceptions", ()) if grant["source"] == source]


def overrides(grant: dict[str, Any]) -> set[str]:
    value = grant.get("overrides", [])
    return {value} if isinstance(value, str) else set(value)


def meets(key: tuple[str, str], entry: dict[str, Any], grant: dict[str, Any]) -> bool:
    """Return whether an entry and a grant have some image and some namespace in common."""
    names = [key[1]] if key[0] == "namespace" else entry.get("namespaces", ["*"])
    return any(overlap(a, b) for a in names for b in grant.get("namespaces", ["*"])) and any(
        patterns_overlap(read_pattern(entry["image"]), read_pattern(image)) for image in grant["images"]
    )


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the namespaces of a grant, an exception or a requirement as those of a rule."""
    return {"namespaces": entry["namespaces"]} if "namespaces" in entry else {}


def _granted(grant: dict[str, Any], image: Image, namespace: str | None, now: datetime) -> bool:
    return applies(_named(grant), namespace, now) and any(matches(each, image) for each in grant["images"])


def _inside(grant: dict[str, Any], entry: dict[str, Any], now: datetime) -> bool:
    """The clock is inside while ``until - longest <= now < until``."""
    until, longest = instant(entry["until"]), str(grant["longest"])
    hours = int(longest[:-1]) * (24 if longest.endswith("d") else 1)
    return until - timedelta(hours=hours) <= now < until


# ------------------------------------------------------------------------------------------------------------
# The interface of the former oracle


def approved(document: Document, image: str, namespace: str | None, now: datetime) -> bool:
    """Return whether the rules (``allow`` and ``deny``) approve an image in a namespace at an instant."""
    seen = read(image)
    return seen is not None and by_name(Question(document, image, now, namespace), seen) == "allowed"


def needed(
    document: Document, image: str, namespace: str | None, now: datetime, *, signed: bool = True
) -> set[str] | None:
    """Return what a grant must override so that an exception can approve an image (of a Pod, in ``enforce``).

    ``None``: the document approves the image, or no exception can. The image exists; without ``signed``,
    nobody signed it.
    """
    seen = read(image)
    if seen is None:
        return None
    signers = [each["name"] for each in document.get("keys", ())]

    def world(lookup: LookUp) -> Any:
        if lookup.kind == "signed":
            return signers if signed else []
        return seen.digest or SOME_DIGEST

    bare = {**document, "exceptions": [], "namespaces": [], "mode": "enforce"}
    question = Question(bare, image, now, namespace, world=world)
    overridden = {"deny"} if denied(question, seen) else set()
    asking = Asking(question)
    for index, requirement in enumerate(document.get("require", ())):
        if required(question, requirement, seen):
            result = _requirement(question, index, requirement, seen, asking, set())
            if result.met is False and not result.warn:
                overridden.add("require")
    return None if allowed(question, seen) and not overridden else overridden


def exceptable(
    document: Document, image: str, namespace: str | None, now: datetime, *, signed: bool = True
) -> bool:
    """Return whether the document rejects an image, and some exception could approve it."""
    seen, overridden = read(image), needed(document, image, namespace, now, signed=signed)
    if seen is None or overridden is None:
        return False
    question = Question(document, image, now, namespace)
    names = denied(question, seen)
    if not allowed(question, seen) or "require" in overridden:
        names = [*names, seen]
    return all(
        any(
            _granted(grant, name, namespace, now)
            and (namespace is not None or grant["source"] != "namespace")
            and overridden <= overrides(grant)
            for grant in document.get("exceptions", ())
        )
        for name in names
    )


def excepted(
    policy: Document,
    documents: Documents,
    image: str,
    namespace: str | None,
    now: datetime,
    possible: Any = (),
) -> bool:
    """Return whether an exception approves an image that the rules reject."""
    seen = read(image)
    if seen is None:
        return False
    return by_name(Question(policy, image, now, namespace, documents=documents), seen) == "exception"


def rewritten(
    document: Document, image: str, namespace: str | None = None, now: datetime | None = None
) -> bool:
    """Return whether a mirror takes an image."""
    seen, when = read(image), now or datetime.now(UTC)
    return seen is not None and mirror_of(Question(document, image, when, namespace), seen) is not None


# ------------------------------------------------------------------------------------------------------------
# References, rules and patterns


class Image(NamedTuple):
    """An image as rules see it: one kind of registry, official images with their ``library``."""

    host: str
    path: tuple[str, ...]
    tag: str | None
    digest: str | None

    def at(self, digest: str) -> Image:
        return self._replace(tag=None, digest=digest)

    def text(self) -> str:
        return "/".join((self.host, *self.path)) + (f"@{self.digest}" if self.digest else f":{self.tag}")


def _read(image: str) -> Image:
    seen = read(image)
    assert seen is not None
    return seen


@lru_cache(4096)
def read(image: str) -> Image | None:
    """Read an image as a container runtime does; ``None`` for one that is never approved."""
    if len(image) > 4096 or re.fullmatch("[a-f0-9]{64}", image):
        return None
    if re.fullmatch("sha(256|384|512):[0-9a-fA-F]+", image):
        return None
    match = SHAPE.fullmatch(qualified(image))
    if match is None or len(match["path"]) > 255:
        return None
    folded = fold(match["host"])
    if folded is None:
        return None
    path = tuple(match["path"].split("/"))
    if folded == "docker.io" and len(path) == 1:
        path = ("library", *path)
    tag = None if match["digest"] else match["tag"] or "latest"
    return Image(folded, path, tag, match["digest"])


def fold(host: str) -> str | None:
    """Return a host as it is compared; ``None`` for a port that is none."""
    host = host.lower()
    name, colon, port = host.rpartition(":")
    if colon and not host.endswith("]"):
        if not 1 <= int(port) <= 65535:
            return None
        host = name if int(port) == 443 else f"{name}:{int(port)}"
    return "docker.io" if host in HUB else host


def applies(rule: Any, namespace: str | None, now: datetime) -> bool:
    """Return whether a rule is alive, and is for a namespace."""
    if isinstance(rule, str):
        return True
    names = rule.get("namespaces", ["*"])
    named = "*" in names or (namespace is not None and any(like(name, namespace) for name in names))
    return named and alive(rule, now)


def alive(rule: dict[str, Any], now: datetime) -> bool:
    """Return whether a rule or key has not ended: "the rule is dead from then on"."""
    return "until" not in rule or now < instant(rule["until"])


def instant(value: Any) -> datetime:
    """Read a time; a plain date is 00:00 UTC of that day."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value.upper())
    return when if when.tzinfo else when.replace(tzinfo=UTC)


class Pattern(NamedTuple):
    """A pattern of a rule. With ``below``, it matches what lies below its segments."""

    host: str
    segments: tuple[str, ...]
    below: bool
    tag: str | None
    digest: str


@lru_cache(4096)
def read_pattern(text: str) -> Pattern:
    name, _, digest = text.partition("@")
    host, slash, path = name.partition("/")
    tag = None
    if ":" in path.rpartition("/")[2]:
        path, _, tag = path.rpartition(":")
    segments = path.split("/") if path else [""]
    below = segments[-1] in {"", "**"} if slash else True
    if below:
        segments.pop()
    pattern_host = fold(host)
    assert pattern_host is not None
    if pattern_host == "docker.io" and len(segments) == 1 and not below:
        segments = ["library", *segments]
    return Pattern(pattern_host, tuple(segments), below, tag, digest)


def matches(rule: Any, image: Image) -> bool:
    pattern = read_pattern(rule if isinstance(rule, str) else rule["image"])
    if not host_like(pattern.host, image.host):
        return False
    number = len(pattern.segments)
    if len(image.path) <= number if pattern.below else len(image.path) != number:
        return False
    if not all(like(glob, part) for glob, part in zip(pattern.segments, image.path, strict=False)):
        return False
    if pattern.digest:
        return image.digest is not None and pattern.digest in {"*", image.digest}
    return pattern.tag is None or (image.tag is not None and like(pattern.tag, image.tag))


def host_like(pattern: str, host: str) -> bool:
    if pattern == "*" or "*" not in pattern:
        return pattern in {"*", host}
    if host.startswith("["):
        return False
    name, _, port = host.partition(":")
    pattern_host, _, wanted_port = pattern.partition(":")
    labels, globs = name.split("."), pattern_host.split(".")
    return port == wanted_port and len(labels) == len(globs) and all(map(like, globs, labels))


def like(glob: str, text: str) -> bool:
    """Return whether a text is like a glob, in which ``*`` stands for any characters, also none."""
    if "*" not in glob:
        return glob == text
    first, *middle, last = glob.split("*")
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    position, stop = len(first), len(text) - len(last)
    for part in middle:
        position = text.find(part, position, stop)
        if position < 0:
            return False
        position += len(part)
    return True


def overlap(one: str, other: str) -> bool:
    """Return whether some text is like both globs."""
    pairs, done = [(0, 0)], set()
    while pairs:
        pair = i, j = pairs.pop()
        if pair in done:
            continue
        done.add(pair)
        if i == len(one) and j == len(other):
            return True
        a, b = one[i : i + 1], other[j : j + 1]
        if a == "*":
            pairs.append((i + 1, j))
            pairs += [(i, j + 1)] if b else []
        if b == "*":
            pairs.append((i, j + 1))
            pairs += [(i + 1, j)] if a else []
        if a == b and a not in {"", "*"}:
            pairs.append((i + 1, j + 1))
    return False


def patterns_overlap(one: Pattern, other: Pattern) -> bool:  # noqa: C901
    """Return whether some image matches both patterns (whether its parts obey the grammar is not asked)."""
    if "*" not in {one.host, other.host}:
        ends = [host.partition(":") for host in (one.host, other.host)]
        labels = [name.split(".") for name, _, _ in ends]
        if one.host.startswith("[") or other.host.startswith("["):
            if one.host != other.host:
                return False
        elif ends[0][2] != ends[1][2] or len(labels[0]) != len(labels[1]) or not all(map(overlap, *labels)):
            return False
    lengths = len(one.segments), len(other.segments)
    if not one.below and not other.below and lengths[0] != lengths[1]:
        return False
    if not one.below and other.below and lengths[0] <= lengths[1]:
        return False
    if one.below and not other.below and lengths[1] <= lengths[0]:
        return False
    fixed = [len(each.segments) for each in (one, other) if not each.below]
    if 1 in fixed and "docker.io" in {one.host, other.host}:
        return False
    if not all(overlap(a, b) for a, b in zip(one.segments, other.segments, strict=False)):
        return False
    if one.digest and other.digest:
        return one.digest == other.digest or "*" in {one.digest, other.digest}
    if one.digest or other.digest:
        tag = other.tag if one.digest else one.tag
        return tag is None
    return one.tag is None or other.tag is None or overlap(one.tag, other.tag)


def end(text: str) -> tuple[str, tuple[str, ...]]:
    """Read one end of a mirror: its registry and its path."""
    host, _, path = text.rstrip("/").partition("/")
    folded = fold(host)
    assert folded is not None
    return folded, tuple(path.split("/")) if path else ()


def under(image: Image, host: str, path: tuple[str, ...]) -> bool:
    """Return whether an end of a mirror is a prefix of an image on segment boundaries; equality counts."""
    return image.host == host and image.path[: len(path)] == path


def origins(document: Document, image: Image) -> list[Image]:
    """Return the images that an image on a mirror may stand for: those one step away."""
    found = []
    for mirror in document.get("mirrors", ()):
        for host, path in map(end, targets_of(mirror)):
            if not under(image, host, path):
                continue
            rest = image.path[len(path) :]
            source = mirror["from"].rstrip("/")
            origin = read("/".join((source, *rest)))
            if origin is not None and origin.host != end(source)[0]:
                origin = None
            if origin is not None:
                found.append(origin._replace(tag=image.tag, digest=image.digest))
    return found


# ------------------------------------------------------------------------------------------------------------
# Which images are judged (section 5), as in the former oracle


class Field(NamedTuple):
    """A field for an image, or a value where such a field should be. ``problem`` is empty for an image."""

    path: str
    noun: str
    name: str | None
    value: Any
    problem: str


LISTS: Final = {
    "containers": ("container", ("image",)),
    "initContainers": ("init container", ("image",)),
    "ephemeralContainers": ("ephemeral container", ("image",)),
    "volumes": ("image volume", ("image", "reference")),
}
"""The lists of a pod spec: the noun of an item, and the path from an item to its image."""

TYPES: Final = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


def fields(obj: Any, path: tuple[str, ...] | None) -> list[Field]:
    """Return the image fields of an object whose pod spec is at ``path``; ``None`` for a custom resource."""
    if path is None:
        return [
            field
            for where, spec in pod_specs(obj, "", 32)
            for field in fields_of_spec(spec, where, is_pod=False, noun="image")
        ]
    is_pod, where = path == ("spec",), ""
    if is_pod and not isinstance(obj, dict):
        return [Field("", "image", None, obj, "there is no Pod to judge")]
    for key in path:
        if obj is None:
            return []
        if not isinstance(obj, dict):
            return [wrong(where, "image", obj, "a mapping")]
        obj, where = obj.get(key), below(where, key)
    if obj is None:
        return [Field("spec", "image", None, None, "the Pod has no spec")] if is_pod else []
    return list(fields_of_spec(obj, where, is_pod=is_pod))


def pod_specs(value: Any, where: str, levels: int) -> Iterator[tuple[str, Any]]:
    """Yield every mapping with a ``containers`` list, at most so many levels below the object."""
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = value.get("containers")
        if isinstance(items, list) and (not items or any(isinstance(item, dict) for item in items)):
            yield where, value
        children = [(below(where, k), v) for k, v in value.items() if where or k != "metadata"]
    elif isinstance(value, list) and where:
        children = [(f"{where}[{index}]", item) for index, item in enumerate(value)]
    for place, child in children if levels else ():
        yield from pod_specs(child, place, levels - 1)


def fields_of_spec(spec: Any, where: str, *, is_pod: bool, noun: str = "") -> Iterator[Field]:
    if not isinstance(spec, dict):
        yield wrong(where, "image", spec, "a mapping")
        return
    for key, (own_noun, steps) in LISTS.items():
        items, place = spec.get(key), below(where, key)
        if items is None:
            if is_pod and key == "containers":
                yield Field(place, own_noun, None, None, "the Pod has no containers")
        elif not isinstance(items, list):
            yield wrong(place, noun or own_noun, items, "a list")
        else:
            for index, item in enumerate(items):
                field = field_of_item(item, f"{place}[{index}]", noun or own_noun, steps, is_pod=is_pod)
                if field is not None:
                    yield field


def field_of_item(item: Any, where: str, noun: str, steps: tuple[str, ...], *, is_pod: bool) -> Field | None:
    name = None
    for number, step in enumerate(steps):
        if not isinstance(item, dict):
            return wrong(where, noun, item, "a mapping", name)
        name = name or item.get("name")
        name = name if isinstance(name, str) and name else None
        item, where = item.get(step), f"{where}.{step}"
        if item is None and number < len(steps) - 1:
            return None
    if item is None or item == "":
        problem = "the image is missing" if item is None else "the image is empty"
        return Field(where, noun, name, item, problem) if is_pod else None
    if not isinstance(item, str):
        return Field(where, noun, name, item, f"the image is {TYPES[type(item)]}, not text")
    return Field(where, noun, name, item, "") if is_pod or item not in {"auto", " "} else None


def wrong(where: str, noun: str, value: Any, expected: str, name: str | None = None) -> Field:
    return Field(where, noun, name, value, f"it is {TYPES[type(value)]}, not {expected}")


def below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
