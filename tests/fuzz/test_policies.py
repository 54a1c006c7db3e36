"""Any text is either refused with positioned findings, or is a policy that can judge any image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutated, mutated_text
from gatekeeper_py.core import Policy, PolicyError, parse_policy
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import read_configmap
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.live.parser.messages import Job, Refused
from gatekeeper_py.live.parser.program import judge
from property.strategies import any_text, documents, images, namespaces, text_of
from support.budget import budget
from support.builders import HUB_TO_CORP, INSTANT, policy_document, policy_text

ROOT: Final = Path(__file__).parents[2]

GOOD: Final = [
    *(file.read_text() for file in sorted((ROOT / "tests" / "data" / "policies").glob("*.yaml"))),
    (ROOT / "examples" / "policy.yaml").read_text(),
    *(file.read_text() for file in sorted((ROOT / "examples" / "policies").glob("*.yaml"))),
    policy_text(HUB_TO_CORP, mode="mutate"),
    policy_text(
        """deny:
  - image: "*/**:latest"
    reason: it floats
    until: 2026-03-05
namespaces:
  - {names: [dev-*, "*"], mode: warn, until: "2026-04-01T00:00:00Z", reason: soon}
resources:
  - group: example.com
    kind: Widget
    images: ["spec.steps[*].image", "spec.sidecars{*}.image"]
message: >-
  ask
  us
""",
        allow="[{image: registry.corp.io, namespaces: [a, b-*]}, '*.io/x', ghcr.io/a@*, localhost:5000/]",
    ),
]
TOKENS: Final = (
    "*", "**", "&a ", "*a", "!!python/object:os.system ", "!t ", "---\n", "...\n", "<<: *a\n", "? ", ": ",
    "- ", "#", "|", ">", "|+2\n", "'", '"', "{", "}", "[", "]", ",", "\t", "\r", "\x85", "\u2028", "\ufeff",
    "\0", "\x07", "\ud800", "null", "~", "yes", "0x10", "1_000", "1e3", ".inf", ".nan", "2026-01-01",
    "12:30:45", "@sha256:", ":latest", ":443", ":0", ":99999", "/", "//", "..", "[::1]", "xn--", "é",
    "%YAML 1.1\n", "%TAG ! x\n", "allow:\n", "deny:\n", "mirrors:\n", "resources:\n", "namespaces:\n",
    "image: ", "from: ", "to: ", "except: ", "mode: warn\n", "message: ", "apiVersion: ", "kind: ", "a" * 300,
    "[" * 200, "{a: " * 100,
)  # fmt: skip
PARSED: Final[list[Any]] = [
    policy_document(
        ["registry.corp.io", {"image": "ghcr.io/x", "namespaces": ["a"], "until": "2030-01-01"}],
        [{"image": "*/**:latest", "reason": "r", "owner": "o"}],
        [{"from": "docker.io", "to": "registry.corp.io/hub", "except": ["docker.io/x"]}],
        namespaces=[{"names": ["dev"], "mode": "warn"}],
        resources=[{"group": "example.com", "kind": "Widget", "images": ["spec.image"]}],
        message="m",
    )
]
INSTANTS: Final = (INSTANT, datetime(2026, 3, 20, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))

texts: Final = st.one_of(
    mutated_text(GOOD, TOKENS),
    mutated_text(GOOD, TOKENS),
    mutated(PARSED).map(json.dumps),
    documents.map(text_of),
    st.lists(st.sampled_from(TOKENS) | st.text(max_size=5), max_size=12).map("".join),
    any_text,
)
modes: Final = st.sampled_from((*[None] * 8, "enforce", "warn", "mutate", "Warn", "", "\n"))


def check_findings(findings: tuple[Finding, ...], text: str, *, severities: set[str]) -> None:
    """Check that each finding has a line of the text, and is one line that JSON can hold."""
    for finding in findings:
        assert finding.severity in severities
        assert finding.message
        assert 1 <= finding.line <= len(text.splitlines()) + 1
        assert finding.column >= 1
        orjson.dumps(finding.as_json())
        str(finding).encode()


def parsed(text: str, mode: str | None) -> tuple[Policy | None, tuple[Finding, ...]]:
    try:
        return parse_policy(text, mode), ()
    except PolicyError as problem:
        return None, problem.findings


def check_text(text: str, mode: str | None, image: str, namespace: str | None) -> bool:
    """Check all laws for one text; return whether it is a policy."""
    policy, findings = parsed(text, mode)
    check_guard(text, mode, accepted=policy is not None)
    check_findings(findings, text, severities={"error"})
    if policy is None:
        assert findings
        return False
    assert parse_policy(text, mode).revision == policy.revision
    for instant in INSTANTS:
        compiled = policy.at(instant)
        assert compiled.next_change is None or compiled.next_change > instant
        check_findings(lint(policy, instant), text, severities={"warning", "information"})
        snapshot = compiled.serving(4, CacheCounts())
        decision = compiled.decide(namespace, image)
        assert decision == compiled.decide(namespace, image) == snapshot.decide(namespace, image)
        assert snapshot.decide(namespace, image) == decision
        assert decision.approved == (decision.reason == "allowed")
        assert explain(compiled, namespace, image).verdict.decision == decision
        rewritten = compiled.rewrite(namespace, image)
        if rewritten is not None:
            assert compiled.rewrite(namespace, rewritten) is None
        assert compiled.mode(namespace).name in {"enforce", "warn", "mutate"}
    return True


def check_guard(text: str, mode: str | None, *, accepted: bool) -> None:
    """Check that the guard refuses a text exactly when the parser does."""
    data = {"policy.yaml": text} if mode is None else {"policy.yaml": text, "mode": mode}
    found = read_configmap(data)
    job = Job(
        text=text.encode("utf-8", "surrogatepass"),
        mode=found.mode,
        instant=INSTANT,
        send_document=False,
        memory_bytes=0,
        cpu_seconds=0,
    )
    refused = bool(found.findings) or any(isinstance(reply, Refused) for reply in judge(job))
    assert refused is not accepted


@settings(max_examples=budget(200), suppress_health_check=[HealthCheck.too_slow])
@given(texts, modes, images | any_text, namespaces)
def any_policy(text: str, mode: str | None, image: str, namespace: str | None) -> None:
    check_text(text, mode, image, namespace)


@pytest.mark.hypothesis
def test_any_text_is_refused_with_findings_or_judges_any_image(rounds: Iterator[int]) -> None:
    for _ in rounds:
        any_policy()


@pytest.mark.parametrize("text", [*GOOD, json.dumps(PARSED[0])])
def test_the_seeds_of_mutations_are_accepted(text: str) -> None:
    assert check_text(text, None, "nginx", "shop")
