"""Read a FILE argument: a file, or ``-`` for stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click


class UnreadableError(click.ClickException):
    """An input that cannot be read; exit code 2."""

    exit_code = 2


def shown(argument: str) -> str:
    """Return a file's name for messages."""
    return "<stdin>" if argument == "-" else argument


def in_folder(folder: Path, name: str) -> str:
    """Return the FILE argument for a file in a folder, even for a file named ``-``, which is not stdin."""
    path = str(folder / name)
    return "./-" if path == "-" else path


def read_bytes(argument: str, most: int = -1) -> tuple[str, bytes]:
    """Return the display name and at most ``most`` bytes. Raises ``UnreadableError``."""
    name = shown(argument)
    try:
        with _opened(argument) as file:
            return name, file.read(most)
    except OSError as problem:
        raise UnreadableError(f"{name}: {problem.strerror or problem}") from None


def read_text(argument: str) -> tuple[str, str]:
    """Return the display name and the text. Raises ``UnreadableError``."""
    name, content = read_bytes(argument)
    return name, decoded(name, content)


def read_lines(argument: str, longest: int) -> Iterator[bytes]:
    """Yield the lines, one at a time.

    Raises ``UnreadableError`` if the file cannot be read, or a line has more than ``longest`` bytes.
    """
    name = shown(argument)
    try:
        with _opened(argument) as file:
            number = 0
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    raise UnreadableError(
                        f"{name}: line {number}: longer than {longest // 2**20} MiB, the limit"
                    )
                yield line
    except OSError as problem:
        raise UnreadableError(f"{name}: {problem.strerror or problem}") from None


def decoded(name: str, content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises ``UnreadableError``."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"{name}: not UTF-8 at byte {problem.start}") from None


def _opened(argument: str) -> AbstractContextManager[BinaryIO]:
    if argument != "-":
        return Path(argument).open("rb")
    if sys.stdin is None:
        raise UnreadableError("<stdin>: closed")
    return nullcontext(sys.stdin.buffer)
