"""The policy document (docs/policy.md, "Fields"): accepted values, and every problem with its position."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from builders import INSTANT, policy_text
from gatekeeper_py.core import Policy, PolicyError, parse_policy
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.parse.document import json_schema, parse_document
from gatekeeper_py.core.policy.problems import mode_problem

SHA256: Final = "sha256:" + "7c" * 32

FULL: Final = """\
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: mutate
allow:
  - a.io
  - image: b.io/x:v*
    namespaces: [shop, "team-*"]
    until: 2026-12-31
    owner: team shop
    reason: while we move
deny:
  - "*/**:latest"
namespaces:
  - names: ["*"]
    mode: warn
    until: "2026-12-31T18:00:00+02:00"
    reason: trial
mirrors:
  - from: docker.io
    to: a.io/hub
    except: [docker.io/team/**, "*@*"]
resources:
  - group: tekton.dev
    kind: Task
    images: ["spec.steps[*].image"]
  - {group: "", kind: Thing, images: [image]}
message: "ask #platform"
"""


def problems(text: str) -> list[tuple[str, str, int]]:
    """Return code, path and line of each problem of a whole document."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return [(f.code, f.path, f.line) for f in caught.value.findings]


def in_policy(more: str, **options: str) -> list[tuple[str, str, int]]:
    """Return the problems of text after a good document's four lines, so the text starts at line 5."""
    return problems(policy_text(more, **options))


def in_allow(entry: str) -> list[tuple[str, str, int]]:
    """Return the problems of an entry of ``allow`` at line 5, after a good entry."""
    return problems(policy_text(allow=f"[a.io,\n{entry}]"))


def test_every_field() -> None:
    document = parse_document(FULL)
    assert [rule.pattern.text for rule in document.allow] == ["a.io", "b.io/x:v*"]
    assert document.allow[0].namespaces is None
    assert document.allow[1].namespaces == ("shop", "team-*")
    assert document.allow[1].until == datetime(2026, 12, 31, tzinfo=UTC)
    assert (document.allow[1].owner, document.allow[1].reason) == ("team shop", "while we move")
    assert document.deny[0].pattern.text == "*/**:latest"
    assert (document.namespaces[0].names, document.namespaces[0].mode) == (("*",), "warn")
    assert document.namespaces[0].until == datetime(2026, 12, 31, 16, tzinfo=UTC)
    (mirror,) = document.mirrors
    assert (mirror.source.text, [to.text for to in mirror.targets]) == ("docker.io", ["a.io/hub"])
    assert [pattern.text for pattern in document.mirrors[0].exceptions] == ["docker.io/team/**", "*@*"]
    assert [(r.group, r.kind) for r in document.resources] == [("tekton.dev", "Task"), ("", "Thing")]
    assert document.message == "ask #platform"


def test_a_document_can_be_sent_to_another_process() -> None:
    document = parse_document(FULL)
    message = msgspec.msgpack.encode(document)
    assert msgspec.msgpack.decode(message, type=PolicyDocument) == document


def test_a_policy_decides_from_its_document_alone() -> None:
    policy = Policy(document=parse_document(FULL), text=FULL, mode="enforce")
    assert policy.at(INSTANT).decide(None, "a.io/app:1").approved
    assert policy.revision == parse_policy(FULL, "enforce").revision


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("deny: []", id="empty-deny"),
        pytest.param("namespaces: []", id="empty-namespaces"),
        pytest.param("mirrors: []", id="empty-mirrors"),
        pytest.param("resources: []", id="empty-resources"),
        pytest.param("mirrors: [{from: a.io, to: b.io, except: []}]", id="empty-except"),
        pytest.param("message: ''", id="empty-message"),
        pytest.param("message: " + "m" * 200, id="message-of-200"),
        pytest.param("message: 'caf\xe9'", id="message-beyond-ascii"),
        pytest.param("deny: [{image: a.io, namespaces: ['*', no, on]}]", id="no-and-on-are-names"),
        pytest.param("deny: ['*']", id="any-host-in-deny"),
        pytest.param("mirrors: [{from: a.io, to: b.io, except: ['*']}]", id="any-host-in-except"),
    ],
)
def test_accepted(more: str) -> None:
    parse_policy(policy_text(more))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [("empty-document", "", 1)], id="empty"),
        pytest.param("# kind: ImagePolicy\n", [("empty-document", "", 1)], id="commented-out"),
        pytest.param("a.io", [("wrong-type", "", 1)], id="text"),
        pytest.param("[a.io]", [("wrong-type", "", 1)], id="list"),
        pytest.param("5", [("wrong-type", "", 1)], id="number"),
        pytest.param("a: b: c", [("yaml-syntax", "", 1)], id="not-yaml"),
        pytest.param(
            "{}",
            [("missing-field", name, 1) for name in ("allow", "apiVersion", "kind", "mode")],
            id="nothing-but-a-mapping",
        ),
        pytest.param(
            "apiVersion: gatekeeper-py/v2\nkind: Policy\nmode: Enforce\nallow: [a.io]\n",
            [("bad-value", "apiVersion", 1), ("bad-value", "kind", 2), ("bad-value", "mode", 3)],
            id="wrong-values",
        ),
        pytest.param(
            "apiVersion: 1\nkind:\nmode: [warn]\nallow: {image: a.io}\n",
            [
                ("bad-value", "apiVersion", 1),
                ("bad-value", "kind", 2),
                ("bad-value", "mode", 3),
                ("wrong-type", "allow", 4),
            ],
            id="wrong-types",
        ),
        pytest.param(FULL + "---\n", [("second-document", "", FULL.count("\n") + 1)], id="second-document"),
    ],
)
def test_whole_documents_that_are_refused(text: str, expected: list[tuple[str, str, int]]) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("colour: red", [("unknown-field", "colour", 5)], id="unknown-field"),
        pytest.param("defaultMode: warn", [("unknown-field", "defaultMode", 5)], id="another-unknown-field"),
        pytest.param("api_version: x", [("unknown-field", "api_version", 5)], id="names-of-the-code"),
        pytest.param("mode: warn", [("duplicate-key", "mode", 5)], id="duplicate"),
        pytest.param("<<: {mode: warn}", [("unknown-field", "<<", 5)], id="no-merge"),
        pytest.param("deny: *x", [("yaml-alias", "deny", 5)], id="alias"),
        pytest.param("deny: &x [b.io]", [("yaml-anchor", "deny", 5)], id="anchor"),
        pytest.param("deny: !!seq [b.io]", [("yaml-tag", "deny", 5)], id="tag"),
        pytest.param("message: !!str 5", [("yaml-tag", "message", 5)], id="tagged-scalar"),
        pytest.param("5: x", [("wrong-type", "5", 5)], id="number-as-a-key"),
        pytest.param("deny:\n# - b.io", [("wrong-type", "deny", 5)], id="null-deny"),
        pytest.param("namespaces:", [("wrong-type", "namespaces", 5)], id="null-namespaces"),
        pytest.param("mirrors: ~", [("wrong-type", "mirrors", 5)], id="null-mirrors"),
        pytest.param("resources: null", [("wrong-type", "resources", 5)], id="null-resources"),
        pytest.param("message:", [("wrong-type", "message", 5)], id="null-message"),
        pytest.param("deny: b.io", [("wrong-type", "deny", 5)], id="text-for-a-list"),
        pytest.param("deny: {image: b.io}", [("wrong-type", "deny", 5)], id="mapping-for-a-list"),
        pytest.param("message: 5", [("wrong-type", "message", 5)], id="number-for-text"),
        pytest.param("message: yes\ndeny: [true]", [("wrong-type", "deny[0]", 6)], id="boolean-for-a-rule"),
        pytest.param("message: " + "m" * 201, [("too-long", "message", 5)], id="message-of-201"),
        pytest.param('message: "\\e[1m"', [("bad-text", "message", 5)], id="message-with-control-characters"),
    ],
)
def test_top_level_fields(more: str, expected: list[tuple[str, str, int]]) -> None:
    assert in_policy(more) == expected


