"""A release is built from one commit whose versions agree. Its address has no user information."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.release import __main__ as program
from tools.release.__main__ import command, main, release_options
from tools.release.provenance import INPUTS, statement
from tools.release.source import ReleaseError, Source, public_address


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


SECRET: Final = "glcbt-64_s3cr3t"
PLAIN: Final = "https://git.example/team/gatekeeper-py"
SSH: Final = "ssh://git.example/team/gatekeeper-py.git"

REMOTES: Final = [
    pytest.param(PLAIN, PLAIN, id="plain"),
    pytest.param(f"https://ci-job:{SECRET}@git.example/team/gatekeeper-py", PLAIN, id="user-and-token"),
    pytest.param(f"https://{SECRET}@git.example/team/gatekeeper-py", PLAIN, id="token-alone"),
    pytest.param(f"https://:{SECRET}@git.example/team/gatekeeper-py", PLAIN, id="password-alone"),
    pytest.param(f"https://ci:{SECRET}@x@git.example/team/gatekeeper-py", PLAIN, id="an-at-sign-in-it"),
    pytest.param(f"https://a:{SECRET}%40@git.example:8443/a", "https://git.example:8443/a", id="port"),
    pytest.param(f"https://a:{SECRET}@[2001:db8::1]/a", "https://[2001:db8::1]/a", id="ipv6"),
    pytest.param("git@git.example:team/gatekeeper-py.git", SSH, id="short-ssh"),
    pytest.param("git.example:/team/gatekeeper-py.git", SSH, id="short-ssh-without-a-user"),
    pytest.param(f"ssh://{SECRET}@git.example/team/gatekeeper-py.git", SSH, id="ssh"),
]

REFUSED: Final = [
    pytest.param(f"{PLAIN}?private_token={SECRET}", id="query"),
    pytest.param(f"{PLAIN}#{SECRET}", id="fragment"),
    pytest.param(f"{PLAIN}?", id="empty-query"),
    pytest.param(f"/home/{SECRET}/gatekeeper-py", id="path-of-this-machine"),
    pytest.param(f"file:///home/{SECRET}/gatekeeper-py", id="file"),
    pytest.param(f"../{SECRET}", id="relative-path"),
    pytest.param(f"ext::sh -c {SECRET}", id="remote-helper"),
    pytest.param(f"https://a:{SECRET}/x@git.example/a", id="a-slash-in-the-password"),
    pytest.param(f"https://a:123/{SECRET}@git.example/a", id="a-slash-that-leaves-a-port"),
    pytest.param(f"a:{SECRET}@git.example/a", id="no-scheme"),
    pytest.param(f"https://git.example/{SECRET}\n", id="line-break"),
    pytest.param(f"https://git.example/{SECRET}@x", id="user-information-in-the-path"),
    pytest.param(f"https://[{SECRET}/a", id="broken-ipv6"),
    pytest.param("https://git.example", id="no-repository"),
    pytest.param(f"https:{SECRET}", id="a-scheme-without-slashes"),
    pytest.param(f"C:/users/{SECRET}", id="windows-path"),
]


def checkout(folder: Path, remote: str) -> Path:
    """Return a git repository whose remote ``origin`` has this address."""
    for arguments in (("init", "-q"), ("remote", "add", "origin", remote)):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return folder


@pytest.mark.parametrize(("written", "published"), REMOTES)
def test_a_secret_of_the_remote_does_not_reach_the_provenance(
    written: str, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "ROOT", checkout(tmp_path, written))
    options = release_options(["--out=dist", "--no-image"])
    for name in INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    source = Source(root=tmp_path, version="1.2.3", commit="0" * 40, timestamp=1_700_000_000)
    text = statement(source, [], None, options.repository, command(options))
    assert SECRET not in text
    build = json.loads(text)["predicate"]["buildDefinition"]
    assert build["resolvedDependencies"][0]["uri"] == f"git+{published}"


@pytest.mark.parametrize(("written", "published"), REMOTES)
def test_a_secret_of_the_option_does_not_reach_the_provenance(written: str, published: str) -> None:
    options = release_options(["--out=dist", "--no-image", f"--repository={written}"])
    assert options.repository == published
    assert f"REPOSITORY={published}" in command(options)


@pytest.mark.parametrize("written", REFUSED)
def test_what_is_not_a_plain_url_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ReleaseError, match="not a URL") as refused:
        public_address(written)
    assert SECRET not in str(refused.value)


@given(st.text("ab1:/@?#[]. \n%é", max_size=30) | st.text(max_size=30))
def test_a_published_address_never_has_user_information(written: str) -> None:
    for text in (written, f"https://{written}", f"https://x:{written}@git.example/a"):
        try:
            published = public_address(text)
        except ReleaseError:
            continue
        assert not set("@?# \n%") & set(published)
        assert public_address(published) == published


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(f"user:{SECRET}@registry.example/python@sha256:{'0' * 64}", id="user-information"),
        pytest.param(f"https://registry.example/{SECRET}@sha256:{'0' * 64}", id="a-url"),
        pytest.param(f"docker://registry.example/{SECRET}@sha256:{'0' * 64}", id="a-transport"),
    ],
)
def test_a_base_that_is_not_an_image_is_refused_and_not_shown(base: str) -> None:
    with pytest.raises(ReleaseError, match="not an image") as refused:
        release_options(["--out=dist", f"--repository={PLAIN}", f"--base={base}"])
    assert SECRET not in str(refused.value)
