"""Read the directory ``--registry-config``: ``config.json`` and CA files, again when they change.

In a cluster, the directory is a mounted Secret. Its files are read regularly and compared by content, because
file notifications about a mounted Secret stop after its first update.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper_py.registry.credentials import (
    EMPTY,
    MAX_CONFIG_BYTES,
    CredentialsError,
    Keyring,
    parse_docker_config,
)

if TYPE_CHECKING:
    # Not imported in the registry process, which logs nothing: the import costs memory.
    from gatekeeper_py.process.logs import Log

CONFIG_NAME: Final = "config.json"
POLL_SECONDS: Final = 10.0
MAX_FILES: Final = 200
"""Maximum number of files in the directory. 100 registries have at most one CA file each."""

MAX_CA_BYTES: Final = 1024 * 1024


class RegistryFiles(NamedTuple):
    """The content of the directory. ``version`` changes with the name or the content of any file."""

    version: str
    keyring: Keyring
    contexts: Mapping[str, ssl.SSLContext]


class FilesError(ValueError):
    """A file cannot be used. The message names the file and quotes none of its content."""


NO_FILES: Final = RegistryFiles("", EMPTY, {})


class Summary(NamedTuple):
    """What the server keeps of the files: no passwords, because only the registry process needs them."""

    version: str
    credentials: int
    cas: int


NOTHING: Final = Summary("", 0, 0)


def read_files(directory: Path) -> RegistryFiles:
    """Read and check every file. Raises ``FilesError`` if any of them cannot be used."""
    try:
        # A mounted Secret contains links to its files, and hidden folders with their versions.
        paths = sorted(
            path for path in directory.iterdir() if path.name[0] != "." and _is(stat.S_ISREG, path)
        )
    except OSError as problem:
        raise FilesError(f"{directory}: {problem.strerror or type(problem).__name__}") from None
    if len(paths) > MAX_FILES:
        raise FilesError(f"{directory}: more than {MAX_FILES} files")
    version = hashlib.sha256()
    keyring: Keyring = EMPTY
    contexts: dict[str, ssl.SSLContext] = {}
    for path in paths:
        content = _read(path)
        version.update(os.fsencode(path.name) + f"\0{len(content)}\0".encode() + content)
        if path.name == CONFIG_NAME:
            try:
                keyring = parse_docker_config(content)
            except CredentialsError as problem:
                raise FilesError(f"{path}: {problem}") from None
        else:
            contexts[path.name] = _context(path, content)
    return RegistryFiles(version.hexdigest(), keyring, contexts)


def _summarize(directory: Path) -> Summary:
    """Read and check every file. An absent directory counts as empty. Raises ``FilesError``."""
    try:
        present = _is(stat.S_ISDIR, directory)
    except OSError as problem:
        raise FilesError(f"{directory}: {problem.strerror or type(problem).__name__}") from None
    if not present:
        return NOTHING
    files = read_files(directory)
    return Summary(files.version, len(files.keyring), len(files.contexts))


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Return whether a path exists and is of a kind. Raises ``OSError`` if it cannot be examined.

    From Python 3.14 on, ``Path.is_dir`` and ``Path.is_file`` hide such an error.
    """
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _read(path: Path) -> bytes:
    limit = max(MAX_CONFIG_BYTES, MAX_CA_BYTES)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as problem:
        raise FilesError(f"{path}: {problem.strerror or type(problem).__name__}") from None
    if len(content) > limit:
        raise FilesError(f"{path}: larger than {limit} bytes")
    return content


def _context(path: Path, content: bytes) -> ssl.SSLContext:
    """Return a TLS context that trusts only the CAs of one file. Raises ``FilesError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python 3.13 requires extensions of a CA certificate that many private CAs lack and Go does not require.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        raise FilesError(f"{path}: not a file of PEM certificates") from None
    return context


class FilesWatch:
    """Follows the directory. The last good content stays in use while the newest cannot be read."""

    def __init__(
        self,
        directory: Path,
        *,
        log: Log,
        on_change: Callable[[], None],
        on_problem: Callable[[str], None] = lambda _problem: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.files = NOTHING
        self.problem = ""
        self._directory = directory
        self._log = log
        self._on_change = on_change
        self._on_problem = on_problem
        self._sleep = sleep

    async def run(self) -> None:
        """Read the directory now and every ``POLL_SECONDS``, until cancelled."""
        while True:
            await self.poll()
            await self._sleep(POLL_SECONDS)

    async def poll(self) -> None:
        """Read the directory once. An absent directory counts as empty, because the Secret is optional."""
        try:
            files = await asyncio.to_thread(_summarize, self._directory)
        except FilesError as problem:
            if str(problem) != self.problem:
                self.problem = str(problem)
                self._log.error("registry_config_refused", reason=self.problem)
            self._on_problem(self.problem)
            return
        if self.problem:
            self.problem = ""
            self._on_problem("")
        if files.version != self.files.version:
            self.files = files
            self._log.info("registry_config_loaded", credentials=files.credentials, cas=files.cas)
            self._on_change()
