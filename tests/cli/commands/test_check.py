"""``check``: findings with their positions, and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatekeeper_py.core import parse_policy
from support.builders import keys_text, policy_text
from support.commanding import Command, Done, Write

Check = Callable[..., Done]
Findings = Callable[..., list[tuple[str, int]]]

CLEAN = policy_text("deny: ['*/**:latest']\n")
WARNS = policy_text()
BAD = policy_text("colour: red\ndeny:\n", mode="audit", allow="[nginx, registry.corp.io]")

CONFIGMAP = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: policy
data:
  policy.yaml: |

    # the policy
    apiVersion: gatekeeper-py/v1
    kind: ImagePolicy
    mode: enforce
    allow:
      - registry.corp.io
      - nginx
"""


@pytest.fixture
def check(command: Command) -> Check:
    """Return a function that checks a text."""
    return lambda text, *options: command("check", "-", *options, stdin=text)


@pytest.fixture
def findings(check: Check) -> Findings:
    """Return a function that returns the code and the line of each finding about a text."""

    def findings(text: str, *options: object) -> list[tuple[str, int]]:
        found = json.loads(check(text, *options, "--format", "json").out)["findings"]
        return [(each["code"], each["line"]) for each in found]

    return findings


@pytest.mark.parametrize(
    ("text", "strict", "code"),
    [
        pytest.param(CLEAN, False, 0, id="clean"),
        pytest.param(CLEAN, True, 0, id="clean-strict"),
        pytest.param(WARNS, False, 0, id="warnings"),
        pytest.param(WARNS, True, 1, id="warnings-strict"),
        pytest.param(BAD, False, 1, id="errors"),
        pytest.param("", False, 1, id="empty"),
        pytest.param("a: [", False, 1, id="not-yaml"),
        pytest.param("\0", False, 1, id="not-text-for-yaml"),
        pytest.param("[" * 100_000, False, 1, id="deep"),
        pytest.param("\ufeff" + CLEAN, False, 0, id="byte-order-mark"),
        pytest.param(CLEAN.replace("\n", "\r\n"), False, 0, id="crlf"),
        pytest.param(b"\xff", False, 2, id="not-utf-8"),
        pytest.param(CLEAN.encode("utf-16"), False, 2, id="utf-16"),
    ],
)
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_exit_codes(
    command: Command, write: Write, text: str, strict: bool, code: int, style: str, stdin: bool  # noqa: FBT001
) -> None:  # fmt: skip
    options = ["--format", style, *(["--strict"] if strict else [])]
    done = command("check", "-", *options, stdin=text) if stdin else command("check", write(text), *options)
    assert done.code == code
    if code == 2:
        assert done.out == ""
        assert done.err.startswith("Error: ")
        return
    assert done.err == ""
    if style == "json":
        answer = json.loads(done.out)
        assert answer["ok"] is (code == 0)


def test_the_mode_of_a_configmap_manifest_counts(check: Check) -> None:
    good = CONFIGMAP.replace("      - nginx\n", "")
    assert check(good + "  mode: warn\n").code == 0
    done = check(good + "  mode: audit\n")
    assert done.code == 1
    assert "<stdin>:14:9 mode" in done.out
    assert "  mode: audit\n" in done.out


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(CONFIGMAP.replace("policy.yaml:", "other:"), 1, id="other-key"),
        pytest.param("kind: ConfigMap\n", 1, id="no-data"),
        pytest.param("kind: ConfigMap\ndata:\n", 1, id="data-null"),
        pytest.param("kind: ConfigMap\ndata: [a]\n", 1, id="data-list"),
        pytest.param("kind: ConfigMap\ndata: {policy.yaml: 7}\n", 1, id="number"),
        pytest.param("kind: ConfigMap\ndata: {policy.yaml: ''}\n", 1, id="empty"),
        pytest.param(json.dumps({"kind": "ConfigMap", "data": {"policy.yaml": CLEAN}}), 0, id="json"),
        pytest.param(json.dumps({"kind": "ConfigMap", "data": {"policy.yaml": BAD}}), 1, id="json-bad"),
        pytest.param("kind: ConfigMap\ndata:\n  policy.yaml: >-\n    a: b\n", 1, id="folded"),
        pytest.param("kind: ConfigMap\ndata:\n  policy.yaml: |4\n        a: b\n", 1, id="indented"),
        pytest.param("kind: ConfigMap\ndata:\n  policy.yaml: |+\n\n\n", 1, id="blank"),
    ],
)
@pytest.mark.parametrize("style", ["text", "json"])
def test_odd_configmap_manifests(check: Check, text: str, code: int, style: str) -> None:
    assert check(text, "--format", style).code == code


