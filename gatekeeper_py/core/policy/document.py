"""The policy document as plain values, and the error for a text that is not one.

This module uses neither YAML nor pydantic, so that a process that only decides can receive a parsed document
from elsewhere without importing a parser. msgspec can encode and decode every type in this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, assert_never, get_args

from gatekeeper_py.core.images.pattern import Pattern, Prefix
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.core.policy.resources import ResourcePath

Mode = Literal["enforce", "warn", "mutate"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

OnError = Literal["keep", "deny"]
"""What happens to an approved image that could not be verified."""

OnMissing = Literal["keep", "deny", "rewrite"]
"""What happens to an image if no target of its mirror has it, or if that is not known."""

API_VERSION: Final = "gatekeeper-py/v1"
KIND: Final = "ImagePolicy"


def refuses(mode: Mode) -> bool:
    """Return whether the mode rejects objects with images that are not approved."""
    match mode:
        case "enforce" | "mutate":
            return True
        case "warn":
            return False
        case _:
            assert_never(mode)


def rewrites(mode: Mode) -> bool:
    """Return whether the mode rewrites images to their mirror."""
    match mode:
        case "mutate":
            return True
        case "enforce" | "warn":
            return False
        case _:
            assert_never(mode)


class PolicyError(ValueError):
    """The text is not an acceptable policy; ``findings`` lists the problems."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEntry:
    """One entry of ``allow`` or ``deny``.

    ``namespaces`` is ``None`` when the entry does not have the field. ``until`` is in UTC. Only entries of
    ``allow`` set the last three fields; ``pin`` implies ``verify``.
    """

    image: Pattern
    namespaces: tuple[str, ...] | None = None
    until: datetime | None = None
    owner: str | None = None
    reason: str | None = None
    verify: bool = False
    on_error: OnError = "keep"
    pin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideEntry:
    """A mode for some namespaces, which replaces the mode of the policy. ``until`` is in UTC."""

    names: tuple[str, ...]
    mode: Mode
    until: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorEntry:
    """A mirror: mutate mode rewrites images below ``source`` to one of ``targets``.

    ``targets`` are in order of preference; ``pin`` implies ``verify``.
    """

    source: Prefix
    targets: tuple[Prefix, ...]
    except_: tuple[Pattern, ...] = ()
    verify: bool = False
    on_missing: OnMissing = "keep"
    on_error: OnMissing = "keep"
    pin: bool = False
    image_pull_secret: str | None = None


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
    allow: tuple[RuleEntry, ...]
    deny: tuple[RuleEntry, ...] = ()
    namespaces: tuple[OverrideEntry, ...] = ()
    mirrors: tuple[MirrorEntry, ...] = ()
    resources: tuple[ResourceEntry, ...] = ()
    registries: tuple[Registry, ...] = ()
    message: str = ""
