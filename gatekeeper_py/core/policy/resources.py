"""Paths to images in custom resources, such as ``spec.steps[*].image``.

Source: docs/policy.md, "Images that are judged".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

MAX_PATH_LENGTH: Final = 512
"""Characters of one path, as of a pattern."""

_FIELD: Final = r"[^.*\[\]{}\s]+"
_PATH: Final = re.compile(rf"{_FIELD}(?:\[\*\]|\{{\*\}})*(?:\.{_FIELD}(?:\[\*\]|\{{\*\}})*)*")
_STEP: Final = re.compile(rf"(?P<field>{_FIELD})|(?P<items>\[\*\])|(?P<values>\{{\*\}})")


class InvalidResourcePath(ValueError):
    """The text is not a path to images."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: into a field, into every item of a list, into every value of a mapping."""

    kind: Literal["field", "items", "values"]
    field: str = ""


@dataclass(frozen=True, slots=True)
class ResourcePath:
    text: str
    steps: tuple[Step, ...]


def parse_resource_path(text: str) -> ResourcePath:
    """Parse a path of at most 512 characters. Raises ``InvalidResourcePath``."""
    if len(text) > MAX_PATH_LENGTH:
        message = f"a path has at most {MAX_PATH_LENGTH} characters, and this one has {len(text):,}"
        raise InvalidResourcePath(message)
    if not _PATH.fullmatch(text):
        message = "field names joined by ., each may be followed by [*] (every item) or {*} (every value)"
        raise InvalidResourcePath(message)
    steps = []
    for match in _STEP.finditer(text):
        if match["field"]:
            steps.append(Step("field", match["field"]))
        else:
            steps.append(Step("items" if match["items"] else "values"))
    return ResourcePath(text, tuple(steps))
