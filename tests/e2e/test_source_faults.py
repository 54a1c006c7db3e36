"""The API server fails in every possible way: reviews continue, and the policy's source recovers.

During each fault the test sends reviews directly to every replica over TLS, and each verdict must be that of
the last good policy. Afterwards every replica must load a change of the policy. The test prints the time that
this takes; the bound is generous.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from e2e.extrareplica import ExtraReplica
from e2e.faultcheck import SYNCED, FaultCheck, wait_until_logged
from tools.controlplane.components import (
    APISERVER,
    CONTROLLER_MANAGER,
    ETCD,
    ETCD_ADDRESS,
    KWOK,
    SCHEDULER,
    etcd_flags,
)
from tools.controlplane.exchange import exchange
from tools.polling import wait_until


def _frozen_while(pid: int, body: Callable[[], None]) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        body()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_api_server_that_hangs(fault_check: FaultCheck, extra_replica: ExtraReplica) -> None:
    """The process is frozen: connections stay open, the kernel accepts new ones, and nothing answers."""
    replicas = fault_check.replicas()
    with fault_check.reviewing(replicas) as reviews, ExitStack() as stack:

        def meanwhile() -> None:
            before = len(reviews.verdicts)
            stack.enter_context(extra_replica)
            wait_until_logged([extra_replica.replica], "no connection in time")
            assert not extra_replica.replica.ready()
            assert len(reviews.verdicts) > before
            fault_check.wait_for_verdicts(reviews, replicas)

        _frozen_while(fault_check.pid(APISERVER), meanwhile)
        fault_check.check_recovery([*replicas, extra_replica.replica], what="an API server that hung")
        assert extra_replica.replica.ready()


def test_an_api_server_that_dies(fault_check: FaultCheck) -> None:
    replicas = fault_check.replicas()
    with fault_check.reviewing(replicas) as reviews:
        serving = {replica.address: replica.shown()["revision"] for replica in replicas}
        fault_check.plane.stop_apiserver()
        try:
            wait_until_logged(replicas, "cannot connect to 127.0.0.1:6443", times=2)
            synced = {
                replica.address: fault_check.product.metric(replica.address, SYNCED) for replica in replicas
            }
            fault_check.wait_for_verdicts(reviews, replicas)
            for replica in replicas:
                assert replica.ready(), "stale is better than nothing"
                assert replica.shown()["revision"] == serving[replica.address]
                assert fault_check.product.metric(replica.address, SYNCED) == synced[replica.address]
                pauses = [line["retry_seconds"] for line in replica.logged("policy_source_failed")]
                assert all(0.8 <= pause <= 30 for pause in pauses)
                assert len(set(pauses)) == len(pauses)
        finally:
            fault_check.plane.start_apiserver()
        fault_check.check_recovery(replicas, what="an API server that died")
        assert all(replica.writes("policy_source_synced") for replica in replicas)


def test_an_expired_resource_version(fault_check: FaultCheck, extra_replica: ExtraReplica) -> None:
    """A replica is frozen while its watch ends and etcd compacts the version that it would continue from."""
    replicas, plane = fault_check.replicas(), fault_check.plane
    with fault_check.reviewing(replicas) as reviews:
        # Only with this option does the API server end its watches cleanly when it stops.
        plane.stop_apiserver()
        graceful = [*plane._flags, "--shutdown-watch-termination-grace-period=5s"]
        server = plane.popen([str(plane.binaries / APISERVER), *graceful], name=APISERVER)
        plane._wait(plane._apiserver_ready, "the API server ready")
        with extra_replica:
            wait_until(extra_replica.replica.ready, seconds=30, what="the extra replica ready")
            assert extra_replica.process is not None
            # The source continues from a watch that delivered something.
            text = fault_check.next_text()
            fault_check.write(text)
            fault_check.seconds_until_served(
                text, [extra_replica.replica], what="a change", since=time.monotonic()
            )

            def meanwhile() -> None:
                server.send_signal(signal.SIGTERM)
                wait_until(lambda: server.poll() is not None, seconds=90, what="the API server gone")
                plane.stop_apiserver()
                # Another object is written, so that the version is not the newest.
                exchange(ETCD_ADDRESS, "POST", "/v3/kv/put", {"key": "YQ==", "value": "YQ=="})
                plane.compact_etcd()
                plane.start_apiserver()

            _frozen_while(extra_replica.process.pid, meanwhile)
            wait_until_logged([extra_replica.replica], "the watch reported the error 410")
            fault_check.check_recovery([extra_replica.replica], what="a version that was gone")
            fault_check.wait_for_verdicts(reviews, replicas)


def test_an_etcd_that_was_restored(fault_check: FaultCheck) -> None:
    """A backup is restored: resource versions and the policy are older than before."""
    plane, replicas = fault_check.plane, fault_check.replicas()
    backup = plane.directory / "backup"
    old = fault_check.next_text()
    fault_check.write(old)
    fault_check.seconds_until_served(old, replicas, what="a change", since=time.monotonic())
    # The files of a frozen etcd are like those after a crash, from which etcd recovers.
    _frozen_while(fault_check.pid(ETCD), lambda: _copy(plane._data, backup))
    with fault_check.reviewing(replicas) as reviews:
        fault_check.check_recovery(replicas, what="a backup that was taken")
        before = {replica.address: int(replica.shown()["resourceVersion"]) for replica in replicas}
        components = (KWOK, SCHEDULER, CONTROLLER_MANAGER)
        commands = {name: _command(fault_check.pid(name)) for name in components}
        for name in (*components, APISERVER, ETCD):
            plane.kill(name)
        wait_until_logged(replicas, "connection lost")
        fault_check.wait_for_verdicts(reviews, replicas)
        shutil.rmtree(plane._data)
        backup.rename(plane._data)
        plane.popen([str(plane.binaries / ETCD), *etcd_flags(plane._data)], name=ETCD)
        plane.start_apiserver()
        restored = time.monotonic()
        seconds = fault_check.seconds_until_served(
            old, replicas, what="an etcd that was restored", since=restored
        )
        sys.stderr.write(f"\nthe restored policy was felt {seconds:.2f} s after the API server was back\n")
        for name in reversed(components):
            plane.popen(commands[name], name=name)
        for replica in replicas:
            assert int(replica.shown()["resourceVersion"]) < before[replica.address]
        fault_check.check_recovery(replicas, what="an etcd that was restored")
        fault_check.wait_for_verdicts(reviews, replicas)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _command(pid: int) -> list[str]:
    """Return the arguments that a process was started with."""
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
