"""Native policies on a real API server: their types, their backstop, and static ones.

The webhook is paused, so the tests see the answers of the native policies. test_golden_reviews.py compares
these with those of the webhook.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from e2e import adversary
from e2e.acting import Document, send_all
from e2e.native import API, EVIL, paused, put, remove
from e2e.test_golden_reviews import HEAD, MANY, verdict_of
from gatekeeper_py.cli.reporting.manifest import as_yaml
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.validating import validating_policy
from tools.controlplane.plane import ControlPlane
from tools.installation.product import NAMESPACE, pod
from tools.polling import wait_until

EXAMPLES: Final = sorted((Path(__file__).parents[2] / "examples/policies").glob("*.yaml"))


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    with paused(control_plane) as found:
        yield found


@pytest.mark.oldest
def test_an_api_server_accepts_the_native_policies_of_all_examples(plane: ControlPlane) -> None:
    for path in EXAMPLES:
        policy = parse_policy(path.read_text(encoding="utf-8"))
        options = Options(exempt=("kube-system",), backstop=True)
        documents = as_yaml(validating_policy(policy, datetime.now(UTC), options))
        done = plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", input=documents)
        assert done.stderr == "", path.name


@pytest.mark.oldest
def test_no_expression_has_a_type_warning(plane: ControlPlane, namespace: str) -> None:
    """The controller manager checks every expression against the schemas of the kinds it applies to."""
    put(plane, HEAD + MANY["everything"], [namespace])
    path = f"{API}/validatingadmissionpolicies/gatekeeper-py-images"

    def checked() -> Document | None:
        status: Document = plane.api("GET", path).get("status", {})
        return status if "typeChecking" in status else None

    status = wait_until(checked, seconds=30, what="the policy type-checked")
    assert status["typeChecking"].get("expressionWarnings", []) == []


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
