"""Look-ups in registries, for commands that otherwise judge offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, Answers
from gatekeeper_py.core.images.manifest import Lookup, Resolution
from gatekeeper_py.core.policy.policy import CompiledPolicy

if TYPE_CHECKING:
    from gatekeeper_py.process.logs import Log

AT_ONCE: Final = 4
"""Maximum number of look-ups in one batch. A batch starts when the one before it has ended."""

SECONDS: Final = 30.0
"""Time limit for one batch. Each registry's own timeout is at most 5 s."""

SIGNATURE_REQUESTS: Final = 7
"""Requests of a look-up of signatures: HEAD, the token, HEAD again, the referrers and the tag, and a bundle
with its manifest. Many attestations need more."""

T = TypeVar("T")


def with_lookups(policy: CompiledPolicy, directory: Path | None, work: Callable[[Answers], T]) -> T:
    """Return the result of ``work`` after registries have answered all its look-ups.

    ``work`` must be pure, because it is called again after each round of answers. Raises ``UnreadableError``
    when a file in the directory cannot be used.
    """
    # Imported here, so that commands without look-ups start fast.
    import asyncio  # noqa: PLC0415

    return asyncio.run(_looked_up(policy, directory, work))


async def _looked_up(policy: CompiledPolicy, directory: Path | None, work: Callable[[Answers], T]) -> T:
    queries = Queries(directory, _Ignored())
    try:
        return await queries.answered(policy, work)
    finally:
        await queries.close()


class Queries:
    """Answers look-ups until it is closed, and remembers what registries answered.

    Must be created inside a running event loop.
    """

    def __init__(self, directory: Path | None, log: Log) -> None:
        from gatekeeper_py.registry.service import RegistryService  # noqa: PLC0415 - see above

        self._directory = directory
        self._version: str | None = None
        self._service = RegistryService(_Ignored(), directory, log=log)

    async def close(self) -> None:
        await self._service.close()

    async def answered(self, policy: CompiledPolicy, work: Callable[[Answers], T]) -> T:
        """Return the result of ``work``, as ``with_lookups`` does."""
        import asyncio  # noqa: PLC0415 - see above

        service = self._service
        self._read_files()
        service.use_policy(policy)
        await service.started()
        at_once, pause = _pace(policy)
        resolved: dict[Lookup, Resolution] = {}
        while True:
            answers = Answers(service.lookups.resolve_cached, resolved)
            result = work(answers)
            lookups = list(dict.fromkeys(answers.missing))
            if not lookups:
                return result
            for start in range(0, len(lookups), at_once):
                if resolved:
                    await asyncio.sleep(pause)
                some = lookups[start : start + at_once]
                found = await service.lookups.resolve(some, SECONDS)
                resolved |= {lookup: found.get(lookup, NOT_LOOKED_UP) for lookup in some}

    def _read_files(self) -> None:
        """Let the registry process read the files again if they changed. Raises ``UnreadableError``."""
        from gatekeeper_py.registry.files import FilesError, read_files  # noqa: PLC0415

        if self._directory is None:
            return
        try:
            version = read_files(self._directory).version
        except FilesError as problem:
            raise UnreadableError(str(problem)) from None
        if self._version not in {None, version}:
            self._service.use_files()
        self._version = version


def _pace(policy: CompiledPolicy) -> tuple[int, float]:
    """Return the number of look-ups in a batch, and the pause between two batches in seconds.

    A look-up fails if it waits longer than its registry's timeout. A command has more time than a review, so
    it starts only as many look-ups as the lowest rate allows in half of the shortest timeout.
    """
    from gatekeeper_py.registry.pacing import USUAL_REQUESTS  # noqa: PLC0415

    registries = policy.registries
    hosts = [registries.of(host) for host in policy.looked_up_hosts]
    rate = min((host.rate for host in hosts), default=1)
    timeout = min((host.timeout for host in hosts), default=1.0)
    requests = SIGNATURE_REQUESTS if policy.require.signed_hosts else USUAL_REQUESTS
    at_once = max(1, min(AT_ONCE, int(rate * timeout / 2 / requests)))
    return at_once, max(at_once * requests / rate - timeout / 2, 0.0)


class _Ignored:
    """Ignores measurements and log events, because a command has no metrics and no log."""

    def lookup(self, host: str, result: str, seconds: float | None) -> None: ...

    def signature(self, result: str, seconds: float | None) -> None: ...

    def breaker(self, host: str, *, is_open: bool) -> None: ...

    def child_runs(self, child: str, *, runs: bool) -> None: ...

    def child_died(self, child: str, cause: str) -> None: ...

    def debug(self, event: str, **keys: Any) -> None: ...

    def info(self, event: str, **keys: Any) -> None: ...

    def warning(self, event: str, **keys: Any) -> None: ...

    def error(self, event: str, **keys: Any) -> None: ...

    def over_share(self, limit: str) -> None: ...
