r"""Images written in full: ``registry/repository``, then ``:tag``, ``@sha256:digest``, both or neither.

Such a text is its own canonical form, so a pattern can be compared with the text itself. Everything that
is compiled for the API server relies on this, because an API server has regular expressions but no parser for
references. An image that is not written in full is left to the webhook.

The atoms below are those of ``images/reference`` in the syntax of RE2. In CEL, they stand between ``^`` and
``$``. RE2's ``$`` matches only at the end of the text. No atom contains a quote or a backslash, so each can
be part of a CEL string as it is.
"""

from __future__ import annotations

import re
from typing import Final

from gatekeeper_py.core.images import reference as grammar
from gatekeeper_py.core.images.image import Image, parse_image
from gatekeeper_py.core.images.reference import (
    InvalidReference,
)

MAX_LENGTH: Final = 255
"""Maximum length of a whole image in characters. The grammar allows 255 for the repository alone, and CRI-O
for the name with its registry; an image of at most 255 characters meets both limits."""


def as_re2(expression: str) -> str:
    r"""Translate an expression of the grammar to the syntax of RE2.

    RE2 has no possessive ``++`` and does not need it, because it never backtracks. Characters are escaped
    with a class such as ``[.]`` instead of a backslash.
    """
    greedy = re.sub(r"([+*?}])\+", r"\1", expression)
    return greedy.replace(r"\.", "[.]").replace(r"\[", "[[]").replace(r"\]", "[]]")


LABEL: Final = as_re2(grammar.LABEL).replace("A-Za-z", "a-z")
COMPONENT: Final = as_re2(grammar.COMPONENT)
PATH: Final = as_re2(grammar.PATH)
TAG: Final = as_re2(grammar.TAG)
DIGEST: Final = "sha256:[0-9a-f]{64}"
HOST: Final = f"{LABEL}(?:[.]{LABEL})*(?::[1-9][0-9]{{0,4}})?"


def parse_full(image: str) -> Image | None:
    """Return an image that is written in full, ``None`` for any other text."""
    if len(image) > MAX_LENGTH:
        return None
    try:
        parsed = parse_image(image)
    except InvalidReference:
        return None
    digest = parsed.digest
    if f"{parsed.name}{parsed.reference.suffix}" != image or parsed.location.host.startswith("["):
        return None
    if digest is not None and not digest.startswith("sha256:"):
        return None
    return parsed
