"""The command line as a whole: usage, output streams, signals, colours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gatekeeper_py.cli.main import COMMANDS
from support.builders import pod, policy_text
from support.commanding import Command, Write

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"} and not name.startswith("GATEKEEPER_PY_")
}


PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        pytest.param("version", PROJECT["version"], id="command"),
        pytest.param("--version", f"gatekeeper-py {PROJECT['version']} ({PROJECT['name']})", id="option"),
    ],
)
def test_the_version_and_the_name_of_the_package_are_those_of_the_project(
    command: Command, argument: str, shown: str
) -> None:
    done = command(argument)
    assert (done.code, done.out, done.err) == (0, f"{shown}\n", "")


def test_an_installed_command_prints_results_on_stdout_only(write: Write) -> None:
    files = [str(write(policy_text())), str(write(json.dumps(pod("nginx")), "pod.json"))]
    program = Path(sys.executable).parent / "gatekeeper-py"
    command = [str(program), "review", *files, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)[0]["verdict"] == "rejected"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["check", "--help"], ["serve", "-h"]])
def test_help_is_printed_on_stdout(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "Usage: gatekeeper-py" in done.out


def test_without_a_command_the_help_is_printed(command: Command) -> None:
    done = command()
    assert (done.code, done.out) == (2, "")
    assert done.err == command("--help").out


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BODY_BYTES", "0"), ("CONFIGMAP", "a/b"), ("TLS_CERT", "x"), ("HEALTH_LISTEN", "x"),
     ("LOG_LEVEL", "x"), ("CLIENT_NAME", "a b"), ("DRAIN_SECONDS", "-1"), ("CACHE_SIZE", "x"),
     ("MAX_CONNECTIONS", "0")],
)  # fmt: skip
def test_every_option_of_serve_is_a_variable_too(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"GATEKEEPER_PY_{name}", value)
    assert command("serve", "--policy", "x").code == 2


def test_a_closed_stdout_exits_with_141_and_no_verdict(write: Write) -> None:
    """Behind ``| head``, the exit code is 141 as for other tools, and not the code of a verdict."""
    documents = [json.dumps(pod("registry.corp.io/web")) + "\n"] * 100
    files = [str(write(policy_text())), str(write("---\n".join(documents), "pods.yaml"))]
    for style in ("text", "json"):
        command = [sys.executable, "-m", "gatekeeper_py", "review", *files, "--format", style]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            errors = process.stderr.read()
            assert process.wait(60) == 141
        assert errors == b""


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("check - <&-", "Error: <stdin>: closed\n"),
        ("explain policy.yaml nginx >&-", "Error: cannot write: standard output is closed\n"),
        ("schema >/dev/full", "Error: cannot write: No space left on device\n"),
        ("check nothing.yaml 2>/dev/full", ""),
        ("check policy.yaml -o json >/dev/full 2>/dev/full", ""),
    ],
)
def test_a_stream_that_cannot_be_used_is_reported_without_a_traceback(
    write: Write, command: str, error: str
) -> None:
    folder = write(policy_text()).parent
    shell = ["/bin/sh", "-c", f"exec {sys.executable} -m gatekeeper_py {command}"]
    done = subprocess.run(
        shell, cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)


def test_characters_that_the_encoding_of_the_output_lacks_are_escaped() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gatekeeper_py",
            *["except", "-n", "a", "--for", "1h", "a.io/x:1", "--reason", "→é"],
        ],
        capture_output=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0
    entry = yaml.safe_load(yaml.safe_load(done.stdout.decode("latin-1"))["data"]["exceptions.yaml"])
    assert entry["exceptions"][0]["reason"] == "→é"


def interrupted(fifo: Path, *arguments: object, **environment: str) -> tuple[int, str, str]:
    """Run a command and interrupt it while it reads a pipe. Return its exit code and its output."""
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-m", "gatekeeper_py", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **environment},
    ) as process:
        with fifo.open("wb"):  # opens once the other side reads
            process.send_signal(signal.SIGINT)
        # The pipe is closed now. If the signal arrived just before the read, only this ends the read.
        out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors.strip()


def test_ctrl_c_exits_with_130_and_no_traceback(tmp_path: Path, write: Write) -> None:
    """The command waits for input, so it runs when the signal arrives."""
    fifo = tmp_path / "pods"
    assert interrupted(fifo, "review", write(policy_text()), fifo) == (130, "", "")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        pytest.param("click", ["check", "policy.yaml"], id="check-as-the-command-line-is-loaded"),
        pytest.param("click", ["serve", "--policy", "p.yaml"], id="serve-as-the-command-line-is-loaded"),
        pytest.param("yaml", ["check", "policy.yaml"], id="check-as-the-command-is-loaded"),
        pytest.param("aiohttp", ["serve", "--policy", "p.yaml"], id="serve-as-the-command-is-loaded"),
    ],
)
def test_ctrl_c_while_it_is_loaded_exits_with_130_and_no_traceback(
    tmp_path: Path, module: str, arguments: list[str]
) -> None:
    """A test module that waits replaces a real one, so the signal arrives during the import."""
    fifo = tmp_path / "fifo"
    (tmp_path / f"{module}.py").write_text(f"open({str(fifo)!r}).read()\n")
    assert interrupted(fifo, *arguments, PYTHONPATH=str(tmp_path)) == (130, "", "")


def test_colours_appear_only_on_terminals_and_not_with_no_color(
    command: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(policy_text(allow="[nginx]"))
    assert "\x1b" not in command("check", path).out
    assert "\x1b[31m\x1b[1m" in command("check", path, terminal="stdout").out
    monkeypatch.setenv("NO_COLOR", "1")
    plain = command("check", path, terminal="stdout").out
    assert "error[bad-pattern]" in plain
    assert "31m" not in plain


def test_output_is_another_name_of_format(command: Command) -> None:
    answers = {
        command("explain", "examples/policy.yaml", "nginx", option, "json").out
        for option in ("--format", "--output", "-o")
    }
    assert len(answers) == 1


def test_help_lists_every_command_once_in_a_sentence_that_fits(command: Command) -> None:
    shown = command("--help").out.partition("Options")[2]
    listed = re.findall(r"^  ([a-z]+) +(\S.*)$", shown, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(COMMANDS)
    sentences = [sentence for _, sentence in listed]
    assert all(sentence.endswith(".") and not sentence.endswith("...") for sentence in sentences), sentences


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_as_documented(shell: str) -> None:
    """docs/command-line.md describes it: ``gatekeeper-py ex`` becomes ``explain``."""
    page = (Path(__file__).parents[3] / "docs/command-line.md").read_text(encoding="utf-8")
    assert f"_GATEKEEPER_PY_COMPLETE={shell}_source gatekeeper-py" in page
    program = Path(sys.executable).parent / "gatekeeper-py"
    typed = {"COMP_WORDS": "gatekeeper-py ex", "COMP_CWORD": "ex" if shell == "fish" else "1"}
    for step in ("source", "complete"):
        environment = {**ENVIRONMENT, **typed, "_GATEKEEPER_PY_COMPLETE": f"{shell}_{step}"}
        done = subprocess.run(
            [program], text=True, timeout=60, check=False, capture_output=True, env=environment
        )
        assert done.stderr == ""
        assert done.stdout
    assert "explain" in done.stdout
