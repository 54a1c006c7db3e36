"""What is read of the configurations and written to them."""

from __future__ import annotations

from typing import Any

import pytest

from control.fastpath.keeping import MIRRORS, MUTATE, OTHER, OWNER, TIGHT, VALIDATE, WIDE
from control.world import FakeCluster, Refused, desired
from gatekeeper_py.control.fastpath.knowledge import WEBHOOKS, know, unknown
from gatekeeper_py.control.fastpath.placement import NotTaken, Placement
from gatekeeper_py.control.webhooks import ASK_ALWAYS, carries

NOBODY = unknown("nothing is known")


class Site:
    """Configurations without a condition, and how often they were written."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        for each in (VALIDATE, MUTATE):
            self.cluster.put(each.path, each.document(b"authority", OWNER))
        self.written = 0
        self.placement = Placement(
            self.cluster, (MUTATE, VALIDATE), errors=(Refused,), on_written=self.on_written
        )

    def on_written(self) -> None:
        self.written += 1

    async def put(self, text: str) -> bool:
        return await self.placement.put(await self.placement.read(), know(text, None))

    async def standing(self) -> list[list[str]] | None:
        """The places that are skipped on each endpoint."""
        standing = (await self.placement.read()).standing
        if standing is None:
            return None
        return [sorted(place.text for place in standing.places[of]) for of in ("validating", "mutating")]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_was_put_is_what_stands(site: Site) -> None:
    assert await site.standing() == [[], []]
    assert await site.put(WIDE)
    assert await site.standing() == [["a.io/", "b.io/"]] * 2
    assert (await site.placement.read()).carry(know(WIDE, None).conditions)
    assert site.written == 2
    assert await site.put(WIDE)
    assert site.written == 2


async def test_without_a_mirror_the_mutating_one_skips_everything(site: Site) -> None:
    assert await site.put(WIDE.replace(MIRRORS, ""))
    assert await site.standing() == [["a.io/", "b.io/"], [""]]
    found = await site.placement.read()
    assert know(WIDE, None).fast_path.tightens(found.standing)
    assert await site.put(WIDE)
    assert await site.standing() == [["a.io/", "b.io/"]] * 2


async def test_nothing_can_be_put_too(site: Site) -> None:
    await site.put(WIDE)
    assert await site.placement.put(await site.placement.read(), NOBODY)
    assert await site.standing() == [[], []]
    assert (await site.placement.read()).carry(ASK_ALWAYS)


async def test_what_was_put_on_one_only_stands_there_only(site: Site) -> None:
    await site.put(WIDE)
    site.cluster.fail = lambda verb, path: (verb, path) == ("replace", MUTATE.path)
    with pytest.raises(Refused, match="500"):
        await site.put(TIGHT)
    assert await site.standing() == [["a.io/"], ["a.io/", "b.io/"]]


async def test_of_two_for_one_endpoint_both_stand(site: Site) -> None:
    second = desired("Validating", "second", WEBHOOKS["validating"])
    site.cluster.put(second.path, second.document(b"authority", OWNER))
    site.placement = Placement(
        site.cluster, (VALIDATE, second), errors=(Refused,), on_written=site.on_written
    )
    await site.put(WIDE)
    site.cluster.fail = lambda verb, path: (verb, path) == ("replace", VALIDATE.path)
    with pytest.raises(Refused, match="500"):
        await site.put(TIGHT)
    assert await site.standing() == [["a.io/", "b.io/"], []]


async def test_a_configuration_that_cannot_be_read_does_not_keep_the_other(site: Site) -> None:
    site.cluster.fail = lambda _verb, path: path == VALIDATE.path
    with pytest.raises(Refused, match="500"):
        await site.put(WIDE)
    assert await site.standing() is None
    site.cluster.fail = lambda _verb, _path: False
    assert await site.standing() == [[], ["a.io/", "b.io/"]]


async def test_what_somebody_else_put_is_not_known(site: Site) -> None:
    await site.put(WIDE)
    another = Placement(site.cluster, (VALIDATE, MUTATE), errors=(Refused,), on_written=lambda: None)
    assert (await another.read()).standing is None
    await another.put(await another.read(), know(OTHER, None))
    assert await site.standing() is None


async def test_a_configuration_that_is_not_there_skips_nothing_and_is_not_made(site: Site) -> None:
    await site.put(WIDE)
    del site.cluster.objects[VALIDATE.path]
    assert await site.standing() == [[], ["a.io/", "b.io/"]]
    assert not (await site.placement.read()).carry(know(WIDE, None).conditions)
    assert not await site.put(TIGHT)
    assert VALIDATE.path not in site.cluster.objects


async def test_a_configuration_that_goes_while_it_is_written(site: Site) -> None:
    replace = site.cluster.replace

    async def and_goes(path: str, document: dict[str, Any]) -> None:
        await replace(path, document)
        del site.cluster.objects[path]

    site.cluster.replace = and_goes  # type: ignore[method-assign]
    assert not await site.put(WIDE)


async def test_a_write_is_on_the_version_that_was_read(site: Site) -> None:
    found = await site.placement.read()
    site.cluster.edit(VALIDATE.path, lambda live: live["metadata"].update(labels={"theirs": "too"}))
    with pytest.raises(Refused, match="409"):
        await site.placement.put(found, know(WIDE, None))
    assert not carries(site.cluster.objects[VALIDATE.path], VALIDATE, know(WIDE, None).conditions)
    assert await site.put(WIDE)
    assert site.cluster.objects[VALIDATE.path]["metadata"]["labels"] == {"theirs": "too"}


async def test_an_api_server_that_stores_something_else_is_told_of(site: Site) -> None:
    replace = site.cluster.replace

    async def forgetful(path: str, document: dict[str, Any]) -> None:
        await replace(path, {**document, "webhooks": site.cluster.objects[path]["webhooks"]})

    site.cluster.replace = forgetful  # type: ignore[method-assign]
    with pytest.raises(NotTaken, match="validate does not carry"):
        await site.put(WIDE)
    assert await site.standing() is None
