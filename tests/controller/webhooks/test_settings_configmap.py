"""The ConfigMap with the settings has one key; anything else in it is an error."""

from __future__ import annotations

import pytest

from gatekeeper_py.controller.webhooks.settings import is_settings_name, read_settings

KEY = "webhooks.yaml"


@pytest.mark.parametrize(
    ("data", "binary", "text", "found"),
    [
        pytest.param({KEY: "a"}, None, "a", [], id="good"),
        pytest.param({KEY: ""}, {}, "", [], id="empty"),
        pytest.param(
            {KEY: "", "my.yaml": ""}, None, "", [("unknown-key", "data.my.yaml")], id="another-key-beside"
        ),
        pytest.param(
            {"webhook.yaml": ""},
            None,
            None,
            [("missing-field", f"data.{KEY}"), ("unknown-key", "data.webhook.yaml")],
            id="misnamed",
        ),
        pytest.param({}, None, None, [("missing-field", f"data.{KEY}")], id="no-key"),
        pytest.param(None, None, None, [("missing-field", f"data.{KEY}")], id="no-data"),
        pytest.param({KEY: 1}, None, None, [("wrong-type", f"data.{KEY}")], id="no-text"),
        pytest.param([], None, None, [("wrong-type", "data")], id="no-mapping"),
        pytest.param({KEY: "a"}, {"x": "AA=="}, "a", [("binary-data", "binaryData")], id="binary"),
    ],
)
def test_read_configmap_reports_text_and_findings(
    data: object, binary: object, text: str | None, found: list[tuple[str, str]]
) -> None:
    read = read_settings(data, binary)
    assert read.text == text
    assert [(each.code, each.path) for each in read.findings] == found


def test_the_proposal_names_the_file_of_a_kustomization() -> None:
    (finding,) = read_settings({KEY: "", "mine.yaml": ""}).findings
    assert "files: [webhooks.yaml=mine.yaml]" in finding.proposal


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        pytest.param("gatekeeper-py-webhooks", True, id="as-shipped"),
        pytest.param("gatekeeper-py-webhooks-5t6bk9hh2m", True, id="with-a-hash"),
        pytest.param("gatekeeper-py-webhooks-mine", False, id="longer"),
        pytest.param("gatekeeper-py-policy", False, id="the-policy"),
        pytest.param("", False, id="none"),
    ],
)
def test_configmaps_with_settings_are_recognised_by_name(name: str, *, holds: bool) -> None:
    assert is_settings_name(name) is holds
