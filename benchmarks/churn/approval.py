"""What every case approves: the policy as shipped, and the same for cases that compare text.

An image of its registry that is written in full is pre-approved. With the port of HTTPS it means the same
image, but the fast path leaves it to the webhook.
"""

from __future__ import annotations

from typing import Final

from benchmarks import machine

POLICY_FILE: Final = machine.ROOT / "tools" / "installation" / "manifests" / "policy" / "policy.yaml"

HOST: Final = "registry.corp.example"
HOST_WITH_PORT: Final = f"{HOST}:443"
MIRROR: Final = f"{HOST}/dockerhub"
DENIED_IMAGE: Final = "quay.io/somebody/app:1"

PREFIXES: Final = (f"{HOST}/", f"{HOST_WITH_PORT}/")
"""For Gatekeeper: with the slash, or ``registry.corp.example.evil`` passes."""


def policy_text() -> str:
    """Return the policy as shipped."""
    return POLICY_FILE.read_text(encoding="utf-8")
