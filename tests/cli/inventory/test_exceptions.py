"""The documents of a live cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from gatekeeper_py.cli.inventory import exceptions
from gatekeeper_py.cluster.api import ApiClient
from support.builders import exceptions_text, policy

GRANTS = """
exceptions:
  - {source: namespace, images: [ghcr.io/**], longest: 14d}
  - {source: installation, images: [ghcr.io/**], longest: 14d}
  - {source: break-glass, images: [ghcr.io/**], longest: 14d}
"""


@pytest.mark.parametrize("limit", ["MAX_OF_NAMESPACES", "MAX_ENTRIES_OF_NAMESPACES"])
async def test_documents_of_namespaces_leave_room_for_those_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """As in the server."""
    text = exceptions_text("image: ghcr.io/x, until: 2026-03-05, reason: r")

    async def listed(_api: ApiClient, name: str, where: str | None) -> AsyncIterator[dict[str, Any]]:
        for namespace in ("a", "b", "c", "installed") if where is None else (where,):
            yield {
                "metadata": {"name": name, "namespace": namespace},
                "data": {"exceptions.yaml": text},
            }

    monkeypatch.setattr(exceptions, "_listed", listed)
    monkeypatch.setattr(exceptions, limit, 2)
    found = await exceptions.read_exceptions_of(
        cast(ApiClient, None), policy(GRANTS).grants, "installed", None
    )
    assert [key for key, _ in found.exceptions.documents()] == [
        ("namespace", "a"),
        ("namespace", "b"),
        ("installation", "installed"),
        ("break-glass", "installed"),
    ]
    assert found.bad == 1
    assert found.problems[0].startswith("the namespaces have more than ")
