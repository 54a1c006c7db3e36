"""Read a POLICY argument: a policy file, a ConfigMap manifest that holds a policy, or ``-`` for stdin.

Findings have the line numbers of the file that was read. In a ConfigMap manifest the policy is usually a
``|`` block, whose lines are lines of the file.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gatekeeper_py.core.admission.guard import MODE_KEY, POLICY_KEY
from gatekeeper_py.core.policy.document import API_VERSION, KIND, PolicyError
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.core.policy.problems import mode_problem
from gatekeeper_py.core.policy.yamltree import Mark, Tree, YamlMapping, parse_yaml
from gatekeeper_py.reporting.findings import print_findings


class UnreadableError(click.ClickException):
    """An input that cannot be read; exit code 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInput:
    """The content of a POLICY argument: a policy, or the findings that explain why there is none.

    ``lines`` are the lines that the findings refer to.
    """

    name: str
    policy: Policy | None
    errors: tuple[Finding, ...]
    lines: tuple[str, ...]
    shift: _Shift

    def lint(self, instant: datetime) -> tuple[Finding, ...]:
        """Return the warnings at an instant; none when there is no policy."""
        if self.policy is None:
            return ()
        return tuple(self.shift.moved(finding) for finding in self.policy.lint(instant))


@dataclass(frozen=True, slots=True)
class _Shift:
    """Converts positions in the document to positions in the file."""

    lines: int = 0
    columns: int = 0

    def moved(self, finding: Finding) -> Finding:
        return dataclasses.replace(
            finding, line=finding.line + self.lines, column=finding.column + self.columns
        )


def read_policy(argument: str) -> PolicyInput:
    """Read and parse POLICY. Raises ``UnreadableError`` when it cannot be read as text."""
    name, text = read_text(argument)
    tree = parse_yaml(text)
    if isinstance(tree.root, YamlMapping) and tree.root.get("kind") == "ConfigMap":
        return _from_configmap(name, text, tree)
    policy, errors = _parsed(text, None)
    stranger = _stranger(tree)
    return PolicyInput(
        name=name,
        policy=policy,
        errors=errors if stranger is None else (stranger,),
        lines=tuple(text.splitlines()),
        shift=_Shift(),
    )


def usable_policy(argument: str) -> Policy:
    """Return the policy. Without a usable one, print the findings on stderr and exit with 2."""
    return usable(read_policy(argument))


def usable(given: PolicyInput) -> Policy:
    """Return the policy that was read. If there is none, print the findings on stderr and exit with 2."""
    if given.policy is None:
        print_findings(given.name, given.lines, given.errors, stderr=True)
        raise click.exceptions.Exit(2)
    return given.policy


def live_policy(name: str, data: Any) -> PolicyInput:
    """Read the policy in the ``data`` of a live ConfigMap; findings refer to it as ``name``."""
    document = data.get(POLICY_KEY) if isinstance(data, dict) else None
    mode = data.get(MODE_KEY) if isinstance(data, dict) else None
    if not isinstance(document, str):
        errors = (_missing(Mark(line=1, column=1)),)
        return PolicyInput(name=name, policy=None, errors=errors, lines=(), shift=_Shift())
    policy, findings = _parsed(document, mode if isinstance(mode, str) else None)
    lines = tuple(document.splitlines())
    return PolicyInput(name=name, policy=policy, errors=findings, lines=lines, shift=_Shift())


def read_text(argument: str) -> tuple[str, str]:
    """Return the display name and the text of a file, or of stdin for ``-``."""
    name = "<stdin>" if argument == "-" else argument
    if argument == "-" and sys.stdin is None:
        raise UnreadableError(f"{name}: closed")
    try:
        content = sys.stdin.buffer.read() if argument == "-" else Path(argument).read_bytes()
    except OSError as problem:
        raise UnreadableError(f"{name}: {problem.strerror or problem}") from None
    try:
        return name, content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"{name}: not UTF-8 at byte {problem.start}") from None


def now() -> datetime:
    return datetime.now(UTC)


def _parsed(text: str, mode: str | None) -> tuple[Policy | None, tuple[Finding, ...]]:
    try:
        return parse_policy(text, mode), ()
    except PolicyError as problem:
        return None, problem.findings


def _from_configmap(name: str, text: str, tree: Tree) -> PolicyInput:
    lines = tuple(text.splitlines())
    data = tree.root.get("data")
    document = data.get(POLICY_KEY) if isinstance(data, YamlMapping) else None
    mode = data.get(MODE_KEY) if isinstance(data, YamlMapping) else None
    errors = list(tree.findings)
    if not isinstance(document, str):
        errors.append(_missing(tree.mark_of(("data",))))
        return PolicyInput(name=name, policy=None, errors=in_order(errors), lines=lines, shift=_Shift())
    shift = _shift(tree.mark_of(("data", POLICY_KEY)), document, lines)
    problem = None if mode is None else mode_problem(mode)
    policy, findings = _parsed(document, mode if problem is None else None)
    errors += [shift.moved(finding) for finding in findings]
    if problem is not None:
        mark = tree.mark_of(("data", MODE_KEY))
        errors.append(dataclasses.replace(problem, line=mark.line, column=mark.column))
    return PolicyInput(
        name=name,
        policy=None if errors else policy,
        errors=in_order(errors),
        lines=lines if shift.lines else tuple(document.splitlines()),
        shift=shift,
    )


def _stranger(tree: Tree) -> Finding | None:
    """Return one finding for an object of another API, instead of one for each of its fields."""
    root = tree.root
    kind, version = (
        root.get(key) if isinstance(root, YamlMapping) else None for key in ("kind", "apiVersion")
    )
    if not isinstance(kind, str) or not isinstance(version, str) or kind == KIND or version == API_VERSION:
        return None
    mark = tree.mark_of(("kind",))
    article = "an" if kind[:1] in set("AEIOU") else "a"
    return Finding(
        severity="error",
        code="not-a-policy",
        path="kind",
        line=mark.line,
        column=mark.column,
        message=f"this is {article} {kind}, not an {KIND} or a ConfigMap that holds one",
    )


def _missing(mark: Mark) -> Finding:
    return Finding(
        severity="error",
        code="missing-field",
        path=f"data.{POLICY_KEY}",
        line=mark.line,
        column=mark.column,
        message=f"the ConfigMap holds no text under the key {POLICY_KEY}",
    )


def _shift(mark: Mark, document: str, lines: tuple[str, ...]) -> _Shift:
    """Return the offset of a ``|`` block from the file's start; no offset for other scalars."""
    if not mark.literal:
        return _Shift()
    for number, inner in enumerate(document.splitlines()):
        if inner.strip() and mark.line + number < len(lines):
            outer = lines[mark.line + number]
            return _Shift(mark.line, len(outer) - len(inner))
    return _Shift(mark.line)
