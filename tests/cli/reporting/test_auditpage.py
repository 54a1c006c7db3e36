"""The page of an audit is complete, small, and safe against hostile content."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

import pytest

from gatekeeper_py.cli.inventory.tally import Tally
from gatekeeper_py.cli.reporting.auditpage import MAX_RULES, AuditPage, audit_page
from gatekeeper_py.core import parse_policy
from support.auditing import HOSTILE, META, page_of, tally_of
from support.builders import INSTANT
from support.paging import lines, sections

MAX_BYTES: Final = 1_000_000


POLICY: Final = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow:
  - registry.corp.example
  - image: partner.example.com/**
    until: 2026-01-01
    owner: sales
  - image: quay.io/batch/*
    namespaces: [batch-*]
deny:
  - "*/**:latest"
"""

RUNS: Final = (
    ("shop", "Pod", "web-1", "registry.corp.example/web:1"),
    ("shop", "Pod", "web-2", "registry.corp.example/web:1"),
    ("shop", "Deployment", "web", "nginx:1.25"),
    ("bank", "Pod", "a", "nginx:1.25"),
    ("bank", "Pod", "b", "registry.corp.example/tool:latest"),
    ("bank", "Pod", "c", "Not An Image"),
    ("kube-system", "Pod", "proxy", "registry.k8s.io/kube-proxy:v1"),
)


def shown(**changes: object) -> dict[str, str]:
    policy = parse_policy(POLICY)
    page = dataclasses.replace(page_of(policy), **changes)  # type: ignore[arg-type]
    return sections(audit_page(tally_of(policy, RUNS), page))


def test_the_summary_counts_images_and_places() -> None:
    summary = lines(shown()["summary"])
    assert summary[1] == "The policy would refuse 3 images in 4 places."
    assert "refused 4" in summary
    assert "approved 2" in summary
    assert "exempt 1" in summary


def test_rejected_images_are_grouped_by_reason_with_every_place() -> None:
    text = shown()["refused"]
    assert "2 places in 2 namespaces" in text
    for place in (
        "Deployment shop/web · spec.template.spec.containers[0].image",
        "Pod bank/a · spec.containers[0].image",
        "Pod bank/b · spec.containers[0].image",
        "Pod bank/c · spec.containers[0].image",
    ):
        assert place in text
    assert text.index("unlisted") < text.index("denied") < text.index("invalid")
    assert "is denied by deny[0] */**:latest" in text
    assert "registry.corp.example/web:1" not in text


def test_breakdowns_count_places() -> None:
    where = lines(shown()["where"])
    assert where[where.index("registry.corp.example") + 1 :][:3] == ["1", "2", "0"]
    assert where[where.index("(invalid)") + 1 :][:3] == ["1", "0", "0"]
    assert where[where.index("bank") + 1 :][:3] == ["3", "0", "0"]
    assert where[where.index("unlisted") + 1] == "2"


def test_rules_show_what_they_decide_and_unused_ones_are_listed() -> None:
    page = shown()
    rules = lines(page["rules"])
    assert rules[rules.index("allow[0] registry.corp.example") + 1 :][:2] == ["1", "2"]
    assert rules[rules.index("deny[0] */**:latest") + 1 :][:2] == ["1", "1"]
    unused = lines(page["unused"])
    assert "allow[1] partner.example.com/** until 2026-01-01T00:00:00Z" in unused
    assert unused[unused.index("expired") + 1] == "sales"
    assert "allow[2] quay.io/batch/* in batch-*" in unused
    assert not any("allow[0]" in line for line in unused)


def test_approved_and_exempt_images_are_listed_on_request() -> None:
    assert "approved" not in shown()
    page = shown(lists_approved=True)
    assert "registry.corp.example/web:1" in page["approved"]
    assert "Pod shop/web-1, shop/web-2 · spec.containers[0].image" in page["approved"]
    assert "kube-proxy" in page["exempt"]


def test_the_summary_lists_kinds_that_could_not_be_audited() -> None:
    assert (
        "the cluster does not serve Workflow.argoproj.io"
        in shown(missing=["Workflow.argoproj.io"])["summary"]
    )


def test_an_empty_cluster() -> None:
    policy = parse_policy(POLICY)
    page = sections(audit_page(Tally(keep_approved=True), page_of(policy)))
    assert "No image was found." in page["summary"]
    assert "None." in page["refused"]


def test_a_clean_cluster() -> None:
    policy = parse_policy(POLICY)
    page = sections(audit_page(tally_of(policy, RUNS[:2]), page_of(policy)))
    assert "The policy would refuse nothing that runs." in page["summary"]


@pytest.mark.parametrize("image", HOSTILE)
def test_hostile_images_stay_text(image: str) -> None:
    policy = parse_policy(POLICY)
    page = audit_page(tally_of(policy, [("shop", "Pod", "a", image)]), page_of(policy))
    expected = audit_page(tally_of(policy, [("shop", "Pod", "a", "!")]), page_of(policy))
    assert page.count("<") == expected.count("<")
    assert {character for character in page if not character.isascii()} <= {"\N{MIDDLE DOT}"}
    assert all(character.isprintable() or character == "\n" for character in page)


@pytest.mark.parametrize("images", [2500, pytest.param(10_000, id="all-different")])
def test_ten_thousand_places_take_less_than_a_megabyte(images: int) -> None:
    policy = parse_policy(POLICY)
    runs = [
        (
            f"team-{i % 200}",
            "Pod" if i % 2 else "ReplicaSet",
            f"service-{i % 700}-7d9f8b6c5d-{i:05d}",
            f"quay.io/acme/service-{i % images}:v1.{i % images % 7}",
        )
        for i in range(10_000)
    ]
    page = audit_page(tally_of(policy, runs), page_of(policy))
    assert len(page.encode()) < MAX_BYTES
    assert {name for _, _, name, _ in runs} <= set(re.findall("service-[0-9]+-7d9f8b6c5d-[0-9]{5}", page))


def test_the_page_states_how_many_rules_it_does_not_show() -> None:
    rules = "".join(f"  - r{i}.example.com\n" for i in range(MAX_RULES + 5))
    policy = parse_policy(f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: warn\nallow:\n{rules}")
    page = audit_page(
        tally_of(policy, [("a", "Pod", "b", "r1.example.com/x")]),
        AuditPage(meta=META, policy=policy, namespace="a", instant=INSTANT),
    )
    assert "4 more rules are not shown." in page
    assert "in the namespace a" in page
