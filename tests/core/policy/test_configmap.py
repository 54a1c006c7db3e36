"""A ConfigMap may hold one policy text, one mode, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.policy.configmap import (
    MAX_UNKNOWN_KEYS,
    ExceptionsText,
    document_key,
    exceptions_of,
    read_configmap,
    read_exceptions,
)
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from support.builders import policy_text

TEXT = policy_text()


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_a_text_and_a_mode(mode: str) -> None:
    found = read_configmap({"policy.yaml": TEXT, "mode": mode})
    assert (found.text, found.mode, found.findings) == (TEXT, mode, ())


@pytest.mark.parametrize("binary_data", [None, {}])
def test_a_text_alone(binary_data: Any) -> None:
    found = read_configmap({"policy.yaml": TEXT}, binary_data)
    assert (found.text, found.mode, found.findings) == (TEXT, None, ())


@pytest.mark.parametrize(
    ("data", "binary_data", "codes"),
    [
        pytest.param(None, None, ["missing-field"], id="nothing"),
        pytest.param({}, None, ["missing-field"], id="empty"),
        pytest.param({"mode": "warn"}, None, ["missing-field"], id="mode-alone"),
        pytest.param([], None, ["wrong-type"], id="data-is-a-list"),
        pytest.param("x", None, ["wrong-type"], id="data-is-text"),
        pytest.param({"policy.yaml": None}, None, ["wrong-type"], id="text-is-null"),
        pytest.param({"policy.yaml": ["x"]}, None, ["wrong-type"], id="text-is-a-list"),
        pytest.param({"policy.yaml": TEXT, "mode": None}, None, ["bad-value"], id="mode-is-null"),
        pytest.param({"policy.yaml": TEXT, "mode": ""}, None, ["bad-value"], id="mode-is-empty"),
        pytest.param({"policy.yaml": TEXT, "mode": {}}, None, ["bad-value"], id="mode-is-a-mapping"),
        pytest.param({"policy.yaml": TEXT, "mode": "x" * 10_000_000}, None, ["bad-value"], id="mode-is-huge"),
        pytest.param({"policy.yaml": TEXT, "Mode": "warn"}, None, ["unknown-key"], id="case-matters"),
        pytest.param({"policy.yaml": TEXT, "a": "", "b": ""}, None, ["unknown-key"] * 2, id="two-other-keys"),
        pytest.param({"policy.yaml": TEXT}, {"logo": "AA=="}, ["binary-data"], id="binary-data"),
        pytest.param({}, {"policy.yaml": "/w=="}, ["missing-field", "binary-data"], id="binary-policy"),
        pytest.param({"policy.yaml": TEXT}, "AA==", ["binary-data"], id="binary-data-is-text"),
    ],
)
def test_other_content_is_an_error(data: Any, binary_data: Any, codes: list[str]) -> None:
    found = read_configmap(data, binary_data)
    assert [finding.code for finding in found.findings] == codes
    assert {finding.severity for finding in found.findings} == {"error"}
    assert found.mode in {None, "warn"}


def test_the_text_is_kept_for_its_own_findings() -> None:
    assert read_configmap({"policy.yaml": TEXT, "other": "x"}).text == TEXT


@pytest.mark.parametrize("character", ["#", "é", "\ud800"])
def test_the_text_is_measured_in_bytes(character: str) -> None:
    size = len(character.encode("utf-8", "surrogatepass"))
    most = MAX_CONFIGMAP_BYTES // size
    assert read_configmap({"policy.yaml": character * most}).findings == ()
    found = read_configmap({"policy.yaml": character * (most + 1)})
    assert found.text is None
    assert [finding.code for finding in found.findings] == ["too-long"]


def test_other_keys_are_named_and_then_counted() -> None:
    data = {"policy.yaml": TEXT, **{f"key-{number}": "" for number in range(10_000)}}
    findings = read_configmap(data).findings
    assert len(findings) == MAX_UNKNOWN_KEYS + 1
    assert findings[0].path == "data.key-0"
    assert f"{10_000 - MAX_UNKNOWN_KEYS:,}" in findings[-1].message


def test_names_of_keys_are_one_short_line() -> None:
    (finding,) = read_configmap({"policy.yaml": TEXT, "é\n" * 1000: ""}).findings
    assert finding.path.isascii()
    assert finding.path.isprintable()
    assert len(finding.path) < 100


@pytest.mark.parametrize(
    ("name", "namespace", "source"),
    [
        ("gatekeeper-py-exceptions", "team", "namespace"),
        ("gatekeeper-py-exceptions", "system", "installation"),
        ("gatekeeper-py-break-glass", "system", "break-glass"),
        ("gatekeeper-py-break-glass", "team", None),
        ("gatekeeper-py-policy", "system", None),
        ("gatekeeper-py-exceptions", None, None),
        (None, "team", None),
    ],
)
def test_the_name_and_the_namespace_of_a_configmap_are_the_source_of_its_exceptions(
    name: Any, namespace: Any, source: Any
) -> None:
    expected = None if source is None else DocumentKey(source, namespace)
    assert document_key(name, namespace, "system") == expected


@pytest.mark.parametrize(
    ("data", "binary_data", "codes"),
    [
        pytest.param({"exceptions.yaml": "x"}, None, [], id="text"),
        pytest.param(None, None, ["missing-field"], id="nothing"),
        pytest.param([], None, ["wrong-type"], id="data-is-a-list"),
        pytest.param({"exceptions.yaml": 1}, None, ["wrong-type"], id="not-text"),
        pytest.param({"exceptions.yaml": "x" * (MAX_BYTES + 1)}, None, ["too-long"], id="too-long"),
        pytest.param({"exceptions.yaml": "x", "mode": "warn"}, None, ["unknown-key"], id="another-key"),
        pytest.param({"exceptions.yaml": "x"}, {"a": "AA=="}, ["binary-data"], id="binary-data"),
    ],
)
def test_a_configmap_with_exceptions_holds_one_text(data: Any, binary_data: Any, codes: list[str]) -> None:
    key = DocumentKey("namespace", "team")
    found, text, findings = read_exceptions(key, data, binary_data)
    assert found is key
    assert [finding.code for finding in findings] == codes
    assert (text is None) == bool({"missing-field", "wrong-type", "too-long"} & set(codes))


@pytest.mark.parametrize(
    ("metadata", "is_read"),
    [
        pytest.param({"name": "gatekeeper-py-exceptions", "namespace": "team"}, True, id="exceptions"),
        pytest.param({"name": "gatekeeper-py-policy", "namespace": "team"}, False, id="another-name"),
        pytest.param("text", False, id="no-mapping"),
    ],
)
def test_an_object_of_the_api_server_is_read_if_it_holds_exceptions(metadata: Any, *, is_read: bool) -> None:
    found = exceptions_of({"metadata": metadata, "data": {"exceptions.yaml": "x"}}, "system")
    key = DocumentKey("namespace", "team")
    assert found == (ExceptionsText(key, "x") if is_read else None)
