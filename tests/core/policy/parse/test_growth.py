"""Work on a document grows at most linearly with any of its texts and of its lists.

A quick check comes first: CPU time for a text and for one four times as long. A result worse than linear is
then measured carefully, in instructions, CPU time and memory (``growth``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final

import pytest

from gatekeeper_py.core import PolicyError, parse_policy
from gatekeeper_py.core.policy.document import ENFORCE
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.parse.document import parse_document
from gatekeeper_py.core.policy.policy import Policy
from support.builders import policy_text
from support.growth import check_linear

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL: Final = 16 * 1024
LIMIT: Final = 128 * 1024

SUSPICIOUS_SECONDS: Final = 0.02
"""A quadratic search takes seconds for 64 KiB."""

SUSPICIOUS_RATIO: Final = 8
"""Limit of the ratio to a text four times shorter: the geometric mean of linear and quadratic growth."""


def judge(text: str) -> None:
    """Parse a document, and lint it when it is accepted."""
    with suppress(PolicyError):
        lint(parse_policy(text), NOON)


def seconds(text: str) -> float:
    started = time.thread_time()
    judge(text)
    return time.thread_time() - started


FIELDS: Final = [
    pytest.param('message: "{}"', id="message"),
    pytest.param('message: "x{}\\n  y"', id="message-and-another-line"),
    pytest.param("message: |\n  x{}x\n  y\n", id="message-in-a-block"),
    pytest.param('message: "x{}x\\ny"', id="message-with-an-escaped-line-break"),
    pytest.param("message: >\n  {}\n  y\n", id="message-in-a-folded-block"),
    pytest.param("message: x{}x", id="message-without-quotes"),
    pytest.param('deny: ["{}"]', id="pattern"),
    pytest.param('deny: ["a.io/x:{}"]', id="tag"),
    pytest.param('deny: ["a.io/x@sha256:{}"]', id="digest"),
    pytest.param('deny: ["[{}]:5000/x"]', id="ipv6"),
    pytest.param('deny: ["a.io:{}"]', id="port"),
    pytest.param('deny: [{{image: a.io, owner: "{}"}}]', id="owner"),
    pytest.param('deny: [{{image: a.io, reason: "{}"}}]', id="reason"),
    pytest.param('deny: [{{image: a.io, until: "2026-03-01T12:00:00.{}Z"}}]', id="until"),
    pytest.param('deny: [{{image: a.io, namespaces: ["{}"]}}]', id="namespace"),
    pytest.param('deny: [{{image: a.io, "{}": x}}]', id="field-of-a-rule"),
    pytest.param('namespaces: [{{names: [a], mode: "{}"}}]', id="mode-of-an-override"),
    pytest.param('require: [{{images: ["{}"], digest: true}}]', id="pattern-of-a-requirement"),
    pytest.param('require: [{{images: [a.io], signedBy: ["{}"]}}]', id="signed-by"),
    pytest.param('require: [{{images: [a.io], signedBy: [x], signatures: "{}"}}]', id="signatures"),
    pytest.param('mirrors: [{{from: "{}", to: b.io}}]', id="from"),
    pytest.param('mirrors: [{{from: a.io, to: "{}"}}]', id="to"),
    pytest.param('mirrors: [{{from: a.io, to: b.io, except: ["{}"]}}]', id="except"),
    pytest.param('resources: [{{group: "{}", kind: k, images: [a]}}]', id="group"),
    pytest.param('resources: [{{group: g, kind: "{}", images: [a]}}]', id="kind"),
    pytest.param('resources: [{{group: g, kind: k, images: ["{}"]}}]', id="path-of-a-resource"),
    pytest.param('"{}": x', id="field"),
    pytest.param('? "{}"\n: x', id="long-field"),
    pytest.param("x: &{} y", id="anchor"),
    pytest.param("x: *{}", id="alias"),
    pytest.param("x: !{} y", id="tag-of-a-value"),
    pytest.param("x: !<{}> y", id="uri-of-a-tag"),
    pytest.param("# {}", id="comment"),
    pytest.param("x: {}", id="any-value"),
    pytest.param("x: [{}]", id="any-list"),
    pytest.param("x: {{{}}}", id="any-mapping"),
    pytest.param("{}", id="anything"),
    pytest.param("---\n{}", id="second-document"),
    pytest.param("...\n%TAG {}\n---\n", id="directive"),
]

FILLS: Final = (
    *("a", "A", " ", "\t", "-", ".", "_", "*", "/", ":", "@"),
    *("9", "#", "'", "\\\\", "[", "{", "?", "|", "&", "!", "%"),
    *("a.", "a/", "a-", "*a", "a_", "**/", "://", "a:1/", ": ", "- ", "? ", " #", "\\n", "\\x07", "\\u2028"),
    *("a,", "[],", "{},", "a: b, ", "\n", " \n", "a\n", "a\n ", "- a\n", "a:\n"),
    *("\r\n", "\r", "\x07", "\u2028", "\u202e"),
    *("\xe9", "\U0001f600", "%TAG", "&a ", "*a ", "!a "),
)
"""Fillings of a text. Each was the worst case of some parser."""


@pytest.mark.parametrize("field", FIELDS)
def test_a_text_of_any_length_costs_no_more_than_its_length(field: str) -> None:
    for fill in FILLS:

        def make(size: int, fill: str = fill) -> str:
            return policy_text(field.format(fill * (size // len(fill))))

        long = seconds(make(4 * SMALL))
        if long > SUSPICIOUS_SECONDS and long > SUSPICIOUS_RATIO * seconds(make(SMALL)):
            check_linear(judge, make, start=SMALL // 4, limit=LIMIT)


def names(number: int) -> str:
    return ", ".join(f"n{i}" for i in range(number))


LISTS: Final = [
    pytest.param(lambda n: policy_text(allow="[" + "a.io, " * n + "]"), 2_000, id="equal-rules"),
    pytest.param(
        lambda n: policy_text(allow=f"[{', '.join(f'r{i}.io' for i in range(n))}]"), 2_000, id="hosts"
    ),
    pytest.param(
        lambda n: policy_text(allow=f"[{', '.join(f'a.io/x{i}' for i in range(n))}]"), 2_000, id="paths"
    ),
    pytest.param(lambda n: policy_text(allow="[" + "nginx, " * n + "]"), 2_000, id="bad-rules"),
    pytest.param(lambda n: policy_text(allow="[" + "{}, " * n + "]"), 2_000, id="empty-rules"),
    pytest.param(
        lambda n: policy_text(f"deny: [{{image: a.io, namespaces: [{names(n)}]}}]"),
        1_000,
        id="names-of-a-rule",
    ),
    pytest.param(
        lambda n: policy_text(f"namespaces: [{{names: [{names(n)}], mode: warn}}]"), 1_000, id="names"
    ),
    pytest.param(
        lambda n: policy_text(
            "mirrors:\n" + "".join(f"- {{from: s{i}.io/{'a/' * 100}a, to: t.io}}\n" for i in range(n))
        ),
        1_000,
        id="mirrors-of-long-paths",
    ),
    pytest.param(
        lambda n: policy_text("mirrors: [" + "{from: a.io, to: a.io}, " * n + "]"),
        1_000,
        id="mirrors-in-conflict",
    ),
    pytest.param(
        lambda n: policy_text("mirrors: [{from: a.io, to: b.io, except: [" + "c.io, " * n + "]}]"),
        1_000,
        id="exceptions",
    ),
    pytest.param(
        lambda n: policy_text("require: [" + "{images: [a.io], digest: true}, " * n + "]"),
        1_000,
        id="requirements",
    ),
    pytest.param(
        lambda n: policy_text(f"require: [{{images: [a.io, {names(n)}], except: [{names(n)}]}}]"),
        2_000,
        id="patterns-of-a-requirement",
    ),
    pytest.param(
        lambda n: policy_text(allow="[" + "{image: a.io, verify: true, signedBy: [a, b]}, " * n + "]"),
        2_000,
        id="former-fields",
    ),
    pytest.param(
        lambda n: policy_text("resources: [" + "{group: g, kind: k, images: [a.b]}, " * n + "]"),
        1_000,
        id="resources",
    ),
    pytest.param(lambda n: policy_text("".join(f"f{i}:\n" for i in range(n))), 2_000, id="unknown-fields"),
    pytest.param(
        lambda n: policy_text("deny: [{image: a.io, " + ", ".join(f"f{i}" for i in range(n)) + "}]"),
        2_000,
        id="unknown-fields-of-a-rule",
    ),
    pytest.param(lambda n: policy_text("mode: warn\n" * n), 2_000, id="equal-fields"),
    pytest.param(
        lambda n: policy_text("x: [" + "[[[[]]]], " * n + "]"), 2_000, id="lists-in-an-unknown-field"
    ),
    pytest.param(lambda n: policy_text("x: " + "[" * 60 + "{}, " * n + "]" * 60), 2_000, id="deep-lists"),
    pytest.param(lambda n: policy_text("deny: [" + "&x a.io, " * n + "]"), 2_000, id="anchors"),
    pytest.param(
        lambda n: policy_text("".join(f"%TAG !a{i}! b\n" for i in range(n))), 2_000, id="directives"
    ),
    pytest.param(lambda n: policy_text("---\n" * n), 2_000, id="documents"),
]


@pytest.mark.long
@pytest.mark.parametrize(("make", "limit"), LISTS)
def test_a_list_of_any_length_costs_no_more_than_its_length(make: Callable[[int], str], limit: int) -> None:
    check_linear(judge, make, start=limit // 8, limit=limit)


WILDCARDS: Final = [
    pytest.param("*{}*.io", id="hosts"),
    pytest.param("aaaaaa*{}*.io", id="similar-hosts"),
    pytest.param("a.io/aaaaaa*{}*:aaaaaa*{}*", id="paths-and-tags"),
    pytest.param("{{image: a.io, namespaces: ['aaaaaa*{}*', 'b*']}}", id="namespaces"),
]
"""Rules that are hard to distinguish."""


@pytest.mark.long
@pytest.mark.parametrize("rule", WILDCARDS)
def test_wildcards_are_compared_within_a_bound(rule: str) -> None:
    """Few wildcards are compared pairwise. For many, the total number of comparisons is bounded."""

    def calls(number: int) -> int:
        rules = "".join(f"\n- {quoted(rule.format(i, i))}" for i in range(number))
        text = policy_text(allow=rules)
        # Without the check of the policy as a whole, which refuses most of these rules.
        policy = Policy(document=parse_document(text), text=text, mode=ENFORCE)
        return calls_of(lambda: lint(policy, NOON))

    assert calls(12_000) < 5 * calls(3_000)


def quoted(rule: str) -> str:
    return rule if rule.startswith("{") else f"'{rule}'"


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions, including C functions, some work calls."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
