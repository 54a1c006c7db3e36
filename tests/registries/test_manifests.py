"""The client and real registries agree on every kind of manifest, by tag and by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trustme

from gatekeeper_py.core.images.manifest import failed, found
from gatekeeper_py.core.policy.registries import Registry as Settings
from gatekeeper_py.registry.asking import MEDIA_TYPES
from gatekeeper_py.registry.credentials import Credential
from registries.client import client_of
from registries.distribution import PASSWORD, USER, Registry, Version, start_registry
from registries.pushing import DOCKER, OCI, Format
from registry.world import World

FORMATS = [pytest.param(OCI, id="oci"), pytest.param(DOCKER, id="docker")]
ABSENT = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def running(ca: trustme.CA, version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    registry = start_registry(tmp_path_factory.mktemp("registries") / "one", ca, version=version)
    yield registry
    registry.stop()


@pytest.fixture
def registry(running: Registry) -> Registry:
    """Return the shared registry with an empty log."""
    (running.folder / "log").write_text("", encoding="utf-8")
    return running


@pytest.fixture
async def world(registry: Registry) -> AsyncIterator[World]:
    async with client_of(registry) as made:
        yield made


@pytest.mark.parametrize("form", FORMATS)
async def test_an_image_is_found_by_tag_and_by_digest_with_head_alone(
    world: World, registry: Registry, form: Format
) -> None:
    digest = registry.push("team/app", "v1", form.image.encode(), form=form)
    for reference in ("v1", digest):
        assert (await world.query(registry.host, reference)).answer == found(digest)
    assert registry.reads("team/app") == ["HEAD v1 401", "HEAD v1 200", f"HEAD {digest} 200"]


@pytest.mark.parametrize("form", FORMATS)
async def test_the_digest_of_an_index_is_that_of_the_index(
    world: World, registry: Registry, form: Format
) -> None:
    pushed = registry.push_index("team/app", "multi", form.image_index.encode(), form=form)
    for reference in ("multi", pushed.digest):
        assert (await world.query(registry.host, reference)).answer.digest == pushed.digest
    for image in pushed.images:
        assert (await world.query(registry.host, image)).answer.digest == image


@pytest.mark.parametrize("reference", ["does-not-exist", ABSENT])
async def test_a_missing_image_is_queried_with_head_and_with_get(
    world: World, registry: Registry, reference: str
) -> None:
    registry.push("team/app", "v1")
    assert (await world.query(registry.host, reference)).answer.status == "missing"
    assert registry.reads("team/app")[-2:] == [f"HEAD {reference} 404", f"GET {reference} 404"]


async def test_an_unknown_repository_is_missing(world: World, registry: Registry) -> None:
    reply = await world.query(registry.host, repository="team/never-pushed")
    assert (reply.answer.status, reply.trouble) == ("missing", False)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_deleted_image_is_missing_by_tag_and_by_digest(
    world: World, registry: Registry, form: Format
) -> None:
    digest = registry.push("team/deleted", "v1", form.image.encode(), form=form)
    assert (await world.query(registry.host, repository="team/deleted")).answer.digest == digest
    registry.delete("team/deleted", digest)
    for reference in ("v1", digest):
        reply = await world.query(registry.host, reference, "team/deleted")
        assert reply.answer.status == "missing"


async def test_a_moved_tag_has_its_new_digest(world: World, registry: Registry) -> None:
    before = registry.push("team/moved", "v1", b"before")
    assert (await world.query(registry.host, repository="team/moved")).answer.digest == before
    after = registry.push("team/moved", "v1", b"after")
    assert (await world.query(registry.host, repository="team/moved")).answer.digest == after
    assert (await world.query(registry.host, before, "team/moved")).answer.digest == before


async def test_an_index_is_found_although_one_of_its_images_is_deleted(
    world: World, registry: Registry
) -> None:
    """docs/registries.md describes this case: the look-up succeeds, and the pull fails."""
    pushed = registry.push_index("team/partial", "v1")
    registry.delete("team/partial", pushed.images[0])
    assert (await world.query(registry.host, repository="team/partial")).answer.digest == pushed.digest
    reply = await world.query(registry.host, pushed.images[0], "team/partial")
    assert reply.answer.status == "missing"


def test_registries_answer_differently_for_fewer_media_types(registry: Registry) -> None:
    """The client therefore accepts all four media types."""
    image = registry.push("team/types", "image")
    index = registry.push_index("team/types", "index", form=DOCKER)
    assert registry.head("team/types", "image", *MEDIA_TYPES).headers["Docker-Content-Digest"] == image
    assert registry.head("team/types", "image").status == 404
    assert registry.head("team/types", "image", DOCKER.image, DOCKER.image_index).status == 404
    assert registry.head("team/types", "index", *MEDIA_TYPES).headers["Docker-Content-Digest"] == index.digest
    one = registry.head("team/types", "index", DOCKER.image)
    assert one.headers["Docker-Content-Digest"] == index.images[0]


@pytest.mark.parametrize(
    ("logins", "requests"),
    [
        pytest.param((), 1, id="none"),
        pytest.param((Credential(USER, "wrong"),), 2, id="wrong-password"),
        pytest.param((Credential("nobody", PASSWORD), Credential(USER, "wrong")), 3, id="two-wrong"),
    ],
)
@pytest.mark.parametrize("reference", ["v1", "does-not-exist"])
async def test_a_wrong_password_is_an_error(
    world: World, registry: Registry, logins: tuple[Credential, ...], requests: int, reference: str
) -> None:
    registry.push("team/app", "v1")
    world.logins = logins
    reply = await world.query(registry.host, reference)
    assert reply.answer == failed("the registry refused our credentials (401)")
    assert not reply.trouble
    assert registry.reads("team/app") == [f"HEAD {reference} 401"] * requests


async def test_the_certificate_must_name_the_host(world: World, registry: Registry) -> None:
    host = registry.host.replace("localhost", "127.0.0.1")
    world.settings[host] = Settings(host=host)
    reply = await world.query(host)
    assert reply.answer.cause.startswith("certificate: ")


async def test_http_to_an_https_registry_is_an_error(world: World, registry: Registry) -> None:
    world.settings[registry.host] = Settings(host=registry.host, plain_http=True)
    # Go answers HEAD with a body, which HTTP does not allow.
    assert (await world.query(registry.host)).answer == failed("the answer is not valid HTTP")
