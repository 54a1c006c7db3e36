"""The types of the fixtures that run commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Done:
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]
Write = Callable[..., Path]
Reading = Callable[..., Done]

READERS: Final[dict[str, tuple[str, ...]]] = {
    "check": ("check", "FILE"),
    "explain": ("explain", "FILE", "nginx"),
    "compile": ("compile", "FILE", "--to", "match-conditions"),
    "review-policy": ("review", "FILE", "POD"),
    "review": ("review", "POLICY", "FILE"),
    "review-settings": ("review", "POLICY", "POD", "--webhooks-config", "FILE"),
    "test": ("test", "FILE"),
    "diff-old": ("diff", "FILE", "POLICY", "--all-images"),
    "diff-new": ("diff", "POLICY", "FILE", "--all-images"),
    "diff-audit": ("diff", "POLICY", "POLICY", "--audit", "FILE"),
    "diff-images": ("diff", "POLICY", "POLICY", "--images", "FILE"),
    "diff-audit-log": ("diff", "POLICY", "POLICY", "--audit-log", "FILE"),
    "diff-reviews": ("diff", "POLICY", "POLICY", "--reviews", "FILE"),
    "except-policy": ("except", "a.io/b", "-n", "a", "--for", "1d", "--reason", "r", "--policy", "FILE"),
    "except-into": ("except", "a.io/b", "-n", "a", "--for", "1d", "--reason", "r", "--into", "FILE"),
    "audit": ("audit", "--policy", "FILE"),
    "audit-base": ("audit", "--suggest", "--base", "FILE"),
}
"""The arguments of every command that reads a file: FILE. POLICY is a policy, and POD a Pod."""
