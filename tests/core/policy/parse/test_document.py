"""The policy document (docs/policy.md, "Fields"): accepted values, and every problem with its position."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final

import jsonschema
import msgspec
import pytest

from gatekeeper_py.core import Policy, PolicyError, parse_policy
from gatekeeper_py.core.exceptions.grants import Grant
from gatekeeper_py.core.images.pattern import parse_pattern, parse_prefix
from gatekeeper_py.core.policy.document import (
    MODES,
    Mode,
    OverrideEntry,
    PolicyDocument,
    ResourceEntry,
    decoded_mode,
    encoded_mode,
)
from gatekeeper_py.core.policy.keys import parse_key
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.parse.document import json_schema, parse_document
from gatekeeper_py.core.policy.problems import mode_problem
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.resources import parse_resource_path
from gatekeeper_py.core.policy.rules import Rule
from support.builders import INSTANT, PUBLIC_KEYS, policy_text
from support.findings import check_findings
from support.golden import golden

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
  - {image: c.io, namespaces: [shop, "*"], except: [c.io/x, {image: "*/y", owner: team y}]}
require:
  - images: ["*/**"]
    namespaces: [prod, "*"]
    except: ["*/x", {image: a.io, until: 2026-12-31}]
    digest: true
  - {images: [b.io/x, c.io], namespaces: [prod], digest: false, exists: true, onError: deny, mode: warn}
  - images: [s.io]
    signedBy: [ci-2026]
    signatures: "s.io:443/signatures"
    owner: security
    reason: signed
  - {images: [s.io], exists: false, signedBy: [ci-2026], onError: keep}
namespaces:
  - names: ["*"]
    mode: warn
    until: "2026-12-31T18:00:00+02:00"
    reason: trial
mirrors:
  - from: docker.io
    to: [a.io/hub, dr.io/hub]
    except: [docker.io/team/**, "*@*"]
    verify: true
    onMissing: rewrite
    onError: deny
    imagePullSecret: hub
  - {from: quay.io, to: a.io/quay, pin: true}
resources:
  - {group: tekton.dev, kind: Task, images: ["spec.steps[*].image"]}
  - {group: "", kind: Thing, images: [image]}
registries:
  - host: r.example:443
    plainHTTP: true
    ca: corp.crt
    tokenHosts: [auth.example]
    redirectHosts: [cdn.example:8443]
    timeout: 500ms
    ttlFound: 2m
    ttlMissing: 1s
    rate: 5
  - {host: localhost}
keys:
  - name: ci-2026
    key: |
      -----BEGIN PUBLIC KEY-----
      MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESUzNXEY3RYvv18zW00erMJ6xJlG2
      0U06xF1cOw4MFv4anvpJeVeLHQdXB9xUIVjcNqLSaI25KXoJw27gWmhORQ==
      -----END PUBLIC KEY-----
    until: 2027-06-01
exceptions:
  - source: break-glass
    images: [ghcr.io/**]
    longest: 12h
    overrides: deny
    namespaces: [team-*]
    most: 5
    owner: security
    reason: emergencies
  - {source: namespace, images: [], longest: 14d}
message: "ask #platform"
"""

