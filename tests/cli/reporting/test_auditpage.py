"""The page of an audit is complete, small, and safe against hostile content."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

import pytest

from gatekeeper_py.cli.reporting.auditpage import MAX_RULES, AuditPage, audit_page
from gatekeeper_py.core import parse_policy
from support.auditing import HOSTILE, META, page_of, tally_of
from support.builders import INSTANT
from support.paging import sections

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
