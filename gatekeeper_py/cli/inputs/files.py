"""Open and read every input file of a command: a FILE argument, a file in a directory, or ``-`` for stdin.

A stranger may have written these files, for example in a pull request. A FILE argument may be a file or a
pipe. A file in a directory, or one that another file names, must be a regular file below a directory that the
user chose. The checks apply to the opened file, so nobody can replace it afterwards.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import select
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

from gatekeeper_py.cli.reporting.console import note
from gatekeeper_py.core.images.glob import compiled

MAX_BYTES: Final = 64 * 2**20
"""Maximum size of a file, unless the caller has another limit."""

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""Suffixes of the files in a directory that are read."""

# Without O_NONBLOCK, opening a pipe would wait for a writer. Without O_NOCTTY, opening a terminal could make
# it the one that controls this process. Only Windows has O_BINARY, and it lacks the others.
_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
_KINDS: Final = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class UnreadableError(click.ClickException):
    """An input that cannot be read; exit code 2."""

    exit_code = 2


class TooLongError(UnreadableError):
    """An input that is longer than the limit."""


class OtherFileError(UnreadableError):
    """A file, or a document in it, of another format than the command reads. ``why`` is short."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def shown(argument: str) -> str:
    """Return a file's name for messages."""
    return "<stdin>" if argument == "-" else argument


def in_folder(folder: Path, name: str) -> str:
    """Return the FILE argument for a file in a folder, even for a file named ``-``, which is not stdin."""
    path = str(folder / name)
    return "./-" if path == "-" else path


def real_folder(folder: str, within: Sequence[str] = ()) -> str:
    """Return a directory's path without links.

    Raises ``UnreadableError`` if ``within`` has directories, and the path is not below one of them.
    """
    with _readable(folder):
        path = os.path.realpath(folder, strict=True)
        _check_place(path, folder, within)
        return path


