"""The client gets tokens from a real token server, for real registries that trust it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import trustme

from gatekeeper_py.core.images.manifest import found
from gatekeeper_py.core.policy.registries import Registry as Settings
from gatekeeper_py.registry.credentials import Credential
from registries.distribution import Registry, Version
from registries.guarded import with_tokens
from registries.tokenserver import TokenServer
from registry.world import World

ALICE = Credential("alice", "wonderland")
BOB = Credential("bob", "builder")
TEAM = {"password": "wonderland", "repositories": ["team/app"]}
PULL = "repository:team/app:pull"


@dataclass(frozen=True)
class Guarded:
    """A registry, its token server, and the digest of ``team/app:v1``."""

    registry: Registry
    tokens: TokenServer
    digest: str


@pytest.fixture(scope="module")
def running(ca: trustme.CA, version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tokens")
    with with_tokens(folder, ca, version) as (registry, tokens):
        yield Guarded(registry, tokens, registry.push("team/app", "v1"))


@pytest.fixture
def guarded(running: Guarded) -> Guarded:
    """Return the shared registry without the requests and settings of earlier tests."""
    (running.tokens.folder / "requests").write_text("", encoding="utf-8")
    (running.registry.folder / "log").write_text("", encoding="utf-8")
    running.tokens.use(users={"alice": TEAM})
    return running


@pytest.fixture
async def world(guarded: Guarded) -> AsyncIterator[World]:
    made = World(guarded.registry.trust)
    host = guarded.registry.host
    made.settings[host] = Settings(host=host, token_hosts=(guarded.tokens.host,))
    made.settings[guarded.tokens.host] = Settings(host=guarded.tokens.host)
    made.logins = (ALICE,)
    yield made
    await made.close()


async def test_a_token_is_fetched_once_and_used_again(world: World, guarded: Guarded) -> None:
    for _ in range(3):
        assert (await world.query(guarded.registry.host)).answer == found(guarded.digest)
    assert guarded.tokens.token_requests() == [("alice", PULL)]
    assert guarded.registry.reads("team/app") == ["HEAD v1 401", *["HEAD v1 200"] * 3]


async def test_a_public_repository_needs_no_credentials(world: World, guarded: Guarded) -> None:
    world.logins = ()
    guarded.tokens.use(anonymous=["team/app"])
    assert (await world.query(guarded.registry.host)).answer.status == "found"
    assert guarded.tokens.token_requests() == [("", PULL)]


async def test_a_manifest_that_does_not_exist_is_missing_and_keeps_its_token(
    world: World, guarded: Guarded
) -> None:
    for reference in ("v2", f"sha256:{'0' * 64}"):
        assert (await world.query(guarded.registry.host, reference)).answer.status == "missing"
    assert guarded.tokens.token_requests() == [("alice", PULL)]


@pytest.mark.parametrize("reference", ["v1", "does-not-exist"])
async def test_insufficient_scope_is_an_error_whether_or_not_the_image_exists(
    world: World, guarded: Guarded, reference: str
) -> None:
    """The token server answers 200 with a token that has no rights; the registry refuses it."""
    guarded.tokens.use(users={"alice": TEAM | {"repositories": []}})
    reply = await world.query(guarded.registry.host, reference)
    assert reply.answer.status == "error"
    assert reply.answer.cause == "the registry refused our credentials (401)"
    assert not reply.trouble
    assert guarded.registry.reads("team/app") == [f"HEAD {reference} 401"] * 2
    # A right that is granted later applies at once.
    guarded.tokens.use(users={"alice": TEAM})
    expected = "found" if reference == "v1" else "missing"
    assert (await world.query(guarded.registry.host, reference)).answer.status == expected


async def test_the_next_credentials_are_tried_when_the_first_are_wrong_or_have_no_rights(
    world: World, guarded: Guarded
) -> None:
    guarded.tokens.use(users={"alice": TEAM | {"repositories": []}, "bob": TEAM | {"password": "builder"}})
    world.logins = (Credential("alice", "wrong"), ALICE, BOB)
    assert (await world.query(guarded.registry.host)).answer.status == "found"
    assert [user for user, _ in guarded.tokens.token_requests()] == ["alice", "alice", "bob"]


async def test_wrong_credentials_are_an_error_and_no_anonymous_request_follows(
    world: World, guarded: Guarded
) -> None:
    guarded.tokens.use(users={"alice": TEAM}, anonymous=["team/app"])
    world.logins = (Credential("alice", "wrong"),)
    reply = await world.query(guarded.registry.host)
    assert reply.answer.cause == "the registry refused our credentials (401)"
    assert guarded.tokens.token_requests() == [("alice", PULL)]


async def test_a_token_that_expires_early_is_replaced_within_the_same_look_up(
    world: World, guarded: Guarded
) -> None:
    guarded.tokens.use(users={"alice": TEAM}, seconds=3600)
    await world.query(guarded.registry.host)
    # The cached token has expired: registries tolerate a clock difference of one minute.
    known = world.client._authorizations[f"{guarded.registry.host}/team/app"]
    expired = guarded.tokens.sign("alice", "team/app", "pull", left=-120)
    known.header = f"Bearer {expired}"
    assert (await world.query(guarded.registry.host)).answer.status == "found"
    assert len(guarded.tokens.token_requests()) == 2
    assert guarded.registry.reads("team/app") == ["HEAD v1 401", "HEAD v1 200"] * 2


async def test_a_server_that_only_issues_expired_tokens_gets_one_request(
    world: World, guarded: Guarded
) -> None:
    guarded.tokens.use(users={"alice": TEAM}, left=-120)
    reply = await world.query(guarded.registry.host)
    assert reply.answer.cause == "the registry refused our credentials (401)"
    assert len(guarded.tokens.token_requests()) == 1
    assert len(guarded.registry.reads("team/app")) == 2


async def test_each_repository_has_a_token_of_its_own(world: World, guarded: Guarded) -> None:
    other = guarded.registry.push("team/other", "v1", b"other")
    guarded.tokens.use(users={"alice": TEAM | {"repositories": ["team/app", "team/other"]}})
    host = guarded.registry.host
    for _ in range(2):
        assert (await world.query(host)).answer.digest == guarded.digest
        assert (await world.query(host, repository="team/other")).answer.digest == other
    assert guarded.tokens.token_requests() == [("alice", PULL), ("alice", "repository:team/other:pull")]
