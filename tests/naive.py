"""A second implementation of the decision on one image and of the search for images.

It is written from docs/policy.md alone, and shares no code with the product: no parser, no pattern, no index.
It reads the document as plain data, checks every rule in turn, and is slow. Tests of compiled policies and of
the images that are judged compare their results with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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


class Image(NamedTuple):
    """An image as rules see it: one kind of registry, official images with their ``library``."""

    host: str
    path: tuple[str, ...]
    tag: str | None
    digest: str | None


def approved(document: dict[str, Any], image: str, namespace: str | None, now: datetime) -> bool:
    """Return whether the document approves an image in a namespace at an instant."""
    seen = read(image)
    if seen is None or _denied(document, seen, namespace, now):
        return False
    return any(applies(rule, namespace, now) and matches(rule, seen) for rule in document["allow"])


def _denied(document: dict[str, Any], seen: Image, namespace: str | None, now: datetime) -> list[Image]:
    """Return the names of an image that deny rules match: its own, and those of its origins."""
    found = []
    for rule in document.get("deny", ()):
        spared = [] if isinstance(rule, str) else rule.get("except", [])
        found += [
            each
            for each in (seen, *origins(document, seen))
            if applies(rule, namespace, now)
            and matches(rule, each)
            and not any(applies(entry, namespace, now) and matches(entry, each) for entry in spared)
        ]
    return found


def _to_except(
    document: dict[str, Any], seen: Image, namespace: str | None, now: datetime, *, own: bool = False
) -> list[Image]:
    """Return the names that entries and grants must match: those that deny rules match, as for ``except``.

    "If no allow rule approves the image, they must match its own name, too."
    """
    allowed = any(applies(rule, namespace, now) and matches(rule, seen) for rule in document["allow"])
    return _denied(document, seen, namespace, now) + ([] if allowed and not own else [seen])


def needed(
    document: dict[str, Any], image: str, namespace: str | None, now: datetime, *, signed: bool
) -> set[str] | None:
    """Return what a grant must override so that an exception can approve an image.

    ``None``: the document approves the image, or no exception can. Without ``signed``, the image has no
    signature. The first ``allow`` rule that matches an image decides whether it needs one. A rule for all
    digests also decides about tags that no rule matches.
    """
    seen = read(image)
    if seen is None:
        return None
    overridden = {"deny"} if _denied(document, seen, namespace, now) else set()
    pinned = [] if seen.digest else [seen._replace(tag=None, digest="sha256:" + "0" * 64)]
    for rule in (
        rule
        for each in (seen, *pinned)
        for rule in document["allow"]
        if not signed and applies(rule, namespace, now) and matches(rule, each)
    ):
        overridden |= {"signature"} if not isinstance(rule, str) and rule.get("signedBy") else set()
        break
    return None if approved(document, image, namespace, now) and not overridden else overridden


def exceptable(
    document: dict[str, Any], image: str, namespace: str | None, now: datetime, *, signed: bool = True
) -> bool:
    """Return whether the document rejects an image, and some exception could approve it."""
    seen, overridden = read(image), needed(document, image, namespace, now, signed=signed)
    if seen is None or overridden is None:
        return False
    names = _to_except(document, seen, namespace, now, own="signature" in overridden)
    return all(
        any(
            _granted(grant, name, namespace, now)
            and (namespace is not None or grant["source"] != "namespace")
            and all(each in grant.get("overrides", ()) for each in overridden)
            for grant in document.get("exceptions", ())
        )
        for name in names
    )


Documents = dict[tuple[str, str], list[dict[str, Any]]]
"""Entries of exceptions by the source and the namespace of their document."""


def excepted(
    policy: dict[str, Any],
    documents: Documents,
    image: str,
    namespace: str | None,
    now: datetime,
    possible: list[tuple[str, str | None]],
) -> bool:
    """Return whether an exception approves an image that the rules reject.

    ``possible`` are images and namespaces. If an entry and a grant have no image of these in common, the
    entry is outside the grant.
    """
    seen = read(image)
    if seen is None:
        return False
    denied = bool(_denied(policy, seen, namespace, now))
    return all(
        _excepted(policy, documents, name, namespace, now, possible, denied=denied)
        for name in _to_except(policy, seen, namespace, now)
    )


def _excepted(
    policy: dict[str, Any],
    documents: Documents,
    seen: Image,
    namespace: str | None,
    now: datetime,
    possible: list[tuple[str, str | None]],
    *,
    denied: bool,
) -> bool:
    """Return whether an entry and a grant match a name. For a denied image, the grant must override it."""
    for (source, where), entries in documents.items():
        if source == "namespace" and where != namespace:
            continue
        grants = [grant for grant in policy["exceptions"] if grant["source"] == source]
        most = max((g.get("most", 20) for g in grants if applies(_named(g), namespace, now)), default=0)
        live = 0
        for entry in entries:
            own = _named(entry) if source != "namespace" else {"namespaces": [where]}
            shared = [
                grant
                for grant in grants
                for text, place in possible
                if applies(own, place, now)
                and matches(entry["image"], _read(text))
                and _granted(grant, _read(text), place, now)
            ]
            live += any(_inside(grant, entry, now) for grant in shared)
            if live > most:
                break
            if (
                applies(own, namespace, now)
                and matches(entry["image"], seen)
                and any(
                    _granted(grant, seen, namespace, now)
                    and _inside(grant, entry, now)
                    and (not denied or grant.get("overrides") == "deny")
                    for grant in grants
                )
            ):
                return True
    return False


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the namespaces of a grant or of an exception as those of a rule."""
    return {"namespaces": entry["namespaces"]} if "namespaces" in entry else {}


