"""What every case approves: one rule that can be told from an image's first letters, one that can not.

``registry.corp.example`` is a whole host without conditions: whoever knows that much can approve an image of
it. The mirrors' hosts are approved by a wildcard: an image of theirs takes somebody who can match it.
"""

from __future__ import annotations

PLAIN_HOST = "registry.corp.example"
MATCHED_HOST = "eu.mirror.corp.example"
MIRROR = f"{PLAIN_HOST}/hub"
DENIED_IMAGE = "quay.io/somebody/app:1"

PREFIXES = (f"{PLAIN_HOST}/", f"{MATCHED_HOST}/")
"""The same approval for those who compare text: with the slash, or ``registry.corp.example.evil`` passes."""


def policy_text(*, mirrored: bool = True) -> str:
    """Our policy document. No deny rule: one that overlaps an allow rule takes its plainness away."""
    text = f"""\
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow:
  - {PLAIN_HOST}
  - "*.mirror.corp.example/team-*/**"
"""
    return f"{text}mirrors:\n  - from: docker.io\n    to: {MIRROR}\n" if mirrored else text
