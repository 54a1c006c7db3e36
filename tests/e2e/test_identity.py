"""Nobody else can use the controller's identity, and that identity can write only what the controller writes.

Everything is sent in dry run, which the API server admits or refuses as the real request.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from e2e.fastpath import PROBE_NAMESPACE
from gatekeeper_py.controller.configurations import EVERYTHING
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions, Desired, OwnerReference
from gatekeeper_py.controller.webhooks.settings import WebhookSettings, parse_settings
from gatekeeper_py.controller.webhooks.templates import (
    POD_MUTATION,
    POD_VALIDATION,
    Target,
    mutating,
    validating,
)
from tools.installation.product import (
    APPROVED,
    MUTATING,
    NAMESPACE,
    SECRET,
    SETTLE_SECONDS,
    VALIDATING,
    Installed,
)
from tools.polling import wait_until

Document = dict[str, Any]

ACCOUNT: Final = "gatekeeper-py-controller"
TARGET: Final = Target(namespace=NAMESPACE, service="gatekeeper-py", policy="gatekeeper-py-policy")
OWNER: Final = OwnerReference(
    api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole", name=ACCOUNT, uid="1-2-3"
)
SETTINGS: Final = {
    "defaults": WebhookSettings(),
    "everything": EVERYTHING,
    "strictest": parse_settings(
        "exemptNamespaces: [calico-system]\n"
        "exemptNamespaceLabels: {tier: platform}\n"
        "pods: {timeoutSeconds: 3}\n"
        "workloads: {failurePolicy: Fail}\n"
        "mutation: {failurePolicy: Fail}\n"
        "extraRules:\n"
        "  - {apiGroups: [argoproj.io, tekton.dev], apiVersions: ['*'], resources: [things, a/b]}\n"
    ),
    "least": parse_settings("{workloads: {enabled: false}, policyGuard: {enabled: false}}"),
}
FAST_PATH: Final = Conditions(
    expressions={POD_VALIDATION: "request.name == 'a'", POD_MUTATION: "request.name == 'b'"}, revision="0123"
)


@pytest.fixture
def controller(product: Installed) -> Path:
    return product.controller_identity()


def refusal_of(product: Installed, *arguments: str, document: Document, identity: Path | None = None) -> str:
    """Send a document in dry run; return the error, or an empty text if it is admitted."""
    done = product.plane.kubectl(
        *arguments,
        "--dry-run=server",
        "-f",
        "-",
        input=json.dumps(document),
        kubeconfig=identity,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def live(product: Installed, path: str = VALIDATING) -> Document:
    found = product.get(path)
    assert found is not None
    return found


def release(product: Installed) -> None:
    """Let the controller run again, and wait for it."""
    product.kubelet.release(f"{ACCOUNT}-")
    wait_until(product.controllers, seconds=SETTLE_SECONDS, what="the controller running")


@pytest.mark.parametrize("conditions", [NO_CONDITIONS, FAST_PATH], ids=["usual", "fast-path"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("target", [TARGET, replace(TARGET, exceptions=True)], ids=["usual", "exceptions"])
def test_the_controller_may_write_every_configuration_that_the_settings_produce(
    product: Installed, controller: Path, settings: WebhookSettings, conditions: Conditions, target: Target
) -> None:
    assert product.get(MUTATING) is None  # so that the first one is created and the second one is replaced
    apply = ("apply", "--server-side", "--force-conflicts")
    bundle = b"-----BEGIN CERTIFICATE-----\n"
    for build, command in ((validating, ("replace",)), (mutating, apply)):
        desired: Desired = build(target, settings)
        document = desired.document(bundle, OWNER, conditions)
        # The API server parses the bundle, so it must be a real one.
        for webhook in document["webhooks"]:
            webhook["clientConfig"]["caBundle"] = product.plane.ca_bundle()
        assert refusal_of(product, *command, document=document, identity=controller) == ""


def test_the_controller_may_keep_an_edit_by_an_administrator(product: Installed, controller: Path) -> None:
    """Without usable settings the controller keeps rules and selectors, and only renews the certificate."""
    before = live(product)
    edited = copy.deepcopy(before)
    edited["webhooks"][0]["rules"][0] |= {"apiGroups": ["*"], "operations": ["*"], "resources": ["*"]}
    edited["webhooks"][0] |= {"namespaceSelector": {}, "failurePolicy": "Ignore"}
    product.kubelet.hold(f"{ACCOUNT}-")
    try:
        product.kubelet.crash(product.controllers()[0])
        product.plane.api("PUT", VALIDATING, edited)
        written = live(product)
        written["webhooks"][0]["timeoutSeconds"] = 7
        assert refusal_of(product, "replace", document=written, identity=controller) == ""
    finally:
        product.plane.api("PUT", VALIDATING, before | {"metadata": live(product)["metadata"]})
        release(product)


def _changed(**fields: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["webhooks"][0] |= fields

    return change


def _service(**fields: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["webhooks"][0]["clientConfig"]["service"] |= fields

    return change


def _rule(**fields: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["webhooks"][0]["rules"][0] |= fields

    return change


def _exempting(*names: str) -> Callable[[Document], None]:
    term = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": list(names)}
    return _changed(namespaceSelector={"matchExpressions": [term]})


OWN_WEBHOOKS: Final = "only its own webhooks"
OWN_RULES: Final = "only rules for creates and updates of the resources"
EXEMPT: Final = "must exempt the namespaces gatekeeper-py and kube-system"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_changed(clientConfig={"url": "https://evil.example/"}), OWN_WEBHOOKS, id="url"),
        pytest.param(_service(namespace="default"), OWN_WEBHOOKS, id="service-elsewhere"),
        pytest.param(_service(name="evil"), OWN_WEBHOOKS, id="another-service"),
        pytest.param(_service(path="/validate-policy"), OWN_WEBHOOKS, id="another-path"),
        pytest.param(_service(path=None), OWN_WEBHOOKS, id="no-path"),
        pytest.param(_service(port=8080), OWN_WEBHOOKS, id="another-port"),
        pytest.param(_changed(name="secrets.evil.example"), OWN_WEBHOOKS, id="another-webhook"),
        pytest.param(_rule(resources=["secrets"]), OWN_RULES, id="secrets"),
        pytest.param(_rule(resources=["*"]), OWN_RULES, id="every-resource"),
        pytest.param(_rule(apiGroups=["*"]), OWN_RULES, id="every-group"),
        pytest.param(_rule(operations=["*"]), OWN_RULES, id="every-operation"),
        pytest.param(_changed(namespaceSelector={}), EXEMPT, id="every-namespace"),
        pytest.param(_exempting("gatekeeper-py"), EXEMPT, id="kube-system"),
    ],
)
def test_the_identity_of_the_controller_cannot_write_another_webhook(
    product: Installed, controller: Path, change: Callable[[Document], None], message: str
) -> None:
    document = live(product)
    change(document)
    refusal = refusal_of(product, "replace", document=document, identity=controller)
    assert "'gatekeeper-py-controller-writes'" in refusal
    assert message in refusal


def test_pods_are_created_in_the_probe_namespace_only_in_dry_run(
    product: Installed, controller: Path, namespace: str
) -> None:
    for where, identity, reason in (
        (PROBE_NAMESPACE, controller, "only in dry run"),
        (PROBE_NAMESPACE, None, "exceeded quota"),  # another identity with the right
        (namespace, controller, "forbidden"),
    ):
        document = _of_kind("Pod", "real")
        document["metadata"]["namespace"] = where
        document["spec"]["containers"][0]["image"] = APPROVED
        done = product.plane.kubectl(
            "create", "-f", "-", input=json.dumps(document), kubeconfig=identity, check=False
        )
        assert done.returncode != 0
        assert reason in done.stderr


def test_the_controller_cannot_make_a_secret_that_holds_a_token(product: Installed, controller: Path) -> None:
    """Nothing else prevents that while its Secret does not exist."""
    secret = live(product, SECRET)
    metadata = {"name": "gatekeeper-py-tls", "namespace": NAMESPACE}
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata | {"annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    }
    assert secret["type"] == "Opaque"
    product.kubelet.hold(f"{ACCOUNT}-")
    try:
        product.kubelet.crash(product.controllers()[0])
        product.plane.api("DELETE", SECRET)
        refusal = refusal_of(product, "apply", "--server-side", document=token, identity=controller)
    finally:
        restored = {"metadata": metadata | {"labels": secret["metadata"]["labels"]}, "data": secret["data"]}
        product.plane.api("POST", SECRET.rpartition("/")[0], {**restored, "type": "Opaque"})
        release(product)
    assert "only the Secret gatekeeper-py-tls, which holds certificates" in refusal


def test_a_token_that_is_not_of_a_pod_of_the_controller_writes_nothing(product: Installed) -> None:
    name = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    refusal = refusal_of(product, f"--as={name}", "replace", document=live(product))
    assert "may write only with the token of a Pod of the Deployment gatekeeper-py-controller" in refusal


def _pod_spec(**fields: Any) -> Document:
    """Return a Pod that passes Pod Security at level restricted."""
    document = yaml.safe_load((Path(__file__).parents[2] / "k8s/base/controller.yaml").read_text("utf-8"))
    spec: Document = document["spec"]["template"]["spec"]
    del spec["serviceAccountName"]
    return spec | fields


def _of_kind(kind: str, name: str, **fields: Any) -> Document:
    labels = {"app": "stranger"}
    return {
        "apiVersion": "v1" if kind == "Pod" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": _pod_spec(**fields)
        if kind == "Pod"
        else {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(**fields)},
        },
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(
            _of_kind("Pod", "gatekeeper-py-controller-x", serviceAccountName=ACCOUNT),
            "only Pods of",
            id="pod",
        ),
        pytest.param(_of_kind("Pod", "x", serviceAccount=ACCOUNT), "only Pods of", id="by-the-old-field"),
        pytest.param(
            _of_kind("ReplicaSet", "gatekeeper-py-controller-x", serviceAccountName=ACCOUNT),
            "only ReplicaSets of",
            id="replicaset",
        ),
        pytest.param(
            _of_kind("Deployment", "stranger", serviceAccountName=ACCOUNT),
            "only the Deployment gatekeeper-py-controller may use",
            id="deployment",
        ),
        pytest.param(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": "token",
                    "namespace": NAMESPACE,
                    "annotations": {"kubernetes.io/service-account.name": ACCOUNT},
                },
                "type": "kubernetes.io/service-account-token",
            },
            "no Secret may hold a token",
            id="secret",
        ),
    ],
)
def test_a_stranger_cannot_use_the_service_account(
    product: Installed, document: Document, message: str
) -> None:
    refusal = refusal_of(product, "create", document=document)
    assert "'gatekeeper-py-controller-users'" in refusal
    assert message in refusal


@pytest.mark.parametrize("kind", ["Pod", "ReplicaSet", "Deployment"])
def test_other_service_accounts_of_the_namespace_are_free(product: Installed, kind: str) -> None:
    assert refusal_of(product, "create", document=_of_kind(kind, "x", serviceAccountName="default")) == ""


def test_a_replicaset_of_the_controller_cannot_be_given_another_template(product: Installed) -> None:
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
    # Including those of earlier rollouts, because they can be scaled up again.
    name = next(
        name
        for name in (each["metadata"]["name"] for each in product.plane.api("GET", path)["items"])
        if name.startswith(f"{ACCOUNT}-")
    )
    document = live(product, f"{path}/{name}")
    del document["metadata"]["resourceVersion"]  # its status may change at any time
    document["metadata"]["labels"]["a"] = "b"
    assert refusal_of(product, "replace", document=document) == ""
    document["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example/x"
    assert "only ReplicaSets of" in refusal_of(product, "replace", document=document)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("exec", "POD", "--", "id"), "nobody may run a command", id="exec"),
        pytest.param(("attach", "POD"), "nobody may run a command", id="attach"),
        pytest.param(
            ("debug", "POD", "--image=registry.corp.example/debug:1", "--profile=restricted"),
            "takes no other image and no debug container",
            id="debug",
        ),
        pytest.param(
            ("set", "image", "pod/POD", "controller=registry.corp.example/app:1"),
            "takes no other image and no debug container",
            id="image",
        ),
        pytest.param(("create", "token", ACCOUNT), "only kubelets may request tokens", id="token"),
    ],
)
def test_the_token_of_the_controller_cannot_be_taken(
    product: Installed, arguments: tuple[str, ...], message: str
) -> None:
    name = product.controllers()[0].name.removeprefix("pod-")
    command = [each.replace("POD", name) for each in arguments]
    refusal = product.plane.kubectl("-n", NAMESPACE, *command, check=False).stderr
    assert "'gatekeeper-py-controller-users'" in refusal
    assert message in refusal
