r"""The image reference grammar: from text to ``Reference``, and the location of an image for matching.

The grammar and the normalisation are those of ``distribution/reference`` v0.6, which container
runtimes use::

    reference = name [":" tag] ["@" digest]
    name      = [domain "/"] path
    domain    = host [":" 1*DIGIT]
    host      = label *("." label) / "[" 1*(HEXDIG / ":") "]"
    label     = ALNUM / ALNUM *(ALNUM / "-") ALNUM           ; both cases
    path      = component *("/" component)
    component = 1*LOWERALNUM *(separator 1*LOWERALNUM)       ; separator: "." / "_" / "__" / 1*"-"
    tag       = (ALNUM / "_") 0*127(ALNUM / "_" / "." / "-")
    digest    = algorithm ":" hex                            ; sha256: 64 hex, sha512: 128 hex

Every expression below is used with ``fullmatch``. They do not use ``$``, which also matches before a final
newline, or ``\d`` and ``\w``, which match Unicode characters. Repetitions are possessive (``++``, ``*+``).
This loses no match, because a repetition never consumes a character that the expression after it needs. So
the regex engine never backtracks, and a text that does not match costs no more than a text that does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_IMAGE_LENGTH: Final = 4096
"""Maximum length of a text to parse. The maximum that follows from the grammar is far lower."""

MAX_REPOSITORY_LENGTH: Final = 255
"""Maximum length of the path without the registry (distribution/reference,
``RepositoryNameTotalLengthMax``)."""

DOCKER_HUB: Final = "docker.io"
OFFICIAL_NAMESPACE: Final = "library"

HUB_ALIASES: Final = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""Other host names that serve Docker Hub; the grammar itself folds only the first."""

DEFAULT_PORT: Final = 443

LABEL: Final = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+"
_IPV6: Final = r"\[[A-Fa-f0-9:]++\]"
DOMAIN: Final = rf"(?:{LABEL}(?:\.{LABEL})*+|{_IPV6})(?::[0-9]++)?+"
COMPONENT: Final = r"[a-z0-9]++(?:(?:\.|__?+|-++)[a-z0-9]++)*+"
PATH: Final = rf"{COMPONENT}(?:/{COMPONENT})*+"
TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}+"
_DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*+(?:[-_+.][A-Za-z][A-Za-z0-9]*+)*+:[0-9a-fA-F]{32,}+"

_REFERENCE: Final = re.compile(
    rf"(?:(?P<domain>{DOMAIN})/)?(?P<path>{PATH})(?::(?P<tag>{TAG}))?+(?:@(?P<digest>{_DIGEST}))?+"
)
_DIGITS: Final = re.compile(r"[0-9]+")
_IMAGE_ID: Final = re.compile(r"[a-f0-9]{64}")
_LOCAL_IMAGE_ID: Final = re.compile(r"sha(?:256|384|512):[0-9a-fA-F]+")
_DIGEST_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_LOWER_HEX: Final = re.compile(r"[0-9a-f]*")
_TAG_ALONE: Final = re.compile(TAG)
_DIGEST_ALONE: Final = re.compile(_DIGEST)
_MAX_SUFFIX_LENGTH: Final = 1024
"""Maximum length of tag and digest together. It is far above the maximum that follows from the grammar, and
it bounds the work of matching."""
_TOO_LONG: Final = f"the repository is longer than {MAX_REPOSITORY_LENGTH} characters"


