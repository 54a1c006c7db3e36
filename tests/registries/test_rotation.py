"""Credentials change while reviews run: every answer is correct, and the new credentials are used soon."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from gatekeeper_py.registry.files import POLL_SECONDS
from registries.distribution import CA_FILE, Registry, config_files
from registries.guarded import with_tokens
from registries.looking import Looking, looking
from registries.tokenserver import TokenServer
from support.builders import pod, review
from support.server import ask

MARGIN_SECONDS = 10  # for slow machines
TAGS = [f"v{number}" for number in range(8)]
MISSING = [f"missing-{number}" for number in range(2)]
USERS = {
    "alice": {"password": "wonderland", "repositories": ["team/app"]},
    "bob": {"password": "builder", "repositories": ["team/app"]},
}


@dataclass(frozen=True)
class Site(Looking):
    """A server, a registry that requires tokens, and its token server."""

    registry: Registry
    tokens: TokenServer


@dataclass
class Load:
    """Sends reviews of existing and missing images until ``stop``. ``wrong`` collects wrong answers."""

    site: Site
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = self.site.server.connect()
        for tag in itertools.cycle((*TAGS, *MISSING)):
            if self.stop.is_set():
                break
            status, body = ask(connection, review(pod(f"{self.site.registry.host}/team/app:{tag}")))
            response = json.loads(body)["response"]
            message = response.get("status", {}).get("message", "")
            if status != 200 or response["allowed"] is not (tag in TAGS) or "unverified" in str(response):
                self.wrong.append(f"{tag}: {status} {response}")
            if tag in MISSING and "does not exist" not in message:
                self.wrong.append(f"{tag}: {message}")
            self.answered += 1
        connection.close()


@pytest.fixture
def site(ca: trustme.CA, tmp_path: Path) -> Iterator[Site]:
    with with_tokens(tmp_path, ca) as (registry, tokens):
        for tag in TAGS:
            registry.push("team/app", tag, tag.encode())
        policy = f"""mode: enforce
allow: ["{registry.host}/"]
require:
  - {{images: ["{registry.host}/"], exists: true, onError: keep}}
registries:
  - host: "{registry.host}"
    ca: {CA_FILE}
    tokenHosts: ["{tokens.host}"]
    timeout: 5s
    ttlFound: 1s
    ttlMissing: 1s
    rate: 1000
"""
        tokens.use(users=USERS)
        files = config_files(ca, registry.host, user="alice", password="wonderland")
        with looking(tmp_path, policy, files) as server:
            yield Site(server.server, server.config, registry, tokens)


def test_credentials_are_replaced_under_load(site: Site, ca: trustme.CA) -> None:
    server, tokens = site.server, site.tokens
    load = Load(site)
    threads = [threading.Thread(target=load.run, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        server.wait(lambda: load.answered >= 100)
        assert {user for user, _ in tokens.token_requests()} == {"alice"}

        for name, content in config_files(ca, site.registry.host, user="bob", password="builder").items():
            (site.config / f".{name}").write_bytes(content)
            (site.config / f".{name}").rename(site.config / name)
        replaced = time.monotonic()
        server.wait(lambda: ("bob", "repository:team/app:pull") in tokens.token_requests())
        assert time.monotonic() - replaced < POLL_SECONDS + MARGIN_SECONDS

        # The old credentials become invalid after the requests that use them have ended.
        seen = load.answered
        server.wait(lambda: load.answered >= seen + 100)
        tokens.use(users={"bob": USERS["bob"]})
        (tokens.folder / "requests").write_text("", encoding="utf-8")
        seen, looked_up = load.answered, found(site)
        server.wait(lambda: load.answered >= seen + 100 and found(site) >= looked_up + len(TAGS))
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
    assert load.wrong == []
    assert "alice" not in {user for user, _ in tokens.token_requests()}
    assert site.metric(f'gatekeeper_py_lookups_total{{host="{site.registry.host}",result="error"}}') == 0
    assert site.metric("gatekeeper_py_registry_config_valid") == 1
    # The server loads the files at its start, and again for the new credentials.
    assert len(server.events("registry_config_loaded")) == 2


def found(site: Site) -> float:
    return site.metric(f'gatekeeper_py_lookups_total{{host="{site.registry.host}",result="found"}}')
