"""Every kind of look-up has its row, and each part of a row is used."""

from __future__ import annotations

from typing import Final

import pytest

from gatekeeper_py.core.images import manifest as core
from gatekeeper_py.core.images.manifest import Answer, Kind, Manifest, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import client, facts, remote
from gatekeeper_py.registry.asking import Reply, Send
from gatekeeper_py.registry.facts import FactCache
from gatekeeper_py.registry.kinds import KINDS, LookupKind
from gatekeeper_py.registry.signatures.verification import Keys
from registry.scripted import DIGEST
from registry.world import World

OTHER: Final = Kind("other")


def test_every_kind_has_a_row() -> None:
    assert KINDS.keys() == {kind for kind in vars(core).values() if isinstance(kind, Kind)}


async def test_the_kind_of_a_look_up_determines_query_check_and_lifetime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def query(manifest: Manifest, _send: Send, _keys: Keys) -> Answer:
        return failed(f"the {manifest.kind.name} of {manifest}")

    row = LookupKind(query, lambda _manifest, answer: answer.digest == "odd", lambda *_: 7.0, 9)
    other = Manifest("r.io", "app", "v1", OTHER)
    kinds = {**KINDS, OTHER: row}
    for module in (client, facts, remote):
        monkeypatch.setattr(module, "KINDS", kinds)
    world = World()
    assert (await world.client.query(other, world.turn)).answer == failed("the other of r.io/app:v1")
    await world.close()
    assert remote._is_valid(Reply(found("odd")), other)
    assert not remote._is_valid(Reply(found(DIGEST)), other)
    known = FactCache()
    assert known.store(other, found("odd"), Registry(host="r.io"), 0.0).fresh_until == 7.0
    assert known.peek(Manifest("r.io", "app", "v1"), 0.0) is None, "another kind"
