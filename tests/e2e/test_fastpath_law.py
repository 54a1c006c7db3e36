"""Over thousands of Pods, a real API server skips the webhook only for Pods that the policy approves."""

from __future__ import annotations

import http.client
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final
from uuid import uuid4

import pytest

from builders import review
from e2e import adversary
from gatekeeper_py.control.fastpath.policy_view import EXPIRY_MARGIN
from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.workload import slots
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, Endpoint, FastPath, compile_fastpath
from gatekeeper_py.core.policy.document import Mode
from skipping import skips
from tools.controlplane.components import API_ADDRESS
from tools.installation.fastpath import Site
from tools.installation.product import MUTATING, pod
from tools.polling import wait_until

CLIENTS: Final = 8

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

    sent: dict[str, Any]
    status: int
    stored: dict[str, Any]
    called: frozenset[str]


class Clients:
    """Sends Pods in dry run, each with an audit ID to find its audit event."""

    def __init__(self, site: Site, namespace: str) -> None:
        self.site = site
        self.path = f"/api/v1/namespaces/{namespace}/pods"

    def create(self, documents: Iterable[dict[str, Any]]) -> list[Result]:
        """Create each Pod."""
        return self._send("POST", f"{self.path}?dryRun=All", documents)

    def debug(self, name: str, images: Iterable[str]) -> list[Result]:
        """Add an ephemeral container to a Pod, one for each image."""
        containers = ({"name": "debug", "image": image} for image in images)
        patches = ({"spec": {"ephemeralContainers": [each]}} for each in containers)
        return self._send("PATCH", f"{self.path}/{name}/ephemeralcontainers?dryRun=All", patches)

    def _send(self, method: str, path: str, documents: Iterable[dict[str, Any]]) -> list[Result]:
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        connections: SimpleQueue[http.client.HTTPSConnection] = SimpleQueue()
        for _ in range(CLIENTS):
            connections.put(
                http.client.HTTPSConnection(*API_ADDRESS, context=self.site.plane.tls, timeout=60)
            )

        begin = self.site.plane.audit_bytes()

        def send(document: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, Any], str]:
            connection, audit = connections.get(), str(uuid4())
            connection.request(method, path, json.dumps(document), {"Content-Type": kind, "Audit-ID": audit})
            response = connection.getresponse()
            body = json.loads(response.read())
            connections.put(connection)
            return document, response.status, body, audit

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(send, documents))
        for _ in range(CLIENTS):
            connections.get().close()
        called = self._called_endpoints({audit for *_, audit in answers}, begin)
        return [Result(sent, status, stored, called[audit]) for sent, status, stored, audit in answers]

    def _called_endpoints(self, audits: set[str], begin: int) -> dict[str, frozenset[str]]:
        """Return which of our endpoints each request reached. The audit log is read from ``begin`` on."""
        found: dict[str, frozenset[str]] = {}

        def complete() -> bool:
            for event in self.site.plane.audit_events(since=begin):
                if event["auditID"] in audits and event["stage"] == "ResponseComplete":
                    audit_text = json.dumps(event.get("annotations") or {})
                    found[event["auditID"]] = frozenset(
                        endpoint
                        for endpoint, name in (("validating", "validation"), ("mutating", "mutation"))
                        if f"pods.image-{name}-webhook.gatekeeper-py" in audit_text
                    )
            return len(found) == len(audits)

        wait_until(complete, seconds=120, what="the audit events of all requests")
        return found


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
    results = Clients(site, namespace).create(pods)
    registered: list[Endpoint] = ["validating"]
    if site.product.get(MUTATING) is not None:
        registered.append("mutating")
    for result in results:
        judge(result, fastpath, compiled, namespace, registered)
    counts = Counter(outcome(result) for result in results)
    totals.update(counts)
    assert counts["skipped"] > (30 if name in POLICIES else 0)
    assert counts["called and refused"] > (600 if name in POLICIES else 200)
    if name in POLICIES:
        assert counts["called and approved"] > 0


def test_skipped_ephemeral_containers_are_approved(site: Site, namespace: str, totals: Counter[str]) -> None:
    """A Pod is never created with ephemeral containers; they are added later."""
    _, compiled = put(site, "registries")
    site.plane.api("POST", f"/api/v1/namespaces/{namespace}/pods", pod("debugged", "quay.io/org/app"))
    results = Clients(site, namespace).debug("debugged", adversary.images())
    for result in results:
        assert result.status in {200, 403, 422}, result
        if result.status == 200:
            for image in images(result.stored):
                assert compiled.decide(namespace, image).approved, result
    counts = Counter(outcome(result) for result in results)
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
    for image in images(result.stored):
        assert compiled.decide(namespace, image).approved, result
    if "mutating" not in result.called:
        assert all(compiled.rewrite(namespace, image) is None for image in images(result.sent)), result
    views: dict[Endpoint, Any] = {"mutating": decoded(result.sent), "validating": result.stored}
    for endpoint in registered:
        seen = views[endpoint]
        request = wire.parse(review(seen, namespace=namespace))
        assert skips(fastpath.approved[endpoint], request) is (endpoint not in result.called), result


def decoded(value: Any) -> Any:
    """Return a Pod as the mutating webhook gets it. An API server drops nulls."""
    if isinstance(value, dict):
        return {key: decoded(each) for key, each in value.items() if each is not None}
    return [decoded(each) for each in value] if isinstance(value, list) else value


def images(document: dict[str, Any]) -> list[str]:
    """Yield every image of a Pod that an API server accepted."""
    found = [str(slot.value) for slot in slots(POD, document, {})]
    assert found
    return found


def outcome(result: Result) -> str:
    if result.status in {400, 422}:
        return "no Pod"
    if result.status == 403:
        return "called and refused"
    return "skipped" if "validating" not in result.called else "called and approved"