def manifest_files(
    argument: str, within: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the argument itself, or the manifests below it if it is a directory, in a fixed order.

    With each file, yield its ``within`` (see ``read_bytes``). Files and directories whose path below the
    argument matches one of the globs ``ignore`` are left out (see ``path_matches``). Links to directories are
    not followed, because they may form a cycle. A note on stderr names each link.
    """
    if argument == "-" or not os.path.isdir(argument):
        yield argument, within
        return
    named = (real_folder(argument, within),)

    def fail(problem: OSError) -> None:
        raise UnreadableError(f"{problem.filename}: {problem.strerror}")

    def is_kept(folder: str, name: str) -> bool:
        path = (Path(folder) / name).relative_to(argument).as_posix()
        return not any(path_matches(glob, path) for glob in ignore)

    for folder, folders, files in os.walk(argument, onerror=fail):
        folders[:] = [name for name in sorted(folders) if is_kept(folder, name)]
        for link in (Path(folder) / each for each in folders):
            # In a mounted ConfigMap, ..data is a link to a directory, and each file a link to one in ..data.
            if link.is_symlink() and link.name != "..data":
                note(f"note: {link} is a link to a directory and is not read")
        for file in sorted(files):
            if file.endswith(SUFFIXES) and is_kept(folder, file):
                yield str(Path(folder) / file), named


def path_matches(glob: str, path: str) -> bool:
    """Return whether a path matches a glob. Both use slashes.

    ``*`` stands for any characters of one name, and ``**`` for any number of names, even none. The number of
    comparisons is at most the number of names in the path times those in the glob.
    """
    parts, names = glob.removeprefix("./").strip("/").split("/"), path.split("/")
    part = name = 0
    after, resumed = -1, 0  # where to resume if the names after the last ** do not match
    while name < len(names):
        if part < len(parts) and parts[part] == "**":
            part, after, resumed = part + 1, part + 1, name
        elif part < len(parts) and compiled(parts[part]).matches(names[name]):
            part, name = part + 1, name + 1
        elif after >= 0:
            resumed += 1
            part, name = after, resumed
        else:
            return False
    return all(left == "**" for left in parts[part:])


def read_bytes(argument: str, most: int = MAX_BYTES, within: Sequence[str] = ()) -> tuple[str, bytes]:
    """Return the display name and the content.

    If ``within`` has directories (paths without links), the file must be a regular file below one of them.
    Raises ``UnreadableError``, ``TooLongError`` for more than ``most`` bytes, and ``OtherFileError`` for
    UTF-16.
    """
    name = shown(argument)
    with _readable(name), _opened(argument, within) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise TooLongError(f"{name}: longer than {most // 2**20:,} MiB, the limit")
    _refuse_utf16(name, content)
    return name, content


def read_lines(argument: str, longest: int) -> Iterator[bytes]:
    """Yield the lines, one at a time.

    Raises ``UnreadableError`` if the file cannot be read, or a line has more than ``longest`` bytes.
    """
    name = shown(argument)
    with _readable(name), _opened(argument) as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise UnreadableError(f"{name}: line {number}: longer than {longest // 2**20} MiB, the limit")
            if number == 1:
                _refuse_utf16(name, line)
            yield line


_DISPUTED_MARKER: Final = re.compile(r"^---(?:(?![ \t\r\n])[\s#]|\r(?!\n|\Z))", re.MULTILINE)


def decoded(name: str, content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises ``OtherFileError``.

    Raises ``UnreadableError`` for a line such as ``---#``. kubectl and kustomize begin a document there, and
    YAML does not, so that a document could hide in another one.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise OtherFileError(f"{name}: not UTF-8 at byte {problem.start}", "not UTF-8") from None
    if found := _DISPUTED_MARKER.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise UnreadableError(f"{name}: line {line}: a space must follow --- where a document begins")
    return text


def _refuse_utf16(name: str, content: bytes) -> None:
    """Raise ``OtherFileError`` for UTF-16, which a redirection in Windows PowerShell writes."""
    # Without a byte order mark, every second byte of an ASCII text is zero.
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if content.startswith(marks) or b"\0\0" in {content[0:4:2], content[1:4:2]}:
        message = f"{name}: UTF-16, but must be UTF-8; save it again (in PowerShell: Out-File -Encoding utf8)"
        raise OtherFileError(message, "UTF-16")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise ``UnreadableError`` for errors of the operating system and for names that no file can have."""
    try:
        yield
    except OSError as problem:
        # Linux and macOS have no better error for a socket.
        is_socket = problem.errno in {errno.ENXIO, errno.EOPNOTSUPP}
        reason = "a socket cannot be read" if is_socket else problem.strerror or problem
        raise UnreadableError(f"{name}: {reason}") from None
    except ValueError:
        raise UnreadableError(f"{name}: no file can have this name") from None


def _opened(argument: str, within: Sequence[str] = ()) -> AbstractContextManager[BinaryIO]:
    if argument == "-":
        if sys.stdin is None:
            raise UnreadableError("<stdin>: closed")
        if sys.stdin.closed:
            raise UnreadableError("<stdin> can be read only once: give at most one argument as -")
        return sys.stdin.buffer  # the reader closes it
    descriptor = os.open(argument, _FLAGS)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        _check_kind(kind, argument, within)
        if within:
            _check_place(_path_of(descriptor, argument), argument, within)
        if kind == stat.S_IFIFO:
            select.select([descriptor], [], [])  # without a writer, reading would return the end at once
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(kind: int, argument: str, within: Sequence[str]) -> None:
    accepted = (stat.S_IFREG,) if within else (stat.S_IFREG, stat.S_IFIFO)
    if kind not in accepted:
        wanted = "a regular file" if within else "a file or a pipe"
        if kind == stat.S_IFDIR:
            wanted += "; name one of the files in it"
        raise UnreadableError(f"{argument}: {_KINDS.get(kind, 'a device')}, but must be {wanted}")


def _path_of(descriptor: int, argument: str) -> str:
    """Return the path of an open file, without links."""
    if sys.platform == "linux":
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 - Windows has no such module

        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.path.realpath(argument, strict=True)


def _check_place(path: str, argument: str, within: Sequence[str]) -> None:
    if within and not any(Path(path).is_relative_to(folder) for folder in within):
        places = " and ".join(within)
        raise UnreadableError(f"{argument}: leads outside of {places}, where files may be read")
