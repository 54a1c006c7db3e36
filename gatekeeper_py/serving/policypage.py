"""The content of ``/policy``, at most 256 KiB (docs/interface.md, "HTTP")."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.finding import MORE_FINDINGS, Finding
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.live import LivePolicy
from gatekeeper_py.reload import Reloader

MAX_FINDINGS_BYTES: Final = 112 * 1024
"""Maximum size as JSON of the live policy's findings, and of a refused policy's findings. A character may
take six bytes."""


def describe_policy(
    reloader: Reloader, live: LivePolicy, describe_registries: Callable[[], Any]
) -> dict[str, Any]:
    """Return the content of ``/policy``: the live policy, and the last delivery if it was refused."""
    loaded, refused, snapshot = reloader.loaded, reloader.refused, live.snapshot
    mode: Mode | None = None
    counts: dict[str, int] = {}
    if snapshot is not None:
        compiled = snapshot.compiled
        mode = compiled.policy.mode
        counts = {
            "allow": len(compiled.allow),
            "deny": len(compiled.deny),
            "namespaces": len(compiled.overrides),
            "mirrors": len(compiled.mirrors),
            "resources": len(compiled.policy.document.resources),
        }
    return {
        "mode": mode,
        "revision": None if snapshot is None else snapshot.revision,
        "source": reloader.source_name,
        "resourceVersion": None if loaded is None else loaded.resource_version,
        "loadedAt": None if loaded is None else format_instant(loaded.at),
        "counts": counts,
        # Only a policy that looks up images uses registries.
        **({} if snapshot is None or not snapshot.looks_up else {"registries": describe_registries()}),
        "findings": [] if loaded is None else _shown(loaded.findings),
        "refused": None
        if refused is None
        else {"at": format_instant(refused.at), "findings": _shown(refused.findings)},
    }


def _shown(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON values, as many as fit into ``MAX_FINDINGS_BYTES``."""
    shown: list[dict[str, Any]] = []
    size, left_out = 0, 0
    for finding in findings:
        entry = finding.as_json()
        size += len(orjson.dumps(entry))
        if size <= MAX_FINDINGS_BYTES:
            shown.append(entry)
        else:
            left_out += 1
    if left_out:
        message = f"{left_out} more findings are too long to be shown here"
        severity = shown[-1]["severity"]
        more = Finding(severity=severity, code=MORE_FINDINGS, path="", line=1, message=message)
        shown.append(more.as_json())
    return shown
