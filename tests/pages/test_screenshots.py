"""The pages as the documentation shows them: ``make page-test ARGS=--update-pictures`` takes new pictures."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gatekeeper_py import __version__
from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.provenance import PolicySource
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.auditpage import audit_page
from gatekeeper_py.cli.reporting.diff import DiffPage
from gatekeeper_py.cli.reporting.diffpage import changes_page
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.documents import compare_documents
from support.auditing import META, page_of, tally_of
from support.builders import INSTANT, pod, review
from support.screens import PICTURES, screenshot
from support.server import Server
from tools.browser import Page

WIDTH: Final = 960
HEIGHT: Final = 1060
STATUS_HEIGHT: Final = 880
"""The picture ends before the next section, which names a folder of the test."""

MOST_BYTES: Final = 150_000

POLICY: Final = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow:
  - registry.corp.example
  - registry.k8s.io
  - docker.io/library/postgres:16.*
  - {image: quay.io/jetstack/**, owner: platform}
  - {image: ghcr.io/partner/tools, until: 2026-03-20, owner: build team}
deny: [{image: "*/**:latest", reason: the latest tag can point to another image tomorrow}]
namespaces: [{names: ["sandbox-*"], mode: warn}]
message: "ask in #platform, or see https://wiki.corp.example/images"
"""
NEXT: Final = POLICY.replace("  - {image: quay.io/jetstack/**, owner: platform}\n", "").replace(
    "  - docker.io/library/postgres:16.*\n",
    "  - docker.io/library/postgres:17.*\n  - docker.io/grafana/grafana\n",
)
META_SHOWN: Final = msgspec.structs.replace(
    META,
    version=__version__,
    cluster="prod-eu-1",
    policy=PolicySource("policy.yaml", parse_policy(NEXT).revision),
)

RUNS: Final = (
    *(("shop", "Pod", f"web-7d4b9c6f5-{i}", "registry.corp.example/shop/web:4.2.1") for i in range(6)),
    *(("shop", "Pod", f"cart-5c8d7f9b4-{i}", "registry.corp.example/shop/cart:2.0.3") for i in range(4)),
    ("shop", "StatefulSet", "sessions", "docker.io/library/redis:7.2"),
    *(("payments", "Pod", f"ledger-{i}", "registry.corp.example/payments/ledger:1.18.0") for i in range(3)),
    ("payments", "StatefulSet", "ledger-db", "postgres:16.4"),
    ("identity", "Deployment", "keycloak", "quay.io/keycloak/keycloak:26.0"),
    ("identity", "Deployment", "gateway", "registry.corp.example/identity/gateway:latest"),
    ("cert-manager", "Deployment", "cert-manager", "quay.io/jetstack/cert-manager-controller:v1.16.2"),
    ("cert-manager", "Deployment", "cainjector", "quay.io/jetstack/cert-manager-cainjector:v1.16.2"),
    ("monitoring", "Deployment", "grafana", "grafana/grafana:11.3.0"),
    ("monitoring", "DaemonSet", "node-exporter", "quay.io/prometheus/node-exporter:v1.8.2"),
    ("monitoring", "Deployment", "metrics-server", "registry.k8s.io/metrics-server/metrics-server:v0.7.2"),
    ("ci", "Pod", "build-4711", "ghcr.io/partner/tools:3.1"),
    ("sandbox-anna", "Pod", "notebook", "jupyter/scipy-notebook:latest"),
    ("kube-system", "DaemonSet", "kube-proxy", "registry.k8s.io/kube-proxy:v1.34.2"),
)


def audit() -> str:
    policy = parse_policy(POLICY)
    return audit_page(tally_of(policy, RUNS), dataclasses.replace(page_of(policy), meta=META_SHOWN))


def diff() -> str:
    old, new = parse_policy(POLICY), parse_policy(NEXT)
    changes = ImageChanges(old.at(INSTANT), new.at(INSTANT))
    for namespace, kind, name, image in RUNS:
        where = "spec.containers[0].image" if kind == "Pod" else "spec.template.spec.containers[0].image"
        usage = Usage(kind, namespace, name, where)
        changes.take_image(image, usage)
    return changes_page(compare_documents(old, new), changes, DiffPage(meta=META_SHOWN, instant=INSTANT))


@pytest.fixture
def status(tmp_path: Path) -> Iterator[str]:
    """Yield the URL of the status page of a server that has answered the reviews of a busy minute."""
    policy, ca = tmp_path / "policy.yaml", tmp_path / "ca.crt"
    policy.write_text(POLICY)
    server = Server(
        "--policy", str(policy), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
        "--status-details", "--tls-ca-out", str(ca), "--drain-seconds", "0", ca=ca,
    )  # fmt: skip
    try:
        server.wait(server.is_ready)
        for namespace, _, name, image in islice(cycle(RUNS[:-1]), 240):
            metadata = {"name": name, "namespace": namespace}
            server.post(review(pod(image, metadata=metadata), namespace=namespace))
        server.wait(lambda: b"240 in all" in server.get("/")[1])
        yield "http://{}:{}/".format(*server.address("health"))
    finally:
        server.end()


async def check(
    browser: Page, url: str, name: str, shown: tuple[str, ...], height: int, request: pytest.FixtureRequest
) -> None:
    """Check the page, and that its committed picture has the same size; take the picture again if asked."""
    path = PICTURES / f"{name}.png"
    await browser.open(url, width=WIDTH, height=height, scheme="light")
    text = await browser.evaluate("document.body.innerText")
    assert [each for each in shown if each not in text] == []
    taken = await screenshot(browser, 0, 0, WIDTH, height)
    if request.config.getoption("--update-pictures"):
        path.write_bytes(taken)
    assert path.stat().st_size <= MOST_BYTES
    assert size(path.read_bytes()) == size(taken) == (WIDTH, height)


def size(png: bytes) -> tuple[int, ...]:
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(
    ("name", "made", "shown"),
    [
        pytest.param("audit-page", audit, ("prod-eu-1", "quay.io/keycloak/keycloak:26.0"), id="audit"),
        pytest.param("diff-page", diff, ("prod-eu-1", "Images that become rejected"), id="diff"),
    ],
)
async def test_the_picture_of_a_page(
    browser: Page,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    name: str,
    made: Callable[[], str],
    shown: tuple[str, ...],
) -> None:
    path = tmp_path / "page.html"
    path.write_text(made())
    await check(browser, path.as_uri(), name, shown, HEIGHT, request)


async def test_the_picture_of_the_status_page(
    browser: Page, status: str, request: pytest.FixtureRequest
) -> None:
    await check(browser, status, "status-page", ("quay.io/keycloak/keycloak:26.0",), STATUS_HEIGHT, request)
