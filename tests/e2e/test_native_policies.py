"""Native policies on a real API server treat Pods and workloads as the webhook does.

The webhook is paused, so the tests see the answers of the native policies.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from e2e import adversary
from e2e.acting import CLIENTS, Document, Reply, decoded, no_webhooks, send_all
from gatekeeper_py.cli.reporting.manifest import as_yaml
from gatekeeper_py.core import CompiledPolicy, Policy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.native.objects import KIND, Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from support.builders import review
from tools.controlplane.plane import ControlPlane
from tools.installation.product import NAMESPACE, VALIDATING, deployment, pod
from tools.polling import wait_until

ROOT: Final = Path(__file__).parents[2]
EVIL: Final = "evil.example/x:1"
API: Final = "/apis/admissionregistration.k8s.io/v1"
HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\n"

POLICIES: Final = {
    **{
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "examples/policies").glob("*.yaml"))
    },
    "shipped": (ROOT / "tools/installation/manifests/policy/policy.yaml").read_text(encoding="utf-8"),
    "everything": f"""{HEAD}mode: mutate
allow: [mirror.example, '*.corp.example/team/**:v*', 'registry.corp.example@*', 'quay.io/x-*', 'foo:443/']
deny: ['registry.corp.example/bad/**', '*/**:latest', {{image: quay.io, namespaces: ['sandbox-*']}}]
mirrors:
  - {{from: registry.corp.example, to: mirror.example/corp, imagePullSecret: corp, except: ['*/team/**']}}
  - {{from: docker.io, to: mirror.example}}
  - {{from: ghcr.io/org/app, to: mirror.example/app}}
namespaces: [{{names: ['sandbox-*'], mode: warn}}]
""",
    "hub": f"""{HEAD}mode: enforce
