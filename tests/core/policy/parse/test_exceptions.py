"""Documents with exceptions are read as strictly as policies, and within their limits."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import msgspec
import pytest
from jsonschema import Draft202012Validator

from gatekeeper_py.core.exceptions.document import MAX_BYTES, MAX_ENTRIES, ExceptionDocument, ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.policy.configmap import ExceptionsText, configmap_error
from gatekeeper_py.core.policy.parse import exceptions
from gatekeeper_py.core.policy.parse.exceptions import (
    ExceptionsError,
    exceptions_schema,
    parse_exceptions,
    parsed_exceptions,
)
from support.builders import exceptions_text
from support.findings import check_findings
from support.golden import golden

ENTRY = "image: ghcr.io/x, until: 2026-03-01, reason: r"
FULL = """\
apiVersion: gatekeeper-py/v1
kind: ImageExceptions
exceptions:
  - image: ghcr.io/acme/tool:1.*
    namespaces: [team-a]
    until: 2026-12-10T18:00:00+02:00
    reason: "INC-4711: vendor hotfix"
    owner: team-a
  - {image: quay.io, namespaces: ['*', team-b], until: 2026-12-10, reason: r}
"""
DOCUMENT = ExceptionDocument(
    entries=(
        ExceptionEntry(
            index=0,
            line=4,
            pattern=parse_pattern("ghcr.io/acme/tool:1.*"),
            until=datetime(2026, 12, 10, 16, tzinfo=UTC),
            reason="INC-4711: vendor hotfix",
            owner="team-a",
            namespaces=("team-a",),
        ),
        ExceptionEntry(
            index=1,
            line=9,
            pattern=parse_pattern("quay.io"),
            until=datetime(2026, 12, 10, tzinfo=UTC),
            reason="r",
        ),
    )
)


def refusal(text: str) -> str:
    with pytest.raises(ExceptionsError) as caught:
        parse_exceptions(text)
    return str(caught.value)


def test_every_field() -> None:
    assert parse_exceptions(FULL, "installation") == DOCUMENT
    assert parse_exceptions(FULL) == DOCUMENT
    assert parse_exceptions(exceptions_text()).entries == ()


def test_a_document_can_be_sent_to_another_process() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(DOCUMENT), type=ExceptionDocument) == DOCUMENT


@pytest.mark.parametrize("name", golden("findings/exceptions"))
def test_the_problems_of_a_document_are_as_recorded(name: str, update_golden: bool) -> None:  # noqa: FBT001
    with pytest.raises(ExceptionsError) as caught:
        parse_exceptions(golden("findings/exceptions")[name]["text"], "namespace")
    check_findings("exceptions", name, caught.value.findings, update=update_golden)
    assert {finding.severity for finding in caught.value.findings} == {"error"}


@pytest.mark.bulk
def test_the_limits() -> None:
    most = exceptions_text(*[ENTRY] * MAX_ENTRIES)
    assert len(parse_exceptions(most + "#" * (MAX_BYTES - len(most))).entries) == MAX_ENTRIES
    assert "longer than 65,536 bytes" in refusal(most + "#" * (MAX_BYTES + 1 - len(most)))
    assert "more than 1,000 entries of exceptions, the limit" in refusal(
        exceptions_text(*[ENTRY] * (MAX_ENTRIES + 1))
    )


@pytest.mark.bulk
@pytest.mark.parametrize(
    "entry",
    [
        "- {image: q.io/a, until: 2026-12-10, reason: x, owner: a}\n",
        "- image: q.io/a\n  until: 2026-12-10\n  reason: x\n  owner: a\n",
        '{"image":"q.io/a","until":"2026-12-10","reason":"x"},\n',
        "- {image: q.io,namespaces: [a],until: 2026-12-10,reason: x}\n",
    ],
    ids=["flow", "block", "json", "namespaces"],
)
def test_the_limit_of_structure_admits_the_most_entries_in_every_style(entry: str) -> None:
    head = "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:"
    many = entry * MAX_ENTRIES
    text = f"{head} [{many}]" if entry.startswith("{") else f"{head}\n{many}"
    assert len(parse_exceptions(text).entries) == MAX_ENTRIES


@pytest.mark.parametrize(
    "unit", ["a,", "[],", "{a},", '"":a,', "a:,", "?a,", "- \n", "-\ta\n", "a:\n", "? a\n", "\n"]
)
def test_the_cost_of_a_document_is_bounded_before_it_is_parsed(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exceptions, "read_document", lambda *_, **__: pytest.fail("it is parsed"))
    assert "more than 16,384 line ends" in refusal("[" + unit * (MAX_BYTES // len(unit) - 1))


def test_a_document_with_too_many_similar_wildcards_is_refused() -> None:
    orders = itertools.islice(itertools.permutations("abcdefg"), 700)
    similar = [f"image: 'ghcr.io/*{'*'.join(each)}*', until: 2026-03-01, reason: r" for each in orders]
    assert len(parse_exceptions(exceptions_text(*similar[:50])).entries) == 50
    assert "need 2,801 comparisons with patterns, and the limit is 1,000" in refusal(
        exceptions_text(*similar)
    )


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    schema = exceptions_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    head = {"apiVersion": "gatekeeper-py/v1", "kind": "ImageExceptions"}
    entry = {"image": "ghcr.io/x", "until": "2026-03-01", "reason": "r"}
    assert validator.is_valid({**head, "exceptions": [entry]})
    assert not validator.is_valid({**head, "exceptions": [{**entry, "verify": True}]})


def test_what_a_configmap_holds_is_parsed_unless_it_has_errors() -> None:
    key = DocumentKey("installation", "gatekeeper-py")
    problem = configmap_error("unknown-key", "data.x", "no")
    assert parsed_exceptions(ExceptionsText(key, FULL)) == (DOCUMENT, ())
    assert parsed_exceptions(ExceptionsText(key, FULL, (problem,))) == (None, (problem,))
    assert parsed_exceptions(ExceptionsText(key, None)) == (None, ())
    document, findings = parsed_exceptions(ExceptionsText(key, "x"))
    assert document is None
    assert findings
