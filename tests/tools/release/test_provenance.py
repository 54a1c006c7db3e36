"""The provenance describes this project's own build, not one of another type."""

from __future__ import annotations

import json
from pathlib import Path

from tools.release.provenance import INPUTS, statement
from tools.release.source import Source


def test_the_build_type_is_our_own(tmp_path: Path) -> None:
    for name in (*INPUTS, "released.whl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    source = Source(root=tmp_path, version="1.2.3", commit="0" * 40, timestamp=1_700_000_000)
    text = statement(source, [tmp_path / "released.whl"], None, "https://git.example/gatekeeper-py")
    build = json.loads(text)["predicate"]["buildDefinition"]
    assert build["buildType"] == "https://git.example/gatekeeper-py/make-release/v1"
    assert set(build["externalParameters"]) == {"source", "command"}