def test_an_empty_allow() -> None:
    assert in_policy("", allow="[]") == [("empty-list", "allow", 4)]


def test_a_null_allow() -> None:
    assert in_policy("", allow="") == [("wrong-type", "allow", 4)]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param("nginx", [("bad-pattern", "allow[1]", 5)], id="bad-string-rule"),
        pytest.param("''", [("bad-pattern", "allow[1]", 5)], id="blank-string-rule"),
        pytest.param("'*'", [("bad-pattern", "allow[1]", 5)], id="any-host"),
        pytest.param("'*/**:v1'", [("bad-pattern", "allow[1]", 5)], id="any-host-with-a-path"),
        pytest.param("'*@*'", [("bad-pattern", "allow[1]", 5)], id="any-host-pinned"),
        pytest.param("5", [("wrong-type", "allow[1]", 5)], id="number"),
        pytest.param("null", [("wrong-type", "allow[1]", 5)], id="null"),
        pytest.param("[b.io]", [("wrong-type", "allow[1]", 5)], id="list"),
        pytest.param("{}", [("missing-field", "allow[1].image", 5)], id="mapping-without-image"),
        pytest.param("{\n image: nginx}", [("bad-pattern", "allow[1].image", 6)], id="bad-image"),
        pytest.param("{\n image: '*'}", [("bad-pattern", "allow[1].image", 6)], id="any-host-in-a-mapping"),
        pytest.param("{\n image: }", [("wrong-type", "allow[1].image", 6)], id="null-image"),
        pytest.param("{\n image: {text: a}}", [("wrong-type", "allow[1].image", 6)], id="mapping-as-image"),
        pytest.param(
            "{image: {text: b.io, host: '*', segments: [], subtree: true}}",
            [("wrong-type", "allow[1].image", 5)],
            id="the-code's-own-pattern-is-no-way-around",
        ),
        pytest.param(
            "{image: b.io,\n colour: red}", [("unknown-field", "allow[1].colour", 6)], id="unknown-field"
        ),
        pytest.param(
            "{image: b.io,\n namespaces: []}", [("empty-list", "allow[1].namespaces", 6)], id="no-names"
        ),
        pytest.param(
            "{image: b.io,\n namespaces: }", [("wrong-type", "allow[1].namespaces", 6)], id="null-names"
        ),
        pytest.param(
            "{image: b.io,\n namespaces: shop}", [("wrong-type", "allow[1].namespaces", 6)], id="one-name"
        ),
        pytest.param(
            "{image: b.io, namespaces: [shop,\n Shop]}",
            [("bad-namespace", "allow[1].namespaces[1]", 6)],
            id="upper-case-name",
        ),
        pytest.param(
            "{image: b.io, namespaces: ['']}",
            [("bad-namespace", "allow[1].namespaces[0]", 5)],
            id="empty-name",
        ),
        pytest.param(
            f"{{image: b.io, namespaces: [{'n' * 64}]}}",
            [("bad-namespace", "allow[1].namespaces[0]", 5)],
            id="name-over-63-characters",
        ),
        pytest.param(
            "{image: b.io, namespaces: [5]}",
            [("wrong-type", "allow[1].namespaces[0]", 5)],
            id="number-as-a-name",
        ),
        pytest.param("{image: b.io, until: }", [("wrong-type", "allow[1].until", 5)], id="null-until"),
        pytest.param("{image: b.io, until: 2026}", [("wrong-type", "allow[1].until", 5)], id="year"),
        pytest.param("{image: b.io, until: soon}", [("bad-time", "allow[1].until", 5)], id="no-time"),
        pytest.param(
            "{image: b.io, until: '2026-12-31T00:00:00'}",
            [("bad-time", "allow[1].until", 5)],
            id="time-without-an-offset",
        ),
        pytest.param("{image: b.io, owner: }", [("wrong-type", "allow[1].owner", 5)], id="null-owner"),
        pytest.param(
            "{image: b.io, reason: 5}", [("wrong-type", "allow[1].reason", 5)], id="number-as-reason"
        ),
    ],
)
def test_rules(entry: str, expected: list[tuple[str, str, int]]) -> None:
    assert in_allow(entry) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("[{}]", [("missing-field", "mode"), ("missing-field", "names")], id="empty"),
        pytest.param("[{names: [], mode: warn}]", [("empty-list", "names")], id="no-names"),
        pytest.param("[{names: , mode: warn}]", [("wrong-type", "names")], id="null-names"),
        pytest.param("[{names: [a], mode: off}]", [("bad-value", "mode")], id="unknown-mode"),
        pytest.param("[{names: [a], mode: warn, until: }]", [("wrong-type", "until")], id="null-until"),
        pytest.param("[{names: [a], mode: warn, owner: me}]", [("unknown-field", "owner")], id="owner"),
        pytest.param("[{names: [a_b], mode: warn}]", [("bad-namespace", "names[0]")], id="bad-name"),
        pytest.param("[{names: [a], mode: warn, reason: }]", [("wrong-type", "reason")], id="null-reason"),
    ],
)
def test_overrides(more: str, expected: list[tuple[str, str]]) -> None:
    found = in_policy(f"namespaces: {more}")
    assert found == [(code, f"namespaces[0].{path}", 5) for code, path in expected]