@pytest.mark.parametrize(
    ("text", "article"),
    [
        pytest.param("apiVersion: v1\nkind: Pod\nspec: {}\n", "a Pod", id="a-pod"),
        pytest.param("apiVersion: networking.k8s.io/v1\nkind: Ingress\n", "an Ingress", id="an-ingress"),
    ],
)
def test_an_object_of_another_api_is_one_finding(check: Check, text: str, article: str) -> None:
    done = check(text, "--format", "concise")
    message = f"this is {article}, not an ImagePolicy or a ConfigMap that holds one"
    assert (done.code, done.out) == (1, f"<stdin>:2:7: error not-a-policy {message}\n")


@pytest.mark.parametrize(
    "text",
    [CLEAN.replace("ImagePolicy", "ImagePolicies"), CLEAN.replace("gatekeeper-py/v1", "gatekeeper-py/v2")],
)
def test_a_policy_of_a_wrong_kind_or_version_is_read_as_a_policy(findings: Findings, text: str) -> None:
    assert [code for code, _ in findings(text)] == ["bad-value"]


def test_the_keys_are_shown_by_their_fingerprints(command: Command, write: Write) -> None:
    more = "require: [{images: [a.io], signedBy: [ci-2025, ci-2026]}]\n"
    policy = write(policy_text(keys_text(until="2999-01-01") + more, allow="[a.io@*]"))
    shown = [
        "ci-2025: P-256, fingerprint cdefef5c9bb4688a622238b7a53cfc32bc296380b4ced72ad50b667fc4441279",
        (
            "ci-2026: P-256, fingerprint 7b93b0b901758bfade613b7494599741f7c01d3e135bade5b7ab52ae82d2cff8, "
            "until 2999-01-01T00:00:00Z"
        ),
    ]
    done = command("check", policy)
    assert done.out == "".join(f"key {each}\n" for each in shown) + f"{policy}: ok\n"
    keys = json.loads(command("check", policy, "--format", "json").out)["keys"]
    assert [each["fingerprint"] in line for each, line in zip(keys, shown, strict=True)] == [True, True]
    assert [each.get("until") for each in keys] == [None, "2999-01-01T00:00:00Z"]


def test_information_is_not_a_warning(check: Check) -> None:
    text = policy_text("deny: ['*/**:latest']\n", allow="[a.io, 'foo:443/']")
    done = check(text, "--fast-path", "--strict")
    assert (done.code, "information[not-pre-approved]" in done.out) == (0, True)
    bad = check(BAD, "--fast-path")
    assert (bad.code, "not-pre-approved" in bad.out) == (1, False)


SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: gatekeeper-py-webhooks}
data:
  webhooks.yaml: |
    exemptNamespaces: [calico-system]
    pods: {failurePolicy: fail}
