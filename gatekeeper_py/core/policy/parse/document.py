"""Text -> PolicyDocument. Reports every problem at once, with its path and line.

The text is read as a stream. Each entry is validated as soon as it has been read, and only the result is
kept. So a refused document needs no more memory than an accepted one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from gatekeeper_py.core.images.pattern import InvalidPattern, Prefix, parse_prefix
from gatekeeper_py.core.policy.document import PolicyDocument, PolicyError
from gatekeeper_py.core.policy.finding import Mark, Path, Remark, Remarks
from gatekeeper_py.core.policy.limits import MAX_ENTRIES, MAX_FILE_BYTES, MAX_RULES, MAX_TARGETS
from gatekeeper_py.core.policy.parse.conflicts import MirrorEnds, mirror_conflicts
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader, Unreadable
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.parse.schema import (
    AllowModel,
    DocumentModel,
    EntryModel,
    HeaderModel,
    MirrorModel,
    OverrideModel,
    RegistryModel,
    ResourceModel,
    RuleModel,
    fields_of,
)
from gatekeeper_py.core.policy.parse.text import check_text
from gatekeeper_py.core.policy.parse.validation import (
    Fields,
    Section,
    missing_field,
    read_value,
    unknown_field,
    validated,
    value_of,
    wrong_type,
)
from gatekeeper_py.core.policy.problems import mode_problem

_MODELS: Final[MappingProxyType[str, type[EntryModel]]] = MappingProxyType(
    {
        "allow": AllowModel,
        "deny": RuleModel,
        "namespaces": OverrideModel,
        "mirrors": MirrorModel,
        "resources": ResourceModel,
        "registries": RegistryModel,
    }
)
"""The lists of a document, and the models that validate their entries."""

_FIELDS: Final = fields_of(DocumentModel)


def parse_document(text: str, mode: str | None = None, *, max_bytes: int = MAX_FILE_BYTES) -> PolicyDocument:
    """Parse a policy document of at most ``max_bytes`` bytes of UTF-8.

    ``mode`` is the mode that will replace the document's (the ConfigMap key ``mode``); it is checked too.
    Raises ``PolicyError`` with every problem: at most 100, and the number of the others.
    """
    remarks = Remarks()
    problem = None if mode is None else mode_problem(mode)
    if problem is not None:
        remarks.add(problem)
    document = None
    if check_text(text, max_bytes, remarks):
        document = _Parser(text, remarks).document()
    if document is None or remarks:
        raise PolicyError(as_findings(text, remarks))
    return document


def refused(text: str, problem: Remark) -> PolicyError:
    """Return the error for a problem of the document as a whole."""
    remarks = Remarks()
    remarks.add(problem)
    return PolicyError(as_findings(text, remarks))


class _Parser:
    """Reads one document. ``remarks`` gets the problems."""

    def __init__(self, text: str, remarks: Remarks) -> None:
        self._text = text
        self._remarks = remarks
        self._problems = Remarks()
        """Problems of values. They are reported only if the whole text could be read."""
        self._header: Fields = {}
        self._entries: dict[str, list[Any]] = {}
        self._rules = 0
        self._mirrors: list[MirrorEnds] = []
        self._registries: dict[str, int] = {}

    def document(self) -> PolicyDocument | None:
        """Return the document, or ``None`` if there are problems."""
        header = None
        try:
            reader = Reader(self._text, self._remarks)
            root = reader.root()
            if root is not None and root.kind == "mapping":
                header = self._mapping(reader)
            elif root is not None and (root.kind == "list" or root.value not in (None, UNKNOWN)):
                self._problems.add(wrong_type((), "a mapping", value_of(root)))
            reader.finish()
            if header is None and not self._remarks and not self._problems:
                empty = "the document is empty"
                self._remarks.add(Remark(code="empty-document", path=(), message=empty, mark=Mark(1, 1)))
        except Unreadable as end:
            # Do not report problems of values if only a part of the document could be read.
            self._remarks.add(end.remark)
            return None
        self._remarks.extend(self._problems)
        self._remarks.more += self._problems.more
        if header is None or self._remarks:
            return None
        entries = {name: tuple(values) for name, values in self._entries.items()}
        return PolicyDocument(mode=header.mode, message=header.message, **entries)

    def _mapping(self, reader: Reader) -> HeaderModel | None:
        """Read and validate the fields of the document."""
        for name, node in reader.entries():
            if name in _MODELS:
                self._entries[name] = []
                self._list(reader, name, node)
            elif name in _FIELDS:
                self._header[name] = read_value(reader, node, self._problems)
            elif self._problems.full:
                self._problems.more += 1
            else:
                self._problems.add(unknown_field((name,), name, _FIELDS))
        if "allow" not in self._entries:
            self._problems.add(missing_field(("allow",)))
        self._problems.extend(mirror_conflicts(self._mirrors))
        return validated(HeaderModel, self._header, (), self._problems)

    def _list(self, reader: Reader, name: str, node: Node) -> None:
        if node.kind != "list":
            if node.value is not UNKNOWN:
                self._problems.add(wrong_type((name,), "a list", value_of(node)))
            return
        section = Section(_MODELS[name], self._problems)
        index = -1
        for index, item in enumerate(reader.items()):
            if self._too_many(name, index):
                continue
            entry, fields = section.read(reader, item)
            if name == "mirrors":
                self._mirrors.append(MirrorEnds(index, _end(fields.get("from")), _targets(fields.get("to"))))
            elif name == "registries" and entry is not None:
                self._registry(index, entry.host)
            if not self._problems:  # else there will be no document
                self._entries[name].append(entry)
        if name == "allow" and index < 0:
            self._problems.add(Remark(code="empty-list", path=(name,), message="needs at least one entry"))

    def _registry(self, index: int, host: str) -> None:
        first = self._registries.setdefault(host, index)
        if first != index:
            message = f"registries[{first}] has the same host"
            remark = Remark(
                code="registry-duplicate",
                path=("registries", index, "host"),
                message=message,
                proposal="merge the two",
            )
            self._problems.add(remark)

    def _too_many(self, name: str, index: int) -> bool:
        """Count an entry, and return whether it is over the limit of its list, which is reported once."""
        if name in MAX_ENTRIES:
            count, most, what = index, MAX_ENTRIES[name], name
        else:
            count, most, what = self._rules, MAX_RULES, "rules in allow and deny together"
            self._rules += 1
        if count == most:
            message = f"more than {most:,} {what}, the limit"
            self._problems.add(Remark(code="too-many", path=(name,), message=message))
        return count >= most


def _targets(value: object) -> tuple[tuple[Path, Prefix], ...]:
    """Return the valid entries of ``to``, which holds a single entry or a list, with their paths."""
    written: list[tuple[Path, object]]
    if isinstance(value, list):
        written = [(("to", index), item) for index, item in enumerate(value[:MAX_TARGETS])]
    else:
        written = [(("to",), value)]
    ends = ((path, _end(text)) for path, text in written)
    return tuple((path, end) for path, end in ends if end is not None)


def _end(text: object) -> Prefix | None:
    """Return one end of a mirror; ``None`` if it is malformed, which ``MirrorModel`` reports."""
    try:
        return parse_prefix(text) if isinstance(text, str) else None
    except InvalidPattern:
        return None
