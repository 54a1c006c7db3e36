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
    signatures: bool = False
    """Whether the edits can change which images need a signature, and by which keys."""

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
        same = _pair(found, kind, getattr(old, kind), getattr(new, kind), _rule_name, _rule_meaning, _rule)
        if kind == "allow":
            _moved_lookups(found, old.allow, new.allow, same)
    _overrides(found, old.document.namespaces, new.document.namespaces)
    for name, key, meaning in (
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
    if old.document.keys or new.document.keys:
        edited = {each.list for each in found.changed}
        edited |= {str(each["list"]) for each in (*found.added, *found.removed)}
        found.signatures = not edited.isdisjoint({"allow", "keys"})
    return found


def _pair(
    found: DocumentChanges,
    name: str,
    old: Sequence[Any],
    new: Sequence[Any],
    key: Callable[[Any], Hashable],
    meaning: Callable[[Any], Hashable],
    shown: Callable[[Any], JsonEntry],
) -> list[tuple[int, int]]:
    """Record the differences between two lists of entries, and return the pairs of equal entries.

    Equal entries are matched first, then entries with the same name, in order. All other entries are recorded
    as added or removed. A pair is the old and the new index of an entry. Pairs are in the new order.
    """
    pairs: list[tuple[int, int]] = []
    left = defaultdict(list)
    for index, entry in enumerate(old):
        left[key(entry), meaning(entry)].append(index)
    unmatched: list[Any] = []
    for index, entry in enumerate(new):
        same = left[key(entry), meaning(entry)]
        if same:
            pairs.append((same.pop(0), index))
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
    return pairs


def _moved_lookups(
    found: DocumentChanges, old: Sequence[Rule], new: Sequence[Rule], pairs: Sequence[tuple[int, int]]
) -> None:
    """Record unchanged rules with a look-up that moved past a rule with another look-up or without one.

    The first rule that matches an image decides whether and how the image is looked up. ``pairs`` are the old
    and the new index of each unchanged rule, in the new order.
    """
    moved: set[int] = set()
    for in_order, is_passed in ((pairs, int.__gt__), (pairs[::-1], int.__lt__)):
        # For each kind of look-up, the highest old index so far (on the way back, the lowest). There are few
        # kinds.
        furthest: dict[Hashable, int] = {}
        for old_index, new_index in in_order:
            rule = new[new_index]
            lookup = rule.lookup
            if (rule.verify or rule.pin) and any(
                is_passed(index, old_index) for other, index in furthest.items() if other != lookup
            ):
                moved.add(new_index)
            if lookup not in furthest or is_passed(old_index, furthest[lookup]):
                furthest[lookup] = old_index
    for old_index, new_index in pairs:
        if new_index in moved:
            found.changed.append(EntryChange("allow", _rule(old[old_index]), _rule(new[new_index])))


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
    excepts = tuple((_rule_name(each), _rule_meaning(each)) for each in rule.excepts)
    return rule.namespaces, rule.until, rule.owner, rule.reason, *rule.lookup, excepts


def _rule(rule: Rule) -> JsonEntry:
    return rule_as_json(rule) or {}


def _grant_name(entry: Grant) -> Hashable:
    return entry.source, tuple(map(str, entry.images))


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
            yield name, _plain(value)


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Mode):
        return value.name
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)


_NAMES: Final = {
    "source": "from",
    "targets": "to",
    "excepts": "except",
    "on_missing": "onMissing",
    "on_error": "onError",
    "image_pull_secret": "imagePullSecret",
    "plain_http": "plainHTTP",
    "token_hosts": "tokenHosts",
    "redirect_hosts": "redirectHosts",
    "ttl_found": "ttlFound",
    "ttl_missing": "ttlMissing",
}
"""The names in the document of fields that have another name in the code."""
