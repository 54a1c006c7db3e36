"""The canonical form of an image as CEL: the same as ``parse_reference`` and ``locate`` return for a text.

A native policy sees images as people write them. The steps below bring each image into the form that patterns
are compared with: the registry in lower case and without the default port, Docker Hub by one name, official
images with their ``library``. An image that no policy can approve becomes an empty text. Images that the fast
path pre-approves skip these steps.

Each step is a variable of the policy. It holds a list of texts for each image: the first text is the image as
written, the second its form so far. CEL has no ``let``, so a value that is used twice is a step too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gatekeeper_py.core.compile.cost import Part, Text, any_of, negated, quoted
from gatekeeper_py.core.compile.matching import NAME, Image, in_some
from gatekeeper_py.core.compile.native.objects import Variable
from gatekeeper_py.core.compile.written import PATH, TAG, as_re2
from gatekeeper_py.core.images.image import image_of
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    DOMAIN,
    HUB_ALIASES,
    MAX_IMAGE_LENGTH,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    Reference,
)
from gatekeeper_py.core.policy.mirror import MAX_NAME_LENGTH, Mirror, Mirrors

MAX_MIRRORS: Final = 50
"""A mirror is a branch of one conditional expression. CEL's parser gives up at a depth of 250 (cel-go,
parser/parser.go)."""

_DIGEST: Final = "(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
_GRAMMAR: Final = f"^{as_re2(DOMAIN)}/{PATH}(?::{TAG})?(?:@{_DIGEST})?$"

_HAS_REGISTRY: Final = "^(?:localhost|[^/]*[.:A-Z][^/]*)/"
"""The text before the first slash is a registry when it cannot be a user of Docker Hub."""

_HUB_WITHOUT_PATH: Final = "^(?:index[.])?docker[.]io/[^/]*$"
_OFFICIAL_WITHOUT_LIBRARY: Final = "^docker[.]io/[^/]+$"
_NEVER_A_NAME: Final = "^(?:[a-f0-9]{64}|sha(?:256|384|512):[0-9a-fA-F]+)$"
"""Image IDs. A runtime may resolve them to any image on the node."""

_PORT: Final = ":[0-9]+$"
_DEFAULT_PORT: Final = ":0*443$"
_VALID_PORT: Final = (
    ":0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
)
_WITHOUT_PORT: Final = "^(?:[[][^]]*[]]|[^:]*)"


def steps(source: str) -> Iterator[Variable]:
    """Yield the steps from a list of ``[image, image, ...]``; the last one has ``[image, name, ...]``.

    ``source`` is the expression for the list; CEL must know that it holds lists of texts.
    """
    host = "p[2]"
    hub = quoted(f"{DOCKER_HUB}/")
    library = quoted(f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}/")
    aliases = ", ".join(map(quoted, sorted(HUB_ALIASES)))
    mappings = {
        "named": f"p[1].matches({quoted(_HAS_REGISTRY)}) ? p[1] : {hub} + p[1]",
        "official": f"p[1].matches({quoted(_HUB_WITHOUT_PATH)})"
        f" ? {library} + p[1].substring(p[1].indexOf('/') + 1) : p[1]",
        "valid": f"size(p[0]) <= {MAX_IMAGE_LENGTH} && !p[0].matches({quoted(_NEVER_A_NAME)})"
        f" && p[1].matches({quoted(_GRAMMAR)})"
        f" && size(p[1].find('/[^:@]+')) <= {MAX_REPOSITORY_LENGTH + 1} ? p[1] : ''",
    }
    before = source
    for name, mapping in mappings.items():
        yield Variable(name, f"{before}.map(p, [p[0], {mapping}])")
        before = f"variables.{name}"
    yield Variable("hosted", f"{before}.map(p, [p[0], p[1], p[1].find('^[^/]+').lowerAscii()])")
    without_port = f"{host}.find({quoted(_WITHOUT_PORT)})"
    folded = (
        f"!{host}.matches({quoted(_PORT)}) ? {host}"
        f" : {host}.matches({quoted(_DEFAULT_PORT)}) ? {without_port}"
        f" : {host}.matches({quoted(_VALID_PORT)}) ? {without_port} + ':' + {host}.find('[1-9][0-9]*$') : ''"
    )
    yield Variable("folded", f"variables.hosted.map(p, [p[0], p[1], {folded}])")
    registry = f"({host} in [{aliases}] ? {quoted(DOCKER_HUB)} : {host})"
    located = f"{host} == '' ? '' : {registry} + p[1].find('/.*$')"
    yield Variable("located", f"variables.folded.map(p, [p[0], {located}])")
    yield Variable("canonical", f"variables.located.map(p, [p[0], {with_library('p[1]')}])")


def with_library(name: str) -> str:
    """Return an expression that adds ``library`` to the name of an official image of Docker Hub."""
    library = quoted(f"{DOCKER_HUB}/{OFFICIAL_NAMESPACE}/")
    start = len(f"{DOCKER_HUB}/")
    matches = f"{name}.matches({quoted(_OFFICIAL_WITHOUT_LIBRARY)})"
    return f"{matches} ? {library} + {name}.substring({start}) : {name}"


def name_length(image: str) -> str:
    """Return an expression for the length of an image's registry and repository."""
    return f"size({image}.find({quoted(NAME)}))"


