"""Policies of any size for benchmarks: exact hosts, subtrees, tags, a few wildcards."""

from __future__ import annotations

FIRST = "registry.corp.example/shop/app-%d:1.0"
"""Images that the first rule approves."""

LAST = "last.corp.example/shop/app-%d:1.0"
"""Images that the last rule approves."""

UNLISTED = "unlisted.example/shop/app-%d:1.0"
"""Images that no rule approves."""

MIRRORED = "shop/app-%d:1.0"
"""Images that mutate mode rewrites to the mirror, where the first rule approves them."""


def policy_text(
    rules: int, *, mode: str = "enforce", message: str = "", verified: str = "", registry: str = ""
) -> str:
    """Return a policy of ``rules`` allow rules, of which the first approves ``bodies.IMAGES``.

    Policies with the same rules and different ``message`` texts have different revisions. ``verified`` adds a
    requirement that looks up the images of this host; ``registry`` holds the fields of the host's entry in
    ``registries``.
    """
    lines = [
        "apiVersion: gatekeeper-py/v1",
        "kind: ImagePolicy",
        f"mode: {mode}",
        *([f'message: "{message}"'] if message else []),
        "allow:",
        "  - registry.corp.example",
        '  - "*.mirror.corp.example/team-*/app:v*"',
    ]
    for index in range(rules - 3):
        host = f"registry-{index % 97}.corp.example"
        lines.append(f"  - {host}/team-{index}/{('**', 'app', 'app:v*', 'app@*')[index % 4]}")
    lines += [
        "  - last.corp.example/shop/**",
        *([f'  - "{verified}"'] if verified else []),
        "deny:",
        '  - "*/**:latest"',
        "mirrors:",
        "  - {from: docker.io, to: registry.corp.example/hub}",
        *(["require:", f'  - {{images: ["{verified}"], exists: true}}'] if verified else []),
        *(["registries:", f'  - {{host: "{verified}", {registry}}}'] if verified else []),
    ]
    return "\n".join(lines) + "\n"