def test_an_override_is_a_mapping() -> None:
    assert in_policy("namespaces: [shop]") == [("wrong-type", "namespaces[0]", 5)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param("{from: a.io}", [("missing-field", "mirrors[0].to")], id="no-to"),
        pytest.param("{to: a.io}", [("missing-field", "mirrors[0].from")], id="no-from"),
        pytest.param("{source: a.io, to: b.io}", None, id="source-is-a-name-of-the-code"),
        pytest.param("{from: nginx, to: a.io}", [("bad-mirror", "mirrors[0].from")], id="bad-from"),
        pytest.param("{from: a.io, to: '*.io'}", [("bad-mirror", "mirrors[0].to")], id="star-in-to"),
        pytest.param("{from: a.io/**, to: b.io}", [("bad-mirror", "mirrors[0].from")], id="stars-in-from"),
        pytest.param("{from: a.io, to: 5}", [("wrong-type", "mirrors[0].to")], id="number-as-to"),
        pytest.param(
            "{from: a.io, to: b.io, except: }", [("wrong-type", "mirrors[0].except")], id="null-except"
        ),
        pytest.param(
            "{from: a.io, to: b.io, except: [nginx]}", [("bad-pattern", "mirrors[0].except[0]")], id="except"
        ),
        pytest.param(
            "{from: a.io, to: b.io, verify: tag}", [("wrong-type", "mirrors[0].verify")], id="verify"
        ),
        pytest.param("{from: a.io, to: a.io}", [("mirror-loop", "mirrors[0].to")], id="to-itself"),
        pytest.param("{from: a.io, to: a.io/x}", [("mirror-loop", "mirrors[0].to")], id="to-below-from"),
        pytest.param("{from: a.io/x, to: a.io}", [("mirror-loop", "mirrors[0].to")], id="from-below-to"),
        pytest.param(
            "{from: docker.io/x, to: index.docker.io}",
            [("mirror-loop", "mirrors[0].to")],
            id="compared-after-folding",
        ),
        pytest.param(
            "{from: a.io:443, to: a.io/x}", [("mirror-loop", "mirrors[0].to")], id="443-is-folded-too"
        ),
        pytest.param(
            "{from: a.io, to: b.io}, {from: b.io, to: c.io}",
            [("mirror-loop", "mirrors[0].to")],
            id="chain-forwards",
        ),
        pytest.param(
            "{from: a.io/x/y, to: c.io}, {from: b.io, to: a.io/x}",
            [("mirror-loop", "mirrors[1].to")],
            id="chain-backwards",
        ),
        pytest.param(
            "{from: a.io, to: b.io}, {from: a.io:443, to: c.io}",
            [("mirror-duplicate", "mirrors[1].from")],
            id="same-from",
        ),
        pytest.param(
            "{from: a.io, to: nginx}, {from: a.io, to: c.io}",
            [("bad-mirror", "mirrors[0].to"), ("mirror-duplicate", "mirrors[1].from")],
            id="same-from-beside-a-bad-to",
        ),
        pytest.param(
            "{from: nginx, to: b.io}, {from: b.io, to: c.io}",
            [("bad-mirror", "mirrors[0].from"), ("mirror-loop", "mirrors[0].to")],
            id="chain-beside-a-bad-from",
        ),
        pytest.param("a.io", [("wrong-type", "mirrors[0]")], id="text"),
    ],
)
def test_mirrors(more: str, expected: list[tuple[str, str]] | None) -> None:
    found = in_policy(f"mirrors: [{more}]")
    if expected is None:
        expected = [("missing-field", "mirrors[0].from"), ("unknown-field", "mirrors[0].source")]
    assert found == [(code, path, 5) for code, path in expected]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("{from: a.io/x, to: a.io/xy}", id="segment-boundaries"),
        pytest.param("{from: a.io, to: c.io}, {from: b.io, to: c.io}", id="same-to"),
        pytest.param("{from: a.io, to: c.io}, {from: a.io/x, to: c.io}", id="nested-from"),
        pytest.param("{from: a.io, to: a.io:5000/x}", id="another-port"),
        pytest.param("{from: quay.io, to: docker.io/team}", id="to-docker-hub"),
    ],
)
def test_mirrors_that_cannot_rewrite_twice(more: str) -> None:
    parse_policy(policy_text(f"mirrors: [{more}]"))


