"""Read the documents with exceptions of a live cluster, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gatekeeper_py.cli.inventory.resources import Forbidden, read
from gatekeeper_py.cluster.api import ApiClient, listed
from gatekeeper_py.core.exceptions.document import (
    MAX_ENTRIES_OF_NAMESPACES,
    MAX_OF_NAMESPACES,
    ExceptionDocument,
)
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import SOURCES, Grants
from gatekeeper_py.core.policy.configmap import exceptions_of
from gatekeeper_py.core.policy.parse.exceptions import parsed_exceptions

PAGE_SIZE: Final = 20
"""ConfigMaps in one page. Users decide how large a ConfigMap is, up to 1 MiB."""

MAX_PROBLEMS: Final = 10


class ClusterExceptions(NamedTuple):
    """The valid documents of a cluster, and some reasons why ``bad`` others approve nothing."""

    exceptions: Exceptions
    problems: tuple[str, ...]
    bad: int


async def read_exceptions_of(
    api: ApiClient, grants: Grants, installation: str, namespace: str | None, *, whole: bool = False
) -> ClusterExceptions:
    """Read the documents of the sources that a policy grants, as the server does.

    With ``namespace``, only those that may reach this namespace. An invalid document approves
    nothing, and neither does one that the caller may not read, unless ``whole`` makes this an error. Raises
    ``ClusterError``.
    """
    found: dict[DocumentKey, ExceptionDocument] = {}
    problems: list[str] = []
    entries = 0
    for name, where in _lists(grants, installation, namespace):
        try:
            async for item in _listed(api, name, where):
                text = exceptions_of(item, installation)
                if text is None or not grants.of(text.key.source):
                    continue
                key = text.key
                # In a thread, so that a periodic audit answers health checks meanwhile.
                document, findings = await asyncio.to_thread(parsed_exceptions, text)
                if document is None:
                    lines = (f"line {each.line}: {each.message}" for each in findings[:1])
                    problems.append(": ".join((f"the ConfigMap {key.namespace}/{name} is invalid", *lines)))
                    continue
                if key.of_tenant:
                    size = len(document.entries)
                    if len(found) >= MAX_OF_NAMESPACES or entries + size > MAX_ENTRIES_OF_NAMESPACES:
                        limit = f"{MAX_OF_NAMESPACES:,} documents and {MAX_ENTRIES_OF_NAMESPACES:,} entries"
                        problems.append(f"the namespaces have more than {limit}, the limit")
                        continue
                    entries += size
                found[key] = document
        except Forbidden as problem:
            if whole:
                raise
            problems.append(str(problem))
    return ClusterExceptions(Exceptions(found), tuple(problems[:MAX_PROBLEMS]), len(problems))


def _lists(grants: Grants, installation: str, namespace: str | None) -> list[tuple[str, str | None]]:
    """Return the names of ConfigMaps, each with a namespace in which to list them, ``None`` for all."""
    lists: list[tuple[str, str | None]] = []
    for source, (name, scope, _) in SOURCES.items():
        where = namespace if scope == "namespace" else installation
        is_other = scope == "namespace" and namespace == installation
        # A list of all namespaces also has the document of the installation.
        if grants.of(source) and not is_other and (name, None) not in lists:
            lists.append((name, where))
    return lists


def _listed(api: ApiClient, name: str, namespace: str | None) -> AsyncIterator[dict[str, Any]]:
    scope = "" if namespace is None else f"/namespaces/{quote(namespace, safe='')}"
    where = "in all namespaces" if namespace is None else f"in the namespace {namespace}"
    query = {"fieldSelector": f"metadata.name={name}", "limit": str(PAGE_SIZE)}
    read_page = partial(read, api, doing=f"list the ConfigMaps {name} {where}")
    return listed(read_page, f"/api/v1{scope}/configmaps", query)
