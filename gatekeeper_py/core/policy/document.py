"""The policy document as plain values, and the error for a text that is not one.

This module does not use YAML. So the server and the controller can receive a parsed document from the parser
process without importing a YAML parser. msgspec can encode and decode every type in this module: ``Mode``
with the hooks ``encoded_mode`` and ``decoded_mode``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.core.exceptions.grants import Grant
from gatekeeper_py.core.policy.finding import Finding, Path
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.resources import ResourcePath
from gatekeeper_py.core.policy.rules import Rule

API_VERSION: Final = "gatekeeper-py/v1"
KIND: Final = "ImagePolicy"


class Mode:
    """What happens to objects with images. All code reads these fields, and none compares a name.

    A mode ``refuses`` objects with images that are not approved, or else ``warns`` about these images. It
    ``rewrites`` images to their mirror or not. Documents and reports hold its name.
    """

    __slots__ = ("name", "refuses", "rewrites", "warns")

    def __init__(self, name: str, *, refuses: bool, rewrites: bool) -> None:
        self.name = name
        self.refuses = refuses
        self.rewrites = rewrites
        self.warns = not refuses

    def __str__(self) -> str:
        return self.name


ENFORCE: Final = Mode("enforce", refuses=True, rewrites=False)
MODES: Final[Mapping[str, Mode]] = {
    mode.name: mode
    for mode in (
        ENFORCE,
        Mode("warn", refuses=False, rewrites=False),
        Mode("mutate", refuses=True, rewrites=True),
    )
}


def decoded_mode(_kind: type, name: Any) -> Mode:
    """Return a mode by its name, for msgspec. Raises ``ValueError``."""
    if not isinstance(name, str):
        raise ValueError(f"Expected `str | null`, got `{type(name).__name__}`")  # noqa: TRY004
    if name not in MODES:
        raise ValueError(f"Invalid enum value {name!r}")
    return MODES[name]


def encoded_mode(value: Any) -> str:
    """Return the name of a mode, for msgspec. Raises ``NotImplementedError`` for any other type."""
    if not isinstance(value, Mode):
        raise NotImplementedError(type(value).__name__)
    return value.name


class PolicyError(ValueError):
    """The text is not an acceptable policy; ``findings`` lists the problems."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideEntry:
    """A mode for some namespaces, which replaces the mode of the policy. ``until`` is in UTC."""

    names: tuple[str, ...]
    mode: Mode
    until: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEntry:
    """The paths to the images in custom resources of one kind."""

    group: str
    kind: str
    images: tuple[ResourcePath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """The whole document, without ``apiVersion`` and ``kind``, which are always the same."""

    mode: Mode
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...] = ()
    require: tuple[Requirement, ...] = ()
    namespaces: tuple[OverrideEntry, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    resources: tuple[ResourceEntry, ...] = ()
    registries: tuple[Registry, ...] = ()
    keys: tuple[Key, ...] = ()
    exceptions: tuple[Grant, ...] = ()
    message: str = ""

    def dated(self) -> Iterator[tuple[Path, Rule | OverrideEntry | Key, datetime]]:
        """Yield each entry that expires or has expired, with its path and its expiry."""
        lists: list[tuple[str, Sequence[Rule | Requirement | OverrideEntry | Key]]]
        lists = [
            ("allow", self.allow),
            ("deny", self.deny),
            ("require", self.require),
            ("namespaces", self.namespaces),
            ("keys", self.keys),
        ]
        for name, entries in lists:
            for index, entry in enumerate(entries):
                if not isinstance(entry, Requirement) and entry.until is not None:
                    yield (name, index), entry, entry.until
                for each in entry.excepts if isinstance(entry, (Rule, Requirement)) else ():
                    if each.until is not None:
                        yield (name, index, each.list, each.index), each, each.until