def rewritten(mirrors: Iterable[Mirror], name: Text) -> Part:
    """Return an expression for the new name that the longest matching mirror gives, or an empty text.

    Both names are in canonical form. No rule denies ``name``.
    """
    longest_first = sorted(mirrors, key=lambda mirror: -len(mirror.source.segments))
    text, cost = "", 1
    for mirror in longest_first:
        condition = any_of([*_is(mirror.source.here, name), name.starts_with(mirror.source.below.start)])
        usable = _usable(mirror, name)
        text += f"{condition.text} ? ({usable.text} ? {_judged(mirror, name)} : '') : "
        cost += condition.cost + usable.cost + 8 * name.cost + name.longest
    return Part(f"({text}'')", cost, closed=True)


def _judged(mirror: Mirror, name: Text) -> str:
    to = "/".join((mirror.to.host, *mirror.to.segments))
    moved = _moved(mirror, name, to)
    return f"({with_library(moved)})" if to == DOCKER_HUB else moved


def _moved(mirror: Mirror, name: Text, to: str) -> str:
    return f"({quoted(to)} + {name.text}.substring({len(mirror.source.here.start)}))"


def _usable(mirror: Mirror, name: Text) -> Part:
    """Return the condition that no ``except`` spares a matching image and that its new name is valid."""
    text = f"{name_length(_moved(mirror, name, mirror.to.text))} <= {MAX_NAME_LENGTH}"
    cost = name.find("x" * 20).cost + name.longest
    if mirror.source.segments and not _has_image_itself(mirror):
        inside = name.starts_with(mirror.source.below.start)
        text, cost = f"{text} && {inside.text}", cost + inside.cost
    if mirror.excepts:
        others = negated(in_some(mirror.excepts, Image(name)))
        text, cost = f"{text} && {others.text}", cost + others.cost
    return Part(text, cost)


def _is(here: Pattern, name: Text) -> Iterator[Part]:
    """Yield the conditions for the repository that a source names. A registry is not a repository."""
    if here.segments:
        yield name.equals(here.start)
        yield name.starts_with(f"{here.start}:")
        yield name.starts_with(f"{here.start}@")


def _has_image_itself(mirror: Mirror) -> bool:
    """Return whether the repository that a source names has a usable name on the mirror."""
    repository = "/".join(mirror.source.segments)
    image = image_of(Reference(raw="", registry=mirror.source.host, repository=repository))
    alone = replace(mirror, index=0, excepts=())
    plan = Mirrors([alone]).rewrite(image)
    return plan is not None and plan.image is not None