allow: [docker.io/library/nginx, 'docker.io/library/**:1', 'index.docker.io/org/**', 'other.example:5000']
namespaces: [{{names: ['sandbox-*'], mode: mutate}}]
mirrors: [{{from: quay.io, to: docker.io/org}}]
""",
}


def clients(*, oldest: bool) -> int:
    """Return how many requests to send at once.

    If several requests are the first ones under a new policy, the API server of Kubernetes 1.30 can end with
    "concurrent map read and map write".
    """
    return 1 if oldest else CLIENTS


def verdict_of(reply: Reply) -> str:
    """Return ``allowed``, ``denied``, ``warned``, or ``no object`` when the object itself is invalid."""
    if reply.status in {400, 422} and "ValidatingAdmissionPolicy" not in reply.body.get("message", ""):
        return "no object"
    if reply.status == 403:
        assert "ValidatingAdmissionPolicy 'gatekeeper-py-images" in reply.body["message"], reply.body
        return "denied"
    assert reply.status in {200, 201}, reply.body
    return "warned" if "ValidatingAdmissionPolicy 'gatekeeper-py-images" in reply.warnings else "allowed"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """Pause the webhooks of the control plane; remove the native policies at the end."""
    namespace = f"/api/v1/namespaces/{NAMESPACE}"
    installed = control_plane.find(namespace) is not None
    if installed:
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        annotate(control_plane, namespace, until)
        wait_until(
            lambda: no_webhooks(control_plane),
            seconds=60,
            what="no webhooks",
        )
    yield control_plane
    remove(control_plane)
    if installed:
        annotate(control_plane, namespace, None)
        wait_until(lambda: control_plane.find(VALIDATING), seconds=60, what="the webhook registered again")


@pytest.fixture(scope="module")
def places(plane: ControlPlane) -> Iterator[tuple[str, str]]:
    """Create two namespaces that the example policies name; in the second one they warn."""
    names = (f"shop-{uuid4().hex[:8]}", f"sandbox-{uuid4().hex[:8]}-analytics")
    for name in names:
        plane.make_namespace(name)
    yield names
    for name in names:
        plane.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def counted() -> Iterator[Counter[str]]:
    """Count the objects by answer, under all policies."""
    found: Counter[str] = Counter()
    yield found
    sys.stderr.write(f"\nobjects: {dict(sorted(found.items()))}\n")


def annotate(plane: ControlPlane, path: str, until: str | None) -> None:
    plane.api("PATCH", path, {"metadata": {"annotations": {"gatekeeper-py/paused-until": until}}})


def collection(kind: str) -> str:
    return f"{API}/{kind.lower()}".replace("policy", "policies").replace("policiesbinding", "policybindings")


def remove(plane: ControlPlane) -> None:
    for kind in (f"{KIND}Binding", KIND):
        for item in (plane.find(collection(kind)) or {"items": ()})["items"]:
            if item["metadata"]["labels"].get("app.kubernetes.io/part-of") == "gatekeeper-py":
                plane.api("DELETE", f"{collection(kind)}/{item['metadata']['name']}")


def put(plane: ControlPlane, text: str, namespaces: Sequence[str], *, backstop: bool = False) -> Policy:
    """Apply the native policies of a document, and wait until the API server uses them in every namespace.

    The document gets a unique message, which identifies its native policy.
    """
    marker = f"policy {uuid4().hex[:8]}"
    policy = parse_policy(f"{text}\nmessage: {marker}\n")
    options = Options(exempt=("kube-system",), backstop=backstop)
    documents = validating_policy(policy, datetime.now(UTC), options)
    remove(plane)
    plane.kubectl("apply", "--server-side", "-f", "-", input=as_yaml(documents))

    def everywhere() -> bool:
        return all(in_use(plane, marker, each) for each in namespaces)

    wait_until(everywhere, seconds=60, what=f"{marker} in use")
    return policy


def in_use(plane: ControlPlane, marker: str, namespace: str) -> bool:
    path = f"/api/v1/namespaces/{namespace}/pods"
    (evil,) = send_all(plane, "POST", path, [pod("probe", EVIL)])
    return marker in evil.body.get("message", "") + evil.warnings


def expectation(policy: CompiledPolicy, sent: Document, namespace: str, *, oldest: bool = False) -> str:
    """Return the verdict of the validating webhook, which judges Pods as written."""
    obj = {"apiVersion": "v1", "kind": "Pod"} | decoded(sent)
    if oldest and obj["kind"] == "Pod":
        obj["spec"] = without_image_volumes(obj["spec"])
    return admission.validate(wire.parse(review(obj, namespace=namespace)), policy).verdict


def without_image_volumes(spec: Document) -> Document:
    """Return a pod spec as Kubernetes 1.30 decodes it, without image volumes."""
    if not isinstance(spec.get("volumes"), list):
        return spec
    volumes = [{key: value for key, value in each.items() if key != "image"} for each in spec["volumes"]]
    return {**spec, "volumes": volumes}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.oldest] * (name == "everything")) for name in POLICIES]
)
def test_pods_and_workloads_are_answered_as_by_the_webhook(
    plane: ControlPlane, places: tuple[str, str], counted: Counter[str], name: str, *, oldest: bool
) -> None:
    parsed = parse_policy(POLICIES[name])
    backstop = any(rule.until is not None for rule in (*parsed.allow, *parsed.deny))
    policy = put(plane, POLICIES[name], places, backstop=backstop).at(datetime.now(UTC))
    turn = list(POLICIES).index(name)
    pods = list(adversary.pods(name, turn, "mirror.example/app:1"))
    pods += [pod(f"usual-{number}", image) for number, image in enumerate(adversary.USUAL)]
    if oldest:
        pods = pods[::4]  # the newest Kubernetes gets all of them
    counts: Counter[str] = Counter()
    for place, documents in zip(places, (pods, pods[turn % 5 :: 5]), strict=True):
        path = f"/api/v1/namespaces/{place}/pods"
        answers = send_all(plane, "POST", path, documents, clients=clients(oldest=oldest))
        for sent, answer in zip(documents, answers, strict=True):
            counts[f"Pod {verdict_of(answer)}"] += 1
            if verdict_of(answer) != "no object":
                assert verdict_of(answer) == expectation(policy, sent, place, oldest=oldest), (sent, answer)
    images = (*adversary.images()[turn::7], *adversary.USUAL)
    templates = [deployment(f"d{number}", image) for number, image in enumerate(images)]
    path = f"/apis/apps/v1/namespaces/{places[0]}/deployments"
    answers = send_all(plane, "POST", path, templates, clients=clients(oldest=oldest))
    for sent, answer in zip(templates, answers, strict=True):
        counts[f"Deployment {verdict_of(answer)}"] += 1
        if verdict_of(answer) != "no object":
            assert verdict_of(answer) == expectation(policy, sent, places[0]), (sent, answer)
    counted.update(counts)
    assert counts["Pod denied"] + counts["Pod warned"] > (75 if oldest else 300)
    assert counts["Pod allowed"] > 10


@pytest.mark.oldest
def test_no_expression_has_a_type_warning(plane: ControlPlane, namespace: str) -> None:
    """The controller manager checks every expression against the schemas of the kinds it applies to."""
    put(plane, POLICIES["everything"], [namespace])
    path = f"{collection('ValidatingAdmissionPolicy')}/gatekeeper-py-images"

    def checked() -> Document | None:
        status: Document = plane.api("GET", path).get("status", {})
        return status if "typeChecking" in status else None

    status = wait_until(checked, seconds=30, what="the policy type-checked")
    assert status["typeChecking"].get("expressionWarnings", []) == []


@pytest.mark.oldest
def test_updates_are_judged_by_new_images_only(plane: ControlPlane, namespace: str, *, oldest: bool) -> None:
    remove(plane)
    path = f"/api/v1/namespaces/{namespace}/pods"
    wait_until(
        lambda: send_all(plane, "POST", path, [pod("p", EVIL)])[0].status == 201, seconds=30, what="none"
    )
    plane.api("POST", path, pod("older", EVIL))
    plane.api(
        "POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment("older", EVIL, replicas=0)
    )
    policy = put(plane, f"{HEAD}mode: enforce\nallow: [quay.io]\n", [namespace]).at(datetime.now(UTC))
    label = {"metadata": {"labels": {"a": "b"}}}
    for image, expected in ((EVIL, "allowed"), ("quay.io/x:1", "allowed"), ("evil.example/y", "denied")):
        changed: Document = {"spec": {"containers": [{"name": "web", "image": image}]}}
        patches = (label | changed, {"spec": {"template": changed}})
        merge = "strategic-merge-patch+json"
        for where, patch in zip(
            (f"{path}/older", f"/apis/apps/v1/namespaces/{namespace}/deployments/older"), patches, strict=True
        ):
            (answer,) = send_all(plane, "PATCH", where, [patch], kind=merge)
            assert verdict_of(answer) == expected, answer
    debugs: list[Document] = [
        {"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}}
        for image in adversary.images()[::3]
    ]
    answers = send_all(
        plane,
        "PATCH",
        f"{path}/older/ephemeralcontainers",
        debugs,
        kind=merge,
        clients=clients(oldest=oldest),
    )
    verdicts = Counter(verdict_of(answer) for answer in answers)
    for sent, answer in zip(debugs, answers, strict=True):
        image = sent["spec"]["ephemeralContainers"][0]["image"]
        if verdict_of(answer) != "no object":
            assert (verdict_of(answer) == "allowed") is policy.decide(namespace, image).approved, sent
    assert min(verdicts["allowed"], verdicts["denied"]) > 10


@pytest.mark.oldest
def test_a_user_reads_the_image_and_the_message(plane: ControlPlane, namespace: str) -> None:
    policy = put(plane, f"{HEAD}mode: enforce\nallow: [quay.io]\n", [namespace])
    done = plane.kubectl("run", "-n", namespace, "x", "--image=nginx", check=False)
    assert done.returncode == 1
    assert "ValidatingAdmissionPolicy 'gatekeeper-py-images' with binding" in done.stderr
    assert f"not approved: nginx (docker.io/library/nginx); {policy.document.message}" in done.stderr


def test_a_backstop_refuses_images_that_no_rule_names_and_no_approved_image(
    plane: ControlPlane, namespace: str
) -> None:
    text = f"""{HEAD}mode: enforce
