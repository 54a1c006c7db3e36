"""The webhook, the fast path and native policies give each request of one table its verdict in every mode.

Each way then gets thousands of Pods, in which images imitate approved ones. Everything is sent in dry run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest

from e2e import adversary, native
from e2e.acting import CLIENTS, Document, Reply, connected, decoded, images_of, send, send_all
from e2e.fastpath import ANNOTATION, CONDITION, Site, fast_path
from gatekeeper_py.controller.fastpath.policy_view import EXPIRY_MARGIN
from gatekeeper_py.core import CompiledPolicy, Policy, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, FastPath, WebhookKind, compile_fastpath
from gatekeeper_py.core.policy.document import MODES
from support.builders import WORKLOADS, review, workload
from support.skipping import skips
from tools.controlplane.plane import ControlPlane
from tools.installation.product import (
    APPROVED,
    MUTATING,
    UNLISTED,
    VALIDATING,
    Installed,
    deployment,
    pod,
)
from tools.polling import wait_until

pytestmark = pytest.mark.oldest

WEBHOOK, FAST_PATH, NATIVE = WAYS = ("webhook", "fast-path", "native")
PODS, DEPLOYMENTS = "/api/v1/namespaces/{}/pods", "/apis/apps/v1/namespaces/{}/deployments"
MERGE: Final = "strategic-merge-patch+json"
HOOK: Final = re.compile(r"(pods|workloads)\.image-(validation|mutation)-webhook\.gatekeeper-py")
HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\n"


def called(plane: ControlPlane, replies: Iterable[Reply], since: int) -> dict[str, frozenset[str]]:
    """Return the webhooks that each request reached, such as ``pods validation``, from the audit log."""
    wanted = {reply.audit for reply in replies}
    found: dict[str, frozenset[str]] = {}

    def complete() -> bool:
        for event in plane.audit_events(since=since):
            if event["auditID"] in wanted and event["stage"] == "ResponseComplete":
                text = json.dumps(event.get("annotations") or {})
                found[event["auditID"]] = frozenset(map(" ".join, HOOK.findall(text)))
        return len(found) == len(wanted)

    wait_until(complete, seconds=120, what="the audit events of all requests")
    return found


class Places(NamedTuple):
    """Two namespaces; in the second one, policies warn. The first one has objects from before the policy."""

    first: str
    sandbox: str


@dataclass(frozen=True)
class Way:
    """One way in which an API server gets verdicts."""

    name: str
    product: Installed
    site: Site | None

    @property
    def plane(self) -> ControlPlane:
        return self.product.plane

    def put(self, text: str, places: Places) -> Policy:
        """Put a policy in use, in the mode that the document has."""
        if self.name == NATIVE:
            return native.put(self.plane, text, places)
        policy = parse_policy(text)
        if self.product.policy_text() != text:
            self.product.set_policy(text)
        self.product.set_mode(policy.mode.name)
        if not policy.mode.rewrites:
            self.product.wait_not_mutating()
        if self.site:
            self.site.wait_in_step()
        return policy


@pytest.fixture(scope="module")
def places(product: Installed) -> Iterator[Places]:
    """Create the namespaces, and objects of which some have an unlisted image."""
    plane, names = product.plane, Places(f"test-{uuid4().hex[:8]}", f"sandbox-{uuid4().hex[:8]}")
    product.set_mode("warn")
    for name in names:
        plane.make_namespace(name)
    for each in (pod("running"), pod("old", UNLISTED)):
        plane.api("POST", PODS.format(*names), each)
    for kind, fields in OLD.items():
        document = workload(kind, UNLISTED, restartPolicy="Never" if kind.endswith("Job") else "Always")
        holder: Document = document
        for key in WORKLOADS[kind][1][:-1]:
            holder = holder[key]
        holder["metadata"] = {"labels": {"app": "old"}}
        document |= {"spec": document["spec"] | fields} if "spec" in document else {}
        plane.api("POST", collection(kind).format(*names), document)
    yield names
    for name in names:
        plane.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, product: Installed, places: Places) -> Iterator[Way]:
    before = product.policy_text()
    with ExitStack() as stack:
        site = stack.enter_context(fast_path(product)) if request.param == FAST_PATH else None
        if request.param == NATIVE:
            stack.enter_context(native.paused(product.plane))
        yield Way(request.param, product, site)
        if product.policy_text() != before:
            product.set_policy(before)
        product.set_mode("enforce")


SELECTOR: Final[Document] = {"selector": {"matchLabels": {"app": "old"}}}
OLD: Final[dict[str, Document]] = {
    "PodTemplate": {},
    "ReplicationController": {"selector": {"app": "old"}, "replicas": 0},
    "ReplicaSet": {**SELECTOR, "replicas": 0},
    "Deployment": {**SELECTOR, "replicas": 0},
    "StatefulSet": {**SELECTOR, "replicas": 0, "serviceName": "old"},
    "DaemonSet": SELECTOR,
    "Job": {"suspend": True},
    "CronJob": {"schedule": "0 0 1 1 *", "suspend": True},
}


def collection(kind: str) -> str:
    group = WORKLOADS[kind][0]
    return f"/{f'apis/{group}' if group else 'api'}/v1/namespaces/{{}}/{kind.lower()}s"


@dataclass(frozen=True)
class Row:
    """One request, and what it gets in the modes ``enforce``, ``warn`` and ``mutate``."""

    verdicts: str
    """``allowed``, ``denied``, ``warned`` or ``moved`` to a mirror, for each mode."""
    sent: Document
    path: str = PODS
    """The collection, or the object that a patch changes; ``kind`` is the type of the patch."""
    _: KW_ONLY
    kind: str = MERGE
    says: str = ""
    """A part of each message or warning of the webhook."""
    reason: str = ""
    """A part of each message or warning in the modes that refuse."""
    native: str = ""
    """The verdicts of native policies, which rewrite nothing, if they differ."""
    is_sent: bool = True
    """Whether a webhook is called: not if no image changes."""
    is_skipped: bool = False
    """Whether the fast path makes the API server skip the webhook."""
    stored: str = ""
    """An image that would be stored in mode ``mutate``."""

    @property
    def webhook(self) -> str:
        return "pods" if "/pods" in self.path else "workloads"


MATRIX: Final = f"""{HEAD}mode: MODE
allow: [registry.corp.example, mirror.example, '*.wild.example']
deny: [registry.corp.example/old/**]
mirrors: [{{from: docker.io, to: mirror.example/hub}}]
namespaces: [{{names: ['sandbox-*'], mode: warn}}]
"""
MIRRORED: Final = "mirror.example/hub/library/nginx:1.27"
ALLOWED, WARNED = "allowed allowed allowed", "warned warned warned"
REFUSED, REWRITTEN = "denied warned denied", "denied warned moved"
RUNNING, OLDER, DEBUGGED = f"{PODS}/running", f"{PODS}/old", f"{PODS}/running/ephemeralcontainers"
OLD_IMAGE, HUB_IMAGE = "registry.corp.example/old/app:1", "nginx:1.27"
UNMATCHED: Final = "quay.io/somebody/app matches no rule"


def image(value: str, container: str = "web") -> Document:
    return {"spec": {"containers": [{"name": container, "image": value}]}}


def debug(value: str) -> Document:
    return {"spec": {"ephemeralContainers": [{"name": "debug", "image": value}]}}


def restart(kind: str) -> Row:
    """Return the restart of a workload from before the policy: its new Pods will be refused."""
    *path, _ = WORKLOADS[kind][1]
    patch: Document = {"metadata": {"annotations": {"restartedAt": "now"}}}
    for key in reversed(path):
        patch = {key: patch}
    says = f"{'.'.join(WORKLOADS[kind][1])}.containers[0].image: quay.io/"
    reason = " is not approved; new Pods will be refused"
    return Row(WARNED, patch, f"{collection(kind)}/web", says=says, reason=reason, native=ALLOWED)


ROWS: Final[dict[str, Row]] = {
    "approved": Row(ALLOWED, pod("new"), is_skipped=True),
    "approved-but-not-written-in-full": Row(ALLOWED, pod("new", "EU.wild.example/app:1")),
    "unlisted": Row(
        REFUSED, pod("new", UNLISTED), says=f"{UNLISTED} is not approved",
        reason=f'container "web" (spec.containers[0].image): {UNLISTED} is not approved: {UNMATCHED}',
    ),
    "unlisted-where-the-policy-warns": Row(
        WARNED, pod("new", UNLISTED), PODS.replace("{}", "{1}"), says="spec.containers[0].image",
    ),
    "denied": Row(REFUSED, pod("new", OLD_IMAGE), says="is denied"),
    "one-of-two": Row(
        REFUSED, pod("new", initContainers=[{"name": "init", "image": UNLISTED}]),
        says="spec.initContainers[0].image",
    ),
    "mirrored": Row(REWRITTEN, pod("new", HUB_IMAGE), native=REFUSED, stored=MIRRORED),
    "image-volume": Row(
        REFUSED, pod("new", volumes=[{"name": "model", "image": {"reference": UNLISTED}}]),
        says="spec.volumes[0].image.reference",
    ),
    "server-side-apply": Row(
        REFUSED, pod("new", UNLISTED), f"{PODS}/new", kind="apply-patch+yaml", reason=UNMATCHED,
    ),
    "labels": Row(ALLOWED, {"metadata": {"labels": {"a": "b"}}}, OLDER, is_sent=False),
    "the-same-image": Row(ALLOWED, image(UNLISTED), OLDER, is_sent=False),
    "another-approved-image": Row(ALLOWED, image(f"{APPROVED}.2"), RUNNING, is_skipped=True),
    "another-unlisted-image": Row(REFUSED, image(UNLISTED), RUNNING, reason=UNMATCHED),
    "debug-approved": Row(ALLOWED, debug(APPROVED), DEBUGGED, is_skipped=True),
    "debug-unlisted": Row(REFUSED, debug(UNLISTED), DEBUGGED, says="spec.ephemeralContainers[0].image"),
    "debug-mirrored": Row(REWRITTEN, debug(HUB_IMAGE), DEBUGGED, native=REFUSED, stored=MIRRORED),
    "deployment-approved": Row(ALLOWED, deployment("new"), DEPLOYMENTS),
    "deployment-unlisted": Row(
        REFUSED, deployment("new", UNLISTED), DEPLOYMENTS, says="spec.template.spec.containers[0].image",
    ),
    "deployment-mirrored-as-its-pods-will-be": Row(
        "denied warned allowed", deployment("new", HUB_IMAGE), DEPLOYMENTS, stored=HUB_IMAGE,
    ),
    "deployment-with-another-unlisted-image": Row(
        REFUSED, {"spec": {"template": image("quay.io/somebody/app:2", "c0")}}, f"{DEPLOYMENTS}/web",
        reason=UNMATCHED,
    ),
    "deployment-scaled": Row(ALLOWED, {"spec": {"replicas": 1}}, f"{DEPLOYMENTS}/web", is_sent=False),
    "deployment-scaled-by-its-subresource": Row(
        ALLOWED, {"spec": {"replicas": 1}}, f"{DEPLOYMENTS}/web/scale",
        kind="merge-patch+json", is_sent=False,
    ),
    **{f"{kind.lower()}-restarted": restart(kind) for kind in OLD},
}  # fmt: skip


def verdict_of(reply: Reply) -> str:
    """Return the verdict, or ``no object`` when the object itself is invalid."""
    message = reply.body.get("message", "")
    ours = native.ANSWERED in message or HOOK.search(message)
    if reply.status in {400, 422} and not ours:
        return "no object"
    if reply.status >= 400:
        assert ours, reply.body
        return "denied"
    if "was rewritten to" in reply.warnings:
        return "moved"
    warned = native.ANSWERED in reply.warnings or re.search("is not approved|is denied", reply.warnings)
    return "warned" if warned else "allowed"


def send_row(plane: ControlPlane, places: Places, row: Row) -> Reply:
    path = row.path.format(*places)
    is_collection = path.endswith(("/pods", "/deployments"))
    method, kind = ("POST", "json") if is_collection else ("PATCH", row.kind)
    with closing(connected(plane)) as connection:
        query = "?dryRun=All" + ("&fieldManager=test" if kind.startswith("apply") else "")
        return send(connection, method, path + query, row.sent, kind=kind)


@pytest.mark.parametrize("mode", MODES)
def test_each_request_gets_its_verdict_and_calls_its_webhook(
    way: Way, places: Places, mode: str, *, oldest: bool
) -> None:
    policy = way.put(MATRIX.replace("MODE", mode), places)
    if way.site:
        check_configurations(way.site, policy)
    begin = way.plane.audit_bytes()
    # Kubernetes 1.30 has no image volumes; test_admission.py shows what it does instead.
    rows = {name: row for name, row in ROWS.items() if not (oldest and name == "image-volume")}
    replies = {name: send_row(way.plane, places, row) for name, row in rows.items()}
    reached = called(way.plane, replies.values(), begin)
    for name, row in rows.items():
        check_row(name, row, replies[name], reached[replies[name].audit], way, mode)


def check_row(name: str, row: Row, reply: Reply, reached: frozenset[str], way: Way, mode: str) -> None:
    is_native, is_mutate = way.name == NATIVE, mode == "mutate"
    expected = (row.native or row.verdicts if is_native else row.verdicts).split()[list(MODES).index(mode)]
    message = reply.body.get("message", "")
    seen = name, reply.status, message, reply.warnings
    assert verdict_of(reply) == expected, seen
    if expected in {"denied", "warned"}:
        assert ("not approved: " if is_native else row.says) in message + reply.warnings, seen
    if is_native:
        assert reached == set(), seen
        return
    if mode != "warn":
        assert row.reason in message + reply.warnings, seen
    if expected == "denied":
        webhook = f"{row.webhook}.image-validation-webhook.gatekeeper-py"
        assert f'admission webhook "{webhook}" denied' in message, seen
    if expected == "moved":
        assert f": {HUB_IMAGE} was rewritten to {MIRRORED}" in reply.warnings, seen
        # The API server drops every change of metadata in a request that adds an ephemeral container.
        notes = (reply.body["metadata"].get("annotations") or {}).get("gatekeeper-py/original-images", "{}")
        created = {} if row.path == DEBUGGED else {"spec.containers[0].image": HUB_IMAGE}
        assert json.loads(notes) == created, seen
    if is_mutate and row.stored:
        assert f'"image": "{row.stored}"' in json.dumps(reply.body["spec"]), seen
    calls = set()
    if row.is_sent and not (
        way.site and (row.is_skipped or expected == "moved")
    ):  # the fast path has the mirror
        calls.add(f"{row.webhook} validation")
    if row.is_sent and row.webhook == "pods" and is_mutate and not (way.site and expected != "moved"):
        calls.add("pods mutation")
    # The fast path may skip the mutating webhook even for an image that the validating webhook then refuses.
    optional = {"pods mutation"} if way.site and expected != "moved" else set()
    assert reached - optional == calls, seen


def check_configurations(site: Site, policy: Policy) -> None:
    """Check that the webhooks for Pods, and no others, have the condition of the policy's fast path."""
    assert (site.product.get(MUTATING) is not None) is policy.mode.rewrites
    for path in (VALIDATING, MUTATING)[: 1 + policy.mode.rewrites]:
        assert site.conditions(path) == ["an-image-changed", CONDITION]
        live = site.plane.api("GET", path)
        assert live["metadata"]["annotations"][ANNOTATION] == policy.revision
        for hook in live["webhooks"][1:]:
            assert CONDITION not in [each["name"] for each in hook["matchConditions"]]


MANY: Final[dict[str, str]] = {
    "everything": """mode: mutate
allow: [mirror.example, '*.corp.example/team/**:v*', 'registry.corp.example@*', 'quay.io/x-*', 'foo:443/']
deny: ['registry.corp.example/bad/**', '*/**:latest', {image: quay.io, namespaces: ['sandbox-*']}]
mirrors:
  - {from: registry.corp.example, to: mirror.example/corp, imagePullSecret: corp, except: ['*/team/**']}
  - {from: docker.io, to: mirror.example}
  - {from: ghcr.io/org/app, to: mirror.example/app}
namespaces: [{names: ['sandbox-*'], mode: warn}]
""",
    "hub": """mode: enforce
allow: [docker.io/library/nginx, 'docker.io/library/**:1', 'index.docker.io/org/**', mirror.example]
deny: ['q*.io/x-*/**', 'ghcr.io/**@*']
namespaces: [{names: ['sandbox-*'], mode: warn}]
""",
    "globs": """mode: enforce
allow:
  - {image: '*.registry.corp.example/**:v*', namespaces: ['test-*']}
  - 'o*.example:5000'
  - '*o.io'
  - docker.io
  - mirror.example
deny: [{image: quay.io/org/**, namespaces: ['*']}, 'q*.io/x-*/**', '*/**:*-rc*', 'ghcr.io/**@*']
namespaces: [{names: ['sandbox-*'], mode: warn}]
""",
    "dates": """mode: enforce
allow: [{image: quay.io, until: 2099-01-01}, '*.corp.example', mirror.example, localhost, ghcr.io]
deny: [{image: quay.io/org/**, until: 2020-01-01}]
""",
}
"""Policies that judge thousands of Pods.

The API server's own evaluator gets random ones in tests/core/compile: test_expression_evaluated.py and
native/test_validating_evaluated.py.
"""


@pytest.mark.parametrize("way", [FAST_PATH], indirect=True)
@pytest.mark.parametrize("name", MANY)
def test_pods_that_skip_the_webhook_are_approved(
    way: Way, places: Places, name: str, *, oldest: bool
) -> None:
    policy, now = way.put(HEAD + MANY[name], places), datetime.now(UTC)
    fastpath, compiled = compile_fastpath(policy, now, lasting=EXPIRY_MARGIN), policy.at(now)
    approved = next(
        each
        for each in adversary.images()
        if all(fastpath.approves(places.first, each, endpoint) for endpoint in ENDPOINTS)
    )
    begin = way.plane.audit_bytes()
    pods = sample(adversary.pods(name, list(MANY).index(name), approved), oldest=oldest)
    replies = send_all(way.plane, "POST", PODS.format(places.first), pods, clients=clients(oldest=oldest))
    reached = called(way.plane, replies, begin)
    is_mutating = policy.mode.rewrites and bool(policy.mirrors)
    counts = Counter(
        outcome(reply, reached[reply.audit], fastpath, compiled, places.first, is_mutating=is_mutating)
        for reply in replies
    )
    assert counts["skipped"] > (8 if oldest else 30), counts
    assert counts["called and refused"] > (150 if oldest else 600), counts
    assert counts["called and approved"] > 0, counts


def sample(pods: Iterable[Document], *, oldest: bool) -> list[Document]:
    """Return all Pods; for Kubernetes 1.30, every third one without image volumes, which it lacks."""
    if not oldest:
        return list(pods)
    volumes = [(each, each["spec"].get("volumes") or ()) for each in pods]
    return [each for each, listed in volumes if not any("image" in volume for volume in listed)][::3]


def clients(*, oldest: bool) -> int:
    """Return how many requests to send at once.

    If several requests are the first ones under a new policy, the API server of Kubernetes 1.30 can end with
    "concurrent map read and map write".
    """
    return 1 if oldest else CLIENTS


def outcome(
    reply: Reply,
    reached: frozenset[str],
    fastpath: FastPath,
    compiled: CompiledPolicy,
    namespace: str,
    *,
    is_mutating: bool,
) -> str:
    """Return what happened to a Pod; compare it with the policy and with the model of the expression."""
    verdict = verdict_of(reply)
    if verdict == "no object":
        return verdict
    if verdict == "denied":
        assert "pods validation" in reached, reply.body
        return "called and refused"
    stored = images_of(reply.body)
    assert stored
    for each in stored:
        assert compiled.decide(namespace, each).approved, reply.body
    if "pods mutation" not in reached:
        assert all(compiled.rewrite(namespace, each) is None for each in images_of(reply.sent)), reply.sent
    views: dict[WebhookKind, Any] = {"validating": reply.body}
    if is_mutating:
        views["mutating"] = decoded(reply.sent)
    for endpoint, seen in views.items():
        request = wire.parse(review({"apiVersion": "v1", "kind": "Pod"} | seen, namespace=namespace))
        was_called = f"pods {'validation' if endpoint == 'validating' else 'mutation'}" in reached
        assert skips(fastpath.approved[endpoint], request) is not was_called, (reply.sent, reached)
    return "called and approved" if "pods validation" in reached else "skipped"


@pytest.mark.parametrize("way", [FAST_PATH, NATIVE], indirect=True)
def test_ephemeral_containers_get_the_verdict_of_the_policy(
    way: Way, places: Places, *, oldest: bool
) -> None:
    policy = way.put(f"{HEAD}mode: enforce\nallow: [registry.corp.example, quay.io, localhost]\n", places)
    patches = [debug(each) for each in adversary.images()[:: 4 if oldest else 1]]
    path, begin = f"{PODS.format(places.first)}/running/ephemeralcontainers", way.plane.audit_bytes()
    replies = send_all(way.plane, "PATCH", path, patches, kind=MERGE, clients=clients(oldest=oldest))
    compiled, verdicts = policy.at(datetime.now(UTC)), Counter(map(verdict_of, replies))
    for reply in replies:
        (container,) = reply.sent["spec"]["ephemeralContainers"]
        if verdict_of(reply) != "no object":
            approved = compiled.decide(places.first, container["image"]).approved
            assert (verdict_of(reply) == "allowed") is approved, reply.sent
    assert min(verdicts["allowed"], verdicts["denied"]) > (8 if oldest else 30), verdicts
    if way.site:
        reached = called(way.plane, replies, begin)
        skipped = [reply for reply in replies if not reached[reply.audit]]
        assert sum(verdict_of(reply) == "allowed" for reply in skipped) > (8 if oldest else 30)
        assert not any(verdict_of(reply) == "denied" for reply in skipped)


@pytest.mark.parametrize("way", [NATIVE], indirect=True)
@pytest.mark.parametrize("name", ["everything", "hub", "globs"])
def test_native_policies_treat_pods_and_workloads_as_the_webhook_does(
    way: Way, places: Places, name: str, *, oldest: bool
) -> None:
    policy = way.put(HEAD + MANY[name], places).at(datetime.now(UTC))
    turn, few = list(MANY).index(name), 4 if oldest else 1
    pods = sample(adversary.pods(name, turn, "mirror.example/app:1"), oldest=oldest)
    images = (*adversary.images()[turn::7], *adversary.USUAL)
    templates = [deployment(f"d{number}", each) for number, each in enumerate(images)]
    counts: Counter[str] = Counter()
    for namespace, path, documents in (
        (places.first, PODS.format(places.first), pods),
        (places.sandbox, PODS.format(places.sandbox), pods[turn::5]),
        (places.first, DEPLOYMENTS.format(places.first), templates),
    ):
        replies = send_all(way.plane, "POST", path, documents, clients=clients(oldest=oldest))
        for reply in replies:
            verdict = verdict_of(reply)
            counts[verdict] += 1
            if verdict != "no object":
                expected = native.expectation(policy, reply.sent, namespace)
                assert verdict == expected, (reply.sent, reply.body)
    assert counts["denied"] + counts["warned"] > 300 // few, counts
    assert min(counts["warned"], counts["allowed"]) > 10, counts
