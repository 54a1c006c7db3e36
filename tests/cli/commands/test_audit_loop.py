"""``audit --every``: its log, the errors that it survives, and its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from gatekeeper_py.cli.commands import auditloop
from gatekeeper_py.cli.commands.auditloop import AuditLoop, LoopSettings
from gatekeeper_py.cli.reporting.policyreports.apis import OPENREPORTS
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.process.settings import Address, ConfigMapName
from registries.signing import Signer, holds, signed
from registry.scripted import scripted
from support.builders import exceptions_text, pod, policy_text
from support.commanding import Write
from support.documented import DOCS, check_event
from support.fakecluster import FakeCluster, status
from support.recording import RecordingLog
from support.server import CLEAN_ENVIRONMENT

PODS = "/api/v1/pods"
DIGEST: Final = f"sha256:{'ab' * 32}"
OTHER: Final = f"sha256:{'cd' * 32}"
LOOPBACK: Final = Address("127.0.0.1", 0)


class Running(RecordingLog):
    """A loop that runs, and its log."""

    def __init__(self, settings: LoopSettings) -> None:
        super().__init__()
        self.stop = asyncio.Event()
        self._recorded = asyncio.Event()
        self._read = 0
        self.ended = asyncio.create_task(AuditLoop(settings, self, self.stop).run())

    def _record(self, level: str, event: str, keys: dict[str, Any]) -> None:
        super()._record(level, event, keys)
        self._recorded.set()

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event of this name."""
        async with asyncio.timeout(30):
            while True:
                for _, event, keys in self.lines[self._read :]:
                    self._read += 1
                    if event == name:
                        return keys
                self._recorded.clear()
                await self._recorded.wait()


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    for name, image in (("web-1", "nginx:1.25"), ("web-2", "registry.corp.io/web:1")):
        cluster.add(PODS, pod(image, metadata={"name": name, "namespace": "shop"}))
    with cluster.serving():
        yield cluster


@pytest.fixture
def start(cluster: FakeCluster, tmp_path: Path, write: Write) -> Start:
    """Return a function that starts the loop with a policy, and without a pause between audits."""

    @asynccontextmanager
    async def start(policy: str = policy_text(), **settings: Any) -> AsyncIterator[Running]:
        configuration = ClusterConfiguration(
            kubeconfig=cluster.kubeconfig(tmp_path), context=None, environ={}
        )
        defaults: dict[str, Any] = {
            "cluster": configuration,
            "policy": str(write(policy)),
            "configmap": None,
            "cluster_name": None,
            "namespace": None,
            "exempt": frozenset(),
            "installation": DEFAULT_NAMESPACE,
            "every": 0.01,
            "report": "none",
            "events": False,
            "health_listen": None,
        }
        running = Running(LoopSettings(**defaults | settings))
        yield running
        running.stop.set()
        await running.ended

    return start


