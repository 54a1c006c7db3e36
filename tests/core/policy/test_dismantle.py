"""Freeing piece by piece."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime

import pytest

from gatekeeper_py.core.policy.dismantle import FEW_RULES, dismantle
from gatekeeper_py.core.policy.policy import parse_policy

POLICY = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow:
  - registry.corp.io/**
  - {image: "*.corp.io/team-*/app:v*", namespaces: [shop], owner: me}
deny: ["*/**:latest"]
mirrors: [{from: docker.io, to: registry.corp.io/hub}]
"""


class Node:
    """Something that can be watched."""

    def __init__(self, *children: object) -> None:
        self.children = children


@pytest.mark.parametrize("rules", [1, FEW_RULES + 1])
def test_frees_all_that_only_the_roots_held(rules: int) -> None:
    leaf = Node()
    watched: list[weakref.ref[Node]] = [
        weakref.ref(leaf),
        weakref.ref(root := Node(Node(leaf), [leaf], {"a": (leaf,)})),
    ]
    roots = [root]
    del leaf, root
    gc.disable()
    try:
        dismantle(roots, rules=rules)
        assert roots == []
        assert [watch() for watch in watched] == [None, None]
    finally:
        gc.enable()


def test_leaves_what_others_hold_whole() -> None:
    kept = Node(Node(), [1, 2])
    roots = [Node(kept, (kept,))]
    dismantle(roots, rules=FEW_RULES + 1)
    assert isinstance(kept.children[0], Node)
    assert kept.children[1] == [1, 2]


def test_ends_on_a_cycle() -> None:
    one = Node()
    one.children = (one,)
    watched = weakref.ref(one)
    roots = [one]
    del one
    dismantle(roots, rules=FEW_RULES + 1)
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("lint", [False, True])
def test_a_policy_has_no_cycles_so_that_it_goes_without_the_collector(*, lint: bool) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    compiled = parse_policy(POLICY).at(now)
    compiled.decide("shop", "eu.corp.io/team-a/app:v1")
    findings = compiled.policy.lint(now) if lint else ()
    watched: list[weakref.ref[object]] = [weakref.ref(compiled), weakref.ref(compiled.policy)]
    roots = [compiled, *findings]
    del compiled, findings
    gc.collect()
    gc.disable()
    try:
        dismantle(roots, rules=FEW_RULES + 1)
        assert [watch() for watch in watched] == [None, None]
        assert gc.collect() == 0
    finally:
        gc.enable()
