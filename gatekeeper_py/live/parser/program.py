"""The parser process: ``python -m gatekeeper_py.live.parser.program PARENT``.

Reads jobs from stdin and writes the replies to stdout (see ``messages``), one job after the other, until
stdin ends. PARENT is the process ID of the server.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Final

from gatekeeper_py.core.admission.radius import Radius, measure
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.lint.modes import next_finding
from gatekeeper_py.core.policy.parse import document
from gatekeeper_py.core.policy.parse.configmaps import configmaps_in
from gatekeeper_py.core.policy.parse.exceptions import ExceptionsError, parse_exceptions
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.live.parser import messages
from gatekeeper_py.process.children import frames
from gatekeeper_py.process.children.program import Allowance, begin

MAX_DETAIL: Final = 4000

NICENESS: Final = 10
"""Under full load, this process gets a tenth of the CPU time. This is enough to load a policy during an
overload, and too little to delay reviews."""

JUDGING_SECONDS: Final = 2.0
"""Maximum CPU time for judging admitted images. An ordinary policy judges 16,384 of them in 0.3 s."""

_LOADED: Final = (document,)
"""Modules that ``parse_policy`` imports when it is called. Here they are imported before limits are set."""


def main() -> None:
    pipes = begin(longest=messages.MAX_REPLY_BYTES, niceness=NICENESS)
    allowance = Allowance()
    # Parsing creates no reference cycles, and looking for them takes half the time of a large document. The
    # objects of the program stay, and looking at them after each job takes longer than parsing a small one.
    gc.disable()
    gc.freeze()
    while (payload := frames.read(pipes.messages, messages.MAX_JOB_BYTES)) is not None:
        job = messages.parse_job(payload)
        del payload
        allowance.grant(memory_bytes=job.memory_bytes, cpu_seconds=job.cpu_seconds)
        if not _answer(job, pipes.send):
            sys.exit(1)
        del job
        gc.collect()


def judge(job: messages.AnyJob) -> Iterator[messages.Reply]:
    """Judge one document and yield the replies to its job. Does not catch ``MemoryError`` or bugs."""
    text = job.text.decode("utf-8", "surrogatepass")
    if isinstance(job, messages.ManifestsJob):
        try:
            yield messages.Manifests(configmaps_in(text), "")
        except ValueError as problem:
            yield messages.Manifests((), str(problem))
        return
    if isinstance(job, messages.ExceptionsJob):
        try:
            yield messages.Excepting(parse_exceptions(text, job.source))
        except ExceptionsError as problem:
            yield messages.Refused(problem.findings)
        return
    try:
        policy = parse_policy(text, job.mode)
    except PolicyError as problem:
        yield messages.Refused(problem.findings)
        return
    if job.send_document:
        yield from messages.document_messages(policy.document)
    if job.instant is None:
        yield messages.Linted(())
        return
    until = next_finding(policy.document, job.instant)
    yield messages.Linted(lint(policy, job.instant), until, _radius(policy, job))


def _radius(policy: Policy, job: messages.Job) -> Radius | None:
    if job.admitted is None or job.instant is None:
        return None
    compiled = policy.at(job.instant)
    end = time.process_time() + JUDGING_SECONDS
    return measure(compiled, job.admitted, lambda: time.process_time() < end)


def _answer(job: messages.AnyJob, send: Callable[[bytes], None]) -> bool:
    """Write all replies to a job. Return false if the process must not take another job."""
    try:
        for reply in judge(job):
            send(messages.encode(reply))
    except MemoryError:
        failed = messages.Failed("memory", "")
    except Exception:  # noqa: BLE001 - the server logs it, and refuses the document
        failed = messages.Failed("bug", traceback.format_exc()[-MAX_DETAIL:])
    else:
        return True
    send(messages.encode(failed))
    return False


if __name__ == "__main__":
    main()
