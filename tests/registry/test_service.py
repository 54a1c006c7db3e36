"""The service keeps its answers right while its files change."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, Answer, Lookup, Manifest, Resolution
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.registries import SIGNED_RATE
from gatekeeper_py.registry.files import read_files
from gatekeeper_py.registry.service import RegistryService
from registries.signing import Signer, holds, signed
from registry.scripted import DIGEST, Scripted, challenge, found, scripted
from support.builders import policy
from support.recording import Counted, RecordingLog

V1 = "/v2/team/app/manifests/v1"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RegistryService]:
    made = RegistryService(Counted(), tmp_path, log=RecordingLog())
    yield made
    await made.close()


@pytest.fixture
async def registry(ca: trustme.CA) -> AsyncIterator[Scripted]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with scripted(context) as made:
        yield made


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def write(folder: Path, ca: trustme.CA, host: str, user: str) -> None:
    (folder / "ca.crt").write_bytes(ca.cert_pem.bytes())
    (folder / "config.json").write_text(
        json.dumps({"auths": {host: {"username": user, "password": "secret"}}})
    )


def looked_up(registry: Scripted, settings: str) -> CompiledPolicy:
    """Return a policy that looks images up in a registry with these settings."""
    require = f'require: [{{images: ["{registry.host}/**"], exists: true}}]\n'
    more = f'{require}registries: [{{host: "{registry.host}", {settings}}}]\n'
    return policy(more, allow=f'["{registry.host}/**"]')


@pytest.mark.parametrize("new_ca", [False, True], ids=["new-credentials", "new-ca"])
async def test_a_running_request_survives_new_files(
    service: RegistryService,
    registry: Scripted,
    ca: trustme.CA,
    tmp_path: Path,
    new_ca: bool,  # noqa: FBT001
) -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        if "Authorization" not in request.headers:
            return challenge('Basic realm="r"')
        arrived.set()
        await answer.wait()
        return found()

    registry.on(f"HEAD {V1}", slow)
    write(tmp_path, ca, registry.host, "alice")
    service.use_policy(looked_up(registry, "ca: ca.crt, timeout: 5s"))
    lookup = Lookup((Manifest(registry.host, "team/app", "v1"),))
    waiting = asyncio.create_task(service.lookups.resolve([lookup], 5))
    await arrived.wait()
    write(tmp_path, trustme.CA() if new_ca else ca, registry.host, "bob")
    service.use_files()
    answer.set()
    assert (await waiting)[lookup].answer == Answer("found", DIGEST)
    # The answer was obtained with the old files, so later reviews must not use it.
    assert service.lookups.resolve_cached(lookup) is None
    if not new_ca:
        before = len(registry.requests)
        assert (await service.lookups.resolve([lookup], 5))[lookup].answer.status == "found"
        new = read_files(tmp_path).keyring.find(f"{registry.host}/team/app")[0].basic
        assert [sent for _, _, sent in registry.requests[before:]] == ["", new]


async def test_new_credentials_are_used_for_the_next_request(
    service: RegistryService, registry: Scripted, ca: trustme.CA, tmp_path: Path
) -> None:
    service.use_policy(looked_up(registry, "ca: ca.crt, timeout: 5s"))
    lookup = Lookup((Manifest(registry.host, "team/app", "v1"),))
    used: list[str] = []
    for user in ("alice", "bob"):
        registry.on(f"HEAD {V1}", challenge('Basic realm="r"'), found())
        write(tmp_path, ca, registry.host, user)
        service.use_files()
        resolution: Resolution = (await service.lookups.resolve([lookup], 5))[lookup]
        assert resolution.answer.status == "found"
        used.append(registry.requests[-1][2])
        assert used[-1] == read_files(tmp_path).keyring.find(f"{registry.host}/team/app")[0].basic
    assert used[0] != used[1]


async def test_the_rate_counts_every_request_of_a_look_up(service: RegistryService, tmp_path: Path) -> None:
    """Each look-up sends three: HEAD, HEAD with the password, and GET."""
    rate = 5
    async with scripted() as registry:
        sent = 0

        async def answer(request: web.BaseRequest) -> web.Response:
            nonlocal sent
            sent += 1
            known = "Authorization" in request.headers
            return web.Response(status=404) if known else challenge('Basic realm="r"')

        config = json.dumps({"auths": {registry.host: {"username": "u", "password": "p"}}})
        (tmp_path / "config.json").write_text(config)
        service.use_policy(looked_up(registry, f"plainHTTP: true, rate: {rate}, timeout: 5s"))
        await service.started()
        lookups = [Lookup((Manifest(registry.host, f"app-{number}", "v1"),)) for number in range(5)]
        for lookup in lookups:
            registry.on(f"HEAD /v2/{lookup.candidates[0].repository}/manifests/v1", answer)
        began = time.monotonic()
        answers = await service.lookups.resolve(lookups, 5.0)
        seconds = time.monotonic() - began
    assert {resolution.answer.status for resolution in answers.values()} == {"missing"}
    assert sent == 3 * len(lookups)
    beyond_the_burst = sent - rate
    assert seconds > beyond_the_burst / rate - 0.1, "less than a timer's tick too early"


async def test_the_registry_process_verifies_with_the_keys_of_the_live_policy(
    service: RegistryService, registry: Scripted, ca: trustme.CA, tmp_path: Path
) -> None:
    """A valid signature stays known while the registry is down. Without its key, the image is not signed."""
    write(tmp_path, ca, registry.host, "alice")
    holds(registry, signed(DIGEST, Signer("p256")))
    for name in ("p256", "p256-b"):
        signer = Signer(name)
        compiled = signed_by(registry, signer)
        service.use_policy(compiled)
        (requirement,) = compiled.require.all
        manifest = Manifest(registry.host, "team/app", DIGEST)
        lookup = Lookup((compiled.require.signature(requirement, manifest),))
        answer = (await service.lookups.resolve([lookup], 5.0))[lookup].answer
        if name == "p256":
            assert answer == Answer("found", DIGEST, key=signer.fingerprint, form="bundle")
            known = lookup
        else:
            assert answer == MISSING._replace(cause=OTHER_KEY)
    registry.answers.clear()
    service.use_policy(signed_by(registry, Signer("p256")))
    service.use_files()
    assert (await service.lookups.resolve([known], 5.0))[known].answer.status == "found"


async def test_only_written_entries_go_to_the_registry_process(service: RegistryService) -> None:
    """Requirements with ``signedBy`` may name 20,000 hosts. Sending them all would hold up reviews."""
    key = json.dumps({"name": "ci", "key": Signer("p256").pem})
    required = [{"images": [f"r{number}.io/app" for number in range(1000)], "signedBy": ["ci"]}]
    settings = f"registries: [{{host: r1.io, timeout: 2s}}]\nkeys: [{key}]\n"
    service.use_policy(policy(f"{settings}require: {json.dumps(required)}\n"))
    assert list(service._client._registries.entries) == ["r1.io"]
    assert service.lookups._registry("r2.io").rate == SIGNED_RATE


def signed_by(registry: Scripted, signer: Signer) -> CompiledPolicy:
    key = json.dumps({"name": "ci", "key": signer.pem})
    require = f'require: [{{images: ["{registry.host}/**"], signedBy: [ci]}}]\n'
    settings = f'registries: [{{host: "{registry.host}", ca: ca.crt, timeout: 5s}}]\nkeys: [{key}]\n'
    return policy(settings + require, allow=f'["{registry.host}/**"]')
