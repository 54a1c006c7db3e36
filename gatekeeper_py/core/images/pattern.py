"""The pattern language: ``HOST[:PORT][/PATH][:TAG][@DIGEST]``, matched against parsed references.

Source of every rule here: docs/policy.md, "Patterns". A pattern is refused when no reference could ever
match it, because a rule that silently matches nothing is worse than an error. Every expression here is
linear, and the length of a text is checked first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from gatekeeper_py.core.images.glob import compiled, globs_overlap, is_glob
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    InvalidReference,
    Location,
    check_digest,
    fold_registry,
)

ANY: Final = "*"

MAX_PATTERN_LENGTH: Final = 512
"""Maximum length of a pattern or of one end of a mirror: room for a host, a path of 255 characters and a
digest."""

_MAX_LABEL_LENGTH: Final = 63
"""Maximum length of one label of a host name (RFC 1035)."""

_HOST_LABEL: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]*[a-z0-9*])?")
_IPV6_HOST: Final = re.compile(r"\[[a-f0-9:]+\]")
_SEGMENT: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*._-]*[a-z0-9*])?")
_SEPARATORS: Final = re.compile(r"[._-]+")
_ONE_SEPARATOR: Final = re.compile(r"\.|__?|-+")
_TAG: Final = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.*-]*")
MAX_TAG_LENGTH: Final = 128
"""Maximum length of a tag, and of a pattern for tags without its stars."""
_MAX_SHOWN: Final = 64


class InvalidPattern(ValueError):
    """The text is not a pattern.

    ``candidate`` is a text to write instead. It may be invalid for another reason. With ``suggests``, the
    message ends with a question that contains the proposal.
    """

    def __init__(self, message: str, candidate: str = "", *, suggests: bool = False) -> None:
        super().__init__(message)
        self._candidate = candidate
        self._suggests = suggests
        self._text = ""
        self._parse: Callable[[str], object] | None = None

    def about(self, text: str, parse: Callable[[str], object]) -> InvalidPattern:
        """Set the refused text, and the parser that must accept a proposal."""
        self._text, self._parse = text, parse
        return self

    @cached_property
    def proposal(self) -> str:
        """Return the text to write instead, or an empty text if there is none.

        The parser accepts the proposal, and the proposal matches no more images than the refused text was
        meant to match. It is computed only when it is needed, because a policy may have a hundred thousand
        problems, and most of them are only counted.
        """
        if not self._candidate or self._candidate == self._text or self._parse is None:
            return ""
        try:
            self._parse(self._candidate)
        except InvalidPattern as problem:
            return problem.proposal
        return self._candidate

    def __str__(self) -> str:
        question = f": is it {_short(self.proposal)}?" if self._suggests and self.proposal else ""
        return f"{super().__str__()}{question}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The set of images that a pattern matches. It is folded like the references with which it is compared.

    ``host`` may contain ``*``. The single character ``*`` means any registry with any port. With ``subtree``,
    the set has every repository below ``segments``; otherwise ``segments`` is the only repository. ``tag`` is
    a glob. ``digest`` is exact, or ``*`` for any digest. At most one of the two is set.

    ``text`` is the pattern as written, and ``ignored_tag`` a tag written beside a digest. They are empty in a
    set that was computed.
    """

    text: str = ""
    host: str
    segments: tuple[str, ...] = ()
    subtree: bool = False
    tag: str | None = None
    digest: str | None = None
    ignored_tag: str | None = None

    def __str__(self) -> str:
        path = "/".join((self.host, *self.segments, *(("**",) if self.subtree else ())))
        return path + (self.qualifier or "")

    @property
    def any_host(self) -> bool:
        return self.host == ANY

    @property
    def literal(self) -> bool:
        """Whether host and path contain no wildcard, except for the final ``**``."""
        return not is_glob(self.host) and not any(map(is_glob, self.segments))

    @property
    def qualifier(self) -> str | None:
        """``:tag`` or ``@digest`` as compared, or ``None`` if every tag and digest matches."""
        if self.digest is not None:
            return f"@{self.digest}"
        return None if self.tag is None else f":{self.tag}"

    @property
    def start(self) -> str:
        """The text with which every name in a literal set begins. For a subtree, it ends with a slash."""
        return "/".join((self.host, *self.segments, *(("",) if self.subtree else ())))

    def example(self, below: str = "app") -> str:
        """Return an example of an image in the set, written in full if any image in the set can be.

        In a subtree, ``below`` is the last segment of the example's name.
        """
        name = "/".join((self.host, *self.segments, *((below,) if self.subtree else ())))
        qualifier = f"@sha256:{'0' * 64}" if self.digest == ANY else self.qualifier or ""
        return (name + qualifier).replace(ANY, "x")

    def unwritten(self) -> Pattern:
        """Return the same set without the text that it was parsed from."""
        return replace(self, text="", ignored_tag=None)

    def unqualified(self) -> Pattern:
        """Return the set with every tag and digest."""
        return replace(self, tag=None, digest=None)

    def after(self, start: tuple[str, ...]) -> Pattern | None:
        """Remove ``start`` from the beginning of the paths; return ``None`` if no path begins with it.

        If this set is a subtree with no more segments than ``start``, the result has every path.
        """
        if len(self.segments) < len(start) and not self.subtree:
            return None
        if not all(compiled(want).matches(have) for want, have in zip(self.segments, start, strict=False)):
            return None
        return replace(self, segments=self.segments[len(start) :])

    def matches(self, image: Image) -> bool:
        return self.missed(image) is None

    def missed(self, image: Image) -> str | None:
        """Return the part that does not match (``host``, ``path``, ``tag``, ``digest``), or ``None``."""
        return self._missed(image.location, image.tag, image.digest)

    def _missed(self, location: Location, tag: str | None, digest: str | None) -> str | None:
        if not host_matches(self.host, location.host):
            return "host"
        if not path_matches(self.segments, location.segments, subtree=self.subtree):
            return "path"
        if self.digest is not None:
            return None if digest is not None and self.digest in (ANY, digest) else "digest"
        if self.tag is not None:
            return None if tag is not None and compiled(self.tag).matches(tag) else "tag"
        return None

    def has_repository(self, location: Location) -> bool:
        """Return whether some tag or digest of a repository is in the set."""
        return self._missed(location, None, None) not in {"host", "path"}

    def covers(self, other: Pattern) -> bool:
        """Return whether every image of ``other`` is in this set; only ``True`` is certain."""
        # Match the globs of ``other`` as if they were plain texts: only a star matches a star.
        path = (*other.segments, ANY) if other.subtree else other.segments
        return (
            (self.subtree or not other.subtree)
            and (self.any_host or not other.any_host)
            and self._missed(Location(other.host, path), other.tag, other.digest) is None
        )

    def overlaps(self, other: Pattern) -> bool:
        """Return whether some image may be in both sets; only ``False`` is certain."""
        return (
            _hosts_overlap(self.host, other.host)
            and self._paths_overlap(other)
            and self._versions_overlap(other)
        )

    def _paths_overlap(self, other: Pattern) -> bool:
        mine, others = len(self.segments), len(other.segments)
        if self.subtree and other.subtree:
            long_enough = True
        elif self.subtree:
            long_enough = others > mine
        elif other.subtree:
            long_enough = mine > others
        else:
            long_enough = mine == others
        return long_enough and all(map(globs_overlap, self.segments, other.segments))

    def _versions_overlap(self, other: Pattern) -> bool:
        if self.digest is not None and other.digest is not None:
            return ANY in {self.digest, other.digest} or self.digest == other.digest
        if self.tag is not None and other.tag is not None:
            return globs_overlap(self.tag, other.tag)
        # If an image has a digest, its tag does not count.
        return self.qualifier is None or other.qualifier is None


