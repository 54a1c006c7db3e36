"""Reviews stay fast, and look-ups in other registries work, whatever a registry sends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme

from exhaustion.hostile import Hostile
from exhaustion.memory import MIB, pod_limit
from exhaustion.probe import UNIQUE
from exhaustion.registries import GROUPS
from exhaustion.steps import Outcome, Row
from exhaustion.target import GROWTH_BYTES, Arena, Attempt, Target
from support.builders import keys_text, pod, policy_text, review
from support.wire import request

CA_NAME: Final = "test-ca.crt"
LONG_CHAIN, TOO_LONG_CHAIN, NAMES = 90, 250, 3000

IMAGES: Final = 20
"""Images of a review, each in a look-up of its own: as many connections as the server opens to a host."""

PAUSE_SECONDS: Final = 0.2
KEPT: Final = "ttlFound: 60m, rate: 1000"
"""Settings with which a host gets one look-up for each image, without a wait for the rate."""

MOST_SENT_BYTES: Final = 24 * MIB
"""Limit for one connection: a manifest of 4 MiB, headers, and what fits into the buffers of both kernels."""

ATTACKS: Final = {
    f"{group}:{name}": row
    for group in GROUPS
    if group not in {"good", "shared"}
    for name, row in GROUPS[group].items()
}

PINNED: Final = ("v1", "v2")
START_SECONDS: Final = 1.0
STARTS: Final[dict[str, Collection[str]]] = {
    "all": tuple(GROUPS["stream"]),
    **{name: (name,) for name in ("answers-after-an-answer", "endless-100", "endless-103")},
}
"""Registries that attack a server from its start."""

numbers = itertools.count()


@dataclass(frozen=True)
class Site:
    """A server whose policy names hostile registries and a good one."""

    arena: Arena
    hostile: Hostile
    good: str
    image: str

    async def ask(self, target: Target, image: str, count: int = 1, namespace: str = "default") -> str:
        """Return the message of a denial of a Pod with new images; empty if it is allowed.

        ``image`` holds ``{n}``.
        """
        images = [image.format(n=next(numbers)) for _ in range(count)]
        asked = review(pod(*images), namespace=namespace)
        content = request(json.dumps(asked).encode(), path="/validate-image?timeout=2s")
        async with target.connected() as connection:
            answer = await connection.ask(content)
        assert answer.status == 200, answer
        response = answer.json()["response"]
        return "" if response["allowed"] else str(response["status"]["message"])

    async def attack(self, target: Target, row: Row) -> None:
        """Request reviews of images in the row's registry, and then of an image in the good registry."""
        self.hostile.start(row.name)
        end = time.monotonic() + row.seconds
        messages = [""]

        async def send(host: str) -> None:
            while True:
                message = messages[0] = await self.ask(target, f"{host}/{self.image}", IMAGES)
                assert outcomes_of(message) <= row.outcomes, message
                if time.monotonic() > end:
                    return
                await asyncio.sleep(PAUSE_SECONDS)

        hosts = self.hostile.hosts[row.name].values()
        ended = await asyncio.gather(*map(send, hosts), return_exceptions=True)
        counts = self.hostile.stop(row.name)
        for problem in filter(None, ended):
            raise problem
        assert counts.connections or not row.is_accepting, f"it was not queried: {messages[0]}"
        assert counts.most_sent < MOST_SENT_BYTES, f"{counts.most_sent / MIB:.0f} MiB on one connection"
        await self.check_good(target)

    async def share(self, target: Target, row: Row) -> None:
        """Look up images of the row's repository without a pause, and images of others meanwhile."""
        self.hostile.start(row.name)
        (host,) = self.hostile.hosts[row.name].values()
        end = time.monotonic() + row.seconds

        async def send(image: str, namespace: str, outcomes: Collection[Outcome]) -> None:
            while time.monotonic() < end:
                message = await self.ask(target, image, namespace=namespace)
                assert outcomes_of(message) <= {*outcomes}, f"{image} in {namespace}: {message}"
                await asyncio.sleep(PAUSE_SECONDS)

        others = [f"{host}/other/{part}{{n}}:v1" for part in "abcde"] + [f"{self.good}/strict:v{{n}}"]
        await asyncio.gather(
            *(send(f"{host}/{self.image}", "greedy", row.outcomes) for _ in range(5)),
            *(send(image, "greedy", ["found"]) for image in others[3:]),
            *(send(image, "modest", ["found"]) for image in others),
        )
        counts = self.hostile.stop(row.name)
        assert counts.requests, "it was not queried"

    async def check_good(self, target: Target) -> None:
        """Check that an image in the good registry is found."""
        message = await self.ask(target, f"{self.good}/strict:v{{n}}")
        assert not message, message