allow: [{{image: quay.io, until: 2099-01-01}}, registry.corp.example/team/**]
require: [{{images: [registry.corp.example/team/**], exists: true}}]
deny: [{{image: quay.io/x-y/**, until: 2099-01-01}}, quay.io/org/bad]
"""
    policy = put(plane, text, [namespace], backstop=True).at(datetime.now(UTC))
    documents = [pod(f"p{number}", image) for number, image in enumerate(adversary.images())]
    wider = 0
    for sent, answer in zip(
        documents, send_all(plane, "POST", f"/api/v1/namespaces/{namespace}/pods", documents), strict=True
    ):
        image = sent["spec"]["containers"][0]["image"]
        decision = policy.decide(namespace, image)
        if verdict_of(answer) == "no object":
            continue
        if decision.approved:
            assert verdict_of(answer) == "allowed", sent
        elif decision.reason in {"unlisted", "invalid"}:
            assert verdict_of(answer) == "denied", sent
        else:
            wider += verdict_of(answer) == "allowed"
    assert wider > 5


def test_a_static_policy_cannot_be_removed_by_a_request(
    plane: ControlPlane, namespace: str, static_policies: Path
) -> None:
    """An administrator can neither see nor delete it, nor create one with its name."""
    remove(plane)
    text = f"""{HEAD}mode: warn
allow: [mirror.example]
namespaces: [{{names: [{namespace}], mode: enforce}}]
"""
    options = Options(exempt=("kube-system", NAMESPACE), static=True)
    compiled = validating_policy(parse_policy(text), datetime.now(UTC), options)
    file = static_policies / "validating" / "images.yaml"
    path = f"/api/v1/namespaces/{namespace}/pods"

    def answers() -> tuple[str, int]:
        evil, good = send_all(
            plane, "POST", path, [pod("evil", EVIL), pod("good", "mirror.example/org/app:1")]
        )
        refused = "images.static.k8s.io' denied" in evil.body.get("message", "")
        return "denied" if refused else str(evil.status), good.status

    try:
        unfinished = file.with_suffix(".new")
        unfinished.write_text(as_yaml(compiled), encoding="utf-8")
        unfinished.rename(file)
        expected = ("denied", 201)
        wait_until(lambda: answers() == expected, seconds=90, what="the static policy in use")
        name = "gatekeeper-py-images.static.k8s.io"
        done = plane.kubectl("delete", "validatingadmissionpolicy", name, check=False)
        assert "not found" in done.stderr
        shadow = as_yaml(compiled[:1])
        done = plane.kubectl("apply", "--server-side", "-f", "-", input=shadow, check=False)
        assert done.returncode == 1
        assert answers() == expected
    finally:
        file.unlink(missing_ok=True)
    wait_until(lambda: answers()[0] == "201", seconds=90, what="no static policy")
