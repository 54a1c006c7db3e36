"""``schema``: a JSON Schema that agrees with the parser on the shape of documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from gatekeeper_py.controller.webhooks.settings import InvalidWebhookSettings, parse_settings
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.policy.document import PolicyError
from support.builders import variants
from support.commanding import Command

ROOT = Path(__file__).parents[3]
HEAD: dict[str, Any] = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy", "mode": "enforce"}
MINIMAL = {**HEAD, "allow": ["registry.corp.io"]}
RULE = {"image": "a.io", "namespaces": ["a-*"], "until": "2030-01-01", "owner": "o", "reason": "r"}
RICH: Final = {
    **HEAD,
    "message": "ask us",
    "allow": ["b.io", RULE],
    "deny": ["*/**:latest", {"image": "c.io", "except": ["c.io/x"]}],
    "require": [
        {"images": ["a.io"], "except": ["a.io/x"], "exists": True, "onError": "deny", "mode": "warn"}
    ],
    "namespaces": [{"names": ["dev"], "mode": "warn", "until": "2030-01-01"}],
    "mirrors": [{"from": "docker.io", "to": "a.io/hub", "except": ["docker.io/x"], "imagePullSecret": "s"}],
    "resources": [{"group": "tekton.dev", "kind": "Task", "images": ["spec.steps[*].image"]}],
    "registries": [{"host": "a.io", "timeout": "1s", "rate": 1000, "plainHTTP": True}],
    "exceptions": [{"source": "namespace", "images": ["ghcr.io/**"], "longest": "14d", "most": 2}],
}
BEYOND_THE_SCHEMA: Final = frozenset(
    {"bad-pattern", "bad-namespace", "bad-time", "bad-duration", "bad-mirror", "bad-host", "bad-secret",
     "bad-resource-path", "without-verify", "requires-nothing", "wildcard-host"}
)  # fmt: skip
"""The codes of findings about values. Only the parser makes them, because a schema knows types and fields."""
OTHERS: Final = (
    {**MINIMAL, "colour": "red"},
    {**MINIMAL, "allow": [{"image": "a.io", "colour": "red"}]},
    {**MINIMAL, "message": "x" * 201},
    {**MINIMAL, "mirrors": [{"from": "docker.io", "to": "a.io", "verify": "tag"}]},
    {**MINIMAL, "registries": [{"host": "a.io", "rate": 1001}]},
)
"""Bad documents that are not variants of ``RICH``: unknown fields, and values out of a range."""


@pytest.fixture
def validator(command: Command) -> jsonschema.Draft202012Validator:
    done = command("schema")
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def codes_of(document: Any) -> set[str]:
    try:
        parse_policy(json.dumps(document))
    except PolicyError as problem:
        return {finding.code for finding in problem.findings}
    return set()


def test_the_schema_agrees_with_the_parser_on_everything_but_values(
    validator: jsonschema.Draft202012Validator,
) -> None:
    for document in (MINIMAL, RICH):
        assert not codes_of(document)
        assert list(validator.iter_errors(document)) == []
    assert not any(map(validator.is_valid, OTHERS))
    refused = 0
    for document in (*variants(RICH), *OTHERS):
        codes = codes_of(document)
        if validator.is_valid(document):
            assert codes <= BEYOND_THE_SCHEMA, document
        else:
            assert codes, document
            refused += 1
    assert refused > 500


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
