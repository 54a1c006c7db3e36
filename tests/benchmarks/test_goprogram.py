"""Go programs are compiled when their inputs change, and kept otherwise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import goprogram
from benchmarks.goprogram import BuildError

MAIN = 'package main\n\nfunc main() {{ println("{0}") }}\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Go's own cache is shared, so that the test is fast. The compiled programs have a separate folder.
    cached = goprogram.run_go(tmp_path, "env", "GOCACHE").strip() if goprogram.lacking() is None else ""
    monkeypatch.setenv("GOCACHE", cached)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "go.mod").write_text("module hello\n\ngo 1.24\n")
    (folder / "main.go").write_text(MAIN.format("one"))
    goprogram.compiled.cache_clear()
    return folder


def output_of(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stderr.strip()


@pytest.mark.go
def test_a_program_is_compiled_again_when_its_source_changes(module: Path, tmp_path: Path) -> None:
    first = goprogram.compiled("hello", module)
    assert first.is_relative_to(tmp_path / "cache" / "gatekeeper-py" / "go")
    assert output_of(first) == "one"
    (module / "main.go").write_text(MAIN.format("two"))
    goprogram.compiled.cache_clear()
    second = goprogram.compiled("hello", module)
    assert second != first
    assert output_of(second) == "two"
    assert output_of(first) == "one"


@pytest.mark.go
def test_an_existing_program_is_not_compiled_again(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = goprogram.compiled("hello", module)
    program.write_text("kept")
    (module / "main_test.go").write_text("package main\n")
    goprogram.compiled.cache_clear()
    capfd.readouterr()
    assert goprogram.compiled("hello", module).read_text() == "kept"
    assert capfd.readouterr().err == ""


@pytest.mark.go
def test_a_program_that_does_not_compile_is_an_error_and_leaves_nothing(
    module: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (module / "main.go").write_text("package main\n\nfunc main() { nothing() }\n")
    with pytest.raises(BuildError, match=r"`go build …` in hello ended with status 1; its output is above"):
        goprogram.compiled("hello", module)
    assert "undefined: nothing" in capfd.readouterr().err
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_the_error_without_go_names_the_program_to_install(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: None)
    with pytest.raises(BuildError, match="install Go"):
        goprogram.compiled("hello", module)
    assert "install Go" in (goprogram.lacking() or "")
