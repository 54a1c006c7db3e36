"""Look-ups and ``cosign verify`` agree about signatures, except for the listed differences.

With ``--update-golden``, what cosign writes is recorded for the tests that run without it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gatekeeper_py.core.images.manifest import OTHER_KEY, Answer, Manifest
from gatekeeper_py.registry.signatures.keys import load_keys
from registries.cosign import (
    FORMS,
    MAJORS,
    Cosign,
    Form,
    Major,
    push_signatures,
    read_back,
    referrers_registry,
    version_of,
)
from registries.distribution import Registry, start_registry
from registries.pushing import Pusher
from registries.signing import Signatures
from registry.signatures import recorded
from registry.signatures.corpus import CORPUS
from registry.signatures.signing import (
    IMAGE,
    IMAGE_MANIFEST,
    PrivateKey,
    private_key,
    public_der,
    sign,
)
from registry.world import World

KINDS: Final[dict[str, Callable[[], PrivateKey]]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
HASH_OPTIONS: Final = {
    "p384": "--signature-digest-algorithm=sha384",
    "p521": "--signature-digest-algorithm=sha512",
}
WORKERS: Final = 4


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    return {name: make() for name, make in KINDS.items()}


@pytest.fixture(scope="module")
def cosign(keys: dict[str, PrivateKey], tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    made = Cosign(tmp_path_factory.mktemp("cosign"))
    for name, key in keys.items():
        made.add_key(name, key)
    return made


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    with referrers_registry(tmp_path_factory.mktemp("referrers")) as running:
        yield running


@pytest.fixture(scope="module")
def distribution(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registries") / "one"
    running = start_registry(
        folder, ca, version="3", auth={}, authorization=lambda _repository: "", tls=False
    )
    yield running
    running.stop()


@pytest.fixture
async def world(keys: dict[str, PrivateKey]) -> AsyncIterator[World]:
    made = World()
    made.verifiers = load_keys(public_der(key.public_key()) for key in keys.values())
    yield made
    await made.close()


async def looked_up(world: World, registry: Pusher, repository: str, digest: str) -> Answer:
    fingerprints = tuple(sorted(world.verifiers))
    manifest = Manifest(registry.host, repository, digest, "signature", fingerprints)
    return (await world.client.query(manifest, world.turn)).answer


async def test_what_cosign_signs_with_each_kind_of_key_is_verified(
    world: World,
    registry: Pusher,
    cosign: Cosign,
    keys: dict[str, PrivateKey],
    update_golden: bool,  # noqa: FBT001
) -> None:
    digests = {name: registry.push(f"signed/{name}", "v1", name.encode()) for name in KINDS}

    def signed(case: tuple[Major, Form, str]) -> tuple[str, bool, bool]:
        major, form, name = case
        repository = f"signed/{major}/{form}/{name}"
        assert registry.push(repository, "v1", name.encode()) == digests[name]
        image = f"{registry.host}/{repository}@{digests[name]}"
        cosign.sign(major, form, name, image)
        options = (HASH_OPTIONS[name],) if name in HASH_OPTIONS else ()
        accepted = {cosign.accepts(each, name, image, *options) for each in MAJORS}
        by_default = {cosign.accepts(each, name, image) for each in MAJORS}
        return repository, accepted == {True}, by_default == {True}

    cases = [(major, form, name) for major in MAJORS for form in FORMS for name in KINDS]
    with ThreadPoolExecutor(WORKERS) as pool:
        results = dict(zip(cases, pool.map(signed, cases), strict=True))
    for (major, form, name), (repository, is_accepted, by_default) in results.items():
        case = (major, form, name)
        answer = await looked_up(world, registry, repository, digests[name])
        assert (case, is_accepted) == (case, name != "ed25519")
        assert (case, by_default) == (case, name not in {"p384", "p521", "ed25519"})
        if name == "ed25519":
            assert (case, answer) == (case, Answer("missing", cause=OTHER_KEY))
        else:
            fingerprint = next(iter(load_keys([public_der(keys[name].public_key())])))
            assert (case, answer) == (case, Answer("found", digests[name], key=fingerprint, form=form))
    if update_golden:
        content = {
            "keys": {
                name: base64.b64encode(public_der(key.public_key())).decode() for name, key in keys.items()
            },
            "signatures": [
                {"by": version_of(major), "form": form, "key": name, "digest": digests[name]}
                | read_back(registry, results[major, form, name][0], digests[name], form)._asdict()
                for major, form, name in cases
            ],
        }
        recorded.PATH.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("major", MAJORS)
async def test_signatures_are_found_without_the_referrers_api(
    world: World, distribution: Registry, cosign: Cosign, major: Major, form: Form
) -> None:
    repository = f"signed/{major}/{form}"
    index = distribution.push_index(repository, "v1")
    cosign.sign(major, form, "p256", f"{distribution.host}/{repository}@{index.digest}")
    answer = await looked_up(world, distribution, repository, index.digest)
    assert (answer.status, answer.form) == ("found", form)
    # The signature of an index is not one of its images.
    for digest in index.images:
        assert (await looked_up(world, distribution, repository, digest)).status == "missing"


def test_cosign_judges_the_corpus_alike_except_for_the_listed_differences(
    registry: Pusher, cosign: Cosign
) -> None:
    names = {name for row in CORPUS for name in row.get("keys", ["p256"])}
    for name in sorted(names):
        cosign.add_key(f"corpus-{name}", private_key(name))

    def accepted_by(row: dict[str, Any]) -> list[Major]:
        signed = sign(row)
        repository = f"corpus/{row['id']}"
        registry.push_blob(repository, b"{}")
        registry.push_manifest(repository, "v1", IMAGE_MANIFEST)
        signatures = Signatures(f"sha256:{IMAGE}")
        if row["form"] == "bundle":
            signatures.add_bundle(signed.blob)
        else:
            signatures.add_simple(signed.blob, signed.candidate.signature)
        push_signatures(registry, repository, signatures)
        image = f"{registry.host}/{repository}@sha256:{IMAGE}"
        keys = [f"corpus-{name}" for name in row.get("keys", ["p256"])]
        return [major for major in MAJORS if any(cosign.accepts(major, name, image) for name in keys)]

    # A registry keeps neither wrong descriptors nor images that do not exist.
    rows = [row for row in CORPUS if row["form"] in FORMS and "descriptor" not in row and "digest" not in row]
    with ThreadPoolExecutor(WORKERS) as pool:
        accepted = dict(zip((row["id"] for row in rows), pool.map(accepted_by, rows), strict=True))
    expected = {
        row["id"]: row.get("cosign", list(MAJORS) if row["expect"].startswith("valid") else [])
        for row in rows
    }
    assert {name: majors for name, majors in accepted.items() if majors != expected[name]} == {}
