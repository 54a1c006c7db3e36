"""Find rules and requirements for a tag or a digest that miss the same image under another reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.images.scope import Scope, ScopeIndex, TooManyComparisonsError
from gatekeeper_py.core.policy.copies import copies
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.lint.subject import Subject, covering, path_of, scope_of, shown, warning
from gatekeeper_py.core.policy.rules import Rule


def recalls(subject: Subject) -> Iterator[Remark]:
    """Yield a remark on each rule for a tag if digests stay approved, and for a digest if tags stay approved.

    Skip rules for ``latest``, or for a tag in every registry: they require fixed versions, and do not deny
    one particular image.
    """
    rules = [rule for rule in subject.live() if rule.list == "deny"]
    recalling = [rule for rule in rules if _by_tag(rule.pattern) or rule.pattern.digest not in {None, ANY}]
    if not recalling:
        return
    # Each comparison of two rules compares all their namespaces.
    seen = tuple(_seen(subject))
    scopes = chain((rule.namespaces for rule in subject.live()), (each.namespaces for each in seen))
    names = max(len(each or ("",)) for each in scopes)
    allowed, digests, whole, required = (ScopeIndex(subject.comparisons // names**2) for _ in range(4))
    allowed.extend(map(scope_of, subject.approving()))
    digests.extend(scope_of(rule) for rule in rules if rule.pattern.digest)
    whole.extend(scope_of(rule) for rule in rules if not rule.pattern.qualifier and not rule.excepts)
    required.extend(seen)
    with suppress(TooManyComparisonsError):
        for rule in recalling:
            others = replace(rule.pattern, tag=None, digest=ANY if rule.pattern.tag else None)
            passing = replace(scope_of(rule), images=others)
            if rule.pattern.tag:
                by = next(_sharing(allowed, passing, subject), None)
                known = any(each.covers_namespaces(passing) for each in digests.overlapping(passing))
                if by is not None and not known and not _covered(passing, whole):
                    message = (
                        f"{shown(rule)} does not match the image by its digest, which {shown(by)} approves"
                    )
                    yield warning("deny-by-tag", path_of(rule), message, "deny the digest as well")
                continue
            if _covered(passing, whole, required):
                continue
            # A mirror costs about as much as ten comparisons.
            allowed.left -= 10 * len(subject.policy.mirrors)
            if allowed.left <= 0:
                return
            ends = ((mirror, to) for mirror in subject.policy.mirrors for to in mirror.targets)
            on_mirrors = (copy for mirror, to in ends for copy in copies(mirror, to, passing))
            tags = (each for each in chain((passing,), on_mirrors) if not _covered(each, whole, required))
            approving = (by for each in tags for by in _sharing(allowed, each, subject))
            by = next((each for each in approving if each.pattern.digest is None), None)
            if by is not None:
                message = f"{shown(rule)} does not match tags, which {shown(by)} approves without a look-up"
                proposal = "deny the tags as well"
                if not is_glob(rule.pattern.host):
                    proposal += f", or write a requirement with exists: true for {others}"
                yield warning("deny-by-digest", path_of(rule), message, proposal)


def evaded(subject: Subject) -> Iterator[Remark]:
    """Yield a remark on each pattern that needs a signature, but misses other references to its images."""
    scan = Scan(total=subject.comparisons)
    for requirement in subject.policy.document.require:
        whole = [each for each in requirement.images if each.qualifier is None]
        for index, rule in enumerate(requirement.rules if requirement.signed_by else ()):
            pattern = rule.pattern
            name = replace(pattern, tag=None, digest=None)
            others = {None: replace(name, digest=ANY), ANY: replace(name, tag=ANY)}.get(pattern.digest, name)
            missed = replace(rule, pattern=others, excepts=())
            if any(each.covers(name) for each in whole) or _restricted(subject, missed, scan):
                continue
            other = {None: "a digest", ANY: "a tag"}.get(pattern.digest, "a tag or another digest")
            message = f"the same image with {other} needs no signature"
            path = ("require", requirement.index, "images", index)
            yield warning("require-in-part", path, message, f"require it of {name}")


def _restricted(subject: Subject, rule: Rule, scan: Scan) -> bool:
    """Return whether all images of a rule are denied, or need a signature."""
    return any(covering(rules, rule, scan) is not None for rules in (subject.signed, subject.live_deny))


def _seen(subject: Subject) -> Iterator[Scope]:
    """Yield the images whose tags are looked up, or refused, because of a requirement.

    Ignore its ``except``: whoever wrote it has considered what is not looked up.
    """
    document = subject.policy.document
    rewrites = subject.policy.mode.rewrites and all(each.mode.rewrites for each in document.namespaces)
    for requirement in document.require:
        for rule in requirement.rules:
            # A requirement that only warns admits tags, unless the webhook adds their digests.
            pins = not requirement.warns or (rewrites and not is_glob(rule.pattern.host))
            if requirement.looks_up or (requirement.digest and pins):
                yield scope_of(rule)


def _by_tag(pattern: Pattern) -> bool:
    return pattern.tag not in {None, "latest"} and not is_glob(pattern.tag or "") and not pattern.any_host


def _covered(entry: Scope, *indexes: ScopeIndex) -> bool:
    """Return whether a scope in one of these indexes covers another one, in all of its namespaces."""
    return any(each.covers(entry) for index in indexes for each in index.overlapping(entry))


def _sharing(allowed: ScopeIndex, entry: Scope, subject: Subject) -> Iterator[Rule]:
    """Yield the allow rules that may have an image in common with an entry, in the order of the document."""
    indices = sorted({int(each.because) for each in allowed.overlapping(entry)})
    return (subject.policy.allow[index] for index in indices)
