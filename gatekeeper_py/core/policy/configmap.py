"""The ConfigMaps of the policy and of exceptions: names, keys, size of the text, and problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.exceptions.document import MAX_BYTES, ExceptionDocument
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.problems import mode_problem, type_name

POLICY_KEY: Final = "policy.yaml"
MODE_KEY: Final = "mode"
KEYS: Final = (POLICY_KEY, MODE_KEY)
EXCEPTIONS_KEY: Final = "exceptions.yaml"

UNKNOWN_KEY: Final = "unknown-key"
"""The code of the finding for any other key."""

MAX_UNKNOWN_KEYS: Final = 20
"""Maximum number of unknown keys with a finding of their own. One more finding counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapPolicy:
    """The content of a ConfigMap.

    ``text`` is the policy document, ``None`` if it is missing, too long or not text. ``mode`` replaces the
    document's mode; it is ``None`` if it is missing or invalid. ``findings`` are the errors of the ConfigMap
    itself, because the document is not parsed here. With a finding, the whole ConfigMap is not acceptable.
    ``accepts_rejections`` is whether an annotation forces the policy, whatever images it rejects.
    """

    text: str | None
    mode: str | None
    findings: tuple[Finding, ...]
    accepts_rejections: bool = False


def read_configmap(data: object, binary_data: object = None) -> ConfigMapPolicy:
    """Read the fields ``data`` and ``binaryData`` of a ConfigMap, as plain values."""
    entries = data if isinstance(data, dict) else {}
    text, findings = _read_text(data, POLICY_KEY, MAX_CONFIGMAP_BYTES, _ADD_POLICY)
    if MODE_KEY in entries:
        problem = mode_problem(entries[MODE_KEY])
        if problem is not None:
            findings.append(problem)
    unknown = [str(key) for key in entries if key not in KEYS]
    findings += unknown_keys(unknown, f"the only keys are {POLICY_KEY} and {MODE_KEY}")
    if binary_data:
        findings.append(_binary_problem(binary_data, POLICY_KEY, "a policy is"))
    mode = entries.get(MODE_KEY)
    return ConfigMapPolicy(
        text=text,
        mode=mode if isinstance(mode, str) and mode_problem(mode) is None else None,
        findings=tuple(findings),
    )


class ConfigMap(NamedTuple):
    """The fields of a ConfigMap in a file. ``binary`` is whether it has the field ``binaryData``."""

    name: str
    namespace: str
    data: dict[str, Any]
    binary: bool


def document_key(name: object, namespace: object, installation: str) -> DocumentKey | None:
    """Return the key of the document in a ConfigMap, ``None`` if the ConfigMap is not one with exceptions.

    ``installation`` is the namespace of the installation.
    """
    if isinstance(namespace, str):
        scope = "installation" if namespace == installation else "namespace"
        for source, configmaps in SOURCES.items():
            if (configmaps.name, configmaps.scope) == (name, scope):
                return DocumentKey(source, namespace)
    return None


class ExceptionsText(NamedTuple):
    """The document in a ConfigMap with exceptions, before it is parsed.

    ``text`` is ``None`` if it is missing, too long or not text, or if the ConfigMap is gone. ``findings`` are
    the errors of the ConfigMap itself. With an error, the document approves nothing.
    """

    key: DocumentKey
    text: str | None
    findings: tuple[Finding, ...] = ()


class ParsedExceptions(NamedTuple):
    """The parsed document, ``None`` if it is missing or invalid. ``findings`` are its errors."""

    document: ExceptionDocument | None
    findings: tuple[Finding, ...] = ()


def exceptions_of(configmap: Mapping[str, Any], installation: str) -> ExceptionsText | None:
    """Read a ConfigMap as the API server serves it; ``None`` if it is not one with exceptions."""
    metadata = configmap.get("metadata")
    if not isinstance(metadata, dict):
        return None
    key = document_key(metadata.get("name"), metadata.get("namespace"), installation)
    return None if key is None else read_exceptions(key, configmap.get("data"), configmap.get("binaryData"))


def read_exceptions(key: DocumentKey, data: object, binary_data: object = None) -> ExceptionsText:
    """Read the fields ``data`` and ``binaryData`` of a ConfigMap with exceptions, as plain values."""
    text, findings = _read_text(data, EXCEPTIONS_KEY, MAX_BYTES, "")
    unknown = [str(key) for key in data if key != EXCEPTIONS_KEY] if isinstance(data, dict) else []
    findings += unknown_keys(unknown, f"the only key is {EXCEPTIONS_KEY}")
    if binary_data:
        findings.append(_binary_problem(binary_data, EXCEPTIONS_KEY, "exceptions are"))
    return ExceptionsText(key, text, tuple(findings))


def unknown_keys(unknown: Sequence[str], message: str, proposal: str = "") -> Iterator[Finding]:
    """Yield an error for each unknown key of a ConfigMap, at most 20, and one that counts the rest.

    ``{key}`` in the proposal stands for the key.
    """
    for key in unknown[:MAX_UNKNOWN_KEYS]:
        shown = escape(key, 60)
        yield configmap_error(UNKNOWN_KEY, f"data.{shown}", message, proposal.replace("{key}", shown))
    if len(unknown) > MAX_UNKNOWN_KEYS:
        left_out = len(unknown) - MAX_UNKNOWN_KEYS
        yield configmap_error(UNKNOWN_KEY, "data", f"{left_out:,} more unknown keys are not listed")


_ADD_POLICY: Final = f"add your policy there: kustomizations of k8s/overlays add a file {POLICY_KEY}"


def _read_text(data: object, key: str, limit: int, how_to_add: str) -> tuple[str | None, list[Finding]]:
    """Return the text under a key of ``data``, or ``None`` and the problem."""
    path = f"data.{key}"
    if data is not None and not isinstance(data, dict):
        return None, [configmap_error("wrong-type", "data", f"must be a mapping, not {type_name(data)}")]
    if not data or key not in data:
        message = f"the ConfigMap holds no text under the key {key}"
        return None, [configmap_error("missing-field", path, message, how_to_add)]
    text = data[key]
    if not isinstance(text, str):
        return None, [configmap_error("wrong-type", path, f"must be text, not {type_name(text)}")]
    # A text has at least as many bytes as characters, so a huge text is refused without encoding it.
    if len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit:
        shown = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        return None, [configmap_error("too-long", path, f"the text is longer than {shown}, the limit")]
    return text, []


def _binary_problem(binary_data: object, key: str, what_is: str) -> Finding:
    if isinstance(binary_data, dict) and key in binary_data:
        # kubectl stores a file that is not UTF-8 this way.
        return configmap_error(
            "binary-data", "binaryData", f"{key} is under binaryData: it is not UTF-8 text"
        )
    return configmap_error("binary-data", "binaryData", f"must be absent: {what_is} text under data")


def configmap_error(code: str, path: str, message: str, proposal: str = "") -> Finding:
    """Return an error of a ConfigMap. Its line is 1, because a ConfigMap from a cluster has no lines."""
    return Finding(severity="error", code=code, path=path, line=1, message=message, proposal=proposal)
