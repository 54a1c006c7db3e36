"""The images that every case approves: those of the policy as shipped, and the same as prefixes.

The policy approves one registry. An image that starts with the registry's name is pre-approved. If the name
is followed by the port of HTTPS, the image is the same, but the fast path leaves it to the webhook.
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
"""For Gatekeeper. Without the slash, an image of ``registry.corp.example.evil`` would pass."""


def policy_text() -> str:
    """Return the policy as shipped."""
    return POLICY_FILE.read_text(encoding="utf-8")
