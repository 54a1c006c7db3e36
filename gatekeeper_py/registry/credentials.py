"""Registry credentials in Docker's format, matched by the kubelet's rules.

Sources: Kubernetes 1.37, ``pkg/credentialprovider`` (``config.go``, ``keyring.go``).

- Both layouts are read: ``{"auths": {...}}`` (type ``kubernetes.io/dockerconfigjson``) and the mapping
  alone (type ``kubernetes.io/dockercfg``).
- Only ``username``, ``password`` and ``auth`` are used; ``auth`` takes precedence. ``identitytoken``,
  ``credHelpers`` and ``credsStore`` are ignored.
- A key is compared with ``host/repository``: the port as text, each DNS label as a glob, the path as a
  plain string prefix. Keys are tried in reverse order of their text.
- Docker Hub is ``docker.io``. A key ``index.docker.io`` applies to it only if nothing else matched.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from gatekeeper_py.core.images.glob import Glob
from gatekeeper_py.core.images.reference import DOCKER_HUB, escape

MAX_TRIED: Final = 3
"""Maximum number of credentials that are tried for one image. Trying only the first one fails if a stale
entry sorts first; trying all of them would send many passwords to one host."""

MAX_CONFIG_BYTES: Final = 1024 * 1024
"""Maximum size of ``config.json``. A Secret holds at most 1 MiB."""

MAX_ENTRIES: Final = 10_000
"""Maximum number of entries in ``config.json``. ``Keyring.find`` compares an image with each of them."""

HUB_FALLBACK: Final = "index.docker.io"

_SCHEME: Final = re.compile(r"https?://")
_VERSION_PATH: Final = re.compile(r"/v[12]/")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._*?\[\]~!$&'()+,;=\\-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_PORT: Final = re.compile(r"(?P<host>.*):(?P<port>[0-9]*)", re.DOTALL)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class CredentialsError(ValueError):
    """The file is not a usable Docker configuration. The message never quotes a secret."""


class Credential(NamedTuple):
    """A user name and a password for a registry."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credential({self.username!r}, password hidden)"

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header for HTTP Basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class _Key(NamedTuple):
    """A key of the file, split for comparison with an image."""

    text: str
    labels: tuple[Glob, ...]
    port: str
    path: str


class Keyring:
    """All credentials of one file."""

    def __init__(self, entries: Mapping[str, tuple[Credential, ...]]) -> None:
        # In reverse order of their text, so that a longer path is tried before a shorter one.
        self._keys = tuple(_key(text) for text in sorted(entries, reverse=True))
        self._entries = dict(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> tuple[Credential, ...]:
        """Return the credentials for ``host/repository``, best first, at most ``MAX_TRIED``."""
        host, _, path = name.partition("/")
        labels, port = _split_host(host)
        matching = [
            credential
            for key in self._keys
            if key.port == port and f"/{path}".startswith(key.path) and _labels_match(key.labels, labels)
            for credential in self._entries[key.text]
        ]
        if not matching and host == DOCKER_HUB:
            matching = list(self._entries.get(HUB_FALLBACK, ()))
        return tuple(dict.fromkeys(matching))[:MAX_TRIED]


EMPTY: Final = Keyring({})


def parse_docker_config(content: bytes) -> Keyring:
    """Parse a ``config.json``. Raises ``CredentialsError``; one bad entry makes the file unusable."""
    if len(content) > MAX_CONFIG_BYTES:
        raise CredentialsError(f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as problem:
        # The error's own text can quote the document.
        raise CredentialsError(f"not JSON, line {problem.lineno}, column {problem.colno}") from None
    if not isinstance(document, dict):
        raise CredentialsError("not a JSON object")
    # A dockercfg file holds the entries at its top level, and no key named "auths".
    entries = document.get("auths") if "auths" in document else document
    if entries is None:
        entries = {}
    if not isinstance(entries, dict):
        raise CredentialsError("auths is not an object")
    if len(entries) > MAX_ENTRIES:
        raise CredentialsError(f"more than {MAX_ENTRIES} entries")
    keyring: dict[str, tuple[Credential, ...]] = {}
    for text, entry in entries.items():
        credential = _credential(text, entry)
        key = _normalised(text)
        if credential is not None and key is not None:
            keyring[key] = (*keyring.get(key, ()), credential)
    return Keyring(keyring)


def _credential(text: str, entry: Any) -> Credential | None:
    where = f"auths[{escape(text, 100)!r}]"
    if not isinstance(entry, dict):
        raise CredentialsError(f"{where} is not an object")
    values: dict[str, str] = {}
    for field in ("username", "password", "auth"):
        value = entry.get(field)
        if value is not None and not isinstance(value, str):
            raise CredentialsError(f"{where}.{field} is not text")
        values[field] = value or ""
    if not values["auth"]:
        return Credential(values["username"], values["password"])
    # Go's decoder skips line breaks, which the command ``base64`` writes after 76 characters.
    coded = values["auth"].replace("\r", "").replace("\n", "")
    if not _BASE64.fullmatch(coded):
        raise CredentialsError(f"{where}.auth is not base64")
    unpadded = coded.rstrip("=")
    try:
        decoded = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise CredentialsError(f"{where}.auth is not base64 of UTF-8 text") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise CredentialsError(f"{where}.auth does not hold USERNAME:PASSWORD")
    return Credential(username, password)


def _normalised(text: str) -> str | None:
    """Return the key without scheme and API version; ``None`` if the key does not parse as a URL."""
    match = _SCHEME.match(text)
    rest = text[match.end() :] if match is not None else text
    if any(character.isspace() or not character.isprintable() for character in rest):
        return None
    rest = rest.partition("#")[0].partition("?")[0]
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    if not _HOST.fullmatch(host):
        return None
    path = slash + path
    version = _VERSION_PATH.match(path)
    if version is not None:
        path = path[version.end() - 1 :]
    return host if path in {"", "/"} else host + path


def _key(text: str) -> _Key:
    host, slash, path = text.partition("/")
    labels, port = _split_host(host)
    # Go's filepath.Match also supports ? and [...]. Here they are literal, so such a key matches no host.
    return _Key(text, tuple(map(Glob, labels)), port, slash + path)


def _split_host(host: str) -> tuple[list[str], str]:
    match = _PORT.fullmatch(host)
    name, port = (match["host"], match["port"]) if match is not None else (host, "")
    return name.split("."), port


def _labels_match(globs: tuple[Glob, ...], labels: list[str]) -> bool:
    return len(globs) == len(labels) and all(
        glob.matches(label) for glob, label in zip(globs, labels, strict=True)
    )
