"""Findings about an accepted policy: what it says that its author may not mean.

Source: docs/policy.md, "Lint". Each check is a function from the policy to findings; whether one
rule covers another is asked of an index, so that 100,000 rules cost no more than their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from gatekeeper_py.core.images.glob import Glob, is_glob
from gatekeeper_py.core.images.index import Qualifiers, qualifiers_of
from gatekeeper_py.core.images.pattern import (
    ANY,
    Pattern,
    Prefix,
    split_port,
)
from gatekeeper_py.core.images.reference import DOCKER_HUB, OFFICIAL_NAMESPACE
from gatekeeper_py.core.policy.finding import Finding, Path, Remark, Remarks
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.parse.places import as_findings
from gatekeeper_py.core.policy.rules import Rule, RuleSet

if TYPE_CHECKING:
    from gatekeeper_py.core.policy.policy import Policy

EXPIRES_SOON: Final = timedelta(days=14)

MAX_WIDE_OVERRIDES: Final = 64
"""Overrides with wildcards that are compared with later ones."""

PUBLIC_PLATFORMS: Final = (
    "azurecr.io",
    "amazonaws.com",
    "pkg.dev",
    "gcr.io",
    "jfrog.io",
    "cloudsmith.io",
    "ocir.io",
    "aliyuncs.com",
    "myhuaweicloud.com",
    "tencentcloudcr.com",
    "scw.cloud",
    "icr.io",
    "digitalocean.com",
    "gitlab.com",
    "github.com",
    "quay.io",
    "docker.io",
    "docker.com",
    "googleusercontent.com",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "herokuapp.com",
    "ngrok.io",
    "ngrok.app",
)
"""Suffixes under which anyone can open an account and so get a host name."""

TWO_SEGMENT_REGISTRIES: Final = frozenset({"ghcr.io", "quay.io", "gcr.io"})
"""Registries whose repositories always have an owner before the name."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """The policy as the checks see it."""

    instant: datetime
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    allow_cover: RuleSet
    deny_cover: RuleSet
    mirrors: tuple[Mirror, ...]
    policy: Policy

    def live(self) -> Iterator[Rule]:
        return (rule for rule in (*self.allow, *self.deny) if rule.lives_at(self.instant))

    def live_allow(self) -> Iterator[Rule]:
        return (rule for rule in self.allow if rule.lives_at(self.instant))


RULE_FIELDS: Final = {
    "list": "a deny rule can make an allow rule useless",
    "index": "names the rule in a finding",
    "pattern": "checked by most of the lints",
    "namespaces": "a rule is only useless when wider rules apply in all of its namespaces",
    "until": "expired and soon to expire; a rule is only useless while a wider one lasts",
    "owner": "only shown",
    "reason": "only shown",
}
"""What the lints make of each field of a rule. A test fails until a new field is here."""


def lint(policy: Policy, instant: datetime) -> tuple[Finding, ...]:
    """Every warning about a policy as of an instant, in the order of the text."""
    subject = _Subject(
        instant=instant,
        allow=policy.allow,
        deny=policy.deny,
        allow_cover=_longest_living_first(policy.allow, instant),
        deny_cover=_longest_living_first(policy.deny, instant),
        mirrors=tuple(policy.mirrors),
        policy=policy,
    )
    remarks = Remarks()
    for check in _CHECKS:
        remarks.extend(check(subject))
    return as_findings(policy.text, remarks)


def _warning(code: str, path: Path, message: str, proposal: str = "") -> Remark:
    return Remark(severity="warning", code=code, path=path, message=message, proposal=proposal)


def _longest_living_first(rules: tuple[Rule, ...], instant: datetime) -> RuleSet:
    """Live rules for cover questions: of equal ones the index keeps the first, so that must last."""
    live = [rule for rule in rules if rule.lives_at(instant)]
    forever = datetime.max.replace(tzinfo=UTC)
    return RuleSet(sorted(live, key=lambda rule: rule.until or forever, reverse=True))


def _dead_rules(subject: _Subject) -> Iterator[Remark]:
    """A rule that a wider one of its list makes useless, or a deny rule makes void.

    Rules that make each other useless are not all dead: what was found dead makes no other rule
    so, and the last comes first. So all that is reported can go at once.
    """
    dead: set[int] = set()
    for rule in reversed(tuple(subject.live())):
        cover = subject.allow_cover if rule.list == "allow" else subject.deny_cover
        wider = _cover(cover, rule, dead)
        if wider is None and rule.list == "allow":
            wider = _cover(subject.deny_cover, rule, dead)
        if wider is None:
            continue
        dead.add(id(rule))
        why = "denies all of it" if wider.list != rule.list else "covers all of it"
        yield _warning(
            "dead-rule", _path(rule), f"the rule has no effect: {wider} {why}", "remove one of the two"
        )


def _dead_overrides(subject: _Subject) -> Iterator[Remark]:
    """An override whose names an earlier one, which lasts as long, has all taken: the first decides."""
    overrides = subject.policy.document.namespaces
    by_name: dict[str, list[int]] = {}
    with_globs: list[int] = []
    for index, entry in enumerate(overrides):
        # Only those that could have taken the first name, so that thousands of overrides stay cheap.
        candidates = sorted({*by_name.get(entry.names[0], ()), *with_globs})
        for name in entry.names:
            by_name.setdefault(name, []).append(index)
        if any(map(is_glob, entry.names)) and len(with_globs) < MAX_WIDE_OVERRIDES:
            with_globs.append(index)
        for earlier in candidates:
            wider = overrides[earlier]
            outlives = wider.until is None or (entry.until is not None and entry.until <= wider.until)
            taken = all(any(Glob(name).matches(other) for name in wider.names) for other in entry.names)
            if outlives and taken:
                yield _warning(
                    "dead-rule",
                    ("namespaces", index),
                    f"the override has no effect: namespaces[{earlier}] comes first and names all of it",
                    "remove it, or put it first",
                )
                break


def _cover(rules: RuleSet, rule: Rule, dead: AbstractSet[int]) -> Rule | None:
    """Another rule that, as long as this one lives, matches all that this one matches.

    With several namespaces, the last of those that do so together.
    """
    found: Rule | None = None
    for namespace in rule.namespaces if rule.namespaces is not None else (None,):
        found = next(
            (
                other
                for other in rules.covering(rule.pattern, _qualifiers(rule.pattern), namespace)
                if other is not rule and id(other) not in dead and _outlives(other, rule)
            ),
            None,
        )
        if found is None:
            return None
    return found


def _outlives(one: Rule, other: Rule) -> bool:
    return one.until is None or (other.until is not None and other.until <= one.until)


def _qualifiers(pattern: Pattern) -> Qualifiers:
    if pattern.digest == ANY:
        return (f"@{ANY}", None)
    return qualifiers_of(pattern.tag, pattern.digest)


def _lapses(subject: _Subject) -> Iterator[Remark]:
    dated: list[tuple[Path, datetime]] = [
        ((*_path(rule), "until"), rule.until)
        for rule in (*subject.allow, *subject.deny)
        if rule.until is not None
    ]
    dated += [
        (("namespaces", index, "until"), entry.until)
        for index, entry in enumerate(subject.policy.document.namespaces)
        if entry.until is not None
    ]
    for path, until in dated:
        if until <= subject.instant:
            yield _warning("expired", path, f"it lapsed at {until:%Y-%m-%dT%H:%M:%SZ}", "remove or renew it")
        elif until - subject.instant <= EXPIRES_SOON:
            yield _warning(
                "expires-soon", path, f"it lapses at {until:%Y-%m-%dT%H:%M:%SZ}", "renew it in time"
            )


def _floating_latest(subject: _Subject) -> Iterator[Remark]:
    """Said once: some rule approves :latest, and no deny rule takes that back."""
    for rule in subject.live_allow():
        pattern = rule.pattern
        if pattern.digest is not None or (pattern.tag and not Glob(pattern.tag).matches("latest")):
            continue
        denied = subject.deny_cover.covering(pattern, qualifiers_of("latest", None), None)
        if not any(True for _ in denied):
            yield _warning(
                "floating-latest",
                _image_path(rule),
                f"{pattern.text} approves :latest, which names another image tomorrow",
                'deny "*/**:latest", or pin with a tag or @*',
            )
            return


def _mutable_hosts(subject: _Subject) -> Iterator[Remark]:
    for rule in subject.live_allow():
        name = split_port(rule.pattern.host)[0]
        if not is_glob(name) or rule.pattern.any_host:
            continue
        labels = name.split(".")
        last_glob = max(i for i, label in enumerate(labels) if is_glob(label))
        literal = ".".join(labels[last_glob + 1 :])
        platform = next((p for p in PUBLIC_PLATFORMS if literal == p or literal.endswith(f".{p}")), None)
        if platform is not None:
            yield _warning(
                "mutable-host",
                _image_path(rule),
                f"anyone can open an account under {platform} and get a host that {name} matches",
                "name your own hosts one by one",
            )


def _hub_users(subject: _Subject) -> Iterator[Remark]:
    for rule in subject.live_allow():
        pattern = rule.pattern
        everybody = (pattern.subtree and not pattern.segments) or (
            bool(pattern.segments)
            and is_glob(pattern.segments[0])
            and (pattern.subtree or len(pattern.segments) > 1)
        )
        pinned = pattern.digest not in {None, ANY}
        if pattern.host == DOCKER_HUB and everybody and not pinned:
            yield _warning(
                "hub-user-namespace",
                _image_path(rule),
                f"{pattern.text} approves everybody's images on Docker Hub",
                f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}/** for the official ones, or name the users",
            )


def _exact_repositories(subject: _Subject) -> Iterator[Remark]:
    for rule in subject.live():
        pattern = rule.pattern
        if pattern.subtree:
            continue
        written = (
            f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}"
            if (pattern.host, pattern.segments) == (DOCKER_HUB, (OFFICIAL_NAMESPACE, OFFICIAL_NAMESPACE))
            else f"{pattern.host}/{pattern.segments[0]}"
            if pattern.host in TWO_SEGMENT_REGISTRIES and len(pattern.segments) == 1
            else None
        )
        if written is not None:
            yield _warning(
                "exact-repository",
                _image_path(rule),
                f"{written} is a namespace: there is no repository of that name",
                f"did you mean {written}/**?",
            )


def _ignored_tags(subject: _Subject) -> Iterator[Remark]:
    patterns = [(_image_path(rule), rule.pattern) for rule in subject.live()]
    patterns += [
        (("mirrors", mirror.index, "except", index), pattern)
        for mirror in subject.mirrors
        for index, pattern in enumerate(mirror.exceptions)
    ]
    for path, pattern in patterns:
        if pattern.ignored_tag is not None:
            yield _warning(
                "tag-ignored",
                path,
                f"the tag {pattern.ignored_tag} says nothing beside a digest: runtimes ignore it",
                f"leave :{pattern.ignored_tag} out",
            )


def _unapproved_mirrors(subject: _Subject) -> Iterator[Remark]:
    if not subject.mirrors:
        return
    # Whatever the conditions: an image may well meet them.
    places = RuleSet(
        replace(rule, pattern=replace(rule.pattern, tag=None, digest=None), namespaces=None)
        for rule in subject.live_allow()
    )
    for mirror in subject.mirrors:
        if not any(True for _ in places.covering(_everything_at(mirror.to, mirror), (None,), None)):
            yield _warning(
                "mirror-unapproved",
                ("mirrors", mirror.index, "to"),
                f"no allow rule covers {mirror.to.text}, so what is rewritten there is refused",
                f"allow {mirror.to.text}{'' if _has_one_image(mirror) else '/**'}",
            )


def _denied_mirrors(subject: _Subject) -> Iterator[Remark]:
    for mirror in subject.mirrors:
        rule = next(
            (
                rule
                for end in (mirror.to, mirror.source)
                for rule in subject.deny_cover.covering(_everything_at(end, mirror), (None,), None)
            ),
            None,
        )
        if rule is not None:
            yield _warning(
                "deny-covers-mirror",
                ("mirrors", mirror.index),
                f"{rule} refuses all that this mirror can give, as denials follow mirrors",
                "narrow the deny rule, or remove the mirror",
            )


def _everything_at(end: Prefix, mirror: Mirror) -> Pattern:
    """What can lie at one end of a mirror, as a pattern."""
    subtree = not _has_one_image(mirror)
    return Pattern(text=end.text, host=end.host, segments=end.segments, subtree=subtree)


def _has_one_image(mirror: Mirror) -> bool:
    """Whether the mirror is of a single repository: on Docker Hub those have two segments."""
    return mirror.source.host == DOCKER_HUB and len(mirror.source.segments) > 1


def _broad_hosts(subject: _Subject) -> Iterator[Remark]:
    for rule in subject.live_allow():
        name = split_port(rule.pattern.host)[0]
        labels = name.split(".")
        if rule.pattern.any_host or not any(map(is_glob, labels)):
            continue
        last_glob = max(i for i, label in enumerate(labels) if is_glob(label))
        if len(labels) - last_glob - 1 <= 1:
            yield _warning(
                "broad-host",
                _image_path(rule),
                f"{name} matches hosts that anyone can register",
                "name at least your own domain, e.g. *.corp.io",
            )


def _path(rule: Rule) -> Path:
    return (rule.list, rule.index)


def _image_path(rule: Rule) -> Path:
    """Where a rule's pattern stands; as a finding it is the rule itself when that is only a pattern."""
    return (*_path(rule), "image")


_CHECKS: Final[tuple[Callable[[_Subject], Iterator[Remark]], ...]] = (
    _dead_rules,
    _dead_overrides,
    _lapses,
    _floating_latest,
    _mutable_hosts,
    _hub_users,
    _exact_repositories,
    _ignored_tags,
    _unapproved_mirrors,
    _denied_mirrors,
    _broad_hosts,
)