def _read(image: str) -> Image:
    seen = read(image)
    assert seen is not None
    return seen


def _granted(grant: dict[str, Any], image: Image, namespace: str | None, now: datetime) -> bool:
    return applies(_named(grant), namespace, now) and any(matches(each, image) for each in grant["images"])


def _inside(grant: dict[str, Any], entry: dict[str, Any], now: datetime) -> bool:
    until, longest = instant(entry["until"]), str(grant["longest"])
    hours = int(longest[:-1]) * (24 if longest.endswith("d") else 1)
    return until - timedelta(hours=hours) <= now < until


def rewritten(document: dict[str, Any], image: str) -> bool:
    """Return whether the mutating webhook may have something to do: the longest mirror has no exception."""
    seen = read(image)
    if seen is None:
        return False
    ends = [(end(mirror["from"]), mirror) for mirror in document.get("mirrors", ())]
    found = [
        (len(path), mirror)
        for (host, path), mirror in ends
        if seen.host == host and seen.path[: len(path)] == path
    ]
    if not found:
        return False
    _, mirror = max(found, key=lambda each: each[0])
    return not any(matches(pattern, seen) for pattern in mirror.get("except", ()))


@lru_cache(maxsize=4096)
def read(image: str) -> Image | None:
    """Read an image as a container runtime does; ``None`` for one that is never approved."""
    if len(image) > 4096 or re.fullmatch("[a-f0-9]{64}", image):
        return None
    if re.fullmatch("sha(256|384|512):[0-9a-fA-F]+", image):
        return None
    host, slash, rest = image.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host or host != host.lower()):
        host, rest = "docker.io", image
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in rest:
        rest = "library/" + rest
    match = SHAPE.fullmatch(f"{host}/{rest}")
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


@lru_cache(maxsize=4096)
def fold(host: str) -> str | None:
    host = host.lower()
    name, colon, port = host.rpartition(":")
    if colon and not host.endswith("]"):
        if not 1 <= int(port) <= 65535:
            return None
        host = name if int(port) == 443 else f"{name}:{int(port)}"
    return "docker.io" if host in HUB else host


def applies(rule: Any, namespace: str | None, now: datetime) -> bool:
    if isinstance(rule, str):
        return True
    if "until" in rule and now >= instant(str(rule["until"])):
        return False
    names = rule.get("namespaces", ["*"])
    return "*" in names or (namespace is not None and any(like(name, namespace) for name in names))


@lru_cache
def instant(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


class Pattern(NamedTuple):
    """A pattern of a rule. With ``below``, it matches what lies below its segments."""

    host: str
    segments: tuple[str, ...]
    below: bool
    tag: str | None
    digest: str


@lru_cache(maxsize=4096)
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


@lru_cache(maxsize=4096)
def like(glob: str, text: str) -> bool:
    if "*" not in glob:
        return glob == text
    start, _, rest = glob.partition("*")
    return text.startswith(start) and any(
        like(rest, text[position:]) for position in range(len(start), len(text) + 1)
    )


def end(text: str) -> tuple[str, tuple[str, ...]]:
    """Read one end of a mirror: its registry and its path."""
    host, _, path = text.rstrip("/").partition("/")
    folded = fold(host)
    assert folded is not None
    return folded, tuple(path.split("/")) if path else ()


def origins(document: dict[str, Any], image: Image) -> list[Image]:
    """Return the images that an image on a mirror may stand for."""
    found = []
    for mirror in document.get("mirrors", ()):
        source, to = mirror["from"].rstrip("/"), mirror["to"]
        for host, path in map(end, [to] if isinstance(to, str) else to):
            if image.host == host and image.path[: len(path)] == path:
                rest = image.path[len(path) :]
                origin = read("/".join((source, *rest)))
                if origin is not None and origin.host == end(source)[0]:
                    found.append(origin._replace(tag=image.tag, digest=image.digest))
    return found


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