KEY: Final = parse_key(PUBLIC_KEYS["ci-2026"])
DOCUMENT: Final = PolicyDocument(
    mode=MODES["mutate"],
    allow=(
        Rule(list="allow", index=0, pattern=parse_pattern("a.io")),
        Rule(
            list="allow",
            index=1,
            pattern=parse_pattern("b.io/x:v*"),
            namespaces=("shop", "team-*"),
            until=datetime(2026, 12, 31, tzinfo=UTC),
            owner="team shop",
            reason="while we move",
        ),
    ),
    deny=(
        Rule(list="deny", index=0, pattern=parse_pattern("*/**:latest")),
        Rule(
            list="deny",
            index=1,
            pattern=parse_pattern("c.io"),
            excepts=(
                Rule(list="except", index=0, pattern=parse_pattern("c.io/x")),
                Rule(list="except", index=1, pattern=parse_pattern("*/y"), owner="team y"),
            ),
        ),
    ),
    require=(
        Requirement(
            index=0,
            images=(parse_pattern("*/**"),),
            excepts=(
                Rule(list="except", index=0, pattern=parse_pattern("*/x")),
                Rule(
                    list="except",
                    index=1,
                    pattern=parse_pattern("a.io"),
                    until=datetime(2026, 12, 31, tzinfo=UTC),
                ),
            ),
            digest=True,
        ),
        Requirement(
            index=1,
            images=(parse_pattern("b.io/x"), parse_pattern("c.io")),
            namespaces=("prod",),
            exists=True,
            on_error="deny",
            warns=True,
        ),
        Requirement(
            index=2,
            images=(parse_pattern("s.io"),),
            digest=True,
            exists=True,
            signed_by=("ci-2026",),
            signatures="s.io/signatures",
            on_error="deny",
            owner="security",
            reason="signed",
        ),
        Requirement(
            index=3,
            images=(parse_pattern("s.io"),),
            digest=True,
            exists=True,
            signed_by=("ci-2026",),
        ),
    ),
    namespaces=(
        OverrideEntry(
            names=("*",), mode=MODES["warn"], until=datetime(2026, 12, 31, 16, tzinfo=UTC), reason="trial"
        ),
    ),
    mirrors=(
        Mirror(
            index=0,
            source=parse_prefix("docker.io"),
            targets=(parse_prefix("a.io/hub"), parse_prefix("dr.io/hub")),
            excepts=(parse_pattern("docker.io/team/**"), parse_pattern("*@*")),
            verify=True,
            on_missing="rewrite",
            on_error="deny",
            image_pull_secret="hub",
        ),
        Mirror(
            index=1,
            source=parse_prefix("quay.io"),
            targets=(parse_prefix("a.io/quay"),),
            verify=True,
            pin=True,
        ),
    ),
    resources=(
        ResourceEntry(group="tekton.dev", kind="Task", images=(parse_resource_path("spec.steps[*].image"),)),
        ResourceEntry(group="", kind="Thing", images=(parse_resource_path("image"),)),
    ),
    registries=(
        Registry(
            host="r.example",
            plain_http=True,
            ca="corp.crt",
            token_hosts=("auth.example",),
            redirect_hosts=("cdn.example:8443",),
            timeout=0.5,
            ttl_found=120.0,
            ttl_missing=1.0,
            rate=5,
        ),
        Registry(host="localhost"),
    ),
    keys=(KEY._replace(name="ci-2026", until=datetime(2027, 6, 1, tzinfo=UTC)),),
    exceptions=(
        Grant(
            index=0,
            source="break-glass",
            images=(parse_pattern("ghcr.io/**"),),
            longest=timedelta(hours=12),
            overrides=("deny",),
            namespaces=("team-*",),
            most=5,
            owner="security",
            reason="emergencies",
        ),
        Grant(index=1, source="namespace", images=(), longest=timedelta(days=14)),
    ),
    message="ask #platform",
)


def test_every_field() -> None:
    assert parse_document(FULL) == DOCUMENT


def test_every_entry_that_expires_is_listed() -> None:
    assert [path for path, _, _ in DOCUMENT.dated()] == [
        ("allow", 1),
        ("require", 0, "except", 1),
        ("namespaces", 0),
        ("keys", 0),
    ]