def outcomes_of(message: str) -> set[Outcome]:
    """Return the reasons in a denial, or that all images were found."""
    reasons: tuple[Outcome, ...] = ("absent", "unverified", "unsigned")
    found: set[Outcome] = {reason for reason in reasons if f"({reason})" in message}
    assert bool(found) == bool(message), message
    return found or {"found"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the certificates of the rows, and with the CA's."""
    directory = tmp_path_factory.mktemp("certificates")
    ca = child = trustme.CA(path_length=TOO_LONG_CHAIN + 1)
    (directory / CA_NAME).write_bytes(ca.cert_pem.bytes())
    issuers = {"usual": ca, "names": ca, "unknown": trustme.CA()}
    for length in range(1, TOO_LONG_CHAIN + 1):
        child = child.create_child_ca()
        if length == LONG_CHAIN:
            issuers["long"] = child
    issuers["too-long"] = child
    for name, issuer in issuers.items():
        more = [f"n{number}.example" for number in range(NAMES if name == "names" else 0)]
        issuer.issue_cert("127.0.0.1", *more).private_key_and_cert_chain_pem.write_to_path(
            directory / f"{name}.pem"
        )
    return directory


@pytest.fixture(scope="module")
def sites(
    certificates: Path, tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]
) -> Iterator[Callable[[str], Site]]:
    """Return the server for each group of rows, which starts when it is first needed."""
    with contextlib.ExitStack() as running:
        good = Hostile("good", certificates)
        running.callback(good.end)
        good.start("good")
        made: dict[str, Site] = {}

        def site(group: str) -> Site:
            if group not in made:
                hostile = Hostile(group, certificates)
                running.callback(hostile.end)
                made[group] = make(
                    hostile, good.hosts["good"]["plain"], certificates, tmp_path_factory, attempts
                )
                running.callback(made[group].arena.close)
            return made[group]

        yield site


