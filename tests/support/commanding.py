"""The command line within the test process; a few tests run the real command."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from gatekeeper_py.cli.main import run
from support.builders import pod, policy_text


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
    "diff-reviews": ("diff", "POLICY", "POLICY", "--reviews", "FILE"),
    "except-policy": ("except", "a.io/b", "-n", "a", "--for", "1d", "--reason", "r", "--policy", "FILE"),
    "audit": ("audit", "--policy", "FILE"),
    "audit-base": ("audit", "--suggest", "--base", "FILE"),
}
"""The arguments of every command that reads a file: FILE. POLICY is a policy, and POD a Pod."""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs a command without our environment variables, with ``stdin`` as input.

    ``terminal`` names the stream that is a terminal of 80 columns, ``stdout`` or ``stderr``.
    """
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: object, stdin: str | bytes | None = None, terminal: str = "") -> Done:
        if stdin is not None:
            content = stdin.encode() if isinstance(stdin, str) else stdin
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capsys.readouterr()
        with monkeypatch.context() as patch:
            if terminal:
                patch.setattr(getattr(sys, terminal), "isatty", lambda: True)
            code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return command


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file and returns its path."""

    def write(text: str | bytes, name: str = "policy.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def reading(command: Command, write: Write) -> Reading:
    """Return a function that runs a command of ``READERS``; ``more`` are files with other names."""
    names = {
        "POLICY": write(policy_text()),
        "POD": write(json.dumps(pod("registry.corp.io/a:1")), "pod.yaml"),
    }

    def reading(arguments: tuple[str, ...], file: object, **more: Path) -> Done:
        return command(*({**names, **more, "FILE": file}.get(each, each) for each in arguments))

    return reading
