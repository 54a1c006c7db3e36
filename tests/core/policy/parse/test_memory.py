"""A refused document costs no more memory than an accepted one of its size, while it is read and after.

Sizes are what ``tracemalloc`` counts, so they are the same on every machine.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import orjson
import pytest

from gatekeeper_py.core import Finding, PolicyError, parse_policy
from gatekeeper_py.core.policy.lint import lint
from support.builders import policy_text

pytestmark = pytest.mark.long  # tracing of memory takes minutes

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIZE: Final = 128 * 1024

MAX_STORED: Final = 128 * 1024
"""Size of the findings that are kept of a refused document: 101 of at most 540 characters, with their
objects."""


def filled(before: str, unit: Callable[[int], str], after: str = "") -> str:
    """Return a document of about ``SIZE`` characters."""
    parts = [before]
    size = len(before)
    number = 0
    while size < SIZE:
        parts.append(unit(number))
        size += len(parts[-1])
        number += 1
    return "".join([*parts, after])


def in_allow(item: str) -> str:
    return filled(policy_text(allow="["), lambda _: item, "]")


GOOD: Final = {
    "rules": filled(policy_text(allow=""), lambda i: f"- r{i}.io\n"),
    "rules-with-conditions": filled(
        policy_text(allow=""),
        lambda i: f"- {{image: r{i}.io, namespaces: [a, b], until: 2030-01-01, owner: me}}\n",
    ),
}

BAD: Final = {
    "patterns": in_allow("x,"),
    "long-patterns": in_allow(f"{'X' * 1_000},"),
    "empty-rules": in_allow("{},"),
    "lists-for-rules": in_allow("[],"),
    "unknown-field-in-each-rule": in_allow("{a},"),
    "wrong-types": in_allow("{image: 5},"),
    "unknown-fields": filled(policy_text(), lambda i: f"f{i}:\n"),
    "unknown-long-fields": filled(policy_text(), lambda i: f"{'k' * 1_000}{i}:\n"),
    "unknown-fields-of-a-rule": filled(policy_text(allow="[{image: a.io, "), lambda i: f"f{i},", "}]"),
    "long-unknown-fields-of-a-rule": filled(
        policy_text(allow="[{image: a.io, "), lambda i: f"{'k' * 1_000}{i},", "}]"
    ),
    "one-unknown-field": policy_text(f'? "{"k" * SIZE}"\n: x\n'),
    "lists-in-an-unknown-field": filled(policy_text("x: ["), lambda _: "[],", "]"),
    "deep-lists-in-an-unknown-field": filled(policy_text("x: ["), lambda _: f"{'[' * 60}{']' * 60},", "]"),
    "equal-fields": filled(policy_text(), lambda _: "mode: warn\n"),
    "equal-long-fields": filled(policy_text(), lambda _: f"{'k' * 1_000}: x\n"),
    "numbers-for-fields": filled(policy_text(), lambda _: "1:\n"),
    "names": filled(policy_text(allow="[{image: a.io, namespaces: ["), lambda _: "a,", "]}]"),
    "bad-names": filled(
        policy_text(allow=""), lambda _: f"- {{image: a.io, namespaces: [{'A,' * 1_000}]}}\n"
    ),
    "lists-for-names": filled(policy_text(allow="[{image: a.io, namespaces: ["), lambda _: "[],", "]}]"),
    "long-mode": policy_text().replace("enforce", "e" * SIZE),
    "long-message": policy_text("message: " + "m" * SIZE),
    "spaces-in-a-message": policy_text(f'message: "x{" " * SIZE}y\\n"'),
    "long-path": policy_text(f"resources: [{{group: g, kind: k, images: [{'a.' * (SIZE // 2)}a]}}]"),
    "mirrors-of-long-paths": filled(
        policy_text("mirrors:\n"), lambda i: f"- {{from: s{i}.io/{'a/' * 120}a, to: s0.io}}\n"
    ),
    "many-mirrors": filled(policy_text("mirrors: ["), lambda _: "{},", "]"),
    "anchors": in_allow("&a b,"),
    "aliases": in_allow("*a,"),
    "tags": in_allow("! b,"),
    "control-characters": policy_text("#" + "\x07" * SIZE),
    "bidirectional-controls": policy_text("#" + "\u202e" * (SIZE // 3)),
    "an-unclosed-list": f"{GOOD['rules'][:-2]}\n]",  # as long as the good document
    "documents": filled(policy_text(), lambda _: "---\n"),
}


def peak_of(text: str) -> int:
    """Return the peak memory of parsing a document, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        with suppress(PolicyError):
            parse_policy(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return most


def findings_of(text: str) -> tuple[Finding, ...]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return caught.value.findings


@pytest.fixture(scope="module")
def good_peak() -> int:
    parse_policy(policy_text())  # the first run imports and compiles, so it does not count
    return max(peak_of(text) for text in GOOD.values())


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_documents_are_accepted(text: str) -> None:
    assert len(parse_policy(text).allow) > 1_000


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_document_costs_no_more_memory_than_a_good_one(text: str, good_peak: int) -> None:
    assert findings_of(text)
    assert peak_of(text) <= good_peak


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_the_memory_that_a_refused_document_keeps_is_bounded(text: str) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        findings = findings_of(text)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MAX_STORED
    assert len(orjson.dumps([finding.as_json() for finding in findings])) < 125 * 1024


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(filled(policy_text(allow=""), lambda _: "- a.io\n"), id="equal-rules"),
        pytest.param(
            filled(policy_text(allow=""), lambda i: f"- r{i}.io\n", "deny: ['*']\n"), id="denied-rules"
        ),
        pytest.param(
            filled(policy_text(allow=""), lambda i: f"- {{image: r{i}.io, until: 2020-01-01}}\n"),
            id="expired-rules",
        ),
    ],
)
def test_a_document_of_thousands_of_warnings_has_a_hundred(text: str) -> None:
    findings = lint(parse_policy(text), NOON)
    assert len(findings) == 101
    assert len(orjson.dumps([finding.as_json() for finding in findings])) < 125 * 1024
