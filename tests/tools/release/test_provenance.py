"""The provenance has the build type of this project."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tools.release.__main__ import command, release_options
from tools.release.provenance import INPUTS, statement
from tools.release.source import ROOT, Source


def test_the_build_type_is_our_own(tmp_path: Path) -> None:
    for name in (*INPUTS, "released.whl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    source = Source(root=tmp_path, version="1.2.3", commit="0" * 40, timestamp=1_700_000_000)
    files = [tmp_path / "released.whl"]
    text = statement(source, files, None, "https://git.example/gatekeeper-py", ["make", "release"])
    build = json.loads(text)["predicate"]["buildDefinition"]
    assert build["buildType"] == "https://git.example/gatekeeper-py/make-release/v1"
    assert set(build["externalParameters"]) == {"source", "command"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--no-image"], id="without-an-image"),
        pytest.param(["--base", f"docker.io/library/python@sha256:{'0' * 64}"], id="with-an-image"),
        pytest.param(["--base", "localhost/base", "--local-base"], id="a-test-build"),
    ],
)
def test_the_recorded_command_runs_the_release_with_the_same_options(arguments: list[str]) -> None:
    usual = ["--out", "dist/release", "--repository", "https://git.example/gatekeeper-py", *arguments]
    options = release_options(usual)
    # A surrounding make would hand its own variables, such as ARGS, to this one through the environment.
    environment = {"PATH": os.environ["PATH"]}
    shown = subprocess.run(
        [*command(options), "--dry-run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (run,) = re.findall(r" -m tools\.release (.+)", shown.stdout.replace("\\\n", ""))
    assert release_options(shlex.split(run)) == options
