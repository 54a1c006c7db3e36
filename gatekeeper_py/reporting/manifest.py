"""Kubernetes objects as YAML that kubectl reads as it was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml


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


_LONG: Final = 60


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Write long or quoted text as a block: an expression full of doubled quotes is hard to read."""
    as_block = "\n" in text or (len(text) > _LONG and "'" in text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if as_block else None)


class _ReadableDumper(ManifestDumper):
    """For objects that we write ourselves."""


_ReadableDumper.add_representer(str, _text)


def as_yaml(documents: Iterable[dict[str, Any]]) -> str:
    """Return objects as a YAML stream that begins with ``---``."""
    text: str = yaml.dump_all(documents, Dumper=_ReadableDumper, sort_keys=False, explicit_start=True)
    # A block at the very end is written without its line break.
    return text if text.endswith("\n") else f"{text}\n"
