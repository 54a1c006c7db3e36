"""Commands open only regular files in directories, only files and pipes by name, and nothing too long."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest

from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.manifests import read_manifests
from support.builders import pod, policy_text
from support.commanding import READERS, Command, Reading, Write

LIMIT: Final = 64 * 2**20
POD: Final = json.dumps(pod("registry.corp.io/web:1"))
HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicyTest\n"

Special = Callable[[str, Path], None]


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that no command may read, with a Pod and a policy that are valid."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "pod.yaml").write_text(POD)
    (folder / "policy.yaml").write_text(policy_text())
    return folder


def bind(path: Path) -> socket.socket:
    """Make a socket. Its path may be longer than the 107 bytes that an address holds."""
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    return listener


@pytest.fixture
def special(outside: Path) -> Iterator[Special]:
    """Return a function that makes a file that a command must not read when it reads the directory."""
    with ExitStack() as sockets:

        def special(kind: str, path: Path) -> None:
            targets: dict[str, Path | str] = {
                "device": "/dev/zero",
                "loop": path.name,
                "dangling": "nothing",
                "memory": "/proc/self/environ",
                "outside": outside / ("policy.yaml" if path.name == "policy.yaml" else "pod.yaml"),
                "link to a pipe": path.with_suffix(".pipe"),
            }
            if kind == "socket":
                sockets.enter_context(bind(path))
            elif kind == "directory":
                path.mkdir()
            elif kind == "long":
                path.touch()
                os.truncate(path, LIMIT + 1)
            elif kind != "missing":
                if "pipe" in kind:
                    os.mkfifo(path.with_suffix(".pipe") if kind in targets else path)
                if kind in targets:
                    path.symlink_to(targets[kind])

        yield special


REFUSED: Final = {
    "socket": "a socket cannot be read",
    "pipe": "a pipe, but must be a regular file",
    "link to a pipe": "a pipe, but must be a regular file",
    "long": "longer than 64 MiB, the limit",
    "device": "a device, but must be a regular file",
    "loop": "Too many levels of symbolic links",
    "dangling": "No such file or directory",
    "memory": "leads outside of ",
    "outside": "leads outside of ",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_directory_gives_only_regular_files_within_it(
    command: Command, write: Write, special: Special, kind: str
) -> None:
    folder = write(POD, "manifests/a.yaml").parent
    special(kind, folder / "z.yaml")
    done = command("review", write(policy_text()), folder)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {folder / 'z.yaml'}: {REFUSED[kind]}")
    assert done.err.count("\n") == 1


def naming(policy: object = "policy.yaml", exceptions: object = "", manifest: object = "") -> str:
    """Return a file of tests that names these files."""
    case = f"{{manifest: {manifest}, expect: admitted}}" if manifest else "{image: a, expect: rejected}"
    return f"{HEAD}policy: {policy}\nexceptions: [{exceptions}]\ncases: [{case}]\n"


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("field", ["policy", "exceptions", "manifest"])
def test_a_test_file_names_only_regular_files_below_its_directory(
    command: Command, write: Write, tmp_path: Path, special: Special, field: str, kind: str
) -> None:
    name = "policy.yaml" if field == "policy" else "pod.yaml"
    if field != "policy":
        write(policy_text())
    special(kind, tmp_path / name)
    done = command("test", write(naming(**{field: name}), "tests.yaml"))
    assert (done.code, done.out) == (2, "")
    if (field, kind) == ("policy", "long"):
        assert "the text is longer than 16 MiB, the limit" in done.err
        return
    assert done.err.startswith(f"Error: {tmp_path / name}: {REFUSED[kind]}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("policy", "policy.yaml"),
        ("exceptions", "pod.yaml"),
        ("exceptions", ""),
        ("manifest", "pod.yaml"),
        ("manifest", ""),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_test_file_names_nothing_above_its_directory_and_the_working_directory(
    command: Command, write: Write, tmp_path: Path, outside: Path, field: str, name: str, *, absolute: bool
) -> None:
    folder = outside if absolute else Path(os.path.relpath(outside, tmp_path))
    write(policy_text())
    done = command("test", write(naming(**{field: folder / name}), "tests.yaml"))
    assert (done.code, done.out) == (2, "")
    assert ": leads outside of " in done.err


def test_a_test_file_names_files_below_the_working_directory(
    command: Command, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(policy_text())
    write(POD, "pod.yaml")
    tests = write(naming("../policy.yaml", manifest="../pod.yaml"), "tests/tests.yaml")
    assert command("test", tests).code == 2
    monkeypatch.chdir(tmp_path)
    assert command("test", "tests/tests.yaml").code == 0


def test_a_link_within_the_named_directory_is_read(command: Command, write: Write, tmp_path: Path) -> None:
    """In a mounted ConfigMap, every file is such a link."""
    folder = tmp_path / "mounted"
    (folder / "..2030").mkdir(parents=True)
    (folder / "..2030" / "pod").write_text(POD)
    (folder / "..data").symlink_to("..2030")
    (folder / "pod.yaml").symlink_to("..data/pod")
    (tmp_path / "link").symlink_to(folder)
    for name in ("mounted", "link"):
        done = command("review", write(policy_text()), tmp_path / name)
        assert (done.code, done.err) == (0, "")
        assert "1 admitted" in done.out


def test_a_file_that_is_replaced_while_its_directory_is_read_is_refused(
    tmp_path: Path, outside: Path
) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(POD)
    manifests = read_manifests(str(tmp_path))
    next(manifests)
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "b.yaml").symlink_to(outside / "pod.yaml")
    with pytest.raises(UnreadableError, match="leads outside of"):
        next(manifests)


def test_a_directory_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "named" / "below"
    folder.mkdir(parents=True)
    for name in ("a.yaml", "pod.yaml"):
        (folder / name).write_text(POD)
    manifests = read_manifests(str(tmp_path / "named"))
    next(manifests)
    folder.rename(tmp_path / "away")
    folder.symlink_to(outside)
    with pytest.raises(UnreadableError, match="leads outside of"):
        next(manifests)


SPECIAL: Final = {
    "device": "a device, but must be a file or a pipe",
    "socket": "a socket cannot be read",
    "directory": "a directory, but must be a file or a pipe; name one of the files in it",
    "missing": "No such file or directory",
}


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        pytest.param(name, kind, message, id=f"{name}-{kind}")
        for name in READERS
        for kind, message in SPECIAL.items()
        if (name, kind) != ("review", "directory")  # review reads directories
    ],
)
def test_only_files_and_pipes_on_the_command_line_are_read(
    reading: Reading, tmp_path: Path, special: Special, name: str, kind: str, message: str
) -> None:
    file = tmp_path / "given"
    special(kind, file)
    done = reading(READERS[name], file)
    assert (done.code, done.out, done.err) == (2, "", f"Error: {file}: {message}\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("check", policy_text(), id="check"),
        pytest.param("review-policy", policy_text(), id="policy"),
        pytest.param("review", POD, id="review"),
        pytest.param("review-settings", "exemptNamespaces: [a]\n", id="settings"),
        pytest.param("diff-images", "registry.corp.io/a:1\n", id="images"),
    ],
)
def test_a_pipe_on_the_command_line_is_read_even_if_its_writer_comes_late(
    reading: Reading, tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / "pipe"
    os.mkfifo(file)
    writer = threading.Thread(target=file.write_text, args=(content,))
    late = threading.Timer(0.2, writer.start)
    late.start()
    assert reading(READERS[name], file).code == 0
    late.join()
    writer.join()


@pytest.mark.parametrize("kind", ["<(cat pod.yaml)", "- <pod.yaml", "/dev/stdin <pod.yaml"])
def test_a_shell_gives_files_as_pipes(write: Write, tmp_path: Path, kind: str) -> None:
    write(policy_text())
    write(POD, "pod.yaml")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m gatekeeper_py review policy.yaml {kind}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_endless_pipe_is_read_up_to_the_limit(reading: Reading, tmp_path: Path) -> None:
    file = tmp_path / "pipe"
    os.mkfifo(file)

    def write() -> None:
        with suppress(BrokenPipeError), file.open("wb", buffering=0) as pipe:
            while True:
                pipe.write(b"#" * 2**16)

    writer = threading.Thread(target=write)
    writer.start()
    done = reading(READERS["review"], file)
    writer.join()
    assert (done.code, done.out, done.err) == (2, "", f"Error: {file}: longer than 64 MiB, the limit\n")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_exit_2(command: Command, write: Write, name: str) -> None:
    write(policy_text())
    done = command("test", write(naming(manifest=json.dumps(name)), "t.yaml"))
    assert (done.code, done.out) == (2, "")
    assert done.err.count("Error: ") + done.err.count("error[") == 1


def test_running_out_of_memory_is_one_line_and_exit_2(write: Write, tmp_path: Path) -> None:
    """The limit leaves enough memory to start the command, and too little for the text in the manifest."""
    write(policy_text())
    write(f"apiVersion: v1\nkind: Pod\nspec: {'a' * 50_000_000}\n", "long.yaml")
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 250000; {sys.executable} -m gatekeeper_py review policy.yaml long.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "Error: out of memory\n")


@pytest.mark.parametrize("depth", [100, 300, 450, 900, 5000, 100_000])
@pytest.mark.parametrize("opening", ['{"a": ', "[", "- "])
def test_deep_nesting_is_one_line_and_never_a_traceback(
    command: Command, write: Write, depth: int, opening: str
) -> None:
    closing = {"{": "}", "[": "]", "-": ""}[opening[0]] * depth
    deep = f"{opening * depth}1{closing}" if closing else f"\n{opening * depth}1"
    file = write(f"apiVersion: a.io/v1\nkind: A\nspec: {deep}\n", "deep.yaml")
    json_file = write(f'{{"apiVersion": "a.io/v1", "kind": "A", "spec": {deep}}}', "deep.json")
    policy = write(policy_text())
    for each in (file, json_file):
        done = command("review", policy, each)
        assert done.code in {0, 2}
        assert done.code == 0 or done.err.count("\n") == 1


@pytest.mark.parametrize("marker", ["---#: |", "---\xa0", "---\u2028", "---\r#"])
@pytest.mark.parametrize("arguments", [("check",), ("review", "policy.yaml")], ids=["check", "review"])
def test_a_marker_that_kubectl_and_yaml_read_differently_is_refused(
    command: Command,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    marker: str,
) -> None:
    """For kubectl 1.37, a Pod begins below the marker; for YAML, it is the text of a field."""
    monkeypatch.chdir(tmp_path)
    write(policy_text())
    head = policy_text() if arguments == ("check",) else POD
    file = write(f"{head}\n---\n{{}}\n{marker}\n  {POD}\n".encode(), "stream.yaml")
    done = command(*arguments, file)
    line = head.count("\n") + 4
    assert (done.code, done.out) == (2, "")
    assert f"stream.yaml: line {line}: a space must follow ---" in done.err


def test_other_lines_that_begin_with_dashes_are_read(command: Command, write: Write) -> None:
    text = f"---\r\n{POD}\n--- # a\n---\t\n{POD.replace('web:1', 'web:2')}\n---\r"
    done = command("review", write(policy_text()), write(text.encode(), "stream.yaml"))
    assert done.out.splitlines()[-1].startswith("2 objects")


def test_standard_input_is_read_only_once(command: Command) -> None:
    done = command("explain", "-", "--exceptions", "-", "a.io/x", stdin=policy_text())
    error = "Error: <stdin> can be read only once: give at most one argument as -\n"
    assert (done.code, done.err) == (2, error)


@pytest.mark.parametrize(
    "arguments",
    [
        ("review", "POLICY", "LONG"),
        ("review", "POLICY", "--ignore", "x", "LONG"),
        ("explain", "LONG", "LONG.yaml"),
        ("check", "LONG"),
    ],
)
def test_a_path_that_is_too_long_is_an_error(
    arguments: tuple[str, ...], command: Command, write: Write
) -> None:
    policy = write(policy_text())
    done = command(*(each.replace("POLICY", str(policy)).replace("LONG", "x" * 3000) for each in arguments))
    assert done.code == 2
    assert "Error: " in done.err
