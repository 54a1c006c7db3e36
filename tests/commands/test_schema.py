"""``schema``: a JSON Schema that agrees with the parser on the shape of documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from commanding import Command
from gatekeeper_py.control.webhooks.settings import InvalidWebhookSettings, parse_settings
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.policy.document import PolicyError

ROOT = Path(__file__).parents[2]
HEAD: dict[str, Any] = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy", "mode": "enforce"}
MINIMAL = {**HEAD, "allow": ["registry.corp.io"]}
MIRROR = {"from": "docker.io", "to": "a.io"}


@pytest.fixture
def validator(command: Command) -> jsonschema.Draft202012Validator:
    done = command("schema")
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


GOOD = [
    pytest.param(MINIMAL, id="minimal"),
    pytest.param({**MINIMAL, "mode": "warn", "message": "ask us"}, id="message"),
    pytest.param({**MINIMAL, "deny": []}, id="empty-deny"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io"}, "b.io"]}, id="both-kinds-of-rule"),
    pytest.param(
        {**MINIMAL, "allow": [{"image": "a.io", "namespaces": ["a-*"], "until": "2030-01-01", "owner": "o",
                               "reason": "r"}]},
        id="whole-rule",
    ),
    pytest.param({**MINIMAL, "namespaces": [{"names": ["*"], "mode": "warn"}]}, id="override"),
    pytest.param({**MINIMAL, "mirrors": [{"from": "docker.io", "to": "a.io/hub", "except": ["docker.io/x"]}]},
                 id="mirror"),
    pytest.param({**MINIMAL, "resources": [{"group": "tekton.dev", "kind": "Task",
                                            "images": ["spec.steps[*].image"]}]}, id="resource"),
    pytest.param({**MINIMAL, "registries": [{"host": "a.io", "timeout": "1s", "rate": 1000}]}, id="registry"),
]  # fmt: skip

BAD = [
    pytest.param({}, id="empty"),
    pytest.param([], id="list"),
    pytest.param(HEAD, id="no-allow"),
    pytest.param({**MINIMAL, "allow": []}, id="empty-allow"),
    pytest.param({**MINIMAL, "allow": None}, id="allow-null"),
    pytest.param({**MINIMAL, "allow": "a.io"}, id="allow-text"),
    pytest.param({**MINIMAL, "allow": [""]}, id="blank-rule"),
    pytest.param({**MINIMAL, "allow": [1]}, id="number-rule"),
    pytest.param({**MINIMAL, "allow": [None]}, id="null-rule"),
    pytest.param({**MINIMAL, "allow": [{}]}, id="rule-without-image"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "colour": "red"}]}, id="unknown-field-of-a-rule"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "namespaces": []}]}, id="no-namespaces"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "namespaces": "a"}]}, id="namespaces-text"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "owner": 1}]}, id="owner-number"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "until": 2030}]}, id="until-number"),
    pytest.param({**MINIMAL, "allow": [{"image": "a.io", "namespaces": None}]}, id="namespaces-null"),
    pytest.param({**MINIMAL, "deny": None}, id="deny-null"),
    pytest.param({**MINIMAL, "colour": "red"}, id="unknown-field"),
    pytest.param({**MINIMAL, "mode": "audit"}, id="mode"),
    pytest.param({**MINIMAL, "mode": True}, id="mode-boolean"),
    pytest.param({**MINIMAL, "kind": "Pod"}, id="kind"),
    pytest.param({**MINIMAL, "apiVersion": "v1"}, id="api-version"),
    pytest.param({**MINIMAL, "message": "x" * 201}, id="long-message"),
    pytest.param({**MINIMAL, "message": None}, id="message-null"),
    pytest.param({**MINIMAL, "namespaces": [{"names": [], "mode": "warn"}]}, id="override-of-nothing"),
    pytest.param({**MINIMAL, "namespaces": [{"names": ["a"]}]}, id="override-without-mode"),
    pytest.param({**MINIMAL, "namespaces": None}, id="overrides-null"),
    pytest.param({**MINIMAL, "mirrors": [{"from": "docker.io"}]}, id="mirror-to-nowhere"),
    pytest.param({**MINIMAL, "mirrors": [{**MIRROR, "verify": "tag"}]}, id="not-built"),
    pytest.param({**MINIMAL, "mirrors": [{**MIRROR, "except": None}]}, id="except-null"),
    pytest.param({**MINIMAL, "resources": [{"group": "", "kind": "A", "images": []}]}, id="no-images"),
    pytest.param({**MINIMAL, "resources": [{"kind": "A", "images": ["a"]}]}, id="resource-without-group"),
    pytest.param({**MINIMAL, "registries": [{"host": "a.io", "timeout": 1}]}, id="timeout-number"),
    pytest.param({**MINIMAL, "registries": [{"host": "a.io", "rate": 0}]}, id="no-requests"),
    pytest.param({**MINIMAL, "registries": [{"host": "a.io", "rate": 1001}]}, id="too-many-requests"),
    pytest.param({**MINIMAL, "registries": [{"host": "a.io", "rate": "20"}]}, id="rate-text"),
]  # fmt: skip


def parses(document: Any) -> bool:
    try:
        parse_policy(yaml.safe_dump(document))
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize("document", GOOD)
def test_good_documents(validator: jsonschema.Draft202012Validator, document: Any) -> None:
    assert parses(document)
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize("document", BAD)
def test_bad_documents(validator: jsonschema.Draft202012Validator, document: Any) -> None:
    assert not parses(document)
    assert not validator.is_valid(document)


@pytest.mark.parametrize(
    "allow", [["nginx"], ["a.io/**/b"], ["*"], [{"image": "A.io"}], [{"image": "a.io", "until": "soon"}]]
)
def test_checks_beyond_the_schema_are_left_to_the_parser(
    validator: jsonschema.Draft202012Validator, allow: list[Any]
) -> None:
    document = {**MINIMAL, "allow": allow}
    assert not parses(document)
    assert validator.is_valid(document)


def fields(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each field that a schema describes, with its own schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for inner in schema.values():
            yield from fields(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from fields(inner)


@pytest.mark.parametrize("document", ["policy", "test", "webhooks"])
def test_editors_propose_only_defaults_that_the_field_accepts(command: Command, document: str) -> None:
    described = list(fields(json.loads(command("schema", "--for", document).out)))
    for name, schema in described:
        if "default" in schema:
            assert jsonschema.Draft202012Validator({**schema, "items": True}).is_valid(schema["default"]), (
                name
            )
    assert len(described) > 5


def test_the_defaults_of_a_registry_are_written_as_in_a_policy(command: Command) -> None:
    registry = json.loads(command("schema").out)["$defs"]["RegistryModel"]["properties"]
    written = {name: schema["default"] for name, schema in registry.items() if "default" in schema}
    short, full = (
        parse_policy(yaml.safe_dump({**MINIMAL, "registries": [entry]})).document.registries
        for entry in ({"host": "a.io"}, {"host": "a.io", **written})
    )
    assert written.keys() >= {"timeout", "ttlFound", "ttlMissing", "rate"}
    assert full == short


def test_the_schema_of_the_settings(command: Command) -> None:
    done = command("schema", "--for", "webhooks")
    assert done.code == 0
    schema = json.loads(done.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    shipped = yaml.safe_load((ROOT / "k8s/base/webhooks.yaml").read_text(encoding="utf-8"))
    assert list(validator.iter_errors(shipped)) == []
    for bad in (
        {"exemptNamespaces": ["*"]},
        {"colour": "red"},
        {"pods": {"timeoutSeconds": 31}},
        {"extraRules": [{"apiGroups": ["a.io"], "apiVersions": ["v1"], "resources": ["*"]}]},
        {"exemptNamespaceLabels": {"a b": "c"}},
        {"exemptNamespaceLabels": {"kubernetes.io/metadata.name": "c"}},
        {"extraRules": [{"apiGroups": ["storage.k8s.io"], "apiVersions": ["v1"], "resources": ["a"]}]},
    ):
        assert list(validator.iter_errors(bad)), bad
        with pytest.raises(InvalidWebhookSettings):
            parse_settings(yaml.safe_dump(bad))
