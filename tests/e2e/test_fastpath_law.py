"""Over thousands of Pods, a real API server skips the webhook only for Pods that the policy approves."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from e2e import adversary
from e2e.acting import Document, decoded, images_of, send_all
from e2e.fastpath import Site
from gatekeeper_py.controller.fastpath.policy_view import EXPIRY_MARGIN
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, FastPath, WebhookKind, compile_fastpath
from support.builders import review
from support.skipping import skips
from tools.controlplane.plane import ControlPlane
from tools.installation.product import MUTATING, pod
from tools.polling import wait_until

POLICIES: Final[dict[str, tuple[str, *tuple[str, ...]]]] = {
    "registries": (
        "enforce",
        "allow: [registry.corp.example, 'other.example:5000', quay.io, localhost, 'foo:443/']",
    ),
    "paths": (
        "enforce",
        "allow: ['registry.corp.example/team/**', registry.corp.example/shop/app, 'ghcr.io/org/**']",
    ),
    "digests": ("enforce", "allow: ['registry.corp.example@*', 'quay.io/org/app', mirror.example]"),
    "denied": (
        "enforce",
        "allow: ['registry.corp.example/team/**', registry.corp.example/shop/app, quay.io, mirror.example]",
        "deny: ['registry.corp.example/team/old/**', 'quay.io/x-*/**:latest']",
    ),
    "some-namespaces": (
        "enforce",
        "allow: [{image: registry.corp.example, namespaces: [elsewhere]}, quay.io, docker.io]",
    ),
    "docker-hub": ("mutate", "allow: [docker.io/library/nginx, 'docker.io/library/**', ghcr.io, localhost]"),
    "rewritten": (
        "mutate",
        "allow: [registry.corp.example, mirror.example, quay.io]",
        "mirrors:",
        "- {from: registry.corp.example/team, to: mirror.example/team}",
        "- {from: docker.io, to: mirror.example}",
    ),
    "denied-at-its-origin": (
        "mutate",
        "allow: [mirror.example, 'mirror.example/team/**', ghcr.io, 'other.example:5000']",
        "deny: ['registry.corp.example/bad/**']",
        "mirrors: [{from: registry.corp.example, to: mirror.example/corp}]",
    ),
    "dates-and-wildcards": (
        "enforce",
        "allow:",
        "- {image: quay.io, until: 2099-01-01}",
        "- '*.corp.example'",
        "- registry.corp.example/team/app:*",
        "- localhost",
        "- ghcr.io",
    ),
    "globs-in-hosts-tags-and-namespaces": (
        "enforce",
        "allow:",
        "- {image: '*.registry.corp.example/**:v*', namespaces: ['test-*']}",
        "- 'o*.example:5000'",
        "- '*o.io'",
        "- docker.io",
        "deny: [{image: quay.io/org/**, namespaces: ['*']}, 'q*.io/x-*/**', '*/**:*-rc*', 'ghcr.io/**@*']",
    ),
    "a-mirror-with-exceptions-and-a-subtree-of-a-denied-one": (
        "mutate",
        "allow: [mirror.example, registry.corp.example, quay.io]",
        "deny: ['registry.corp.example/*/old/**', '*/**:latest', {image: quay.io/org/**, until: 2020-01-01}]",
        "mirrors: [{from: registry.corp.example, to: mirror.example/corp, except: ['*/team/**']}]",
    ),
}

"""Each of these policies is tested with every image of the adversary.