def test_invalid_mirrors_are_reported_once() -> None:
    assert in_policy("mirrors: 5") == [("wrong-type", "mirrors", 5)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param(
            "{}",
            [("missing-field", "group"), ("missing-field", "images"), ("missing-field", "kind")],
            id="empty",
        ),
        pytest.param("{group: g, kind: k, images: []}", [("empty-list", "images")], id="no-images"),
        pytest.param("{group: g, kind: k, images: image}", [("wrong-type", "images")], id="one-image"),
        pytest.param(
            "{group: g, kind: k, images: ['a[0]']}", [("bad-resource-path", "images[0]")], id="path"
        ),
        pytest.param("{group: g, kind: '', images: [image]}", [("bad-text", "kind")], id="empty-kind"),
        pytest.param("{group: , kind: k, images: [image]}", [("wrong-type", "group")], id="null-group"),
        pytest.param(
            "{group: g, version: v1, kind: k, images: [a]}", [("unknown-field", "version")], id="version"
        ),
    ],
)
def test_resources(more: str, expected: list[tuple[str, str]]) -> None:
    found = in_policy(f"resources: [{more}]")
    assert found == [(code, f"resources[0].{path}", 5) for code, path in expected]


def test_every_problem_is_reported_at_once() -> None:
    text = (
        "apiVersion: gatekeeper-py/v1\n"
        "mode: enforced\n"
        "allow:\n"
        "  - nginx\n"
        "  - {image: a.io, until: never, colour: red}\n"
        "  - &x b.io\n"
        "  - *x\n"
        "deny:\n"
        "mirrors:\n"
        "  - {from: a.io, to: a.io/x}\n"
        "resources: [{group: g, kind: k, images: ['']}]\n"
        "1: one\n"
        "mode: warn\n"
        "---\n"
    )
    assert problems(text) == [
        ("missing-field", "kind", 1),
        ("bad-value", "mode", 2),
        ("bad-pattern", "allow[0]", 4),
        ("bad-time", "allow[1].until", 5),
        ("unknown-field", "allow[1].colour", 5),
        ("yaml-anchor", "allow[2]", 6),
        ("yaml-alias", "allow[3]", 7),
        ("wrong-type", "deny", 8),
        ("mirror-loop", "mirrors[0].to", 10),
        ("bad-resource-path", "resources[0].images[0]", 11),
        ("wrong-type", "1", 12),
        ("duplicate-key", "mode", 13),
        ("second-document", "", 14),
    ]


