"""The start of every child process: set its limits, and separate its messages from other output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple

from gatekeeper_py.children import frames
from gatekeeper_py.children.confinement import confine

OUT_OF_MEMORY: Final = 77
"""Exit code of a child process that ends because an allocation failed."""


class Pipes(NamedTuple):
    """The stream on which messages arrive, and the function that sends one."""

    messages: BinaryIO
    send: Callable[[bytes], None]


def begin(*, longest: int, niceness: int) -> Pipes:
    """Set the limits of this process, whose first argument is the server's process ID; return its pipes.

    ``longest`` limits the payloads that it sends.
    """
    confine(int(sys.argv[1]), niceness)
    # The server's own descriptors are already closed here, but not the descriptors that it inherited.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # Redirect stdout, because printed text must not end up among the messages.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(payload: bytes) -> None:
        rest = memoryview(frames.frame(payload, longest))
        while rest:
            rest = rest[output.write(rest) :]

    return Pipes(sys.stdin.buffer, send)
