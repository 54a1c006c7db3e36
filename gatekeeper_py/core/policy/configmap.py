"""The ConfigMap that holds the policy: its keys, the size of its text, and its problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.problems import mode_problem, type_name

POLICY_KEY: Final = "policy.yaml"
MODE_KEY: Final = "mode"
KEYS: Final = (POLICY_KEY, MODE_KEY)

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
    ``accepts_rejections`` is whether an annotation insists on the policy, whatever images it rejects.
    """

    text: str | None
    mode: str | None
    findings: tuple[Finding, ...]
    accepts_rejections: bool = False


def read_configmap(data: object, binary_data: object = None) -> ConfigMapPolicy:
    """Read the fields ``data`` and ``binaryData`` of a ConfigMap, as plain values."""
    findings: list[Finding] = []
    entries = data if isinstance(data, dict) else {}
    if data is not None and not isinstance(data, dict):
        findings.append(configmap_error("wrong-type", "data", f"must be a mapping, not {type_name(data)}"))
    else:
        findings += _text_problems(entries)
    if MODE_KEY in entries:
        problem = mode_problem(entries[MODE_KEY])
        if problem is not None:
            findings.append(problem)
    unknown = [str(key) for key in entries if key not in KEYS]
    findings += unknown_keys(unknown, f"the only keys are {POLICY_KEY} and {MODE_KEY}")
    if binary_data:
        findings.append(_binary_problem(binary_data))
    text, mode = entries.get(POLICY_KEY), entries.get(MODE_KEY)
    return ConfigMapPolicy(
        text=text if isinstance(text, str) and not _too_long(text) else None,
        mode=mode if isinstance(mode, str) and mode_problem(mode) is None else None,
        findings=tuple(findings),
    )


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


def _text_problems(entries: dict[object, object]) -> list[Finding]:
    path = f"data.{POLICY_KEY}"
    if POLICY_KEY not in entries:
        message = f"the ConfigMap holds no text under the key {POLICY_KEY}"
        proposal = f"add your policy there: kustomizations of k8s/overlays add a file {POLICY_KEY}"
        return [configmap_error("missing-field", path, message, proposal)]
    text = entries[POLICY_KEY]
    if not isinstance(text, str):
        return [configmap_error("wrong-type", path, f"must be text, not {type_name(text)}")]
    if _too_long(text):
        return [
            configmap_error(
                "too-long", path, f"the text is longer than {MAX_CONFIGMAP_BYTES // 2**20} MiB, the limit"
            )
        ]
    return []


def _binary_problem(binary_data: object) -> Finding:
    if isinstance(binary_data, dict) and POLICY_KEY in binary_data:
        # kubectl stores a file that is not UTF-8 this way.
        return configmap_error(
            "binary-data", "binaryData", f"{POLICY_KEY} is under binaryData: it is not UTF-8 text"
        )
    return configmap_error("binary-data", "binaryData", "must be absent: a policy is text under data")


def _too_long(text: str) -> bool:
    # A text has at least as many bytes as characters, so a huge text is refused without encoding it.
    return len(text) > MAX_CONFIGMAP_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_CONFIGMAP_BYTES


def configmap_error(code: str, path: str, message: str, proposal: str = "") -> Finding:
    """Return an error of a ConfigMap. Its line is 1, because a ConfigMap from a cluster has no lines."""
    return Finding(severity="error", code=code, path=path, line=1, message=message, proposal=proposal)
