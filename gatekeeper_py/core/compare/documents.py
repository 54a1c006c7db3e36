"""Compare the text of two policies entry by entry: what was added, removed or changed.

The comparison reports the edits. The module ``difference`` reports the effect of the edits on images.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from itertools import zip_longest
from operator import attrgetter
from typing import Any, Final, Literal

from gatekeeper_py.core.admission.explain import key_as_json, rule_as_json
from gatekeeper_py.core.exceptions.grants import Grant
from gatekeeper_py.core.policy.document import Mode, OverrideEntry
from gatekeeper_py.core.policy.instant import format_duration, format_instant
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule

JsonEntry = dict[str, object]
"""An entry as JSON shows it. ``list`` is the field of the document that holds it."""


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry before and after a change. ``None`` means that the policy does not have the entry.

    If the entry is a scalar field of the document, ``old`` and ``new`` are plain text.
    """

    list: str
    old: JsonEntry | str | None
    new: JsonEntry | str | None


@dataclass(slots=True)
class DocumentChanges:
    """The differences between two documents, in document order."""

    added: list[JsonEntry] = field(default_factory=list)
    removed: list[JsonEntry] = field(default_factory=list)
    changed: list[EntryChange] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def as_json(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "removed": self.removed,
            "changed": [dataclasses.asdict(change) for change in self.changed],
        }


def compare_documents(old: Policy, new: Policy) -> DocumentChanges:
    """Return the differences between two policies as written, and between their effective modes."""
    found = DocumentChanges()
    for name, before, after in (
        ("mode", old.mode.name, new.mode.name),
        ("message", old.document.message, new.document.message),
    ):
        if before != after:
            found.changed.append(EntryChange(name, before, after))
    lists: tuple[Literal["allow", "deny"], ...] = ("allow", "deny")
    for kind in lists:
        _pair(found, kind, getattr(old, kind), getattr(new, kind), _rule_name, _rule_meaning, _rule)
    _overrides(found, old.document.namespaces, new.document.namespaces)
    for name, key, meaning in (
        ("require", _images_of, _requirement_meaning),
        ("mirrors", attrgetter("source.host", "source.segments"), _mirror_meaning),
        ("resources", attrgetter("group", "kind"), _itself),
        ("registries", attrgetter("host"), _itself),
        ("keys", attrgetter("name"), _itself),
        ("exceptions", _grant_name, _grant_meaning),
    ):
        _pair(
            found,
            name,
            getattr(old.document, name),
            getattr(new.document, name),
            key,
            meaning,
            _entry_of(name),
        )
    return found


def _pair(
    found: DocumentChanges,
    name: str,
    old: Sequence[Any],
    new: Sequence[Any],
    key: Callable[[Any], Hashable],
    meaning: Callable[[Any], Hashable],
    shown: Callable[[Any], JsonEntry],
) -> None:
    """Record the differences between two lists of entries.

    Equal entries are matched first, then entries with the same name, in order. All other entries are recorded
    as added or removed.
    """
    left = defaultdict(list)
    for index, entry in enumerate(old):
        left[key(entry), meaning(entry)].append(index)
    unmatched: list[Any] = []
    for entry in new:
        same = left[key(entry), meaning(entry)]
        if same:
            same.pop(0)
        else:
            unmatched.append(entry)
    by_name = defaultdict(list)
    for index in sorted(index for indices in left.values() for index in indices):
        by_name[key(old[index])].append(index)
    for entry in unmatched:
        before = by_name[key(entry)]
        if before:
            found.changed.append(EntryChange(name, shown(old[before.pop(0)]), shown(entry)))
        else:
            found.added.append(shown(entry))
    gone = sorted(index for indices in by_name.values() for index in indices)
    found.removed += [shown(old[index]) for index in gone]


def _overrides(found: DocumentChanges, old: Sequence[OverrideEntry], new: Sequence[OverrideEntry]) -> None:
    """Compare overrides in order, because the first that names a namespace decides."""
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what != "equal":
            for before, after in zip_longest(old[a:b], new[c:d]):
                found.changed.append(EntryChange("namespaces", _override(before), _override(after)))


def _rule_name(rule: Rule) -> Hashable:
    pattern = rule.pattern
    return pattern.host, pattern.segments, pattern.subtree, pattern.tag, pattern.digest


def _rule_meaning(rule: Rule) -> Hashable:
    return rule.namespaces, rule.until, rule.owner, rule.reason, _excepts_meaning(rule.excepts)


def _excepts_meaning(excepts: Iterable[Rule]) -> Hashable:
    return tuple((_rule_name(each), _rule_meaning(each)) for each in excepts)


def _rule(rule: Rule) -> JsonEntry:
    return rule_as_json(rule) or {}


def _images_of(entry: Requirement | Grant) -> Hashable:
    return tuple(map(str, entry.images))


def _requirement_meaning(entry: Requirement) -> Hashable:
    plain = dataclasses.replace(entry, index=0, images=(), excepts=())
    return plain, _excepts_meaning(entry.excepts)


def _grant_name(entry: Grant) -> Hashable:
    return entry.source, _images_of(entry)


def _grant_meaning(entry: Grant) -> Hashable:
    return dataclasses.replace(entry, index=0, images=())


def _mirror_meaning(entry: Mirror) -> Hashable:
    return dataclasses.replace(entry, index=0)


def _itself(entry: Hashable) -> Hashable:
    return entry


def _override(entry: OverrideEntry | None) -> JsonEntry | None:
    return None if entry is None else _entry_of("namespaces")(entry)


def _entry_of(name: str) -> Callable[[Any], JsonEntry]:
    return lambda entry: {"list": name, **(key_as_json(entry) if name == "keys" else dict(_fields(entry)))}


def _fields(entry: Any) -> Iterator[tuple[str, object]]:
    """Yield the fields of an entry that differ from their defaults, under their names in the document."""
    for each in dataclasses.fields(entry):
        value = getattr(entry, each.name)
        if value != each.default and each.name != "index":
            # A grant's ``source`` has this name in the document, too; a mirror's is ``from``.
            name = each.name if isinstance(entry, Grant) else _NAMES.get(each.name, each.name)
            yield name, "warn" if name == "mode" and value is True else _plain(value)


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Mode):
        return value.name
    if isinstance(value, Rule):
        return _rule(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


_NAMES: Final = {
    "source": "from",
    "targets": "to",
    "excepts": "except",
    "on_missing": "onMissing",
    "on_error": "onError",
    "signed_by": "signedBy",
    "warns": "mode",
    "image_pull_secret": "imagePullSecret",
    "plain_http": "plainHTTP",
    "token_hosts": "tokenHosts",
    "redirect_hosts": "redirectHosts",
    "ttl_found": "ttlFound",
    "ttl_missing": "ttlMissing",
}
"""The names in the document of fields that have another name in the code."""
