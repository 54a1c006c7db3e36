"""The API server fails the policy's source in every way it can: reviews go on, and it comes back.

Throughout each fault every replica is asked over TLS, past the API server, and has to give the last
good policy's verdict. Afterwards a change of the policy has to be felt by every replica. How long
that took is printed; a bound is only what nobody should ever have to wait for.
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

from e2e.newcomer import Newcomer
from e2e.trial import SYNCED, Trial, noticed
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


def test_an_api_server_that_hangs(trial: Trial, newcomer: Newcomer) -> None:
    """Frozen: connections stay open, new ones are accepted by the kernel, and nobody answers."""
    replicas = trial.replicas()
    with trial.answering(replicas) as asking, ExitStack() as stack:

        def meanwhile() -> None:
            before = len(asking.verdicts)
            stack.enter_context(newcomer)
            noticed([newcomer.replica], "no connection in time")
            assert not newcomer.replica.ready()
            assert len(asking.verdicts) > before
            trial.still_answering(asking, replicas)

        _frozen_while(trial.pid(APISERVER), meanwhile)
        trial.recovers([*replicas, newcomer.replica], what="an API server that hung")
        assert newcomer.replica.ready()


def test_an_api_server_that_dies(trial: Trial) -> None:
    replicas = trial.replicas()
    with trial.answering(replicas) as asking:
        serving = {replica.address: replica.shown()["revision"] for replica in replicas}
        trial.plane.stop_apiserver()
        try:
            noticed(replicas, "cannot connect to 127.0.0.1:6443", times=2)
            synced = {replica.address: trial.product.metric(replica.address, SYNCED) for replica in replicas}
            trial.still_answering(asking, replicas)
            for replica in replicas:
                assert replica.ready(), "stale is better than nothing"
                assert replica.shown()["revision"] == serving[replica.address]
                assert trial.product.metric(replica.address, SYNCED) == synced[replica.address]
                pauses = [line["retry_seconds"] for line in replica.logged("policy_source_failed")]
                assert all(0.8 <= pause <= 30 for pause in pauses)
                assert len(set(pauses)) == len(pauses)
        finally:
            trial.plane.start_apiserver()
        trial.recovers(replicas, what="an API server that died")
        assert all(replica.writes("policy_source_synced") for replica in replicas)


def test_an_expired_resource_version(trial: Trial, newcomer: Newcomer) -> None:
    """A replica is frozen while its watch ends and etcd forgets the version that it would go on from."""
    replicas, plane = trial.replicas(), trial.plane
    with trial.answering(replicas) as asking:
        # Only with this option does the API server end its watches when it goes, instead of cutting them.
        plane.stop_apiserver()
        graceful = [*plane._flags, "--shutdown-watch-termination-grace-period=5s"]
        server = plane.popen([str(plane.binaries / APISERVER), *graceful], name=APISERVER)
        plane._wait(plane._apiserver_ready, "the API server ready")
        with newcomer:
            wait_until(newcomer.replica.ready, seconds=30, what="the newcomer ready")
            assert newcomer.process is not None
            # A watch that brought something is gone on with.
            text = trial.next_text()
            trial.write(text)
            trial.felt(text, [newcomer.replica], what="a change", since=time.monotonic())

            def meanwhile() -> None:
                server.send_signal(signal.SIGTERM)
                wait_until(lambda: server.poll() is not None, seconds=90, what="the API server gone")
                plane.stop_apiserver()
                # Something else is written, so that the version is not the newest.
                exchange(ETCD_ADDRESS, "POST", "/v3/kv/put", {"key": "YQ==", "value": "YQ=="})
                plane.compact_etcd()
                plane.start_apiserver()

            _frozen_while(newcomer.process.pid, meanwhile)
            noticed([newcomer.replica], "the watch reported the error 410")
            trial.recovers([newcomer.replica], what="a version that was gone")
            trial.still_answering(asking, replicas)


def test_an_etcd_that_was_restored(trial: Trial) -> None:
    """A backup is put back: versions are older than those we have seen, and so is the policy."""
    plane, replicas = trial.plane, trial.replicas()
    backup = plane.directory / "backup"
    old = trial.next_text()
    trial.write(old)
    trial.felt(old, replicas, what="a change", since=time.monotonic())
    # A frozen etcd's files are what a crash would leave, and it recovers from that.
    _frozen_while(trial.pid(ETCD), lambda: _copy(plane._data, backup))
    with trial.answering(replicas) as asking:
        trial.recovers(replicas, what="a backup that was taken")
        before = {replica.address: int(replica.shown()["resourceVersion"]) for replica in replicas}
        components = (KWOK, SCHEDULER, CONTROLLER_MANAGER)
        commands = {name: _command(trial.pid(name)) for name in components}
        for name in (*components, APISERVER, ETCD):
            plane.kill(name)
        noticed(replicas, "connection lost")
        trial.still_answering(asking, replicas)
        shutil.rmtree(plane._data)
        backup.rename(plane._data)
        plane.popen([str(plane.binaries / ETCD), *etcd_flags(plane._data)], name=ETCD)
        plane.start_apiserver()
        restored = time.monotonic()
        seconds = trial.felt(old, replicas, what="an etcd that was restored", since=restored)
        sys.stderr.write(f"\nthe restored policy was felt {seconds:.2f} s after the API server was back\n")
        for name in reversed(components):
            plane.popen(commands[name], name=name)
        for replica in replicas:
            assert int(replica.shown()["resourceVersion"]) < before[replica.address]
        trial.recovers(replicas, what="an etcd that was restored")
        trial.still_answering(asking, replicas)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _command(pid: int) -> list[str]:
    """The arguments that a process was started with."""
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
