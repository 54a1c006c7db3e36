"""The address of the source repository, as a release publishes it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from tools.release.source import ReleaseError

SCHEMES: Final = frozenset({"https", "http", "ssh", "git"})

_SCP: Final = re.compile(r"(?:[^@/]*@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>(?!//).+)", re.DOTALL)
"""The short form of an SSH address: ``git@host:path``."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")


def public_address(text: str) -> str:
    """Return the URL of a repository without user name and password, which may be a token.

    ``git@host:path`` becomes ``ssh://host/path``. Raises ``ReleaseError`` for everything else that is not a
    plain URL of a repository on a host. The message does not quote the text, because logs are public.
    """
    short = _SCP.fullmatch(text)
    if short is not None and short["host"].lower() not in SCHEMES and len(short["host"]) > 1:
        text = f"ssh://{short['host']}/{short['path'].removeprefix('/')}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused() from None
    plain = parts.scheme in SCHEMES and _HOST.fullmatch(host) and _PATH.fullmatch(parts.path)
    # urlsplit drops line breaks and tabs, and an empty query leaves only its "?" in the text.
    if not plain or not text.isprintable() or "?" in text or "#" in text:
        raise _refused()
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{parts.path}"


def _refused() -> ReleaseError:
    return ReleaseError(
        "the address of the repository is not a URL such as https://git.example/gatekeeper-py, without query"
        " and fragment (it is not shown here, because it may contain a secret)"
    )
