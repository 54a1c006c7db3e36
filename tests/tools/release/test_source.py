"""A release is built from one commit whose versions agree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.release.__main__ import main
from tools.release.source import ReleaseError, Source


def repository(folder: Path, *, chart: str = "1.2.3") -> Path:
    (folder / "charts/gatekeeper-py").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "charts/gatekeeper-py/Chart.yaml").write_text(f"version: {chart}\nappVersion: 1.2.3\n")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "First")):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)
    return folder


def test_a_source_is_the_version_the_commit_and_its_time(tmp_path: Path) -> None:
    source = Source.of(repository(tmp_path))
    assert (source.version, len(source.commit)) == ("1.2.3", 40)
    assert source.timestamp > 0
    assert source.tracked("charts/gatekeeper-py") == ["Chart.yaml"]


def test_changes_that_are_not_committed_are_refused_and_named(tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "forgotten.txt").write_text("text")
    with pytest.raises(ReleaseError, match=r"forgotten\.txt"):
        Source.of(tmp_path)


def test_a_chart_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"has version 1\.2\.2, but pyproject\.toml has version 1\.2\.3"):
        Source.of(repository(tmp_path, chart="1.2.2"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "name the base", id="no-base"),
        pytest.param(["--base", "docker.io/library/python:3.14-slim"], "has no digest", id="no-digest"),
        pytest.param(
            ["--base", f"python@sha256:{'0' * 64}", "--no-image"], "name the base", id="base-without-image"
        ),
    ],
)
def test_an_image_without_a_pinned_base_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    required = ["--out", str(tmp_path), "--repository", "https://git.example/a"]
    assert main([*required, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