def test_a_list_of_invalid_items_is_not_reported_as_empty() -> None:
    assert in_policy("", allow="[nginx, redis]") == [
        ("bad-pattern", "allow[0]", 4),
        ("bad-pattern", "allow[1]", 4),
    ]


@pytest.mark.parametrize(
    ("more", "message", "proposal"),
    [
        pytest.param("denny: []", "unknown field 'denny'", "did you mean deny?", id="misspelt"),
        pytest.param("zzz: []", "unknown field 'zzz'", "known here: apiVersion, kind, mode", id="unknown"),
        pytest.param("deny: [nginx]", "the host is missing", "docker.io/library/nginx", id="pattern"),
        pytest.param(
            "deny: [{image: a.io, namespace: [a]}]", "'namespace'", "mean namespaces?", id="rule-field"
        ),
        pytest.param("deny: [5]", "a pattern or a mapping, not a number", "quote it", id="number-as-rule"),
        pytest.param("message: 1.5", "must be text, not a number", "quote it", id="number-as-text"),
        pytest.param("message: true", "must be text, not true or false", "", id="boolean-as-text"),
        pytest.param("message: [a]", "must be text, not a list", "", id="list-as-text"),
        pytest.param("message: {}", "must be text, not a mapping", "", id="mapping-as-text"),
        pytest.param("deny:", "there is nothing below deny (null)", "write deny: []", id="null-as-list"),
        pytest.param("deny: a.io", "must be a list, not text", "", id="text-as-list"),
        pytest.param("mirrors: [{to: a.io}]", "from is required", "", id="missing"),
        pytest.param(
            "namespaces: [{names: [a], mode: wran}]",
            "must be enforce, warn or mutate, not 'wran'",
            "did you mean warn?",
            id="misspelt-mode",
        ),
        pytest.param("message: " + "m" * 300, "at most 200 characters, here 300", "", id="too-long"),
        pytest.param(
            "deny: [{image: a.io, until: 2026-02-30}]", "no such time as 2026-02-30", "", id="february"
        ),
    ],
)
def test_messages_and_proposals(more: str, message: str, proposal: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_text(more))
    (finding,) = caught.value.findings
    assert message in finding.message
    assert proposal in finding.proposal
    assert (finding.severity, str(finding)) == ("error", str(caught.value))


