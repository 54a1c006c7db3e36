"""The ConfigMap with the settings of the webhook configurations: its only key, and its problems."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.controller.webhooks.settings import SETTINGS_KEY
from gatekeeper_py.core.policy.configmap import configmap_error, unknown_keys
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.problems import type_name

SETTINGS_CONFIGMAP: Final = "gatekeeper-py-webhooks"

_NAME_RE: Final = re.compile(rf"{SETTINGS_CONFIGMAP}(?:-[a-z0-9]{{10}})?")
"""Kustomize adds a hash to the name by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapSettings:
    """The content of a ConfigMap.

    ``text`` is the unparsed value of the key ``webhooks.yaml``; ``None`` if there is no such key or its value
    is not text. Any finding makes the whole ConfigMap unacceptable.
    """

    text: str | None
    findings: tuple[Finding, ...]


def is_settings_name(name: str) -> bool:
    """Return whether a ConfigMap of this name holds settings, whatever its keys are."""
    return _NAME_RE.fullmatch(name) is not None


def read_configmap(data: object, binary_data: object = None) -> ConfigMapSettings:
    """Read the fields ``data`` and ``binaryData`` of a ConfigMap, as plain values."""
    findings: list[Finding] = []
    entries = data if isinstance(data, dict) else {}
    text = entries.get(SETTINGS_KEY)
    path = f"data.{SETTINGS_KEY}"
    if data is not None and not isinstance(data, dict):
        findings.append(configmap_error("wrong-type", "data", f"must be a mapping, not {type_name(data)}"))
    elif SETTINGS_KEY not in entries:
        findings.append(configmap_error("missing-field", path, f"the ConfigMap has no key {SETTINGS_KEY}"))
    elif not isinstance(text, str):
        findings.append(configmap_error("wrong-type", path, f"must be text, not {type_name(text)}"))
    findings += unknown_keys(
        [str(key) for key in entries if key != SETTINGS_KEY],
        f"this key is not read: the only key is {SETTINGS_KEY}",
        f"rename it, or remove it; in a kustomization: files: [{SETTINGS_KEY}={{key}}]",
    )
    if binary_data:
        findings.append(
            configmap_error(
                "binary-data",
                "binaryData",
                "must be absent: nothing in it is read",
                f"write the settings as UTF-8 text under data, with the key {SETTINGS_KEY}",
            )
        )
    return ConfigMapSettings(text=text if isinstance(text, str) else None, findings=tuple(findings))