def _hosts_overlap(one: str, other: str) -> bool:
    if ANY in {one, other}:
        return True
    name, port = split_port(one)
    other_name, other_port = split_port(other)
    labels, others = name.split("."), other_name.split(".")
    return port == other_port and len(labels) == len(others) and all(map(globs_overlap, labels, others))


def host_matches(pattern: str, host: str) -> bool:
    """Return whether a pattern's host matches a folded registry. The ports must be equal."""
    if pattern == ANY:
        return True
    if not is_glob(pattern):
        return pattern == host
    name, port = split_port(pattern)
    other_name, other_port = split_port(host)
    labels, others = name.split("."), other_name.split(".")
    return (
        port == other_port
        and len(labels) == len(others)
        and not other_name.startswith("[")  # * matches only inside DNS names, not inside IPv6 addresses
        and all(compiled(label).matches(other) for label, other in zip(labels, others, strict=True))
    )


def path_matches(pattern: tuple[str, ...], segments: tuple[str, ...], *, subtree: bool) -> bool:
    """Return whether a pattern's path matches a repository.

    A subtree matches only repositories with at least one segment more than the pattern.
    """
    if len(segments) <= len(pattern) if subtree else len(segments) != len(pattern):
        return False
    return all(compiled(want).matches(have) for want, have in zip(pattern, segments, strict=False))


def split_port(host: str) -> tuple[str, str]:
    """Return name and port (empty if absent) of a folded host. An IPv6 address keeps its brackets."""
    if host.endswith("]"):
        return host, ""
    name, _, port = host.rpartition(":")
    return (name, port) if name else (host, "")