def test_missing_fields_come_with_an_example() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy("{}")
    assert [finding.proposal for finding in caught.value.findings] == [
        "allow: [registry.example.com]",
        "apiVersion: gatekeeper-py/v1",
        "kind: ImagePolicy",
        "mode: enforce",
    ]


def test_the_only_version_is_proposed() -> None:
    with pytest.raises(PolicyError, match=r"must be gatekeeper-py/v1, not 'gatekeeper-py/v2'"):
        parse_policy(policy_text().replace("/v1", "/v2"))


def test_columns_point_at_the_value_and_unknown_fields_at_their_key() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(policy_text("colour: red\nmessage: 5\n"))
    assert [(f.path, f.column) for f in caught.value.findings] == [("colour", 1), ("message", 10)]


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_the_modes(mode: str) -> None:
    assert mode_problem(mode) is None


@pytest.mark.parametrize(
    ("mode", "proposal"),
    [("Enforce", "did you mean enforce?"), ("", ""), (" warn", "did you mean warn?"), (None, ""), (5, "")],
)
def test_an_invalid_mode_is_refused(mode: object, proposal: str) -> None:
    problem = mode_problem(mode)
    assert problem is not None
    assert (problem.code, problem.path, problem.proposal) == ("bad-value", "mode", proposal)


SCHEMA: Final = json_schema()


def as_json(more: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicy",
        "mode": "warn",
        "allow": ["a.io"],
        **more,
    }


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("more", "valid"),
    [
        pytest.param({}, True, id="smallest"),
        pytest.param(
            {"allow": [{"image": "a.io", "namespaces": ["a"], "until": "2026-01-01"}]}, True, id="rule"
        ),
        pytest.param({"mirrors": [{"from": "a.io", "to": "b.io", "except": ["a.io/x"]}]}, True, id="mirror"),
        pytest.param({"resources": [{"group": "", "kind": "K", "images": ["a"]}]}, True, id="resource"),
        pytest.param({"namespaces": [{"names": ["a"], "mode": "warn"}]}, True, id="override"),
        pytest.param({"colour": 1}, False, id="unknown-field"),
        pytest.param({"allow": []}, False, id="empty-allow"),
        pytest.param({"allow": [{"image": "a.io", "namespaces": None}]}, False, id="null-names"),
        pytest.param({"allow": [{"image": "a.io", "until": None}]}, False, id="null-until"),
        pytest.param({"deny": None}, False, id="null-deny"),
        pytest.param({"mode": "off"}, False, id="mode"),
        pytest.param({"message": "m" * 201}, False, id="message"),
    ],
)
def test_the_schema_and_the_parser_agree(more: dict[str, Any], *, valid: bool) -> None:
    document = as_json(more)
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(document) is valid
    try:
        parse_policy(json.dumps(document))
    except PolicyError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize(
    ("block", "line"),
    [
        pytest.param("message: |\n  ask #platform\n", "ask #platform", id="literal"),
        pytest.param(
            "message: >\n  ask #platform,\n  or the wiki\n", "ask #platform, or the wiki", id="folded"
        ),
        pytest.param("message: |\n  ask\n\n  \tthem\n", "ask them", id="blank-lines-and-indents"),
        pytest.param('message: "two  spaces"\n', "two  spaces", id="one-line-stays-as-it-is"),
    ],
)
def test_text_in_a_block_becomes_one_line(block: str, line: str) -> None:
    assert parse_document(policy_text(block)).message == line
