"""The parser without a child process: the same messages within the test process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from gatekeeper_py.core.admission.radius import Admitted
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import ParsedExceptions
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.live.parser.messages import (
    Accepted,
    Assembly,
    Excepting,
    ExceptionsJob,
    Items,
    Job,
    Linted,
    Refused,
    encode,
    parse_job,
    parse_reply,
)
from gatekeeper_py.live.parser.process import Fetch, Judged, Parser, ParserError
from gatekeeper_py.live.parser.program import judge
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.metrics import Metrics
from support.recording import RecordingLog


class InProcessParser(Parser):
    """A parser whose documents are judged in this process, in the same turns.

    ``parsed`` holds the received documents. The next calls raise the exceptions in ``failures``, and
    ``lint_failure`` is raised once a document has been fetched.
    """

    pid = 1
    """Do nothing, because there is no process to start."""

    def __init__(self) -> None:
        super().__init__(log=RecordingLog(), observer=Metrics(LivePolicy(), CacheCounts()))
        self.parsed: list[str] = []
        self.failures: list[Exception] = []
        self.lint_failure: ParserError | None = None

    async def judge(
        self,
        text: str,
        mode: str | None,
        instant: datetime | None,
        *,
        seconds: float | None = None,
        on_accepted: Callable[[Fetch], Awaitable[None]] | None = None,
        admitted: tuple[tuple[Admitted, ...], ...] | None = None,
    ) -> Judged:
        assert self._turn.locked()
        await asyncio.sleep(0)
        self.parsed.append(text)
        if self.failures:
            raise self.failures.pop(0)
        job = Job(
            text=text.encode("utf-8", "surrogatepass"),
            mode=mode,
            instant=instant,
            send_document=on_accepted is not None,
            memory_bytes=0,
            cpu_seconds=0,
            admitted=admitted,
        )
        replies = [parse_reply(encode(reply)) for reply in judge(parse_job(encode(job)))]
        if isinstance(replies[0], Accepted) and on_accepted is not None:
            assembly = Assembly(replies[0])

            async def fetch() -> PolicyDocument:
                for reply in replies:
                    if isinstance(reply, Items):
                        assembly.add(reply)
                return assembly.document()

            await on_accepted(fetch)
            if self.lint_failure is not None:
                raise self.lint_failure
        match replies[-1]:
            case Refused(findings):
                return Judged(accepted=False, findings=findings)
            case Linted(findings, until, radius):
                return Judged(accepted=True, findings=findings, until=until, radius=radius)
        raise AssertionError(replies[-1])

    async def parse_exceptions(
        self, text: str, source: Source, *, seconds: float | None = None
    ) -> ParsedExceptions:
        assert self._turn.locked()
        await asyncio.sleep(0)
        self.parsed.append(text)
        if self.failures:
            raise self.failures.pop(0)
        content = text.encode("utf-8", "surrogatepass")
        job = ExceptionsJob(text=content, source=source, memory_bytes=0, cpu_seconds=0)
        match [parse_reply(encode(reply)) for reply in judge(parse_job(encode(job)))]:
            case [Excepting(document)]:
                return ParsedExceptions(document, ())
            case [Refused(findings)]:
                return ParsedExceptions(None, findings)
        raise AssertionError