"""


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(
            'data:\n  webhooks.yaml: ""\n  my-webhooks.yaml: |\n    exemptNamespaces: [a]\n',
            [("unknown-key", "data.my-webhooks.yaml", 7)],
            id="another-key-beside",
        ),
        pytest.param(
            "data:\n  webhook.yaml: |\n    exemptNamespaces: [a]\n",
            [("unknown-key", "data.webhook.yaml", 6), ("missing-field", "data.webhooks.yaml", 6)],
            id="misnamed",
        ),
        pytest.param(
            "data: {webhooks.yaml: ''}\nbinaryData: {x: AA==}\n",
            [("binary-data", "binaryData", 6)],
            id="binary",
        ),
        pytest.param(
            "data: {webhooks.yaml: '', policy.yaml: ''}\n",
            [("unknown-key", "data.policy.yaml", 5)],
            id="a-policy",
        ),
        pytest.param(
            "data:\n  webhooks.yaml: 'colour: red'\n", [("unknown-field", "colour", 6)], id="not-a-block"
        ),
    ],
)
@pytest.mark.parametrize("before", ["", "apiVersion: v1\nkind: Service\n---\n"], ids=["alone", "in-a-stream"])
def test_other_keys_beside_the_settings_are_errors(
    check: Check, data: str, found: list[tuple[str, str, int]], before: str
) -> None:
    """The controller would not read them, so settings under another key would have no effect."""
    head, _, _ = SETTINGS.partition("data:\n")
    done = check(f"{before}{head}{data}", "--format", "json")
    assert done.code == 1
    shift = before.count("\n")
    shown = [(each["code"], each["path"], each["line"] - shift) for each in json.loads(done.out)["findings"]]
    assert shown == found


def test_settings_of_the_webhooks_are_not_a_policy(command: Command, write: Write) -> None:
    done = command("explain", write(SETTINGS.replace("fail}", "Fail}")), "nginx")
    assert done.code == 2
    assert "policy.yaml" in done.err


SETTINGS_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {a: b}\n"


def stream(*documents: str) -> str:
    return "---\n".join(documents)


def test_every_policy_of_a_stream_is_checked_where_it_stands(check: Check, findings: Findings) -> None:
    text = stream("# made by kustomize\n", SETTINGS_MAP, CONFIGMAP, SETTINGS_MAP, CONFIGMAP)
    lines = [number for number, line in enumerate(text.split("\n"), 1) if line == "      - nginx"]
    assert findings(text) == [("bad-pattern", number) for number in lines]
    done = check(text)
    assert done.code == 1
    for number in lines:
        assert f"<stdin>:{number}:" in done.out
        assert f"{number} |       - nginx" in done.out
    assert "<stdin>: 2 errors, 0 warnings" in done.out


def configmaps(policy: str) -> str:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"policy.yaml": policy}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]}) + "\n"


@pytest.mark.parametrize("policy", [CLEAN, BAD])
def test_a_policy_in_a_list_is_an_error_because_it_is_not_read(findings: Findings, policy: str) -> None:
    text = stream(CLEAN, configmaps(policy))
    assert findings(text) == [("policy-in-list", CLEAN.count("\n") + 2)]
    assert findings(text.replace('"policy.yaml"', '"other.yaml"')) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param("binaryData: {policy.yaml: AA==}", "binary-data", id="binary"),
        pytest.param("data: {mode: enforce, policy.yml: x}", "unknown-key", id="misspelt-key"),
        pytest.param(
            "metadata: {name: gatekeeper-py-policy}\ndata: {mode: enforce}",
            "missing-field",
            id="overlay-without-a-policy",
        ),
        pytest.param(
            "metadata: {name: gatekeeper-py-policy}\ndata: {mode: enforce, mine.yaml: x}",
            "unknown-key",
            id="policy-file-with-another-name",
        ),
    ],
)
def test_a_configmap_of_a_stream_without_a_readable_policy_is_an_error(
    findings: Findings, fields: str, code: str
) -> None:
    found = findings(stream(CLEAN, f"apiVersion: v1\nkind: ConfigMap\n{fields}\n"))
    assert code in {each for each, _ in found}


def test_lint_of_a_stream_has_its_lines(findings: Findings) -> None:
    text = stream(SETTINGS_MAP, WARNS)
    assert findings(text) == [("floating-latest", SETTINGS_MAP.count("\n") + 5)]


def test_a_document_may_begin_on_the_line_of_its_marker(findings: Findings) -> None:
    document = json.dumps({"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy"})
    text = f"{SETTINGS_MAP}...\n--- {document}\n...\n"
    assert findings(text) == [("missing-field", 6), ("missing-field", 6)]


QUOTED = f"kind: ConfigMap\ndata:\n  other: x\n  policy.yaml: {json.dumps(BAD)}\n"
"""A ConfigMap whose lines are not those of the policy in it, as in JSON."""


@pytest.mark.parametrize("before", ["", f"{SETTINGS_MAP}---\n"], ids=["alone", "in-a-stream"])
def test_findings_about_a_policy_that_is_not_a_block_have_positions_in_the_file(
    check: Check, before: str
) -> None:
    above = before.count("\n")
    about_key, *about_policy = json.loads(check(before + QUOTED, "-o", "json").out)["findings"]
    assert (about_key["path"], about_key["line"]) == ("data.other", above + 3)
    expected = json.loads(check(BAD, "-o", "json").out)["findings"]
    assert len(expected) > 1
    assert {(each["path"], each["line"], each["message"]) for each in about_policy} == {
        (each["path"], above + 4, f"{each['message']} (line {each['line']} of the text)") for each in expected
    }


def test_a_finding_is_shown_with_the_line_of_the_file_that_it_is_about(check: Check) -> None:
    shown = check(QUOTED).out
    assert "  3 |   other: x\n" in shown
    assert f"  4 |   policy.yaml: {json.dumps(BAD)[:40]}" in shown


def test_two_policies_in_a_stream_are_an_error(findings: Findings) -> None:
    assert ("second-policy", CLEAN.count("\n") + 2) in findings(stream(CLEAN, CLEAN))


def test_a_stream_without_a_policy_exits_with_2(check: Check) -> None:
    done = check(stream(SETTINGS_MAP, "a: [\n", "b\n"))
    assert (done.code, done.out) == (2, "")
    assert "<stdin>: none of its 3 documents is a policy; line 7: this document cannot be read" in done.err


@pytest.fixture(params=["match-conditions", "validating-admission-policy"])
def compiled(command: Command, write: Write, request: pytest.FixtureRequest) -> str:
    """Return what was compiled from the policy ``CLEAN``."""
    return command("compile", write(CLEAN), "--to", request.param).out


def test_objects_compiled_from_another_policy_cause_a_warning(
    check: Check, findings: Findings, compiled: str
) -> None:
    assert findings(stream(CLEAN, compiled)) == []
    changed = stream(CLEAN.replace("registry.corp.io", "other.example"), compiled)
    (older, *_) = findings(changed)
    assert older[0] == "compiled-from-another"
    done = check(changed)
    assert done.code == 0
    assert f"was compiled from the revision {parse_policy(CLEAN).revision}" in done.out.replace("\n  ", " ")
    assert check(changed, "--strict").code == 1
    assert "compiled-from-another" not in {code for code, _ in findings(stream(BAD, compiled))}


def test_a_warning_about_a_compiled_object_shows_its_line(check: Check, compiled: str) -> None:
    changed = json.dumps(CLEAN.replace("registry.corp.io", "other.example"))
    quoted = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: policy}}\ndata: {{policy.yaml: {changed}}}\n"
    )
    shown = check(stream(quoted, compiled.partition("---\n")[2])).out
    assert re.search(r"^  6 \| \w", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "code", "line"),
    [
        pytest.param("kind: ValidatingAdmissionPolicy\nmetadata: [\n", "yaml-syntax", 3, id="broken"),
        pytest.param("kind: Deployment\n- a\n", "yaml-syntax", 2, id="list-in-a-mapping"),
        pytest.param("a: 1\nb: {{ .Values.b }}\n", "yaml-syntax", 2, id="template"),
        pytest.param("{{ if .Values.b }}\na: 1\n", "yaml-syntax", 1, id="template-with-a-condition"),
        pytest.param("[" * 20_000, "yaml-syntax", 1, id="deep"),
        pytest.param("a: 1\na: 2\n", "unreadable-object", 2, id="key-given-twice"),
        pytest.param("a: !b c\n", "unreadable-object", 1, id="tag"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_document_of_a_stream_that_cannot_be_read_is_a_finding_that_quotes_nothing(
    check: Check, findings: Findings, document: str, code: str, line: int, *, first: bool
) -> None:
    text = stream(document, CLEAN) if first else stream(CLEAN, document)
    assert findings(text) == [(code, line + (0 if first else CLEAN.count("\n") + 1))]
    done = check(text)
    assert done.code == int(code == "yaml-syntax")
    assert check(text, "--strict").code == 1
    assert " | " not in done.out
    assert ("use the output of helm template" in done.out) is ("{{" in document)


OURS = "labels: {app.kubernetes.io/part-of: gatekeeper-py}"


@pytest.mark.parametrize(
    ("metadata", "image", "refused"),
    [
        (f"{{namespace: gatekeeper-py, {OURS}}}", "evil.example/gatekeeper-py:1", True),
        (f"{{{OURS}}}", "evil.example/gatekeeper-py:1", True),
        ("{namespace: kube-system}", "evil.example/coredns:1", True),
        (f"{{namespace: gatekeeper-py, {OURS}}}", "registry.corp.io/gatekeeper-py:1", False),
        ("{namespace: shop}", "evil.example/shop:1", False),
        ("{namespace: gatekeeper-py, labels: []}", "evil.example/shop:1", False),
        ("[]", "evil.example/shop:1", False),
    ],
)
def test_own_and_system_images_that_the_policy_refuses_cause_a_warning(
    check: Check, findings: Findings, metadata: str, image: str, *, refused: bool
) -> None:
    deployment = (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {metadata}\n"
        f"spec: {{template: {{spec: {{containers: [{{name: a, image: {image}}}]}}}}}}\n"
    )
    expected = [("own-image", CLEAN.count("\n") + 2)] if refused else []
    assert findings(stream(CLEAN, deployment)) == expected
    done = check(stream(CLEAN, deployment))
    assert (done.code, image in done.out) == (0, refused)


def test_a_stream_with_too_many_broken_documents_is_exit_2(check: Check) -> None:
    assert check(stream(CLEAN, *["a: [\n"] * 100)).out.count("error[") == 100
    done = check(stream(CLEAN, *["a: [\n"] * 101))
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: <stdin>: more than 100 of its documents cannot be read\n"


def test_github_shows_findings_beside_the_line(command: Command, write: Write) -> None:
    path = write(policy_text("nonsense%: 1\n"), "a,b:c.yaml")
    done = command("check", path, "--format", "github")
    shown = str(path).replace(":", "%3A").replace(",", "%2C")
    assert done.out.startswith(f"::error file={shown},line=5,col=1,title=unknown-field::")
    assert "\n" not in done.out.strip()


PRIVATE: Final = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
)
BODY: Final = "".join(PRIVATE.splitlines()[1:-1])


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([{"name": "ci", "key": PRIVATE}], id="key"),
        pytest.param([{"name": PRIVATE, "key": "x"}], id="name"),
        pytest.param([{"name": "ci", "key": [PRIVATE]}], id="list"),
        pytest.param([PRIVATE], id="entry"),
        pytest.param([{"name": "ci", "key": BODY}], id="key-without-its-first-line"),
        pytest.param([{"name": "ci", "key": [BODY]}], id="list-without-its-first-line"),
        pytest.param([BODY], id="entry-without-its-first-line"),
    ],
)
def test_a_private_key_on_the_line_of_a_finding_is_not_shown(
    command: Command, write: Write, keys: list[Any]
) -> None:
    given = write(policy_text(f"keys: {json.dumps(keys)}\n"))
    for arguments in (("check", given), ("explain", given, "nginx")):
        done = command(*arguments)
        assert "keys[0]" in done.out + done.err
        assert not any(line[:20] in done.out + done.err for line in PRIVATE.splitlines()[1:-1])