class InvalidReference(ValueError):
    """The text is not an image reference. The message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed image reference: normalised by the grammar, but not folded for matching.

    ``raw`` is the text as written. ``registry`` keeps its case and port as written, and is empty
    for a name such as ``foo_bar.com/baz``, whose first part is not a domain. ``tag`` and ``digest``
    are ``None`` when absent.
    """

    raw: str
    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """``registry/repository``, normalised by the grammar."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def canonical(self) -> str:
        """The whole reference written out: ``registry/repository[:tag][@digest]``."""
        return f"{self.name}{self.suffix}"

    @property
    def suffix(self) -> str:
        """The part after the name, as written: ``:tag``, ``@digest``, both or nothing."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return tag + digest


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an image, folded for comparison (docs/policy.md, "How an image is judged").

    ``host`` is in lower case. Its port has no leading zeros and is absent if it is 443. Every alias of Docker
    Hub becomes ``docker.io``. On ``docker.io``, a repository of one segment gets the prefix ``library``.
    """

    host: str
    segments: tuple[str, ...]

    @property
    def name(self) -> str:
        return "/".join((self.host, *self.segments))


def parse_reference(text: str) -> Reference:
    """Parse an image reference the way a container runtime does.

    Raises ``InvalidReference``. Source: ``distribution/reference`` v0.6, ``ParseNormalizedNamed``.
    """
    if not text:
        raise InvalidReference("it is empty")
    if len(text) > MAX_IMAGE_LENGTH:
        raise InvalidReference(f"it is longer than {MAX_IMAGE_LENGTH} characters")
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReference("64 hexadecimal digits are an image id, not a name")
    domain, remainder = _split_domain(text)
    path_text = remainder.partition(":")[0]
    if path_text.lower() != path_text:
        raise InvalidReference("the repository must be in lower case")
    path_length = len(path_text.partition("@")[0])
    if path_length > MAX_REPOSITORY_LENGTH:
        raise InvalidReference(_TOO_LONG)
    if len(remainder) - path_length > _MAX_SUFFIX_LENGTH:
        raise InvalidReference("the tag or the digest is too long")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidReference(_why_malformed(text))
    digest = match["digest"]
    if digest is not None:
        check_digest(digest)
    return Reference(
        raw=text, registry=match["domain"] or "", repository=match["path"], tag=match["tag"], digest=digest
    )


def check_digest(digest: str) -> None:
    """Raise ``InvalidReference`` unless ``digest`` is a sha256 or sha512 of the right length."""
    algorithm, _, value = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidReference("the digest must be sha256 or sha512")
    if len(value) != length or not _LOWER_HEX.fullmatch(value):
        raise InvalidReference(f"a {algorithm} digest has {length} lower-case hexadecimal digits")


def locate(reference: Reference) -> Location:
    """Fold a reference for matching.

    Raises ``InvalidReference`` for images that no policy may approve (docs/policy.md, "How an image is
    judged"): those with an empty registry, a local image id, or a port outside 1-65535.
    """
    if not reference.registry:
        raise InvalidReference("its first part is neither a registry nor a Docker Hub user")
    if _LOCAL_IMAGE_ID.fullmatch(reference.raw):
        raise InvalidReference("it can be a local image id, which runs whatever image the node has")
    host = fold_registry(reference.registry)
    segments = tuple(reference.repository.split("/"))
    if host == DOCKER_HUB and len(segments) == 1:
        segments = (OFFICIAL_NAMESPACE, *segments)
    return Location(host, segments)


def fold_registry(registry: str) -> str:
    """Return a registry's name for comparison: lower case, numeric port, no ``:443``, Hub aliases folded.

    Raises ``InvalidReference`` when the port is outside 1-65535.
    """
    host = registry.lower()
    name, colon, port = host.rpartition(":")
    if colon and name and _DIGITS.fullmatch(port):
        digits = port.lstrip("0")
        if not digits or len(digits) > 5 or int(digits) > 65535:  # noqa: PLR2004
            raise InvalidReference("the port must be between 1 and 65535")
        host = name if int(digits) == DEFAULT_PORT else f"{name}:{digits}"
    return DOCKER_HUB if host in HUB_ALIASES else host


def effective_tag(reference: Reference) -> str | None:
    """Return the tag that a runtime would pull (``latest`` by default), or ``None`` if there is a digest."""
    if reference.digest is not None:
        return None
    return reference.tag if reference.tag is not None else "latest"


def escape(text: str, limit: int = 200) -> str:
    """Return a text on one line of printable ASCII, cut at ``limit`` characters, for messages.

    Control and non-ASCII characters are escaped as Python writes them.
    """
    # Nearly all texts need no escaping, and a denial calls this function about twenty times.
    if len(text) <= limit and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    # Cut before escaping as well: an image may be megabytes long, and escaping never shortens a text.
    escaped = text[: limit + 1].encode("unicode_escape").decode("ascii")
    if len(escaped) <= limit:
        return escaped
    return escaped[: limit - 3] + "..."


def printable(text: str) -> str:
    """Return a text of any length without control characters, line breaks and changes of direction.

    As opposed to ``escape``, this keeps letters of every script.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _split_domain(text: str) -> tuple[str, str]:
    """Return the registry and the remainder, before the grammar is applied (``splitDockerDomain``)."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DOCKER_HUB, f"{OFFICIAL_NAMESPACE}/{text}"
    if first == "index.docker.io":
        domain, remainder = DOCKER_HUB, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DOCKER_HUB, text
    if domain == DOCKER_HUB and "/" not in remainder:
        remainder = f"{OFFICIAL_NAMESPACE}/{remainder}"
    return domain, remainder


def _why_malformed(text: str) -> str:
    """Return a readable reason for the refusal. The most common causes have reasons of their own."""
    if "://" in text:
        return "an image has no scheme such as https://"
    if text.split(maxsplit=1) != [text]:
        return "it holds whitespace"
    if "$(" in text or "${" in text:
        return "it holds a variable that was not replaced"
    name, _, digest = text.partition("@")
    if "@" in text and not _DIGEST_ALONE.fullmatch(digest):
        return "the part after @ is not a digest"
    last = name.rpartition("/")[2]
    if ":" in last and not _TAG_ALONE.fullmatch(last.partition(":")[2]):
        return "the tag is malformed"
    if "" in name.split("/"):
        return "a part between slashes is empty"
    return "it does not follow the grammar of image references"
