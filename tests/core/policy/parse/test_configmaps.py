"""ConfigMaps are found in the text of a file, and a file that cannot be read is an error."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.policy.configmap import ConfigMap
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.parse.configmaps import configmaps_in

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: team}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("- a\n", [], id="list"),
        pytest.param("kind: Secret\nmetadata: {name: a}\n", [], id="another-kind"),
        pytest.param("kind: ConfigMap\nmetadata: x\ndata: y\n", [ConfigMap("None", "default", {}, False)],
                     id="without-names"),
        pytest.param("kind: ConfigMap\nmetadata: {name: a}\n", [ConfigMap("a", "default", {}, False)],
                     id="without-a-namespace"),
        pytest.param(HEAD + "data: {x: y, z: [1]}\nbinaryData: {b: AA==}\n",
                     [ConfigMap("a", "team", {"x": "y", "z": None}, True)], id="data"),
        pytest.param(f"---\n{HEAD}---\n{HEAD}data: {{k: v}}\n...\n",
                     [ConfigMap("a", "team", {}, False), ConfigMap("a", "team", {"k": "v"}, False)],
                     id="stream"),
    ],
)  # fmt: skip
def test_configmaps_are_found_in_a_stream(text: str, found: list[ConfigMap]) -> None:
    assert configmaps_in(text) == tuple(found)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [", id="not-yaml"),
        pytest.param(f"{HEAD}---\na: b: c\n", id="the-second-document"),
        pytest.param("kind: ConfigMap\nkind: ConfigMap\n", id="a-key-twice"),
        pytest.param("a: \u202e\n", id="bidirectional"),
        pytest.param("#" * (MAX_FILE_BYTES + 1), id="too-long"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        configmaps_in(text)
