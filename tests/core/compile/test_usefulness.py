"""Under realistic policies, API servers admit most approved images without calling the webhook."""

from __future__ import annotations

from datetime import datetime
from itertools import islice, product
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from support import naive
from support.builders import INSTANT, pod, review
from support.skipping import objection, skips

pytestmark = pytest.mark.bulk

ROOT: Final = Path(__file__).parents[3]
INSTALLED: Final = ROOT / "tools/installation/manifests/policy/policy.yaml"
POLICIES: Final = (*sorted((ROOT / "examples" / "policies").glob("*.yaml")), INSTALLED)

REGISTRIES: Final = (
    "registry.corp.example", "eu.registry.corp.example", "us.registry.corp.example", "registry.k8s.io",
    "ghcr.io/corp-example", "quay.io/corp-example", "quay.io", "docker.io", "docker.io/library",
    "registry.partner-one.example/delivery", "registry.partner-two.example",
)  # fmt: skip
REPOSITORIES: Final = (
    "app", "base", "nginx", "shop/checkout", "shop/cart/worker", "data/loader", "platform/ingress",
    "tools/kubectl", "team-a/api", "team-b/web/front", "team-a/base", "team-b/experimental-x",
    "legacy/mainframe", "dockerhub/library/postgres", "dockerhub/centos", "dockerhub/unmaintained/thing",
    "quay/prometheus/node-exporter", "quay/old-team/x", "prometheus/prometheus", "jupyter/base-notebook",
    "grafana/grafana",
)  # fmt: skip
TAGS: Final = (
    "1.2.3", "v1.4", "v2", "release-2026-03", "1.34", "16.2-alpine", "latest", "dev", "1.0-snapshot",
)  # fmt: skip
DIGEST: Final = "@sha256:" + "7c" * 32
SUFFIXES: Final = ("", DIGEST, *(f":{tag}" for tag in TAGS), f":{TAGS[0]}{DIGEST}")
NAMESPACES: Final = ("shop", "shop-eu", "data", "web-analytics", "integration-1", "sandbox-ana", "default")


def load(path: Path) -> tuple[str, dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return text, yaml.load(text, yaml.BaseLoader)


def test_there_are_twelve_realistic_policies() -> None:
    assert len(POLICIES) == 12


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_nine_of_ten_approved_images_written_in_full_are_skipped(path: Path) -> None:
    """No unapproved image is skipped, by the second implementation's decision."""
    text, document = load(path)
    fast_path = compile_fastpath(parse_policy(text), INSTANT)
    images = [
        f"{registry}/{name}{end}" for registry, name, end in product(REGISTRIES, REPOSITORIES, SUFFIXES)
    ]
    images = [image for image in images if not image.startswith("docker.io/") or image.count("/") > 1]
    # Without rules for namespaces, the answers are the same in all of them.
    namespaces = NAMESPACES if "namespaces" in text else NAMESPACES[:1]
    approved = skipped = unchanged = unchanged_skipped = 0
    for image, namespace in product(images, namespaces):
        judged = naive.validate(naive.Question(document, image, INSTANT, namespace))
        approves = judged.approved and not judged.warned
        skips = fast_path.approves(namespace, image, "validating")
        assert approves or not skips, (image, namespace)
        approved += approves
        skipped += skips
        if approves and not naive.rewritten(document, image):
            unchanged += 1
            unchanged_skipped += fast_path.approves(namespace, image, "mutating")
    assert approved > 22 * len(namespaces)
    assert skipped >= 0.90 * approved
    # The mutating webhook is not called for them either, unless a mirror covers them.
    assert unchanged_skipped >= 0.90 * unchanged
    assert all(verdict.validating == "" for verdict in fast_path.rules)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_pods_of_approved_images_are_skipped(path: Path) -> None:
    text, document = load(path)
    fast_path = compile_fastpath(parse_policy(text), INSTANT)
    images = [
        f"{registry}/{name}{end}" for registry, name, end in product(REGISTRIES, REPOSITORIES, SUFFIXES)
    ]
    for namespace in NAMESPACES:
        approving = (image for image in images if fast_path.approves(namespace, image, "validating"))
        approved = list(islice(approving, 30))
        if approved:
            review_document = review(pod(*approved), namespace=namespace)
            assert skips(fast_path.approved["validating"], wire.parse(review_document))
            assert objection(document, review_document, "validating", fast_path.valid_until) == ""


def test_expressions_under_dated_rules_end_with_the_first_of_them() -> None:
    text, _ = load(ROOT / "examples/policies/dated-partners.yaml")
    fast_path = compile_fastpath(parse_policy(text), INSTANT)
    assert fast_path.valid_until == datetime.fromisoformat("2099-06-30T00:00:00+00:00")
