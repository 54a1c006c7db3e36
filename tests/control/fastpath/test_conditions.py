"""Reading and writing the conditions of the configurations."""

from __future__ import annotations

from typing import Any

import pytest

from control.fastpath.stepping import MIRRORS, MUTATE, OTHER, OWNER, TIGHT, VALIDATE, WIDE, view_of
from control.world import FakeCluster, Refused, desired
from gatekeeper_py.control.fastpath.conditions import ConditionStore, NotStored
from gatekeeper_py.control.fastpath.policy_view import WEBHOOKS, unknown
from gatekeeper_py.control.webhooks.conditions import NO_CONDITIONS, carries
from gatekeeper_py.core.compile.fastpath import ENDPOINTS

NOBODY = unknown("nothing is known")


class Site:
    """Configurations without a condition, and how often they were written."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        for each in (VALIDATE, MUTATE):
            self.cluster.put(each.path, each.document(b"authority", OWNER))
        self.written = 0
        self.store = ConditionStore(
            self.cluster, (MUTATE, VALIDATE), errors=(Refused,), on_written=self.on_written
        )

    def on_written(self) -> None:
        self.written += 1

    async def write(self, text: str) -> bool:
        return await self.store.write(await self.store.read(), view_of(text, None))

    async def skipped(self) -> list[list[str]] | None:
        """The entries that are skipped on each endpoint."""
        skipped = (await self.store.read()).skipped
        if skipped is None:
            return None
        approved = [skipped.approved[of] for of in ENDPOINTS]
        return [
            ["everything"] if each.everything else sorted(entry.images.start for entry in each.included)
            for each in approved
        ]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_what_was_put_is_what_stands(site: Site) -> None:
    assert await site.skipped() == [[], []]
    assert await site.write(WIDE)
    assert await site.skipped() == [["a.io/", "b.io/"]] * 2
    assert (await site.store.read()).carry(view_of(WIDE, None).conditions)
    assert site.written == 2
    assert await site.write(WIDE)
    assert site.written == 2


async def test_without_a_mirror_the_mutating_one_skips_everything(site: Site) -> None:
    assert await site.write(WIDE.replace(MIRRORS, ""))
    assert await site.skipped() == [["a.io/", "b.io/"], ["everything"]]
    found = await site.store.read()
    assert view_of(WIDE, None).fast_path.tightens(found.skipped)
    assert await site.write(WIDE)
    assert await site.skipped() == [["a.io/", "b.io/"]] * 2


async def test_nothing_can_be_put_too(site: Site) -> None:
    await site.write(WIDE)
    assert await site.store.write(await site.store.read(), NOBODY)
    assert await site.skipped() == [[], []]
    assert (await site.store.read()).carry(NO_CONDITIONS)


async def test_what_was_put_on_one_only_stands_there_only(site: Site) -> None:
    await site.write(WIDE)
    site.cluster.fail = lambda verb, path: (verb, path) == ("replace", MUTATE.path)
    with pytest.raises(Refused, match="500"):
        await site.write(TIGHT)
    assert await site.skipped() == [["a.io/"], ["a.io/", "b.io/"]]


async def test_of_two_for_one_endpoint_both_stand(site: Site) -> None:
    second = desired("Validating", "second", WEBHOOKS["validating"])
    site.cluster.put(second.path, second.document(b"authority", OWNER))
    site.store = ConditionStore(
        site.cluster, (VALIDATE, second), errors=(Refused,), on_written=site.on_written
    )
    await site.write(WIDE)
    site.cluster.fail = lambda verb, path: (verb, path) == ("replace", VALIDATE.path)
    with pytest.raises(Refused, match="500"):
        await site.write(TIGHT)
    assert await site.skipped() == [["a.io/", "b.io/"], []]


async def test_a_configuration_that_cannot_be_read_does_not_keep_the_other(site: Site) -> None:
    site.cluster.fail = lambda _verb, path: path == VALIDATE.path
    with pytest.raises(Refused, match="500"):
        await site.write(WIDE)
    assert await site.skipped() is None
    site.cluster.fail = lambda _verb, _path: False
    assert await site.skipped() == [[], ["a.io/", "b.io/"]]


async def test_what_somebody_else_put_is_not_known(site: Site) -> None:
    await site.write(WIDE)
    another = ConditionStore(site.cluster, (VALIDATE, MUTATE), errors=(Refused,), on_written=lambda: None)
    assert (await another.read()).skipped is None
    await another.write(await another.read(), view_of(OTHER, None))
    assert await site.skipped() is None


async def test_a_configuration_that_is_not_there_skips_nothing_and_is_not_made(site: Site) -> None:
    await site.write(WIDE)
    del site.cluster.objects[VALIDATE.path]
    assert await site.skipped() == [[], ["a.io/", "b.io/"]]
    assert not (await site.store.read()).carry(view_of(WIDE, None).conditions)
    assert not await site.write(TIGHT)
    assert VALIDATE.path not in site.cluster.objects


async def test_a_configuration_that_goes_while_it_is_written(site: Site) -> None:
    replace = site.cluster.replace

    async def and_goes(path: str, document: dict[str, Any]) -> None:
        await replace(path, document)
        del site.cluster.objects[path]

    site.cluster.replace = and_goes  # type: ignore[method-assign]
    assert not await site.write(WIDE)


async def test_a_write_is_on_the_version_that_was_read(site: Site) -> None:
    found = await site.store.read()
    site.cluster.edit(VALIDATE.path, lambda live: live["metadata"].update(labels={"theirs": "too"}))
    with pytest.raises(Refused, match="409"):
        await site.store.write(found, view_of(WIDE, None))
    assert not carries(site.cluster.objects[VALIDATE.path], VALIDATE.names, view_of(WIDE, None).conditions)
    assert await site.write(WIDE)
    assert site.cluster.objects[VALIDATE.path]["metadata"]["labels"] == {"theirs": "too"}


async def test_an_api_server_that_stores_something_else_is_told_of(site: Site) -> None:
    replace = site.cluster.replace

    async def forgetful(path: str, document: dict[str, Any]) -> None:
        await replace(path, {**document, "webhooks": site.cluster.objects[path]["webhooks"]})

    site.cluster.replace = forgetful  # type: ignore[method-assign]
    with pytest.raises(NotStored, match="validate does not carry"):
        await site.write(WIDE)
    assert await site.skipped() is None
