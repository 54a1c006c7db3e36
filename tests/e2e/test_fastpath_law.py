"""Over thousands of Pods, a real API server skips the webhook only for Pods that the policy approves."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from builders import review
from e2e import adversary
from e2e.acting import Document, decoded, images_of, send_all
from gatekeeper_py.control.fastpath.policy_view import EXPIRY_MARGIN
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, Endpoint, FastPath, compile_fastpath
from gatekeeper_py.core.policy.document import Mode
from tools.controlplane.plane import ControlPlane
from tools.installation.fastpath import Site
from tools.installation.product import MUTATING, pod
from tools.polling import wait_until

POLICIES: Final[dict[str, tuple[Mode, *tuple[str, ...]]]] = {
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
}

"""Each of these policies is tested with every image of the adversary."""

ROOT: Final = Path(__file__).parents[2]
MORE: Final[dict[str, tuple[Mode, *tuple[str, ...]]]] = {
    "one-repository": ("enforce", "allow: [registry.corp.example/team/app]"),
    "tag-wildcards": ("enforce", "allow: ['registry.corp.example/**:v*', 'quay.io/**:1', 'ghcr.io/**:*-*']"),
    "tags-denied-by-wildcards": (
        "enforce",
        "allow: [registry.corp.example, quay.io]",
        "deny: ['*/**:*-rc*']",
    ),
    "digests-denied": (
        "enforce",
        "allow: [registry.corp.example, ghcr.io]",
        f"deny: ['registry.corp.example/team/app{adversary.DIGEST}', 'ghcr.io/**@*']",
    ),
    "namespaces-by-wildcards": (
        "enforce",
        "allow:",
        "- {image: registry.corp.example, namespaces: ['test-*']}",
        "- {image: quay.io, namespaces: ['x*']}",
    ),
    "denied-in-some-namespaces": (
        "enforce",
        "allow: [registry.corp.example, quay.io]",
        "deny: [{image: quay.io/org/**, namespaces: ['*']}, {image: registry.corp.example, namespaces: [x]}]",
    ),
    "a-subtree-of-a-denied-subtree": (
        "enforce",
        "allow: [registry.corp.example/team/**, registry.corp.example/shop/app]",
        "deny: ['registry.corp.example/*/old/**', 'registry.corp.example/shop/app:1']",
    ),
    "many-registries": (
        "enforce",
        f"allow: [{', '.join(f'r{number}.example/team/**' for number in range(40))}, registry.corp.example]",
    ),
    "many-repositories": (
        "enforce",
        f"allow: [{', '.join(f'registry.corp.example/team/app{n}' for n in range(40))}, quay.io/org/app]",
    ),
    "wildcards-in-hosts-and-ports": (
        "enforce",
        "allow: ['*.corp.example', 'o*.example:5000', '*o.io', '*.registry.corp.example/**:v*']",
        "deny: ['registry.*.example/bad', 'q*.io/x-*/**']",
    ),
    "everything-of-hub": (
        "enforce",
        "allow: [docker.io, 'index.docker.io/library/nginx:1', localhost/app]",
        "deny: ['docker.io/library/**:latest', 'docker.io/foo/**']",
    ),
    "a-mirror-with-exceptions": (
        "mutate",
        "allow: [mirror.example, registry.corp.example, quay.io]",
        "mirrors: [{from: registry.corp.example, to: mirror.example/corp, except: ['*/team/**']}]",
    ),
    "mirrors-of-two-and-their-denials": (
        "mutate",
        "allow: [mirror.example, other.example:5000, ghcr.io]",
        "deny: ['docker.io/library/nginx', 'quay.io/x-*/**', '*/**:latest']",
        "mirrors: [{from: docker.io, to: mirror.example}, {from: quay.io/org, to: mirror.example/org}]",
    ),
    "rules-that-have-expired": (
        "enforce",
        "allow: [{image: registry.corp.example, until: 2020-01-01}, quay.io, ghcr.io]",
        "deny: [{image: quay.io/org/**, until: 2020-01-01}, {image: ghcr.io/org/app, until: 2099-01-01}]",
    ),
}
"""Each of these, and each realistic policy, is tested with a third of the images."""


def _text(mode: Mode, *fields: str) -> str:
    return "\n".join(["apiVersion: gatekeeper-py/v1", "kind: ImagePolicy", f"mode: {mode}", *fields, ""])


TEXTS: Final[dict[str, str]] = {
    **{name: _text(*policy) for name, policy in (POLICIES | MORE).items()},
    **{
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "examples/policies").glob("*.yaml"))
    },
}


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


def test_there_are_thirty_policies() -> None:
    assert len(TEXTS) >= 30


@pytest.mark.parametrize("name", TEXTS)
def test_skipped_pods_are_approved(site: Site, namespace: str, totals: Counter[str], name: str) -> None:
    fastpath, compiled = put(site, name)
    approved = next(
        image
        for image in adversary.images()
        if all(fastpath.approves(namespace, image, endpoint) for endpoint in ENDPOINTS)
    )
    turn = list(TEXTS).index(name)
    pods = list(adversary.pods(name, turn, approved))
    if name not in POLICIES:
        pods = pods[turn % 3 :: 3]
    created = results(site.plane, "POST", f"/api/v1/namespaces/{namespace}/pods", pods)
    registered: list[Endpoint] = ["validating"]
    if site.product.get(MUTATING) is not None:
        registered.append("mutating")
    for result in created:
        judge(result, fastpath, compiled, namespace, registered)
    counts = Counter(outcome(result) for result in created)
    totals.update(counts)
    assert counts["skipped"] > (30 if name in POLICIES else 0)
    assert counts["called and refused"] > (600 if name in POLICIES else 200)
    if name in POLICIES:
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
    site.product.set_mode(policy.mode)
    site.put_policy(policy.text)
    if policy.mode == "mutate" and policy.mirrors:
        site.product.wait_mutating()
        site.wait_in_step()
    return compile_fastpath(policy, now, lasting=EXPIRY_MARGIN), policy.at(now)


def judge(
    result: Result,
    fastpath: FastPath,
    compiled: CompiledPolicy,
    namespace: str,
    registered: Sequence[Endpoint],
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
    views: dict[Endpoint, Any] = {"mutating": decoded(result.sent), "validating": result.stored}
    for endpoint in registered:
        seen = views[endpoint]
        request = wire.parse(review(seen, namespace=namespace))
        assert fastpath.skips(request, endpoint) is (endpoint not in result.called), result


def outcome(result: Result) -> str:
    if result.status in {400, 422}:
        return "no Pod"
    if result.status == 403:
        return "called and refused"
    return "skipped" if "validating" not in result.called else "called and approved"
