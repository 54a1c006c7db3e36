"""Patterns that match more, or less, than their author may think."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gatekeeper_py.core.images.glob import Glob, is_glob
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.image import qualifiers_of
from gatekeeper_py.core.images.pattern import ANY, Pattern, split_port
from gatekeeper_py.core.images.reference import DOCKER_HUB, OFFICIAL_NAMESPACE
from gatekeeper_py.core.policy.finding import Path, Remark
from gatekeeper_py.core.policy.lint.platforms import (
    PUBLIC_PLATFORMS,
    every_account,
    one_account,
    open_registry,
)
from gatekeeper_py.core.policy.lint.subject import Subject, covering, image_path, short, warning
from gatekeeper_py.core.policy.rules import Rule, RuleSet

TWO_SEGMENT_REGISTRIES: Final = frozenset({"ghcr.io", "quay.io", "gcr.io"})
"""Registries whose repositories always have an owner before the name."""


def floating_latest(subject: Subject) -> Iterator[Remark]:
    """Yield the first rule that approves ``:latest`` without a deny rule or a requirement that refuses it."""
    scan = Scan(each=None, total=subject.comparisons)
    refusing = subject.live_deny
    pinning = (each for each in subject.policy.document.require if each.digest and not each.warns)
    pinned = [rule for requirement in pinning for rule in requirement.rules]
    if pinned or any(rule.excepts for rule in refusing):
        # Whoever wrote an ``except`` for a rule that refuses :latest has considered it.
        refusing = RuleSet(replace(rule, excepts=()) for rule in (*refusing, *pinned))
    for rule in subject.approving():
        pattern = rule.pattern
        if pattern.digest is not None or (pattern.tag and not Glob(pattern.tag).matches("latest")):
            continue
        refused = covering(refusing, rule, scan, qualifiers_of("latest", None))
        if scan.cut:
            return
        if refused is None:
            yield warning(
                "floating-latest",
                image_path(rule),
                f"{short(pattern.text)} approves :latest, which names another image tomorrow",
                'deny "*/**:latest", add a tag or @*, or require digest: true',
            )
            return


def mutable_hosts(subject: Subject) -> Iterator[Remark]:
    """Yield each rule for a wildcard host under a platform where anyone can get a host name."""
    for rule, host in _wildcard_hosts(subject):
        if one_account(rule.pattern):
            continue
        ending = ".".join(host.ending)
        platform = next((p for p in PUBLIC_PLATFORMS if ending == p or ending.endswith(f".{p}")), None)
        if platform is not None:
            yield warning(
                "mutable-host",
                image_path(rule),
                f"anyone can open an account under {platform} and get a host that {short(host.name)} matches",
                "name your own hosts one by one",
            )


def broad_hosts(subject: Subject) -> Iterator[Remark]:
    """Yield each rule for a wildcard host that ends with one literal label or none, such as ``*.io``."""
    for rule, host in _wildcard_hosts(subject):
        if len(host.ending) <= 1:
            yield warning(
                "broad-host",
                image_path(rule),
                f"{short(host.name)} matches hosts that anyone can register",
                "name at least your own domain, e.g. *.corp.io",
            )


@dataclass(frozen=True, slots=True)
class _WildcardHost:
    """A host without its port, and its labels after the last wildcard."""

    name: str
    ending: tuple[str, ...]


def _wildcard_hosts(subject: Subject) -> Iterator[tuple[Rule, _WildcardHost]]:
    for rule in subject.approving():
        name, _ = split_port(rule.pattern.host)
        if is_glob(name) and not rule.pattern.any_host:
            labels = name.split(".")
            last = max(i for i, label in enumerate(labels) if is_glob(label))
            yield rule, _WildcardHost(name, tuple(labels[last + 1 :]))


def hub_users(subject: Subject) -> Iterator[Remark]:
    """Yield each rule that approves the images of every user of Docker Hub."""
    for rule in subject.approving_unsigned():
        if _of_every_hub_user(rule.pattern):
            yield warning(
                "hub-user-namespace",
                image_path(rule),
                f"{short(rule.pattern.text)} approves everybody's images on Docker Hub",
                f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}/** for the official ones, or name the users",
            )


def open_registries(subject: Subject) -> Iterator[Remark]:
    """Yield each rule that approves the images of every account at a public registry."""
    for rule in subject.approving_unsigned():
        pattern = rule.pattern
        platform = open_registry(pattern.host) if every_account(pattern) else None
        if platform is not None and not _of_every_hub_user(pattern):
            yield warning(
                "open-registry",
                image_path(rule),
                f"{short(pattern.text)} approves the images of everybody who has an account at {platform}",
                "name the accounts that you trust, each in a rule of its own",
            )


def _of_every_hub_user(pattern: Pattern) -> bool:
    return pattern.host == DOCKER_HUB and every_account(pattern) and pattern.digest in {None, ANY}


def exact_repositories(subject: Subject) -> Iterator[Remark]:
    """Yield each rule for a repository that cannot exist, because its name is that of a namespace."""
    for path, pattern, _ in _written(subject):
        written = None
        if pattern.subtree:
            continue
        if (pattern.host, pattern.segments) == (DOCKER_HUB, (OFFICIAL_NAMESPACE, OFFICIAL_NAMESPACE)):
            written = f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}"
        elif pattern.host in TWO_SEGMENT_REGISTRIES and len(pattern.segments) == 1:
            written = f"{pattern.host}/{pattern.segments[0]}"
        if written is not None:
            yield warning(
                "exact-repository",
                path,
                f"{short(written)} is a namespace: there is no repository of that name",
                f"did you mean {written}/**?",
            )


def one_segment(subject: Subject) -> Iterator[Remark]:
    """Yield each rule for ``registry/*``, which matches no repository below a path."""
    for path, pattern, verb in _written(subject):
        if pattern.host == DOCKER_HUB and pattern.segments[:1] == (OFFICIAL_NAMESPACE,):
            # A shorter spelling of docker.io/library/*, which holds repositories of one segment only.
            continue
        if not pattern.subtree and pattern.segments == (ANY,):
            wider = f"{pattern.host}/**{pattern.qualifier or ''}"
            yield warning(
                "one-segment",
                path,
                f"{short(pattern.text)} {verb} only names of one segment, such as {pattern.host}/app",
                f"to match all repositories, which is wider, write {wider}",
            )


def ignored_tags(subject: Subject) -> Iterator[Remark]:
    """Yield each pattern with a tag beside a digest."""
    for path, pattern in _patterns(subject):
        if pattern.ignored_tag is not None:
            yield warning(
                "tag-ignored",
                path,
                f"the tag {short(pattern.ignored_tag)} has no effect beside a digest: runtimes ignore it",
                f"leave :{pattern.ignored_tag} out",
            )


def _written(subject: Subject) -> Iterator[tuple[Path, Pattern, str]]:
    """Yield the patterns of live rules and of requirements, each with its path and a verb for it."""
    for rule in subject.live():
        yield image_path(rule), rule.pattern, "approves" if rule.list == "allow" else "denies"
    for requirement in subject.policy.document.require:
        for index, pattern in enumerate(requirement.images):
            yield ("require", requirement.index, "images", index), pattern, "matches"


def _patterns(subject: Subject) -> Iterator[tuple[Path, Pattern]]:
    for path, pattern, _ in _written(subject):
        yield path, pattern
    document = subject.policy.document
    for section, entries in (("deny", filter(subject.is_live, document.deny)), ("require", document.require)):
        for entry in entries:
            for each in entry.excepts:
                yield (section, entry.index, *image_path(each)), each.pattern
    for mirror in document.mirrors:
        for index, pattern in enumerate(mirror.excepts):
            yield ("mirrors", mirror.index, "except", index), pattern
    for grant in document.exceptions:
        for index, pattern in enumerate(grant.images):
            yield ("exceptions", grant.index, "images", index), pattern