def make(
    hostile: Hostile,
    good: str,
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
    attempts: dict[str, Attempt],
    pinned: tuple[str, ...] = (),
) -> Site:
    """Write a policy that names the registries, and the tags ``pinned`` of all hostile ones."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "config"
    config.mkdir()
    (config / CA_NAME).write_bytes((certificates / CA_NAME).read_bytes())
    entries, rules, allowed = [], [], []
    is_shared = hostile.rows is GROUPS["shared"]
    is_signed = is_shared or hostile.rows is GROUPS["signature"]
    kept = "timeout: 1s" if is_shared else f"timeout: 500ms, {KEPT}"
    required = "signedBy: [ci-2025, ci-2026]" if is_signed else "exists: true"
    image = "app@sha256:{n:064x}" if is_signed else "app:v{n}"
    patterns = ["app"] if is_signed else [f"app:{tag}" for tag in ("*", *pinned)]
    for kinds in hostile.hosts.values():
        for kind, host in kinds.items():
            trust = "plainHTTP: true" if kind == "plain" else f"ca: {CA_NAME}"
            entries.append(f'{{host: "{host}", {trust}, redirectHosts: ["{host}"], {kept}}}')
            images = ", ".join(f'"{host}/{pattern}"' for pattern in patterns)
            rules.append(f"{{images: [{images}], {required}, onError: deny}}")
            rules.append(f'{{images: ["{host}/other/**"], exists: true, onError: deny}}')
            allowed.append(f'"{host}"')
    entries.append(f'{{host: "{good}", plainHTTP: true, timeout: 5s, {KEPT}}}')
    rules.append(f'{{images: ["{good}/strict"], exists: true, onError: deny}}')
    rules.append(f'{{images: ["{good}/probe"], exists: true}}')
    lines = [f"  - {entry}\n" for entry in entries]
    require = "".join(f"  - {rule}\n" for rule in rules)
    allow = "".join(f"\n  - {host}" for host in ("registry.corp.io", f'"{good}"', *allowed))
    policy = directory / "policy.yaml"
    keys = keys_text() if is_signed else ""
    policy.write_text(policy_text(f"{keys}require:\n{require}registries:\n{''.join(lines)}", allow=allow))
    arguments = ["--policy", str(policy), "--registry-config", str(config)]
    looked_up = f"{good}/probe:v{UNIQUE.decode()}"
    return Site(Arena(directory / "ca.crt", attempts, *arguments, looked_up=looked_up), hostile, good, image)


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_hostile_registry_delays_nothing_but_its_own_look_ups(
    sites: Callable[[str], Site], name: str
) -> None:
    site = sites(name.partition(":")[0])
    target = await asyncio.to_thread(lambda: site.arena.target)
    await target.attacked(
        name,
        lambda target: site.attack(target, ATTACKS[name]),
        pod_limit() - target.idle,
        GROWTH_BYTES,
        site.arena.renew,  # the breaker is open after an attack
    )


@pytest.mark.parametrize("name", GROUPS["shared"])
async def test_what_one_repository_holds_leaves_the_look_ups_in_others_alone(
    sites: Callable[[str], Site], name: str
) -> None:
    """Look-ups in other repositories of the registry and in another registry are not affected."""
    site = sites("shared")
    target = await asyncio.to_thread(lambda: site.arena.target)
    await target.attacked(
        f"shared:{name}",
        lambda target: site.share(target, GROUPS["shared"][name]),
        pod_limit() - target.idle,
        GROWTH_BYTES,
        site.arena.renew,
    )


@pytest.mark.long
@pytest.mark.parametrize("names", [pytest.param(names, id=name) for name, names in STARTS.items()])
async def test_hostile_registries_stop_no_server_that_starts(
    certificates: Path,
    sites: Callable[[str], Site],
    tmp_path_factory: pytest.TempPathFactory,
    attempts: dict[str, Attempt],
    names: Collection[str],
    request: pytest.FixtureRequest,
) -> None:
    """A server that starts fetches the tags that rules name, without any review."""
    usual = sites("stream")
    idle = (await asyncio.to_thread(lambda: usual.arena.target)).own_idle
    hostile = Hostile("stream", certificates)
    site = make(hostile, usual.good, certificates, tmp_path_factory, attempts, PINNED)
    peaks = []

    def start() -> Target:
        for name in names:
            hostile.start(name)
        target = site.arena.renew()
        peaks.append(target.own.peak() - idle)
        return target

    async def attack(target: Target) -> None:
        await asyncio.sleep(START_SECONDS)
        counts = [hostile.stop(name) for name in names]
        assert any(each.connections for each in counts), "nothing was fetched"
        await site.check_good(target)

    try:
        target = await asyncio.to_thread(start)
        growth = pod_limit() - target.idle
        name = f"start:{request.node.callspec.id}"
        await target.attacked(name, attack, growth, GROWTH_BYTES, start)
        assert max(peaks) < GROWTH_BYTES, f"memory grew by {max(peaks) / MIB:.0f} MiB during the start"
    finally:
        site.arena.close()
        hostile.end()
