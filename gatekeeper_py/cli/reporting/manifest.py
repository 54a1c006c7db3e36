"""Write Kubernetes objects as YAML from which kubectl reads the same values."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

import yaml

ONE_LINE: Final = sys.maxsize
"""A width at which no line is broken."""


class ManifestDumper(yaml.SafeDumper):
    """Writes every value in full instead of anchors and aliases, which are hard to read."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


# PyYAML implements YAML 1.1 and would write the text "12e5" without quotes, which YAML 1.2 readers, such as
# kubectl, take for a number.
ManifestDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)
ManifestDumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?0o[0-7]+\Z"), list("-+0"))


def _user_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write text on one line. Quote what a CI job could take for a command (``user_yaml``)."""
    style = '"' if "\n" in text or text.startswith("::") or "##" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


ManifestDumper.add_representer(str, _user_text)


def user_yaml(documents: Iterable[Any]) -> str:
    """Return objects of users as a YAML stream without anything that a CI job could take for a command."""
    text: str = yaml.dump_all(
        documents, Dumper=ManifestDumper, sort_keys=False, explicit_start=True, width=ONE_LINE
    )
    return text.replace("##", r"\x23\x23")  # only quoted text contains it


_LONG: Final = 60


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write text with line breaks, or long text with quotes, as a block.

    Otherwise each quote is doubled, which makes an expression hard to read.
    """
    as_block = "\n" in text or (len(text) > _LONG and "'" in text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if as_block else None)


class _ReadableDumper(ManifestDumper):
    """Writes objects that this program creates, as opposed to objects of users."""


_ReadableDumper.add_representer(str, _text)


def as_yaml(documents: Iterable[dict[str, Any]]) -> str:
    """Return objects as a YAML stream that begins with ``---``."""
    text: str = yaml.dump_all(documents, Dumper=_ReadableDumper, sort_keys=False, explicit_start=True)
    # PyYAML omits the line break after a block at the very end.
    return text if text.endswith("\n") else f"{text}\n"
