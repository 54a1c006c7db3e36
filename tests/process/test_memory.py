"""Freed memory returns to the system, and a large policy is freed in steps."""

from __future__ import annotations

import gc
import os
import platform
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.process import memory
from gatekeeper_py.process.memory import PIECES_A_STEP, collector_paused, dismantling, give_back

GLIBC = platform.libc_ver()[0] == "glibc"

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


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _blocks_far_apart() -> list[bytes]:
    """Return live objects with free pages between them."""
    # This size is too large for Python's own allocator, and too small for separate memory mappings.
    return [bytes([1]) * 20_000 for _ in range(5000)][49::50]


@pytest.mark.skipif(not GLIBC, reason="this C library gives memory back by itself")
def test_free_pages_between_live_objects_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    trim, returned = memory._trim, list[int]()
    assert trim is not None
    monkeypatch.setattr(memory, "_trim", lambda padding: returned.append(trim(padding)))
    stay = _blocks_far_apart()
    assert give_back()
    assert returned == [1], "the C library returned memory"
    assert len(stay) == 100


@pytest.mark.long
@pytest.mark.skipif(not GLIBC, reason="this C library gives memory back by itself")
def test_resident_memory_falls_by_the_free_pages() -> None:
    stay = _blocks_far_apart()
    before = _resident_mib()
    assert give_back()
    assert _resident_mib() < before - 50
    assert len(stay) == 100


def test_give_back_does_nothing_without_malloc_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper_py.process.memory._trim", None)
    assert not give_back()


class Node:
    """An object that supports weak references."""

    def __init__(self, *children: object) -> None:
        self.children = children


class TestDismantling:
    @pytest.fixture(autouse=True)
    def without_the_collector(self) -> Iterator[None]:
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    def test_frees_everything_that_only_the_roots_reference(self) -> None:
        leaf = Node()
        root = Node(Node(leaf), [leaf], {"a": (leaf,)})
        watched: list[weakref.ref[Node]] = [weakref.ref(leaf), weakref.ref(root)]
        roots = [root]
        del leaf, root
        for _ in dismantling(roots):
            pass
        assert roots == []
        assert [watch() for watch in watched] == [None, None]

    def test_keeps_everything_that_others_reference(self) -> None:
        kept = Node(Node(), [1, 2])
        for _ in dismantling([Node(kept, (kept,))]):
            pass
        assert isinstance(kept.children[0], Node)
        assert kept.children[1] == [1, 2]

    def test_terminates_on_a_cycle(self) -> None:
        one = Node()
        one.children = (one,)
        watched = weakref.ref(one)
        roots = [one]
        del one
        for _ in dismantling(roots):
            pass
        gc.collect()
        assert watched() is None

    def test_no_step_frees_more_than_a_hundred_pieces(self) -> None:
        nodes = [Node() for _ in range(10 * PIECES_A_STEP)]
        watched = [weakref.ref(node) for node in nodes]
        roots = [Node(*nodes)]
        nodes.clear()
        freed = 0
        for _ in dismantling(roots):
            now = sum(watch() is None for watch in watched)
            assert now - freed <= PIECES_A_STEP
            freed = now
        assert freed == len(watched)

    @pytest.mark.parametrize("linted", [False, True])
    def test_a_policy_has_no_cycles_and_is_freed_without_the_collector(self, *, linted: bool) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        compiled = parse_policy(POLICY).at(now)
        compiled.decide("shop", "eu.corp.io/team-a/app:v1")
        findings = lint(compiled.policy, now) if linted else ()
        watched: list[weakref.ref[object]] = [weakref.ref(compiled), weakref.ref(compiled.policy)]
        roots = [compiled, *findings]
        del compiled, findings
        gc.collect()
        for _ in dismantling(roots):
            pass
        assert [watch() for watch in watched] == [None, None]
        assert gc.collect() == 0


class TestCollectorPaused:
    @pytest.fixture(autouse=True)
    def thawed(self) -> Iterator[None]:
        gc.unfreeze()
        yield
        gc.unfreeze()

    def test_objects_made_during_a_pause_are_frozen(self) -> None:
        with collector_paused():
            assert not gc.isenabled()
            made = [Node() for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() > len(made)

    def test_garbage_is_not_frozen(self) -> None:
        one = Node()
        one.children = (one,)
        watched = weakref.ref(one)
        del one
        with collector_paused():
            pass
        assert watched() is None

    def test_the_collector_is_enabled_again_after_a_failure(self) -> None:
        with pytest.raises(LookupError), collector_paused():
            raise LookupError
        assert gc.isenabled()