def parse_pattern(text: str) -> Pattern:
    """Parse one pattern of at most 512 characters. Raises ``InvalidPattern``."""
    try:
        return _pattern(text)
    except InvalidPattern as problem:
        raise problem.about(text, parse_pattern) from None


def _pattern(text: str) -> Pattern:
    _check_length(text, "a pattern")
    if not text.strip():
        raise InvalidPattern("the pattern is blank")
    _check_characters(text)
    rest, digest = _split_digest(text)
    host_text, path_text, tag = _split_tag(rest)
    host = _parse_host(host_text, path_text, text)
    segments, subtree = _parse_path(path_text, text)
    if tag is not None:
        _check_tag(tag, path_text, text)
    if host == DOCKER_HUB and len(segments) == 1 and not subtree:
        segments = (OFFICIAL_NAMESPACE, *segments)
    return Pattern(
        text=text,
        host=host,
        segments=segments,
        subtree=subtree,
        tag=tag if digest is None else None,
        digest=digest,
        ignored_tag=tag if digest is not None else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A registry or ``registry/path`` without wildcards, tag or digest: one end of a mirror.

    ``text`` is as written, without a trailing slash.
    """

    text: str
    host: str
    segments: tuple[str, ...]

    @property
    def here(self) -> Pattern:
        """The repository that the prefix names."""
        return Pattern(host=self.host, segments=self.segments)

    @property
    def below(self) -> Pattern:
        """All repositories below the prefix."""
        return Pattern(host=self.host, segments=self.segments, subtree=True)

    @property
    def path_length(self) -> int:
        """The length of the path with the slash after it."""
        return sum(len(segment) + 1 for segment in self.segments)

    def holds(self, location: Location) -> bool:
        """Return whether a reference lies at or below this prefix, on segment boundaries."""
        return self.host == location.host and location.segments[: len(self.segments)] == self.segments


def parse_prefix(text: str) -> Prefix:
    """Parse one end of a mirror, of at most 512 characters. Raises ``InvalidPattern``."""
    try:
        return _prefix(text)
    except InvalidPattern as problem:
        raise problem.about(text, parse_prefix) from None


def _prefix(text: str) -> Prefix:
    _check_length(text, "one end of a mirror")
    if not text.strip():
        raise InvalidPattern("one end of a mirror is blank")
    _check_characters(text)
    if "*" in text:
        raise InvalidPattern("one end of a mirror has no wildcard", text.removesuffix("/**"))
    if "@" in text:
        raise InvalidPattern("one end of a mirror is a registry or registry/path, without a digest")
    host_text, path_text, tag = _split_tag(text)
    if tag is not None:
        raise InvalidPattern("one end of a mirror is a registry or registry/path, without a tag")
    host = _parse_host(host_text, path_text, text)
    segments, _ = _parse_path(path_text, text)
    return Prefix(text=text.removesuffix("/"), host=host, segments=segments)


def _check_length(text: str, what: str) -> None:
    if len(text) > MAX_PATTERN_LENGTH:
        raise InvalidPattern(
            f"{what} has at most {MAX_PATTERN_LENGTH} characters, and this one has {len(text):,}"
        )


def _check_characters(text: str) -> None:
    if any(character.isspace() for character in text):
        raise InvalidPattern("the pattern contains whitespace", text.strip())
    if not text.isascii() or not text.isprintable():
        raise InvalidPattern("the pattern contains a character that an image cannot have")
    if "://" in text:
        raise InvalidPattern("a pattern has no scheme", text.partition("://")[2])


def _short(text: str) -> str:
    """Return a part of a pattern, shortened for a message."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _split_digest(text: str) -> tuple[str, str | None]:
    rest, at, digest = text.partition("@")
    if not at:
        return rest, None
    if digest != ANY:
        try:
            check_digest(digest)
        except InvalidReference as problem:
            raise InvalidPattern(f"the digest is malformed: {problem}; @* stands for any digest") from None
    return rest, digest


def _split_tag(text: str) -> tuple[str, str | None, str | None]:
    """Return host, path (``None`` without a slash) and tag. A colon before the first slash starts a port."""
    host, slash, path = text.partition("/")
    if not slash:
        return host, None, None
    before, slash, last = path.rpartition("/")
    segment, colon, tag = last.partition(":")
    return host, before + slash + segment, tag if colon else None


def _parse_host(host: str, path: str | None, text: str) -> str:
    if host == ANY:
        return ANY
    if not host or host.startswith(":"):
        raise InvalidPattern("the host is missing", _with_any_host(host, text))
    if host.startswith("*:"):
        raise InvalidPattern(
            "a host that is only * matches any registry with any port", _with_any_host(host[1:], text[1:])
        )
    if "**" in host:
        raise InvalidPattern("** is allowed only as the last segment of a path")
    name, port = split_port(host)
    dotless = "." not in name and not name.startswith("[")
    if dotless and ":" not in host and host.lower() != "localhost":
        raise InvalidPattern("the host is missing", _with_hub_host(text), suggests=True)
    if dotless and path is None and name.lower() != "localhost":
        shown = _short(host)
        raise InvalidPattern(
            f"{shown} reads as an image with a tag; a registry with a port is written {shown}/",
            _with_hub_host(text),
        )
    if host.lower() != host:
        raise InvalidPattern("the host must be in lower case", text.replace(host, host.lower(), 1))
    _check_host_name(name, host)
    if host.endswith(":") or (port and not port.isdecimal()):
        raise InvalidPattern(
            f"the port of {_short(host)} is malformed: it is a number from 1 to 65535",
            "" if path is not None or _may_be_port(port) else f"{name}/**{text[len(name) :]}",
        )
    try:
        return fold_registry(host)
    except InvalidReference as problem:
        raise InvalidPattern(str(problem)) from None


def _check_host_name(name: str, host: str) -> None:
    if name.startswith("["):
        if not _IPV6_HOST.fullmatch(name):
            raise InvalidPattern(f"{_short(host)} is not an IPv6 address in brackets")
        return
    for label in name.split("."):
        if not label:
            raise InvalidPattern("a part of the host is empty")
        if not _HOST_LABEL.fullmatch(label):
            raise InvalidPattern(f"a host cannot have the part {_short(label)}")
        if len(label.replace("*", "")) > _MAX_LABEL_LENGTH:
            raise InvalidPattern(
                f"a part of a host has at most {_MAX_LABEL_LENGTH} characters: {_short(label)}"
            )


def _with_hub_host(text: str) -> str:
    """Return the pattern that a user who left out the host most likely meant."""
    name = text.partition("@")[0].partition(":")[0]
    official = "" if "/" in name else f"{OFFICIAL_NAMESPACE}/"
    return f"{DOCKER_HUB}/{official}{name.lower()}{text[len(name) :]}"


def _with_any_host(tag: str, text: str) -> str:
    """Return the pattern that a user most likely meant by a text such as ``:latest``.

    The result is empty if ``text`` has a slash or if ``tag`` could be a port. ``text`` begins with ``tag``.
    """
    return "" if "/" in text or _may_be_port(tag[1:]) else f"{ANY}/**{text}"


def _may_be_port(text: str) -> bool:
    return not text.strip("0123456789*")


def _parse_path(path: str | None, text: str) -> tuple[tuple[str, ...], bool]:
    """Return the segments of a path, and whether it matches everything below them.

    ``text`` is the whole pattern.
    """
    if path is None or path in {"", "**"}:
        return (), True
    if path.lower() != path:
        raise InvalidPattern(
            "the path must be in lower case", text.replace(f"/{path}", f"/{path.lower()}", 1)
        )
    segments = path.split("/")
    subtree = segments[-1] in {"", "**"}
    if subtree:
        segments.pop()
    for segment in segments:
        _check_segment(segment)
    if sum(len(segment.replace("*", "")) + 1 for segment in segments) - 1 > MAX_REPOSITORY_LENGTH:
        raise InvalidPattern(f"a repository has at most {MAX_REPOSITORY_LENGTH} characters")
    return tuple(segments), subtree


def _check_segment(segment: str) -> None:
    if not segment:
        raise InvalidPattern("a part of the path is empty")
    if "**" in segment:
        raise InvalidPattern("** is allowed only as the last segment of a path")
    if not _SEGMENT.fullmatch(segment) or not all(map(_ONE_SEPARATOR.fullmatch, _runs(segment))):
        raise InvalidPattern(f"a repository cannot have the part {_short(segment)}")


def _runs(segment: str) -> Iterator[str]:
    return (match.group() for match in _SEPARATORS.finditer(segment))


def _check_tag(tag: str, path: str | None, text: str) -> None:
    if not path or path.endswith("/"):
        colon = len(text.partition("@")[0]) - len(tag) - 1
        raise InvalidPattern("a tag follows a non-empty last segment", f"{text[:colon]}**{text[colon:]}")
    if not tag:
        raise InvalidPattern("the tag is empty")
    if "**" in tag:
        raise InvalidPattern("** is allowed only as the last segment of a path")
    if not _TAG.fullmatch(tag) or len(tag.replace("*", "")) > MAX_TAG_LENGTH:
        raise InvalidPattern(f"an image cannot have the tag {_short(tag)}")
