"""Follow files with manifests of the ConfigMaps that hold exceptions, by polling their content."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from gatekeeper_py.core.exceptions.document import MAX_DOCUMENTS
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.configmap import (
    ExceptionsText,
    configmap_error,
    document_key,
    read_exceptions,
)
from gatekeeper_py.live.parser.process import Interrupted, Parser, ParserError
from gatekeeper_py.live.sources.exceptions import Consumer
from gatekeeper_py.live.sources.file import POLL_SECONDS, FileSource
from gatekeeper_py.process.logs import Log

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
"""The files of a directory that are read, as by the commands."""


class ExceptionFilesSource:
    """Delivers the documents in files and directories, and again after each change.

    ``installation`` is the namespace whose documents may name others.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        installation: str,
        parser: Parser,
        consumer: Consumer,
        *,
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._paths = paths
        self._installation = installation
        self._parser = parser
        self._consumer = consumer
        self._log = log
        self._sleep = sleep
        self._unread: dict[Path, str] = {}
        """The files that the last round could not read, and why."""

    async def read(self, granted: frozenset[Source]) -> None:
        """Deliver the documents of these sources until cancelled."""
        last: dict[Path, str] | None = None
        while True:
            texts, unread = await asyncio.to_thread(self._read)
            self._report(unread)
            if texts != last:
                last = texts
                await self._deliver(texts, granted)
            await self._sleep(POLL_SECONDS)

    async def _deliver(self, texts: dict[Path, str], granted: frozenset[Source]) -> None:
        delivered: dict[DocumentKey, ExceptionsText] = {}
        twice = configmap_error("given-twice", "", "two files hold this ConfigMap")
        for path, text in texts.items():
            for found in await self._documents(path, text):
                key = found.key
                delivered[key] = ExceptionsText(key, None, (twice,)) if key in delivered else found
        kept = [each for each in delivered.values() if each.key.source in granted]
        for each in kept:
            await self._consumer.deliver(each)
        self._consumer.listed(granted, frozenset(each.key for each in kept))

    async def _documents(self, path: Path, text: str) -> list[ExceptionsText]:
        """Return the documents in a file; none, and a log line, if it cannot be read."""
        try:
            while True:
                try:
                    async with self._parser.turn(gives_way=True):
                        manifests = await self._parser.find_configmaps(text)
                    break
                except Interrupted:
                    continue
            problem = manifests.problem
        except ParserError as failure:
            problem = str(failure)
        if problem:
            self._log.warning("exceptions_unread", configmaps=str(path), problem=problem, retry_seconds=0.0)
            return []
        keys = [document_key(each.name, each.namespace, self._installation) for each in manifests.found]
        return [
            read_exceptions(key, each.data, each.binary)
            for key, each in zip(keys, manifests.found, strict=True)
            if key is not None
        ]

    def _read(self) -> tuple[dict[Path, str], dict[Path, str]]:
        """Return the text of each file that can be read, and the problem of each other file."""
        texts: dict[Path, str] = {}
        unread: dict[Path, str] = {}
        for path in self._files():
            read = FileSource(path).read()
            if read.text is None:
                unread[path] = read.problem
            else:
                texts[path] = read.text
        return texts, unread

    def _report(self, unread: dict[Path, str]) -> None:
        """Log each problem once, not in every round in which it lasts."""
        for path, problem in unread.items():
            if self._unread.get(path) != problem:
                self._log.warning(
                    "exceptions_unread", configmaps=str(path), problem=problem, retry_seconds=POLL_SECONDS
                )
        self._unread = unread

    def _files(self) -> list[Path]:
        files: list[Path] = []
        for path in self._paths:
            if path.is_dir():
                inner = (each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
                files += sorted(inner)[:MAX_DOCUMENTS]
            else:
                files.append(path)
        return files
