"""Policies of any size for benchmarks: exact hosts, subtrees, tags, a few wildcards."""

from __future__ import annotations


def policy_text(rules: int, *, mode: str = "enforce") -> str:
    """A policy of ``rules`` allow rules, of which the first approves ``bodies.IMAGES``."""
    lines = [
        "apiVersion: gatekeeper-py/v1",
        "kind: ImagePolicy",
        f"mode: {mode}",
        "allow:",
        "  - registry.corp.example",
        '  - "*.mirror.corp.example/team-*/app:v*"',
    ]
    for index in range(rules - 2):
        host = f"registry-{index % 97}.corp.example"
        lines.append(f"  - {host}/team-{index}/{('**', 'app', 'app:v*', 'app@*')[index % 4]}")
    lines += [
        "deny:",
        '  - "*/**:latest"',
        "mirrors:",
        "  - {from: docker.io, to: registry.corp.example/hub}",
    ]
    return "\n".join(lines) + "\n"
