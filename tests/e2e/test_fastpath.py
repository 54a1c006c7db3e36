"""The fast path on a real API server: the requests that it skips, and those that call the webhook."""

from __future__ import annotations

import pytest

from e2e.fastpath import (
    ANNOTATION,
    CONDITION,
    MIRRORED,
    PRE_APPROVED,
    STAYING,
    UPPER_CASE,
    Site,
)
from gatekeeper_py.core import parse_policy
from tools.installation.product import K8S, MUTATING, UNLISTED, VALIDATING, pod


def test_under_the_policy_as_shipped_tagged_images_are_skipped(site: Site, namespace: str) -> None:
    """Because of its rule against floating tags, only images with such tags call the webhook."""
    assert site.metric('gatekeeper_py_fastpath_rules{endpoint="validating"}') == 2
    with site.expect_reviews(0):
        assert site.create(namespace, pod("tagged", "registry.corp.example/app:1.2")).status == 201
    with site.expect_reviews(1):
        assert site.create(namespace, pod("floating", "registry.corp.example/app:latest")).status == 403
    with site.expect_reviews(1):
        assert site.create(namespace, pod("untagged", "registry.corp.example/app")).status == 403


@pytest.mark.oldest
def test_pre_approved_pods_call_no_webhook_and_others_do(wide: Site, namespace: str) -> None:
    with wide.expect_reviews(0):
        for _ in range(20):
            assert wide.create(namespace, pod("pre-approved", PRE_APPROVED)).status == 201
    # Without a mirror, API servers call only the validating webhook.
    with wide.expect_reviews(1):
        assert wide.create(namespace, pod("upper-case", UPPER_CASE)).status == 201
    with wide.expect_reviews(1):
        answer = wide.create(namespace, pod("unlisted", UNLISTED))
    assert answer.status == 403
    assert "is not approved" in answer.body["message"]
    with wide.expect_reviews(1):
        two = pod("one-of-two", PRE_APPROVED, initContainers=[{"name": "init", "image": UNLISTED}])
        assert wide.create(namespace, two).status == 403


@pytest.mark.oldest
def test_with_a_mirror_both_webhooks_for_pods_skip_and_are_called_in_mutate_mode_only(
    wide: Site, namespace: str
) -> None:
    wide.put_policy(MIRRORED)
    assert wide.product.get(MUTATING) is None
    with wide.expect_reviews(1):
        assert wide.create(namespace, pod("unlisted", UNLISTED)).status == 403
    wide.product.set_mode("mutate")
    wide.wait_in_step()
    for path in (VALIDATING, MUTATING):
        live = wide.plane.api("GET", path)
        assert wide.conditions(path) == ["an-image-changed", CONDITION]
        assert live["metadata"]["annotations"][ANNOTATION] == parse_policy(MIRRORED).revision
        for hook in live["webhooks"][1:]:
            assert CONDITION not in [each["name"] for each in hook["matchConditions"]]
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("staying", STAYING)).status == 201
    with wide.expect_reviews(1):
        answer = wide.create(namespace, pod("mirrored", PRE_APPROVED))
    assert answer.status == 201
    assert answer.body["spec"]["containers"][0]["image"] == "mirror.example/team/app:1"
    with wide.expect_reviews(2):
        assert wide.create(namespace, pod("unlisted", UNLISTED)).status == 403


def test_the_annotation_is_read_as_documented(wide: Site) -> None:
    path = "jsonpath={.metadata.annotations.gatekeeper-py/fast-path-revision}"
    found = wide.plane.kubectl(
        "get", "validatingwebhookconfiguration", "image-validation-webhook", "-o", path
    )
    assert path in (K8S.parent / "docs/fast-path.md").read_text().replace("'", "")
    assert {found.stdout} == wide.product.revisions()


@pytest.mark.parametrize(
    ("mode", "status", "warns"), [("enforce", 403, False), ("warn", 201, True), ("mutate", 403, False)]
)
def test_a_mode_changes_no_webhook_configuration(
    wide: Site, namespace: str, mode: str, status: int, *, warns: bool
) -> None:
    before = wide.plane.api("GET", VALIDATING)["metadata"]["resourceVersion"]
    wide.product.set_mode(mode)
    wide.wait_in_step()
    assert wide.plane.api("GET", VALIDATING)["metadata"]["resourceVersion"] == before
    assert wide.product.get(MUTATING) is None
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("pre-approved", PRE_APPROVED)).status == 201
    with wide.expect_reviews(1):
        answer = wide.create(namespace, pod("unlisted", UNLISTED))
    assert (answer.status, bool(answer.warnings)) == (status, warns)


def test_updates_call_the_webhook(wide: Site, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/pre-approved"
    with wide.expect_reviews(0):
        assert wide.create(namespace, pod("pre-approved", PRE_APPROVED), dry_run=False).status == 201
        assert wide.send("PATCH", path, {"metadata": {"labels": {"a": "b"}}}).status == 200
        other = {"spec": {"containers": [{"name": "web", "image": "registry.corp.example/other:2"}]}}
        assert wide.send("PATCH", path, other).status == 200
    bad = {"spec": {"containers": [{"name": "web", "image": UNLISTED}]}}
    answer = wide.send("PATCH", path, bad)
    assert answer.status == 403
    assert "is not approved" in answer.body["message"]
