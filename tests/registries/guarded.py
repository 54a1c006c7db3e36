"""A registry that requires tokens, with its token server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from registries.distribution import Registry, Version, start_registry
from registries.tokenserver import TokenServer, start_token_server


@contextmanager
def with_tokens(
    folder: Path, ca: trustme.CA, version: Version = "3"
) -> Iterator[tuple[Registry, TokenServer]]:
    """Run a registry and its token server with their files in ``folder``. The server accepts no user yet."""
    tokens = start_token_server(folder / "tokens", ca)
    registry = None
    try:
        registry = start_registry(
            folder / "registry", ca, version=version, auth=tokens.auth(), authorization=tokens.authorization
        )
        yield registry, tokens
    finally:
        tokens.stop()
        if registry is not None:
            registry.stop()
