"""The fields of the policy document, to parse a text into a PolicyDocument and to build the JSON Schema.

Source: docs/policy.md, "Fields" and "Limits". Lengths are checked before anything reads a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, get_args

from gatekeeper_py.core.exceptions.grants import OVERRIDES, SOURCES, Grant
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import (
    MAX_PATTERN_LENGTH,
    InvalidPattern,
    Pattern,
    parse_pattern,
    parse_prefix,
)
from gatekeeper_py.core.policy.document import (
    API_VERSION,
    ENFORCE,
    KIND,
    MODES,
    OverrideEntry,
    PolicyDocument,
    PolicyError,
    ResourceEntry,
)
from gatekeeper_py.core.policy.finding import MAX_PROPOSAL, Mark, Remark, Remarks
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.keys import MAX_PEM_LENGTH, Key, parse_key
from gatekeeper_py.core.policy.limits import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_ITEMS,
    MAX_LIVE_ENTRIES,
    MAX_REQUIRED_PATTERNS,
    MAX_RULES,
    MAX_SIGNERS,
    MAX_TARGETS,
    MAX_TEXT_LENGTH,
)
from gatekeeper_py.core.policy.mirror import Mirror, OnMissing
from gatekeeper_py.core.policy.parse.conflicts import MirrorEnds, mirror_conflicts
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node
from gatekeeper_py.core.policy.parse.fields import (
    Boolean,
    Field,
    Integer,
    Invalid,
    Items,
    OneOf,
    Reading,
    Record,
    Scalar,
    Shorthand,
    read_document,
)
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.problems import did_you_mean, mode_problem, shown
from gatekeeper_py.core.policy.registries import DEFAULT_RATE, SIGNED_RATE, Registry
from gatekeeper_py.core.policy.requirements import OnError, Requirement
from gatekeeper_py.core.policy.resources import MAX_PATH_LENGTH, parse_resource_path
from gatekeeper_py.core.policy.rules import Rule

MAX_RATE: Final = 1000

_NAMESPACE_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")
_DURATION: Final = re.compile(r"(?P<number>[0-9]{1,7})(?P<unit>ms|s|m)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DAYS: Final = re.compile(r"(?P<number>[0-9]{1,4})(?P<unit>[hd])")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_KEY_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECRET_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


def parse_document(text: str, mode: str | None = None, *, max_bytes: int = MAX_FILE_BYTES) -> PolicyDocument:
    """Parse a policy document of at most ``max_bytes`` bytes of UTF-8.

    ``mode`` is the mode that will replace the document's (the ConfigMap key ``mode``); it is checked too.
    Raises ``PolicyError`` with every problem: at most 100, and the number of the others.
    """
    remarks = Remarks()
    problem = None if mode is None else mode_problem(mode)
    if problem is not None:
        remarks.add(problem)
    document: PolicyDocument | None = read_document(
        text, _DOCUMENT, max_bytes, remarks, alone="keep one policy a file"
    )
    if document is None and not remarks:
        empty = "the document is empty"
        remarks.add(Remark(code="empty-document", path=(), message=empty, mark=Mark(1, 1)))
    if document is None or remarks:
        raise PolicyError(as_findings(text, remarks))
    return document


def refused(text: str, problem: Remark) -> PolicyError:
    """Return the error for a problem of the document as a whole."""
    remarks = Remarks()
    remarks.add(problem)
    return PolicyError(as_findings(text, remarks))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    return complete_schema(_DOCUMENT)


def complete_schema(document: Record) -> dict[str, Any]:
    """Return the JSON Schema of a document, with a definition for each of its lists."""
    lists = (each for each in document.fields.values() if isinstance(each, Items))
    definitions = {each.definition: each.item.schema() for each in lists}
    schema: dict[str, Any] = _sorted({"$defs": definitions, **document.schema()})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _sorted(schema: Any, *, names: bool = False) -> Any:
    """Sort the keywords of a schema, but not the ``names`` of properties."""
    if not isinstance(schema, dict):
        return [_sorted(each) for each in schema] if isinstance(schema, list) else schema
    keys = schema if names else sorted(schema)
    return {key: _sorted(schema[key], names=key == "properties" and not names) for key in keys}


def parse_allowed(text: str) -> Pattern:
    """Parse a pattern of ``allow``, which must name its registry. Raises ``InvalidPattern``."""
    try:
        pattern = parse_pattern(text)
    except InvalidPattern as problem:
        raise problem.about(text, parse_allowed) from None
    if pattern.any_host:
        raise InvalidPattern("* alone as the host would approve every registry")
    return pattern


def _parse_line(text: str) -> str:
    """Join the lines of a text, because it is shown on one line. A YAML block ends with a line break."""
    line = text
    if "\n" in text:
        line = " ".join(filter(None, (part.strip() for part in text.split("\n"))))
    if len(line) > MAX_TEXT_LENGTH:
        raise Invalid(f"at most {MAX_TEXT_LENGTH} characters, here {len(line):,}", code="too-long")
    if not line.isprintable():
        raise Invalid("printable text is wanted, without control characters")
    return line


def _parse_filled_line(text: str) -> str:
    line = _parse_line(text)
    if not line:
        raise Invalid("must not be empty")
    return line


def _parse_host(text: str) -> str:
    """Parse the host of a registry, with its port and without wildcard. Raises ``ValueError``."""
    message = "a registry is a host, with a port if it has one, and without a path, a wildcard or a digest"
    if not text.strip() or not {"*", "@"}.isdisjoint(text):
        raise Invalid(message)
    prefix = parse_prefix(text if "/" in text else f"{text}/")
    if prefix.segments:
        raise Invalid(message)
    return prefix.host


def _parse_repository(text: str) -> str:
    """Parse ``host/repository`` without a wildcard, a tag or a digest. Raises ``ValueError``."""
    message = "must be registry/path, without a wildcard, a tag or a digest"
    if not {"*", "@"}.isdisjoint(text):
        raise Invalid(message)
    pattern = parse_pattern(text)
    if pattern.subtree or pattern.tag is not None:
        raise Invalid(message)
    return "/".join((pattern.host, *pattern.segments))


def _parse_rate(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RATE:
        raise Invalid(f"must be a whole number from 1 to {MAX_RATE:,}")
    return value


def _parse_days(value: object) -> timedelta:
    match = _DAYS.fullmatch(value) if isinstance(value, str) else None
    duration = None if match is None else int(match["number"]) * _UNITS[match["unit"]]
    if duration is None or not timedelta(hours=1) <= duration <= timedelta(days=400):
        raise Invalid("must be a duration from 1h to 400d, such as 12h or 14d")
    return duration


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match["number"]) * _UNIT_SECONDS[match["unit"]]


def _check_lookups(reading: Reading, found: dict[str, Any]) -> None:
    """Set ``verify``, which ``pin`` implies, and refuse fields that apply only to look-ups without it."""
    looks_up = found.get("verify") is True or found.get("pin") is True
    for key, parameter in (("onMissing", "on_missing"), ("onError", "on_error")):
        if not looks_up and found.get(parameter, UNKNOWN) is not UNKNOWN:
            reason, proposal = "has no effect without verify or pin", "add verify: true, or leave it out"
            reading.report("without-verify", reason, proposal, below=(key,))
    found["verify"] = looks_up


def _check_allowed(reading: Reading, found: dict[str, Any]) -> None:
    """Refuse the fields of look-ups, and propose the requirement that takes their place."""
    former = {key: found.pop(key) for key in _FORMER if key in found}
    proposal = _requirement(found, former) if former and not reading.problems.full else ""
    for key in former:
        reading.report(
            "moved-to-require", "a rule of allow only approves names", proposal, below=(key,), at_key=True
        )
    check_rule(reading, found)


def _requirement(found: dict[str, Any], former: dict[str, Any]) -> str:
    """Return the proposal for former fields of a rule: the whole requirement, as YAML."""
    wanted = {key: value for key, value in former.items() if value is not False}
    if wanted.keys().isdisjoint({"verify", "pin", "signedBy"}):
        return "leave it out"
    pattern, names = found.get("pattern", UNKNOWN), found.get("namespaces")
    wildcard = isinstance(pattern, Pattern) and is_glob(pattern.host)
    fields: dict[str, Any] = {"images": (getattr(pattern, "text", UNKNOWN),)}
    if names is not None:
        fields["namespaces"] = names
    if "signedBy" in wanted:
        fields |= {key: wanted[key] for key in ("signedBy", "signatures") if key in wanted}
    else:
        fields |= {} if wildcard and "pin" in wanted else {"exists": True}
        fields |= {"digest": True} if "pin" in wanted else {}
    if "onError" in wanted:
        fields["onError"] = wanted["onError"]
    if wildcard and ("signedBy" in fields or "exists" in fields):
        return "write a requirement below require, and name its registries without a wildcard"
    written = ", ".join(f"{key}: {json.dumps(value, default=str)}" for key, value in fields.items())
    proposal = f"write below require: - {{{written}}}"
    values = (value if isinstance(value, tuple) else (value,) for value in fields.values())
    if len(proposal) > MAX_PROPOSAL or any(UNKNOWN in each or not each for each in values):
        return "write a requirement with these fields below require"
    return proposal


def _check_requirement(reading: Reading, found: dict[str, Any]) -> None:
    if found.pop("until", None) is not None:
        reason, proposal = "a requirement does not expire", "leave it out, and remove the requirement later"
        reading.report("unknown-field", reason, proposal, below=("until",), at_key=True)
    signers = found.get("signed_by")
    if signers is not None:
        found["exists"] = found["digest"] = True
        found.setdefault("on_error", "deny")
        reading.seen.setdefault("signedBy", []).append((tuple(reading.reader.path), signers))
        images = found.get("images", UNKNOWN)
        hosts = [each.host for each in (() if images is UNKNOWN else images) if each is not UNKNOWN]
        hosts.append(str(found.get("signatures", "")).partition("/")[0])
        reading.seen.setdefault("signedHosts", set()).update(hosts)
    elif found.get("signatures") is not None:
        reason, proposal = "has no effect without signedBy", "add signedBy, or leave it out"
        reading.report("without-signed-by", reason, proposal, below=("signatures",))
    if not any(found.get(key) for key in ("digest", "exists")):
        reason, proposal = "requires nothing", "add digest: true, exists: true or signedBy"
        reading.report("requires-nothing", reason, proposal)
    images = found.get("images", ())
    for index, each in enumerate(() if images is UNKNOWN or not found.get("exists") else images):
        if isinstance(each, Pattern) and is_glob(each.host):
            reason = "a requirement with exists or signedBy must name its registries without a wildcard"
            proposal = "name the registries, or require only digest: true"
            reading.report("wildcard-host", reason, proposal, below=("images", index))
    if found.pop("mode", None) is not None:
        found["warns"] = True
    check_rule(reading, found)


def check_rule(_reading: Reading, found: dict[str, Any]) -> None:
    # "*" matches every namespace, and no other name matches a request without a namespace.
    names = found.get("namespaces")
    if isinstance(names, tuple) and "*" in names:
        found["namespaces"] = None


def _check_grant(reading: Reading, found: dict[str, Any]) -> None:
    check_rule(reading, found)
    overrides = found.get("overrides", ())
    known = overrides is not UNKNOWN and not set(OVERRIDES).isdisjoint(overrides)
    allowed = [source for source, each in SOURCES.items() if each.emergency]
    if known and found.get("source", UNKNOWN) not in {UNKNOWN, *allowed}:
        message = f"only a grant with source: {' or '.join(allowed)} overrides deny rules or requirements"
        reading.report("bad-value", message, "leave it out", below=("overrides",))


def _check_mirror(reading: Reading, found: dict[str, Any]) -> None:
    """Record the valid ends of a mirror, so that conflicts with an invalid entry are also reported."""
    source, to = found.get("source", UNKNOWN), found.get("targets", ())
    targets = enumerate(() if to is UNKNOWN else to)
    ends = tuple((("to", index), end) for index, end in targets if end is not UNKNOWN)
    mirror = MirrorEnds(found["index"], None if source is UNKNOWN else source, ends)
    reading.seen.setdefault("mirrors", []).append(mirror)
    _check_lookups(reading, found)


def _check_registry(reading: Reading, found: dict[str, Any]) -> None:
    index, host = reading.reader.path[-1], found.get("host", UNKNOWN)
    first = reading.seen.setdefault("registries", {}).setdefault(host, index)
    if "rate" not in found:
        reading.seen.setdefault("unrated", set()).add(host)
    if host is not UNKNOWN and first != index:
        message = f"registries[{first}] has the same host"
        reading.report("registry-duplicate", message, "merge the two", below=("host",))


def _check_key(reading: Reading, found: dict[str, Any]) -> None:
    index, name = reading.reader.path[-1], found.get("name", UNKNOWN)
    first = reading.seen.setdefault("keys", {}).setdefault(name, index)
    if name is not UNKNOWN and first != index:
        proposal = "give each key a name of its own"
        reading.report("key-duplicate", f"keys[{first}] has the same name", proposal, below=("name",))


def _check_document(reading: Reading, found: dict[str, Any]) -> None:
    reading.problems.extend(mirror_conflicts(reading.seen.get("mirrors", ())))
    _check_signers(reading)
    # The rules may come after the registries, so the default rate is known only now.
    signed = reading.seen.get("signedHosts", set()) & reading.seen.get("unrated", set())
    if signed and not reading.failed:
        entries: tuple[Registry, ...] = found["registries"]
        found["registries"] = tuple(
            replace(each, rate=SIGNED_RATE) if each.host in signed else each for each in entries
        )


def _check_signers(reading: Reading) -> None:
    keys: dict[Any, int] = {UNKNOWN: 0, **reading.seen.get("keys", {})}
    names = tuple(name for name in keys if name is not UNKNOWN)
    for path, signers in reading.seen.get("signedBy", ()):
        for index, name in enumerate(() if signers is UNKNOWN else signers):
            if name not in keys:
                known = f"keys has {', '.join(names)}" if names else "add it to keys"
                # Searching for a similar name is slow, and there may be four million names.
                proposal = "" if reading.problems.full else did_you_mean(name, names) or known
                message = f"keys has no key with the name {shown(name)}"
                reading.report("unknown-key", message, proposal, below=(*path, "signedBy", index))


def _document(*, api_version: str, kind: str, **fields: Any) -> PolicyDocument:  # noqa: ARG001 - always the same
    return PolicyDocument(**fields)


def _key(*, name: str, key: Key, until: datetime | None = None) -> Key:
    return key._replace(name=name, until=until)


def _text(
    parse: Callable[[Any], Any], code: str, description: str = "", *, expected: str = "text", **more: Any
) -> Scalar:
    described = {"description": description} if description else {}
    return Scalar(parse=parse, code=code, expected=expected, json={"type": "string", **described, **more})


def _matching(pattern: re.Pattern[str], code: str, message: str) -> Scalar:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise Invalid(message)
        return text

    return _text(parse, code)


def choice(values: tuple[str, ...], **more: Any) -> OneOf:
    return OneOf(values, more={"type": "string", **more})


class ModeName(OneOf):
    """The name of a mode; its value is the mode."""

    def read(self, reading: Reading, node: Node) -> Any:
        return MODES.get(super().read(reading, node), UNKNOWN)


def _duration(shortest: str, longest: str, default: str) -> Scalar:
    """Return a field for a duration such as ``500ms``, ``1s`` or ``2m``; its value is in seconds."""

    def parse(value: object) -> float:
        seconds = _seconds(value) if isinstance(value, str) else None
        low, high = _seconds(shortest), _seconds(longest)
        if low is None or high is None or seconds is None or not low <= seconds <= high:
            raise Invalid(f"must be a duration from {shortest} to {longest}, such as 500ms, 1s or 2m")
        return seconds

    description = f"a duration from {shortest} to {longest}"
    return _text(parse, "bad-duration", description, expected="", default=default)


_PATTERN_LENGTH: Final[dict[str, Any]] = {"minLength": 1, "maxLength": MAX_PATTERN_LENGTH}
_PATTERN_FORM: Final = "HOST[:PORT][/PATH][:TAG][@DIGEST]"
_PATTERN: Final = _text(parse_pattern, "bad-pattern", _PATTERN_FORM, **_PATTERN_LENGTH)
ALLOWED: Final = _text(parse_allowed, "bad-pattern", _PATTERN_FORM, **_PATTERN_LENGTH)
_PREFIX: Final = _text(
    parse_prefix, "bad-mirror", "a registry, or registry/path, without wildcards", **_PATTERN_LENGTH
)
_HOST: Final = _text(
    _parse_host,
    "bad-host",
    "a registry's host, with its port, without wildcard",
    maxLength=MAX_PATTERN_LENGTH,
)
UNTIL: Final = _text(
    parse_instant,
    "bad-time",
    "a date (00:00 UTC of that day) or an RFC 3339 time; expired from then on",
    expected="a date or a time",
)
LINE: Final = _text(_parse_line, "bad-text", maxLength=MAX_TEXT_LENGTH)
_NAMESPACE: Final = _matching(
    _NAMESPACE_GLOB,
    "bad-namespace",
    "no namespace can have this name: lower-case letters, digits and -, with * for any",
)
_RESOURCE_PATH: Final = _text(
    parse_resource_path,
    "bad-resource-path",
    "field names joined by ., [*] for every list item, {*} for every mapping value",
    maxLength=MAX_PATH_LENGTH,
)
_MODE: Final = ModeName(tuple(MODES), more={"type": "string"})
_FLAG: Final = Boolean(more={"default": False})


def _list_in_entry(item: Field, at_least: int = 0) -> Items:
    more: dict[str, Any] = {} if at_least else {"default": []}
    return Items(item=item, at_most=MAX_ITEMS, at_least=at_least, noun="entries in one list", more=more)


NAMESPACES: Final = _list_in_entry(_NAMESPACE, at_least=1)
FILLED_LINE: Final = _text(_parse_filled_line, "bad-text", minLength=1, maxLength=MAX_TEXT_LENGTH)


def _shorthand(record: Record) -> Shorthand:
    return Shorthand(
        record, "image", "pattern", "a pattern or a mapping", {"type": "string", **_PATTERN_LENGTH}
    )


_KEY_NAMES: Final = _matching(
    _KEY_NAME, "bad-name", "the name of a key has up to 63 lower-case letters, digits and -"
)

_RULE_FIELDS: Final[dict[str, Field]] = {
    "namespaces": NAMESPACES,
    "until": UNTIL,
    "owner": LINE,
    "reason": LINE,
}

_SIGNERS: Final = Items(item=_KEY_NAMES, at_most=MAX_SIGNERS, at_least=1, noun="names in one list")
_SIGNATURES: Final = _text(
    _parse_repository,
    "bad-repository",
    "the repository that holds the signatures, as registry/path; default: that of the image",
    **_PATTERN_LENGTH,
)
_ON_ERROR: Final = choice(get_args(OnError))

_FORMER: Final[dict[str, Field]] = {
    "verify": _FLAG,
    "pin": _FLAG,
    "signedBy": _SIGNERS,
    "signatures": _SIGNATURES,
    "onError": _ON_ERROR,
}
"""Fields of requirements that rules of ``allow`` do not have."""

_ALLOW: Final = Record(
    partial(Rule, list="allow"),
    {"image": ALLOWED, **_RULE_FIELDS},
    required=("image",),
    former=_FORMER,
    names={"image": "pattern"},
    numbered="index",
    check=_check_allowed,
    title="AllowModel",
    description="One entry of allow, which must name its registry.",
)

_EXCEPT: Final = Record(
    partial(Rule, list="except"),
    {"image": _PATTERN, **_RULE_FIELDS},
    required=("image",),
    names={"image": "pattern"},
    numbered="index",
    check=check_rule,
    title="ExceptModel",
    description="Images that a rule of deny does not match: a pattern alone, or with its conditions.",
)

_DENY: Final = Record(
    partial(Rule, list="deny"),
    {"image": _PATTERN, **_RULE_FIELDS, "except": _list_in_entry(_shorthand(_EXCEPT))},
    required=("image",),
    names={"image": "pattern", "except": "excepts"},
    numbered="index",
    check=check_rule,
    title="RuleModel",
    description="One entry of deny: a pattern alone, or with its conditions.",
)


def _required_patterns(item: Field, at_least: int = 0) -> Items:
    return Items(
        item=item,
        at_most=MAX_REQUIRED_PATTERNS,
        at_least=at_least,
        noun="patterns in require",
        shared=True,
        more={} if at_least else {"default": []},
    )


_REQUIREMENT: Final = Record(
    Requirement,
    {
        "images": _required_patterns(_PATTERN, at_least=1),
        "namespaces": NAMESPACES,
        "except": _required_patterns(_shorthand(_EXCEPT)),
        "digest": _FLAG,
        "exists": _FLAG,
        "signedBy": _SIGNERS,
        "signatures": _SIGNATURES,
        "onError": _ON_ERROR,
        "mode": choice(("warn",)),
        "owner": LINE,
        "reason": LINE,
    },
    required=("images",),
    former={"until": UNTIL},
    names={"except": "excepts"},
    numbered="index",
    check=_check_requirement,
    title="RequirementModel",
    description="What an image with an approved name needs: a digest, to exist, or a signature.",
)

_OVERRIDE: Final = Record(
    OverrideEntry,
    {
        "names": NAMESPACES,
        "mode": _MODE,
        "until": UNTIL,
        "reason": LINE,
    },
    required=("names", "mode"),
    title="OverrideModel",
    description="Another mode for some namespaces.",
)

_CONSEQUENCE: Final = choice(get_args(OnMissing), default="keep")

_MIRROR: Final = Record(
    Mirror,
    {
        "from": _PREFIX,
        "to": Items(item=_PREFIX, at_most=MAX_TARGETS, at_least=1, single=True),
        "except": _list_in_entry(_PATTERN),
        "verify": _FLAG,
        "pin": _FLAG,
        "onMissing": _CONSEQUENCE,
        "onError": _CONSEQUENCE,
        "imagePullSecret": _matching(
            _SECRET_NAME, "bad-secret", "no Secret can have this name: lower-case letters, digits, - and ."
        ),
    },
    required=("from", "to"),
    names={"from": "source", "to": "targets", "except": "excepts"},
    numbered="index",
    check=_check_mirror,
    title="MirrorModel",
    description="Where mutate mode takes images from, and where it sends them.",
)

_RESOURCE: Final = Record(
    ResourceEntry,
    {
        "group": LINE,
        "kind": FILLED_LINE,
        "images": _list_in_entry(_RESOURCE_PATH, at_least=1),
    },
    required=("group", "kind", "images"),
    title="ResourceModel",
    description="Where a custom resource holds images.",
)

_REGISTRY: Final = Record(
    Registry,
    {
        "host": _HOST,
        "plainHTTP": _FLAG,
        "ca": _matching(
            _FILE_NAME, "bad-file-name", "the name of a file in --registry-config, without a path"
        ),
        "tokenHosts": _list_in_entry(_HOST),
        "redirectHosts": _list_in_entry(_HOST),
        "timeout": _duration("100ms", "5s", default="1s"),
        "ttlFound": _duration("1s", "60m", default="60s"),
        "ttlMissing": _duration("1s", "10m", default="10s"),
        "rate": _text(
            _parse_rate,
            "bad-rate",
            "requests a second",
            expected="",
            type="integer",
            minimum=1,
            maximum=MAX_RATE,
            default=DEFAULT_RATE,
        ),
    },
    required=("host",),
    check=_check_registry,
    title="RegistryModel",
    description="How one registry is reached for look-ups.",
)

_KEY: Final = Record(
    _key,
    {
        "name": _KEY_NAMES,
        "key": _text(
            parse_key,
            "bad-key",
            "a public key in PEM, for ECDSA (P-256, P-384, P-521), RSA or Ed25519",
            maxLength=MAX_PEM_LENGTH,
        ),
        "until": UNTIL,
    },
    required=("name", "key"),
    check=_check_key,
    title="KeyModel",
    description="A public key for signatures that requirements with signedBy need.",
)

_OVERRIDES: Final = OneOf(OVERRIDES, {"signature": "require"}, more={"type": "string"})

_GRANT: Final = Record(
    Grant,
    {
        "source": choice(tuple(SOURCES)),
        "namespaces": _list_in_entry(_NAMESPACE),
        "images": _list_in_entry(ALLOWED),
        "longest": _text(_parse_days, "bad-duration", "from 1h to 400d, in hours or days", expected=""),
        "most": Integer(1, MAX_LIVE_ENTRIES),
        "overrides": Items(item=_OVERRIDES, at_most=len(OVERRIDES), at_least=1, single=True),
        "owner": LINE,
        "reason": LINE,
    },
    required=("source", "images", "longest"),
    numbered="index",
    check=_check_grant,
    title="GrantModel",
    description="What the documents of one source may approve, and for how long.",
)


def _rules(record: Record, *, at_least: int = 0) -> Items:
    return Items(
        item=_shorthand(record),
        at_most=MAX_RULES,
        at_least=at_least,
        noun="rules in allow and deny together",
        shared=True,
        definition=record.title,
        more={} if at_least else {"default": []},
    )


def _entries(name: str, record: Record, noun: str = "") -> Items:
    return Items(
        item=record,
        at_most=MAX_ENTRIES[name],
        noun=noun or name,
        definition=record.title,
        more={"default": []},
    )


_DOCUMENT: Final = Record(
    _document,
    {
        "apiVersion": choice((API_VERSION,)),
        "kind": choice((KIND,)),
        "mode": _MODE,
        "message": _text(_parse_line, "bad-text", default="", maxLength=MAX_TEXT_LENGTH),
        "allow": _rules(_ALLOW, at_least=1),
        "deny": _rules(_DENY),
        "require": _entries("require", _REQUIREMENT, "requirements"),
        "namespaces": _entries("namespaces", _OVERRIDE),
        "mirrors": _entries("mirrors", _MIRROR),
        "resources": _entries("resources", _RESOURCE),
        "registries": _entries("registries", _REGISTRY),
        "keys": _entries("keys", _KEY),
        "exceptions": _entries("exceptions", _GRANT),
    },
    required=("apiVersion", "kind", "mode", "allow"),
    check=_check_document,
    examples={
        "apiVersion": f"apiVersion: {API_VERSION}",
        "kind": f"kind: {KIND}",
        "mode": f"mode: {ENFORCE}",
        "allow": "allow: [registry.example.com]",
    },
    title="gatekeeper-py ImagePolicy",
    description="Which images a cluster may run.",
)
