"""Reading and writing the conditions of the configurations."""

from __future__ import annotations

from typing import Any

import pytest

from controller.fastpath.stepping import MIRRORS, MUTATE, OTHER, OWNER, TIGHT, VALIDATE, WIDE, view_of
from controller.world import FakeCluster, desired
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath.conditions import ConditionStore, NotStored
from gatekeeper_py.controller.fastpath.policy_view import WEBHOOKS, unknown
from gatekeeper_py.core.compile.fastpath import ENDPOINTS

NOBODY = unknown("nothing is known")


class Site:
    """Configurations without a condition. ``written`` counts the writes."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        for each in (VALIDATE, MUTATE):
            self.cluster.put(each.path, each.document(b"authority", OWNER))
        self.written = 0
        self.store = ConditionStore(self.cluster, (MUTATE, VALIDATE), on_written=self.on_written)

    def on_written(self) -> None:
        self.written += 1

    async def write(self, text: str) -> bool:
        return await self.store.write(await self.store.read(), view_of(text))

    async def skipped(self) -> list[list[str]] | None:
        """Return the entries that each endpoint skips."""
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


async def test_the_mutating_webhook_skips_everything_without_a_mirror(site: Site) -> None:
    assert await site.write(WIDE.replace(MIRRORS, ""))
    assert await site.skipped() == [["a.io/", "b.io/"], ["everything"]]
    found = await site.store.read()
    assert view_of(WIDE).fast_path.tightens(found.skipped)
    assert await site.write(WIDE)
    assert await site.skipped() == [["a.io/", "b.io/"]] * 2


async def test_images_skipped_by_any_configuration_of_an_endpoint_count(site: Site) -> None:
    second = desired("Validating", "second", WEBHOOKS["validating"])
    site.cluster.put(second.path, second.document(b"authority", OWNER))
    site.store = ConditionStore(site.cluster, (VALIDATE, second), on_written=site.on_written)
    await site.write(WIDE)
    site.cluster.fail = lambda verb, path: (verb, path) == ("replace", VALIDATE.path)
    with pytest.raises(ApiError, match="500"):
        await site.write(TIGHT)
    assert await site.skipped() == [["a.io/", "b.io/"], []]


async def test_an_unreadable_configuration_does_not_prevent_the_other(site: Site) -> None:
    site.cluster.fail = lambda _verb, path: path == VALIDATE.path
    with pytest.raises(ApiError, match="500"):
        await site.write(WIDE)
    assert await site.skipped() is None
    site.cluster.fail = lambda _verb, _path: False
    assert await site.skipped() == [[], ["a.io/", "b.io/"]]


async def test_conditions_of_another_writer_are_unknown(site: Site) -> None:
    await site.write(WIDE)
    another = ConditionStore(site.cluster, (VALIDATE, MUTATE), on_written=lambda: None)
    assert (await another.read()).skipped is None
    await another.write(await another.read(), view_of(OTHER))
    assert await site.skipped() is None


async def test_a_missing_configuration_skips_nothing_and_is_not_created(site: Site) -> None:
    await site.write(WIDE)
    del site.cluster.objects[VALIDATE.path]
    assert await site.skipped() == [[], ["a.io/", "b.io/"]]
    assert not (await site.store.read()).carry(view_of(WIDE).conditions)
    assert not await site.write(TIGHT)
    assert VALIDATE.path not in site.cluster.objects


async def test_a_configuration_deleted_during_a_write_is_incomplete(site: Site) -> None:
    replace = site.cluster.replace

    async def and_goes(path: str, document: dict[str, Any]) -> None:
        await replace(path, document)
        del site.cluster.objects[path]

    site.cluster.replace = and_goes  # type: ignore[method-assign]
    assert not await site.write(WIDE)


async def test_an_api_server_that_drops_the_conditions_is_an_error(site: Site) -> None:
    replace = site.cluster.replace

    async def forgetful(path: str, document: dict[str, Any]) -> None:
        await replace(path, {**document, "webhooks": site.cluster.objects[path]["webhooks"]})

    site.cluster.replace = forgetful  # type: ignore[method-assign]
    with pytest.raises(NotStored, match="validate does not carry"):
        await site.write(WIDE)
    assert await site.skipped() is None
