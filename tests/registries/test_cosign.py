"""Look-ups and ``cosign verify`` agree about signatures, except for the listed differences.

With ``--update-golden``, what cosign writes is recorded for the tests that run without it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gatekeeper_py.core.images.manifest import OTHER_KEY, SIGNATURE, Answer, Manifest
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
from registries.pushing import Pusher, digest_of
from registries.signing import Signatures, Signer
from registry.signatures import recorded
from registry.signatures.corpus import CORPUS
from registry.signatures.signing import (
    IMAGE,
    IMAGE_MANIFEST,
    PrivateKey,
    der_of,
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
OURS, OTHER = Signer("p256"), Signer("p256-b")
ROOT: Final = Path(__file__).parents[2]
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


async def looked_up(
    world: World, registry: Pusher, repository: str, digest: str, *, signatures: str = ""
) -> Answer:
    fingerprints = tuple(sorted(world.verifiers))
    manifest = Manifest(registry.host, repository, digest, SIGNATURE, fingerprints, signatures).located
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
        accepted = {cosign.accepts(each, form, name, image, *options) for each in MAJORS}
        by_default = {cosign.accepts(each, form, name, image) for each in MAJORS}
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("major", MAJORS)
async def test_signatures_in_a_repository_of_their_own_are_found(
    world: World, registry: Pusher, cosign: Cosign, major: Major, form: Form
) -> None:
    repository, signatures = f"apart/{major}/{form}", f"{registry.host}/signatures/{major}/{form}"
    digest = registry.push(repository, "v1")
    cosign.sign(major, form, "p256", f"{registry.host}/{repository}@{digest}", COSIGN_REPOSITORY=signatures)
    beside = await looked_up(world, registry, repository, digest)
    apart = await looked_up(world, registry, repository, digest, signatures=signatures)
    # cosign 2 leaves bundles beside the image.
    if (major, form) == (2, "bundle"):
        assert (beside.status, apart.status) == ("found", "missing")
    else:
        assert (beside.status, apart.status) == ("missing", "found")


@dataclass
class Difference:
    """An image about which look-ups and cosign differ.

    ``ours`` is the status and the cause of a look-up. ``accepted`` has the versions of cosign that accept.
    """

    form: Form
    prepare: Callable[[Signatures], None]
    ours: tuple[str, str]
    accepted: list[Major]


def _wrong_bundle_beside_a_right_payload(signatures: Signatures) -> None:
    signatures.add_bundle(OTHER.bundle(signatures.digest))
    signatures.add_simple(*OURS.payload(signatures.digest))


def _ninth_payload(signatures: Signatures) -> None:
    for each in (*[OTHER] * 8, OURS):
        signatures.add_simple(*each.payload(signatures.digest))


def _bundle_in_a_manifest_of_another_type(signatures: Signatures) -> None:
    signatures.add_bundle(OURS.bundle(signatures.digest))
    ((_, manifest),) = signatures.manifests.items()
    changed = manifest.replace(b'"artifactType": "application/vnd.dev.sigstore', b'"artifactType": "x', 1)
    assert changed != manifest
    signatures.manifests = {digest_of(changed): changed}


def _payload_in_a_layer_of_another_type(signatures: Signatures) -> None:
    signatures.add_simple(*OURS.payload(signatures.digest))
    for tag, manifest in signatures.manifests.items():
        signatures.manifests[tag] = manifest.replace(b"simplesigning", b"other")


DIFFERENCES: Final = {
    "A wrong bundle beside a right `.sig`": Difference(
        "simple", _wrong_bundle_beside_a_right_payload, ("found", ""), []
    ),
    "More than eight signatures": Difference(
        "simple", _ninth_payload, ("missing", "there are more than 8 signatures"), [2, 3]
    ),
    "Another type of manifest": Difference(
        "bundle", _bundle_in_a_manifest_of_another_type, ("missing", ""), [2, 3]
    ),
    "Another type of layer": Difference(
        "simple", _payload_in_a_layer_of_another_type, ("missing", ""), [2, 3]
    ),
}


def test_the_documentation_lists_exactly_these_differences() -> None:
    page = (ROOT / "docs/signatures.md").read_text(encoding="utf-8")
    section = page.partition("## Where cosign decides differently\n")[2]
    documented = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line[:1] == "|"]
    listed = [name for name in documented if name != "|---|---|" and not name.endswith("by cosign")]
    of_corpus = {row["difference"] for row in CORPUS if "difference" in row}
    assert sorted(listed) == sorted({*of_corpus, *DIFFERENCES})


@pytest.mark.parametrize("name", DIFFERENCES)
async def test_differences_from_cosign_are_the_documented_ones(
    world: World, registry: Pusher, cosign: Cosign, name: str
) -> None:
    difference = DIFFERENCES[name]
    cosign.add_public_key("signer", OURS.der)
    world.verifiers = load_keys([OURS.der])
    repository = f"differences/{len(name)}"
    digest = registry.push(repository, "v1")
    signatures = Signatures(digest)
    difference.prepare(signatures)
    push_signatures(registry, repository, signatures)
    answer = await looked_up(world, registry, repository, digest)
    image = f"{registry.host}/{repository}@{digest}"
    accepted = [major for major in MAJORS if cosign.accepts(major, difference.form, "signer", image)]
    assert (answer.status, answer.cause, accepted) == (*difference.ours, difference.accepted)


async def test_an_attestation_is_not_a_signature(world: World, registry: Pusher, cosign: Cosign) -> None:
    digest = registry.push("attested", "v1")
    image = f"{registry.host}/attested@{digest}"
    cosign.attest("p256", image)
    assert [major for major in MAJORS if cosign.accepts(major, "bundle", "p256", image)] == [2, 3]
    assert (await looked_up(world, registry, "attested", digest)).status == "missing"


JUDGED: Final = [
    # A registry keeps neither wrong descriptors nor images that do not exist.
    row
    for row in CORPUS
    if row["form"] in FORMS and "descriptor" not in row and "digest" not in row
]


@pytest.mark.parametrize("part", range(8))
def test_cosign_judges_the_corpus_alike_except_for_the_listed_differences(
    registry: Pusher, cosign: Cosign, part: int
) -> None:
    rows = JUDGED[part::8]
    for name in {name for row in rows for name in row.get("keys", ["p256"])}:
        cosign.add_public_key(f"corpus-{name}", der_of(name))

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
        names = [f"corpus-{name}" for name in row.get("keys", ["p256"])]
        return [
            major
            for major in MAJORS
            if any(cosign.accepts(major, row["form"], name, image) for name in names)
        ]

    def expected(row: dict[str, Any]) -> Any:
        return row.get("cosign", list(MAJORS) if row["expect"].startswith("valid") else [])

    with ThreadPoolExecutor(WORKERS) as pool:
        accepted = list(pool.map(accepted_by, rows))
    differences = [
        f"{row['id']}: accepted by {majors}"
        for row, majors in zip(rows, accepted, strict=True)
        if majors != expected(row)
    ]
    assert not differences, "\n".join(differences)
