"""Sets of images and namespaces as CEL: whether an image is in one of several sets.

The image is written in full, or was brought into that form before. So every part of a pattern can be
compared with its text.

Sets are compared in the way that costs an API server least. Every step of an evaluation costs about as much
as a short comparison, and a regular expression several times as much. So a few literal beginnings are
compared one by one. Many are looked up in literal lists, one for each depth, because CEL turns a literal list
into a set: the work then grows with the number of depths and not with the number of rules. All sets with a
wildcard share one regular expression, whose cost is its length times the length of the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from gatekeeper_py.core.compile.cost import Part, Text, all_of, any_of, negated
from gatekeeper_py.core.images.glob import compiled, is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern, split_port
from gatekeeper_py.core.images.scope import Scope

NAMESPACE: Final = Text("request.namespace", longest=63)

MAX_COMPARED: Final = 6
"""Maximum number of beginnings that are compared one by one. A look-up costs about as much as that many."""

NAME: Final = "^[^/]+/[^:@]+"
"""Regular expression for the registry and the repository of an image."""

_UNTAGGED: Final = "^[^/]+/[^:@]+$"
_DIGEST: Final = "@.*$"
_LABEL_CHARACTERS: Final = "[a-z0-9-]*"
_SEGMENT_CHARACTERS: Final = "[a-z0-9._-]*"
_TAG_CHARACTERS: Final = "[A-Za-z0-9_.-]*"
_ANY_CHARACTERS: Final = ".*"
_ESCAPED: Final = str.maketrans({".": "[.]", "[": "[[]", "]": "[]]"})
"""Escapes without a backslash, because CEL would read a backslash first. IPv6 addresses have brackets."""

_HEX: Final = re.compile("[0-9a-f]{64,128}")


class Image(NamedTuple):
    """The image that is compared, written in full. If ``suffixed``, it certainly has a tag or a digest."""

    text: Text
    suffixed: bool = False

    def untagged(self, sets: Iterable[Pattern]) -> bool:
        """Return whether some of the sets may contain the image because it has no tag."""
        return not self.suffixed and any(map(pulls_latest, sets))


def in_some(sets: Iterable[Pattern], image: Image) -> Part:
    """Return the condition that an image is in one of the sets. There must be at least one set."""
    groups: dict[_Form, list[Pattern]] = {}
    for each in sets:
        groups.setdefault(_form(each), []).append(each)
    return any_of(form(groups[form], image) for form in _FORMS if form in groups)


def in_entries(entries: Iterable[Scope], image: Image) -> Part:
    """Return the condition that an entry has an image in the request's namespace.

    There must be at least one entry.
    """
    groups: dict[tuple[str, ...] | None, list[Pattern]] = {}
    for entry in entries:
        names = entry.namespaces
        groups.setdefault(None if names is None else tuple(sorted(set(names))), []).append(entry.images)
    # Entries for every namespace come first, because they decide most often.
    parts = [in_some(groups.pop(None), image)] if None in groups else []
    parts += [
        all_of([in_namespaces(names), in_some(sets, image)])
        for names, sets in sorted((names, sets) for names, sets in groups.items() if names is not None)
    ]
    return any_of(parts)


def in_namespaces(names: tuple[str, ...]) -> Part:
    """Return the condition that the request's namespace matches one of the names, which may be globs."""
    literal = sorted({name for name in names if not is_glob(name)})
    parts = [NAMESPACE.equals(name) for name in literal[:1]]
    if len(literal) > 1:
        parts = [NAMESPACE.is_one_of(literal)]
    parts += [_namespace_glob(name) for name in sorted({name for name in names if is_glob(name)})]
    return any_of(parts)


def pulls_latest(one: Pattern) -> bool:
    """Return whether a set contains images without tag and digest, for which a runtime pulls ``latest``."""
    return one.digest is None and (one.tag is None or compiled(one.tag).matches("latest"))


def regex(one: Pattern) -> str:
    """Return a regular expression, without its ``^``, that an image in full matches if a set has it."""
    text = _host_regex(one.host)
    text += "".join(f"/{_glob_regex(segment, _SEGMENT_CHARACTERS)}" for segment in one.segments)
    if one.digest is not None:
        exact = "" if one.digest == ANY else f"{one.digest}$"
        return text + ("/[^@]+@" if one.subtree else "(?::[^@]*)?@") + exact
    if one.tag is not None:
        tag = f":{_glob_regex(one.tag, _TAG_CHARACTERS)}"
        return (
            text + ("/[^:@]+" if one.subtree else "") + (f"(?:{tag})?$" if pulls_latest(one) else f"{tag}$")
        )
    return text + ("/" if one.subtree else "(?:[:@]|$)")


