"""The parser process: ``python -m gatekeeper_py.parser.program PARENT``.

Reads jobs from stdin and writes the replies to stdout (see ``messages``), one job after the other, until
stdin ends. PARENT is the process ID of the server.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Iterator
from typing import BinaryIO, Final

from gatekeeper_py.core.policy import lint
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.parse import document
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.parser.confinement import Allowance, confine
from gatekeeper_py.parser.messages import (
    LENGTH_BYTES,
    Failed,
    Job,
    Linted,
    Refused,
    Reply,
    document_messages,
    frame,
    parse_job,
)

MAX_DETAIL: Final = 4000

_LOADED: Final = (lint, document)
"""Modules that ``parse_policy`` imports when it is called. Here they are imported before limits are set."""


def main() -> None:
    confine(int(sys.argv[1]))
    # The server's own descriptors are already closed here, but not the descriptors that it inherited.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    jobs = sys.stdin.buffer
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # Redirect stdout, because printed text must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    allowance = Allowance()
    # Parsing creates no reference cycles, and looking for them takes half the time of a large document.
    gc.disable()
    while (payload := _read_frame(jobs)) is not None:
        job = parse_job(payload)
        del payload
        allowance.grant(memory_bytes=job.memory_bytes, cpu_seconds=job.cpu_seconds)
        if not _answer(job, replies):
            sys.exit(1)
        del job
        gc.collect()


def judge(job: Job) -> Iterator[Reply]:
    """Judge one document and yield the replies to its job. Does not catch ``MemoryError`` or bugs."""
    try:
        policy = parse_policy(job.text.decode("utf-8", "surrogatepass"), job.mode)
    except PolicyError as problem:
        yield Refused(problem.findings)
        return
    if job.send_document:
        yield from document_messages(policy.document)
    yield Linted(policy.lint(job.instant))


def _answer(job: Job, replies: BinaryIO) -> bool:
    """Write all replies to a job. Return false if the process must not take another job."""
    try:
        for reply in judge(job):
            _write(replies, frame(reply))
    except MemoryError:
        failed = Failed("memory", "")
    except Exception:  # noqa: BLE001 - the server logs it, and refuses the document
        failed = Failed("bug", traceback.format_exc()[-MAX_DETAIL:])
    else:
        return True
    _write(replies, frame(failed))
    return False


def _read_frame(stream: BinaryIO) -> bytes | None:
    """Return the payload of the next frame, or ``None`` at the end of the stream."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    payload = stream.read(size)
    return payload if len(payload) == size else None


def _write(stream: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]


if __name__ == "__main__":
    main()