def command(cluster: FakeCluster, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run the command in a process."""
    policy = directory / "policy.yaml"
    policy.write_text(policy_text())
    options = ("--policy", str(policy), "--kubeconfig", str(cluster.kubeconfig(directory)), *arguments)
    return subprocess.Popen(
        [sys.executable, "-m", "gatekeeper_py", "audit", "--every", "10s", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=CLEAN_ENVIRONMENT,
    )


def test_it_logs_each_audit_and_ends_at_a_signal(cluster: FakeCluster, tmp_path: Path) -> None:
    with command(cluster, tmp_path, "--report", "none") as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line)["event"] for line in process.stdout]
    check_event(found["event"])
    keys = ("event", "objects", "images", "rejected", "report", "created", "events")
    assert {key: found[key] for key in keys} == {
        "event": "audited",
        "objects": 2,
        "images": 2,
        "rejected": 1,
        "report": None,
        "created": 0,
        "events": 0,
    }
    assert (process.returncode, rest) == (0, ["stopped"])


def test_an_unusable_kubeconfig_is_exit_2(cluster: FakeCluster, tmp_path: Path) -> None:
    with command(cluster, tmp_path, "--kubeconfig", "/nowhere") as process:
        assert process.wait(30) == 2


async def test_each_audit_reads_the_exemptions_again(cluster: FakeCluster, start: Start) -> None:
    """The reports in the cluster follow the settings of the webhooks, and the labels of namespaces."""
    configmaps = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/configmaps"
    cluster.add("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"tier": "platform"}}})
    cluster.documents[f"{configmaps}/policy"] = {"data": {"policy.yaml": policy_text()}}
    settings = f"{configmaps}/gatekeeper-py-webhooks"
    cluster.documents[settings] = {"data": {"webhooks.yaml": "exemptNamespaceLabels: {tier: platform}"}}
    async with start(configmap=ConfigMapName(DEFAULT_NAMESPACE, "policy"), exempt=None) as running:
        found = await running.event("audited")
        assert (found["rejected"], found["exempt"]) == (0, 2)
        cluster.documents[settings] = {"data": {"webhook.yaml": ""}}
        assert "has no key webhooks.yaml" in (await running.event("exemptions_unknown"))["problem"]
        assert (await running.event("audited"))["rejected"] == 1


async def test_exceptions_that_approve_nothing_are_logged_once(cluster: FakeCluster, start: Start) -> None:
    grants = "exceptions: [{source: namespace, images: [docker.io/**], longest: 14d}]"
    until = datetime.now(UTC) + timedelta(days=7)
    good = exceptions_text(f"image: docker.io/library/nginx, until: {until:%Y-%m-%d}, reason: r")
    metadata = {"name": EXCEPTIONS_CONFIGMAP, "namespace": "shop"}
    configmap = {"metadata": metadata, "data": {"exceptions.yaml": good.replace("until", "til")}}
    cluster.lists["/api/v1/configmaps"] = [configmap]
    async with start(policy_text(grants)) as running:
        found = await running.event("exceptions_not_all_read")
        assert found["number"] == 1
        assert found["problems"][0].startswith("the ConfigMap shop/gatekeeper-py-exceptions is invalid: line")
        for _ in range(2):
            assert (await running.event("audited"))["rejected"] == 1
        configmap["data"] = {"exceptions.yaml": good}
        while (await running.event("audited"))["rejected"] == 1:
            pass
    assert len(running.named("exceptions_not_all_read")) == 1


async def test_a_cluster_without_reports_is_a_warning(start: Start) -> None:
    async with start(report="auto") as running:
        assert (await running.event("no_report_api"))["choice"] == "auto"
        await running.event("audited")


async def test_a_failed_audit_is_logged_and_the_next_one_reads_the_policy_again(
    start: Start, write: Write, cluster: FakeCluster
) -> None:
    async with start("mode: [") as running:
        assert "policy.yaml: line 2: " in (await running.event("audit_failed"))["problem"]
        cluster.script[PODS].append(status(403, "pods is forbidden"))
        write(policy_text())
        while "cannot list pods" not in (await running.event("audit_failed"))["problem"]:
            pass
        assert (await running.event("audited"))["rejected"] == 1
    command = re.search(r"grep -E '(.+?)' \| tail", (DOCS / "reports.md").read_text(encoding="utf-8"))
    assert command is not None
    shown = {event for event in running.events if re.search(command[1], json.dumps({"event": event}))}
    assert shown == {"audit_failed", "audited"}


def asked(address: str, path: str) -> tuple[int, str]:
    """Return the status and the body of a path of the health port."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


async def test_a_failed_audit_is_repeated_if_that_may_help(
    start: Start, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditloop, "RETRY_PART", 0.0001)
    cluster.script[PODS] += [status(500, "etcd is slow")] * 3
    async with start(every=60.0) as running:
        await running.event("audited")
        assert running.events == [*["audit_failed"] * 3, "audited"]
    cluster.script[PODS] += [status(403, "pods is forbidden")]
    for policy in (policy_text(), "mode: ["):
        async with start(policy, every=60.0) as running:
            await running.event("audit_failed")
            await asyncio.sleep(0.1)
            assert running.events == ["audit_failed"]


FAILED = "the last audit failed; the log has the reason"


@pytest.mark.parametrize(
    ("document", "ended", "problem"),
    [
        pytest.param(policy_text(), "audited", "", id="succeeds"),
        pytest.param("mode: [", "audit_failed", FAILED, id="fails"),
        # The cluster of this test serves the API of reports, and refuses every write.
        pytest.param(policy_text(), "reports_not_written", FAILED, id="writes-no-report"),
    ],
)
async def test_the_health_port_shows_how_the_last_audit_ended(
    cluster: FakeCluster, start: Start, document: str, ended: str, problem: str
) -> None:
    if ended == "reports_not_written":
        cluster.documents[OPENREPORTS.root] = {"resources": [{"name": "reports"}, {"name": "clusterreports"}]}
        cluster.add(OPENREPORTS.all_path)
        cluster.add(OPENREPORTS.path(None))
    before = time.time()
    async with start(document, report="auto", health_listen=LOOPBACK, every=60.0) as running:
        address = (await running.event("listening"))["address"]
        await running.event(ended)
        paths = ("/readyz", "/livez", "/metrics")
        ready, live, metrics = [await asyncio.to_thread(asked, address, path) for path in paths]
    assert (ready[0], json.loads(ready[1])["checks"]) == (503 if problem else 200, {"audit": problem or "ok"})
    assert live[0] == 200
    samples = {
        sample.name.removeprefix("gatekeeper_py_audit_"): sample.value
        for family in text_string_to_metric_families(metrics[1])
        for sample in family.samples
    }
    assert (samples["failures_total"], samples["interval_seconds"]) == (bool(problem), 60)
    assert (samples["last_success_timestamp_seconds"] >= before) == (not problem)


async def test_a_health_port_that_is_taken_is_exit_2(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with start(health_listen=Address("127.0.0.1", taken.getsockname()[1])) as running:
            assert (await running.event("cannot_listen"))["listener"] == "health"
            assert await running.ended == 2


async def test_the_end_of_the_process_cancels_an_audit(start: Start, cluster: FakeCluster) -> None:
    cluster.silent_at = PODS
    async with start() as running:
        assert await asyncio.to_thread(cluster.is_silent.wait, 30)
        running.stop.set()
        async with asyncio.timeout(10):
            assert await running.ended == 0
    assert running.events == ["stopped"]


@pytest.mark.parametrize(
    ("look_up", "mode", "required"),
    [
        pytest.param(False, "warn", {}, id="by-name"),
        pytest.param(True, "warn", {}, id="look-up"),
        pytest.param(True, "enforce", {"mode": "warn"}, id="requirement-that-only-warns"),
    ],
)
async def test_with_look_up_the_audit_finds_unsigned_images_and_looks_up_signed_ones_once(
    start: Start, cluster: FakeCluster, mode: str, required: dict[str, Any], *, look_up: bool
) -> None:
    required = {"signedBy": ["ci"], **required}
    signer = Signer("p256")
    async with scripted() as registry, scripted() as down:
        down.on("GET /v2/team/app/referrers/" + DIGEST, web.Response(status=500))
        holds(registry, signed(DIGEST, signer))
        images = {
            "signed": f"{registry.host}/team/app@{DIGEST}",
            "unsigned": f"{registry.host}/team/app@{OTHER}",
            "unpinned": f"{registry.host}/team/app:1",
            "unverified": f"{down.host}/team/app@{DIGEST}",
        }
        for name, image in images.items():
            owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": name}
            metadata = {"name": name, "namespace": "shop", "ownerReferences": [{**owner, "controller": True}]}
            cluster.add(PODS, pod(image, metadata=metadata))
        hosts = (registry.host, down.host)
        policy = policy_text(
            f"keys: [{json.dumps({'name': 'ci', 'key': signer.pem})}]\n"
            f"registries: {json.dumps([{'host': host, 'plainHTTP': True} for host in hosts])}\n"
            f"require: {json.dumps([{'images': [f'{host}/**' for host in hosts], **required}])}\n",
            mode=mode,
            allow=json.dumps(hosts),
        )
        async with start(policy, look_up=look_up, events=True) as running:
            audits = [await running.event("audited") for _ in range(2)]
        asked = [line for line in registry.request_lines if DIGEST in line and "referrers" in line]
    rejected, unmet = (2, 3) if mode == "enforce" else (5 if look_up else 3, 0)
    assert [(each["rejected"], each["unmet"]) for each in audits] == [(rejected, unmet)] * 2
    assert len(asked) == look_up, "a valid signature is remembered between audits"
    messages = {each["involvedObject"]["name"]: each["message"] for _, each in cluster.posted}
    refused = ("unsigned", "unpinned", "unverified") if look_up else ("unpinned",)
    assert messages == {
        name: f"Pods use images that cause warnings: {images[name]} ({name})" for name in refused
    }