_Form = Callable[[list[Pattern], Image], Part]


def _form(one: Pattern) -> _Form:
    """Return the cheapest way to compare an image with a set."""
    anywhere = one.host == ANY and not one.segments and one.subtree
    if one.tag == ANY and (one.literal or anywhere):
        return _without_digest
    if one.literal and (one.digest is None or not one.subtree or one.digest == ANY):
        if one.tag is None:
            if one.digest in {None, ANY}:
                return _pinned if one.digest else _names
            return _digests
        if not is_glob(one.tag) and not one.subtree:
            return _tagged
    # ":v1" at the end of an image is its tag, unless it could be the end of a digest.
    if anywhere and one.tag is not None and not is_glob(one.tag) and not _HEX.fullmatch(one.tag):
        return _tags
    return _wildcards


def _names(sets: list[Pattern], image: Image) -> Part:
    """Compare with registries, subtrees and repositories, whatever the tag or the digest."""
    return any_of(_names_by_depth(sets, image.text))


def _pinned(sets: list[Pattern], image: Image) -> Part:
    return all_of([image.text.contains("@"), any_of(_names_by_depth(sets, image.text))])


def _without_digest(sets: list[Pattern], image: Image) -> Part:
    parts = [negated(image.text.contains("@"))]
    if not any(each.host == ANY for each in sets):
        parts.append(any_of(_names_by_depth(sets, image.text)))
    return all_of(parts)


def _names_by_depth(sets: list[Pattern], image: Text) -> Iterator[Part]:
    subtrees = sorted(each.start for each in sets if each.subtree)
    if len(subtrees) <= MAX_COMPARED:
        yield from map(image.starts_with, subtrees)
    else:
        depths: dict[int, list[str]] = {}
        for start in subtrees:
            depths.setdefault(start.count("/"), []).append(start)
        for depth, starts in sorted(depths.items()):
            yield image.find(f"^(?:[^/]+/){{{depth}}}").is_one_of(starts)
    names = sorted(each.start for each in sets if not each.subtree)
    if names:
        yield image.find(NAME).is_one_of(names)


def _tagged(sets: list[Pattern], image: Image) -> Part:
    """Compare with sets of one tag of one repository each."""
    texts = {f"{each.start}:{each.tag}" for each in sets}
    if not image.suffixed:
        texts.update(each.start for each in sets if pulls_latest(each))
    return image.text.is_one_of(sorted(texts))


def _digests(sets: list[Pattern], image: Image) -> Part:
    """Compare with sets of one digest of one repository each. The image may have a tag before the digest."""
    texts = sorted({f"{each.start}@{each.digest}" for each in sets})
    return image.text.find(NAME).followed_by(image.text.find(_DIGEST)).is_one_of(texts)


def _tags(sets: list[Pattern], image: Image) -> Part:
    """Compare with sets of one tag each, of every repository in every registry."""
    parts = [image.text.ends_with(f":{tag}") for tag in sorted({each.tag for each in sets if each.tag})]
    if image.untagged(sets):
        parts.append(image.text.matches(_UNTAGGED))
    return any_of(parts)


def _wildcards(sets: list[Pattern], image: Image) -> Part:
    alternatives = sorted(set(map(regex, sets)))
    if len(alternatives) == 1:
        return image.text.matches(f"^{alternatives[0]}")
    return image.text.matches(f"^(?:{'|'.join(alternatives)})")


_FORMS: Final[tuple[_Form, ...]] = (_names, _tags, _pinned, _without_digest, _tagged, _digests, _wildcards)


def _host_regex(host: str) -> str:
    if host == ANY:
        return "[^/]+"
    name, port = split_port(host)
    text = "[.]".join(_glob_regex(label, _LABEL_CHARACTERS) for label in name.split("."))
    return text + (f":{port}" if port else "")


def _glob_regex(glob: str, characters: str) -> str:
    return characters.join(map(_literal_regex, re.split("[*]+", glob)))


def _literal_regex(text: str) -> str:
    return text.translate(_ESCAPED)


def _namespace_glob(name: str) -> Part:
    start, _, end = name.partition("*")
    if "*" not in end:
        if not end:
            return NAMESPACE.starts_with(start)
        if not start:
            return NAMESPACE.ends_with(end)
    return NAMESPACE.matches(f"^{_glob_regex(name, _ANY_CHARACTERS)}$")
