"""A pull-through cache whose upstream stops: it keeps some images, and reports others as missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from gatekeeper_py.core.images.manifest import failed, found
from registries.client import client_of
from registries.distribution import CA_FILE, Registry, Version, config_files, start_registry
from registries.looking import looking
from registry.world import World

SEEN, UNSEEN = "seen", "unseen"


@dataclass(frozen=True)
class Pair:
    """A cache, its upstream, and the digests of ``team/app`` in the upstream by tag."""

    upstream: Registry
    cache: Registry
    digests: dict[str, str]


@contextmanager
def running(folder: Path, ca: trustme.CA, version: Version, *, is_public: bool) -> Iterator[Pair]:
    """Run a cache without credentials for its upstream, which is public or requires a password."""
    upstream = (
        start_registry(folder / "upstream", ca, version=version, auth={}, authorization=lambda _: "")
        if is_public
        else start_registry(folder / "upstream", ca, version=version)
    )
    cache = None
    try:
        cache = start_registry(
            folder / "cache", ca, version=version, proxy={"remoteurl": f"https://{upstream.host}"}
        )
        digests = {tag: upstream.push("team/app", tag, tag.encode()) for tag in (SEEN, UNSEEN)}
        yield Pair(upstream, cache, digests)
    finally:
        upstream.stop()
        if cache is not None:
            cache.stop()


@pytest.fixture
def pair(ca: trustme.CA, version: Version, tmp_path: Path) -> Iterator[Pair]:
    with running(tmp_path, ca, version, is_public=True) as made:
        yield made


@pytest.fixture
async def world(pair: Pair) -> AsyncIterator[World]:
    async with client_of(pair.cache) as made:
        yield made


async def test_a_cache_without_its_upstream_has_only_images_that_it_has_seen(
    world: World, pair: Pair
) -> None:
    host = pair.cache.host
    seen = found(pair.digests[SEEN])
    assert (await world.query(host, SEEN)).answer == seen
    assert (await world.query(host, "never-pushed")).answer.status == "missing"

    pair.upstream.stop()

    for reference in (SEEN, pair.digests[SEEN]):
        assert (await world.query(host, reference)).answer == seen
    # This is wrong, but the client cannot detect it: a missing image gets the same answer.
    assert (await world.query(host, UNSEEN)).answer.status == "missing"
    reply = await world.query(host, pair.digests[UNSEEN])
    assert reply.answer == failed("the registry answered 500")
    assert reply.trouble
    assert pair.cache.reads("team/app")[-3:] == [
        f"HEAD {UNSEEN} 404",
        f"GET {UNSEEN} 404",
        f"HEAD {pair.digests[UNSEEN]} 500",
    ]

    pair.upstream.start()

    assert (await world.query(host, UNSEEN)).answer == found(pair.digests[UNSEEN])


async def test_a_cache_refused_by_its_upstream_reports_every_tag_as_missing(
    ca: trustme.CA, version: Version, tmp_path: Path
) -> None:
    with running(tmp_path, ca, version, is_public=False) as pair:
        async with client_of(pair.cache) as world:
            assert (await world.query(pair.cache.host, SEEN)).answer.status == "missing"


def test_the_server_keeps_images_that_a_cache_reports_as_missing(
    ca: trustme.CA, pair: Pair, tmp_path: Path
) -> None:
    """``onMissing: keep``, which docs/registries.md recommends, refuses no Pod; ``deny`` refuses it."""
    host = pair.cache.host
    with looking(
        tmp_path,
        f"""mode: mutate
allow:
  - docker.io
  - quay.io
  - {host}/
mirrors:
  - {{from: docker.io/team, to: {host}/team, pin: true, onMissing: keep, onError: keep}}
  - {{from: quay.io/team, to: {host}/team, pin: true, onMissing: deny, onError: deny}}
registries:
  - {{host: "{host}", ca: {CA_FILE}, ttlFound: 1s, ttlMissing: 1s}}
""",
        config_files(ca, host),
    ) as server:
        pinned = f"{host}/team/app:{SEEN}@{pair.digests[SEEN]}"
        for registry in ("docker.io", "quay.io"):
            assert server.rewritten(f"{registry}/team/app:{SEEN}") == pinned
        pair.upstream.stop()
        renewed = server.metric(f'gatekeeper_py_lookups_total{{host="{host}",result="found"}}')
        kept = f"docker.io/team/app:{UNSEEN}"
        answer = server.query(kept, "/mutate-image")
        assert answer["allowed"]
        assert "patch" not in answer
        assert [warning for warning in answer["warnings"] if kept in warning]
        assert server.refusal(kept) == ""
        refused = f"quay.io/team/app:{UNSEEN}"
        assert server.rewritten(refused) == refused
        assert f"{refused} does not exist in {host} (absent)" in server.refusal(refused)
        # An image that the cache has seen is found again after its fact expired.
        server.server.wait(
            lambda: (
                server.rewritten(f"quay.io/team/app:{SEEN}") == pinned
                and server.metric(f'gatekeeper_py_lookups_total{{host="{host}",result="found"}}') > renewed
            )
        )
        pair.upstream.start()
        server.server.wait(
            lambda: server.rewritten(refused) == f"{host}/team/app:{UNSEEN}@{pair.digests[UNSEEN]}"
        )
        assert server.refusal(f"{host}/team/app:{UNSEEN}") == ""