def test_the_requirement_that_is_proposed_for_former_fields_is_accepted() -> None:
    """Each proposal is pasted below ``require`` of a document without the former fields."""
    text = golden("findings/policy")["moved-to-require"]["allow"]
    with pytest.raises(PolicyError) as caught:
        parse_document(policy_text(allow=text))
    proposals = dict.fromkeys(finding.proposal for finding in caught.value.findings)
    assert len(proposals) == 4
    below = "\n".join(each.removeprefix("write below require: ") for each in proposals)
    keys = json.dumps([{"name": "ci", "key": PUBLIC_KEYS["ci-2026"]}])
    pasted = parse_document(policy_text(f"keys: {keys}\nrequire:\n{below}\n"))
    assert [each.images[0].text for each in pasted.require] == ["a.io/x:v1", "b.io/**", "c.io", "*.io"]
    assert pasted.require[1].namespaces == ("prod-*",)
    assert pasted.require[2].signatures == "s.io/s"


def test_a_document_can_be_sent_to_another_process() -> None:
    sent = msgspec.msgpack.encode(DOCUMENT, enc_hook=encoded_mode)
    assert msgspec.msgpack.decode(sent, type=PolicyDocument, dec_hook=decoded_mode) == DOCUMENT


def test_nothing_but_a_mode_is_sent_or_read_as_a_mode() -> None:
    with pytest.raises(NotImplementedError, match="object"):
        msgspec.msgpack.encode(object(), enc_hook=encoded_mode)
    for value, problem in ((5, "got `int`"), ("off", "Invalid enum value 'off'")):
        with pytest.raises(msgspec.ValidationError, match=problem):
            msgspec.convert(value, type=Mode, dec_hook=decoded_mode)


def test_a_policy_decides_from_its_document_alone() -> None:
    policy = Policy(document=DOCUMENT, text=FULL, mode=MODES["enforce"])
    assert policy.at(INSTANT).decide(None, "a.io/app:1").approved
    assert policy.revision == parse_policy(FULL, "enforce").revision


@pytest.mark.parametrize("name", golden("findings/policy"))
def test_the_problems_of_a_document_are_as_recorded(name: str, update_golden: bool) -> None:  # noqa: FBT001
    """A case is a whole ``text``, or the value of ``allow`` in a good document, or ``more`` fields of it."""
    case = golden("findings/policy")[name]
    text = case["text"] if "text" in case else policy_text(**{k: case[k] for k in case if k != "findings"})
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    check_findings("policy", name, caught.value.findings, update=update_golden)
    assert {finding.severity for finding in caught.value.findings} == {"error"}
    assert str(caught.value) == "; ".join(map(str, caught.value.findings))


@pytest.mark.parametrize(
    "more",
    [
        *(
            f"{name}: []"
            for name in ("deny", "require", "namespaces", "mirrors", "resources", "registries", "exceptions")
        ),
        "deny: [{image: a.io, except: []}, {image: b.io, except: ['*', {image: b.io/x, until: 2026-01-01}]}]",
        "exceptions: [{source: namespace, images: [], longest: 1h, namespaces: []}]",
        "exceptions: [{source: break-glass, images: [], longest: 1h, overrides: [deny, require]}]",
        "require: [{images: ['*'], digest: true, except: ['*', {image: a.io, owner: me}], onError: deny}]",
        "mirrors: [{from: a.io, to: b.io, except: []}]",
        "message: ''",
        "message: " + "m" * 200,
        "message: 'caf\xe9'",
        "deny: [{image: a.io, namespaces: ['*', no, on]}]",
        "deny: ['*']",
        "mirrors: [{from: a.io, to: b.io, except: ['*']}]",
        # No image can be rewritten twice.
        "mirrors: [{from: a.io/x, to: a.io/xy}]",
        "mirrors: [{from: a.io, to: c.io}, {from: b.io, to: c.io}]",
        "mirrors: [{from: a.io, to: c.io}, {from: a.io/x, to: c.io}]",
        "mirrors: [{from: a.io, to: a.io:5000/x}]",
        "mirrors: [{from: quay.io, to: docker.io/team}]",
    ],
)
def test_accepted(more: str) -> None:
    parse_policy(policy_text(more))


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


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


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