The evaluator of the API server gets random policies and images in core/compile/test_expression_evaluated.py.
"""


def _text(mode: str, *fields: str) -> str:
    return "\n".join(["apiVersion: gatekeeper-py/v1", "kind: ImagePolicy", f"mode: {mode}", *fields, ""])


TEXTS: Final = {name: _text(*policy) for name, policy in POLICIES.items()}


@dataclass(frozen=True)
class Result:
    """One Pod: as it was sent, as it would be stored, and which webhooks were called."""

    sent: Document
    status: int
    stored: Document
    called: frozenset[str]


def results(plane: ControlPlane, method: str, path: str, documents: Iterable[Document]) -> list[Result]:
    """Send Pods in dry run; the audit log tells which of our endpoints each request reached."""
    begin = plane.audit_bytes()
    kind = "strategic-merge-patch+json" if method == "PATCH" else "json"
    replies = send_all(plane, method, path, documents, kind=kind)
    audits = {reply.audit for reply in replies}
    called: dict[str, frozenset[str]] = {}

    def complete() -> bool:
        for event in plane.audit_events(since=begin):
            if event["auditID"] in audits and event["stage"] == "ResponseComplete":
                text = json.dumps(event.get("annotations") or {})
                called[event["auditID"]] = frozenset(
                    endpoint
                    for endpoint, name in (("validating", "validation"), ("mutating", "mutation"))
                    if f"pods.image-{name}-webhook.gatekeeper-py" in text
                )
        return len(called) == len(audits)

    wait_until(complete, seconds=120, what="the audit events of all requests")
    return [Result(each.sent, each.status, each.body, called[each.audit]) for each in replies]


@pytest.fixture(scope="module")
def totals() -> Iterator[Counter[str]]:
    """Count the Pods by outcome, under all policies."""
    counted: Counter[str] = Counter()
    yield counted
    sys.stderr.write(f"\nPods: {dict(sorted(counted.items()))}\n")


@pytest.mark.parametrize("name", TEXTS)
def test_skipped_pods_are_approved(site: Site, namespace: str, totals: Counter[str], name: str) -> None:
    fastpath, compiled = put(site, name)
    approved = next(
        image
        for image in adversary.images()
        if all(fastpath.approves(namespace, image, endpoint) for endpoint in ENDPOINTS)
    )
    pods = adversary.pods(name, list(TEXTS).index(name), approved)
    created = results(site.plane, "POST", f"/api/v1/namespaces/{namespace}/pods", pods)
    registered: list[WebhookKind] = ["validating"]
    if site.product.get(MUTATING) is not None:
        registered.append("mutating")
    for result in created:
        judge(result, fastpath, compiled, namespace, registered)
    counts = Counter(outcome(result) for result in created)
    totals.update(counts)
    assert counts["skipped"] > 30
    assert counts["called and refused"] > 600
    assert counts["called and approved"] > 0


def test_skipped_ephemeral_containers_are_approved(site: Site, namespace: str, totals: Counter[str]) -> None:
    """A Pod is never created with ephemeral containers; they are added later."""
    _, compiled = put(site, "registries")
    path = f"/api/v1/namespaces/{namespace}/pods"
    site.plane.api("POST", path, pod("debugged", "quay.io/org/app"))
    patches = [
        {"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}} for image in adversary.images()
    ]
    debugged = results(site.plane, "PATCH", f"{path}/debugged/ephemeralcontainers", patches)
    for result in debugged:
        assert result.status in {200, 403, 422}, result
        if result.status == 200:
            for image in images_of(result.stored):
                assert compiled.decide(namespace, image).approved, result
    counts = Counter(outcome(result) for result in debugged)
    totals.update(counts)
    assert counts["skipped"] > 30
    assert counts["called and refused"] > 300


def put(site: Site, name: str) -> tuple[FastPath, CompiledPolicy]:
    """Apply a policy and wait for the fast path; return the expressions and the compiled policy."""
    policy, now = parse_policy(TEXTS[name]), datetime.now(UTC)
    site.product.set_mode(policy.mode.name)
    site.put_policy(policy.text)
    if policy.mode.rewrites and policy.mirrors:
        site.product.wait_mutating()
        site.wait_in_step()
    return compile_fastpath(policy, now, lasting=EXPIRY_MARGIN), policy.at(now)


def judge(
    result: Result,
    fastpath: FastPath,
    compiled: CompiledPolicy,
    namespace: str,
    registered: Sequence[WebhookKind],
) -> None:
    """Check one answer against the law and against the model of the expression."""
    if result.status in {400, 422}:
        return  # no Pod at all
    assert result.status in {201, 403}, result
    if result.status == 403:
        assert "validating" in result.called, result
        return
    stored = images_of(result.stored)
    assert stored
    for image in stored:
        assert compiled.decide(namespace, image).approved, result
    if "mutating" not in result.called:
        assert all(compiled.rewrite(namespace, image) is None for image in images_of(result.sent)), result
    views: dict[WebhookKind, Any] = {"mutating": decoded(result.sent), "validating": result.stored}
    for endpoint in registered:
        seen = views[endpoint]
        request = wire.parse(review(seen, namespace=namespace))
        assert skips(fastpath.approved[endpoint], request) is (endpoint not in result.called), result


def outcome(result: Result) -> str:
    if result.status in {400, 422}:
        return "no Pod"
    if result.status == 403:
        return "called and refused"
    return "skipped" if "validating" not in result.called else "called and approved"
