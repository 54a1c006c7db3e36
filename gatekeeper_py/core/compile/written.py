r"""Images written in full: ``registry/repository``, then ``:tag``, ``@sha256:digest``, both or neither.

Such a text is its own canonical form, so a pattern can be compared with the text itself. Everything that
is compiled for the API server relies on this, because an API server has regular expressions but no parser for
references. An image that is not written in full is left to the webhook.

The atoms below are used in Python with ``fullmatch`` and in CEL between ``^`` and ``$``. RE2's ``$`` matches
only at the end of the text. Python's also matches before a final line break, so Python code does not use it.
No atom contains a quote or a backslash, so each can be part of a CEL string as it is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gatekeeper_py.core.images.reference import DEFAULT_PORT, DOCKER_HUB, HUB_ALIASES, Location

MAX_LENGTH: Final = 255
"""Maximum length of a whole image in characters. The grammar allows 255 for the repository alone, and CRI-O
for the name with its registry; an image of at most 255 characters meets both limits."""

LABEL: Final = "[a-z0-9]+(?:-+[a-z0-9]+)*"
COMPONENT: Final = "[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*"
PATH: Final = f"{COMPONENT}(?:/{COMPONENT})*"
TAG: Final = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
DIGEST: Final = "sha256:[0-9a-f]{64}"
HOST: Final = f"{LABEL}(?:[.]{LABEL})*(?::[1-9][0-9]{{0,4}})?"

_FORM: Final = re.compile(f"(?P<host>{HOST})/(?P<path>{PATH})(?P<tag>:{TAG})?(?P<digest>@{DIGEST})?")
_MAX_PORT: Final = 65535


class FullName(NamedTuple):
    """An image that is written in full.

    ``tag`` is the tag that a runtime would pull: ``None`` beside a digest, ``latest`` without tag and digest.
    """

    location: Location
    tag: str | None
    digest: str | None


def parse_full(image: str) -> FullName | None:
    """Return the parts of an image that is written in full, ``None`` for any other text."""
    match = _FORM.fullmatch(image) if len(image) <= MAX_LENGTH else None
    if match is None:
        return None
    host, segments = match["host"], tuple(match["path"].split("/"))
    if not is_full_host(host) or (host == DOCKER_HUB and len(segments) == 1):
        return None
    if match["digest"] is not None:
        return FullName(Location(host, segments), None, match["digest"][1:])
    return FullName(Location(host, segments), "latest" if match["tag"] is None else match["tag"][1:], None)


def is_full_host(host: str) -> bool:
    """Return whether a lower-case registry is written the way it is compared.

    ``foo`` is not, because ``foo/app`` is an image of Docker Hub. Neither are the aliases of Docker Hub and
    hosts with the default port, which are folded before a rule is looked up.
    """
    name, _, port = host.partition(":")
    if port and (int(port) == DEFAULT_PORT or int(port) > _MAX_PORT):
        return False
    return host not in HUB_ALIASES and (bool(port) or "." in name or name == "localhost")
