"""What the policy's source needs is changed in the cluster: rights, tokens, and the ConfigMap itself.

As in the faults of the API server, every review is answered meanwhile, and a change is felt afterwards.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from contextlib import closing

from e2e.newcomer import Newcomer
from e2e.replicas import ask, connected
from e2e.trial import CONFIGMAP, PRESENT, Trial, made_again, noticed
from gatekeeper_py.core import parse_policy
from tools.controlplane.components import API_ADDRESS
from tools.installation.product import APPROVED, NAMESPACE, POLICY
from tools.polling import wait_until

ACCOUNT = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/gatekeeper-py"
ROLE = [
    f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/{kind}/gatekeeper-py"
    for kind in ("roles", "rolebindings")
]


def test_a_role_that_is_taken_away(trial: Trial, newcomer: Newcomer) -> None:
    """A running replica goes on; one that starts without the right is not ready until it has it."""
    crashed = trial.product.servers()[0]
    replicas = trial.replicas()
    first, *steady = replicas
    kept = {path: trial.plane.api("GET", path) for path in ROLE}
    with newcomer:
        wait_until(newcomer.replica.ready, seconds=30, what="the newcomer ready")
        steady.append(newcomer.replica)
        with trial.answering(steady) as asking:
            for path in ROLE:
                trial.plane.api("DELETE", path)
            try:
                trial.product.kubelet.crash(crashed)
                # A watch is authorized when it begins.
                newcomer.way.cut()
                noticed([first, newcomer.replica], "403 Forbidden: does the Role allow", times=2)
                assert not first.ready()
                with closing(connected(first.address, trial.trust)) as connection:
                    status, answer = ask(connection, APPROVED)
                assert (status, "error" in answer) == (503, True)
                assert newcomer.replica.ready()
                trial.still_answering(asking, steady)
            finally:
                for path, document in kept.items():
                    made_again(trial.plane, path, document)
            trial.recovers([first, *steady], what="a Role that was taken away")


def test_a_token_that_is_refused(trial: Trial, newcomer: Newcomer) -> None:
    """The ServiceAccount is made anew, so that every token of the old one is void."""
    with newcomer:
        wait_until(newcomer.replica.ready, seconds=30, what="the newcomer ready")
        everybody = [*trial.replicas(), newcomer.replica]
        with trial.answering(everybody) as asking:
            account = trial.plane.api("GET", ACCOUNT)
            trial.plane.api("DELETE", ACCOUNT)
            made_again(trial.plane, ACCOUNT, account)
            try:
                # The API server remembers for ten seconds whom a token speaks for; a watch it asks only once.
                wait_until(lambda: not newcomer.token_is_taken(), seconds=30, what="the old token refused")
                newcomer.way.cut()
                noticed([newcomer.replica], "401 Unauthorized", times=3)
                trial.still_answering(asking, everybody)
            finally:
                # The kubelet brings a token before its predecessor ends.
                newcomer.write_token()
                trial.plane.kubeconfig_for_service_account(NAMESPACE, "gatekeeper-py")
            pauses = [
                line["retry_seconds"]
                for line in newcomer.replica.logged("policy_source_failed")
                if "401" in line["problem"]
            ]
            assert pauses[0] == 0, "the token is read again at once"
            assert all(pause >= 0.8 for pause in pauses[1:]), "but only once"
            trial.recovers(everybody, what="a token that was refused")


def test_a_configmap_that_is_deleted(trial: Trial) -> None:
    replicas = trial.replicas()
    with trial.answering(replicas) as asking:
        document = trial.plane.api("GET", CONFIGMAP)
        trial.plane.api("DELETE", CONFIGMAP)
        try:
            wait_until(
                lambda: all(trial.product.metric(each.address, PRESENT) == 0 for each in replicas),
                seconds=20,
                what="the policy known to be absent",
            )
            trial.still_answering(asking, replicas)
            for replica in replicas:
                (finding,) = replica.shown()["refused"]["findings"]
                assert finding["message"] == f"ConfigMap {NAMESPACE}/{POLICY} was deleted"
                assert replica.ready()
        finally:
            made_again(trial.plane, CONFIGMAP, document)
        trial.recovers(replicas, what="a ConfigMap that was deleted")


def test_a_configmap_of_the_same_name_elsewhere(trial: Trial, namespace: str) -> None:
    """A user who can write other ConfigMaps cannot change the policy."""
    replicas = trial.replicas()
    serving = trial.product.revisions()
    wide = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: warn\nallow: [quay.io]\n"
    foreign = parse_policy(wide).revision
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with trial.answering(replicas) as asking:
        trial.plane.api("POST", path, {"metadata": {"name": POLICY}, "data": {"policy.yaml": wide}})
        other = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
        trial.plane.api("POST", other, {"metadata": {"name": "other"}, "data": {"policy.yaml": wide}})
        try:
            # What was written before our own change would have been felt before it.
            trial.recovers(replicas, what="ConfigMaps that are not ours")
        finally:
            trial.plane.api("DELETE", f"{other}/other")
    for replica in replicas:
        assert replica.writes("policy_loaded")
        assert len(replica.logged("policy_loaded")) == 1
    assert serving.isdisjoint(trial.product.revisions())
    assert foreign not in {revision for *_, revision in asking.verdicts}


def test_a_configmap_that_flaps(trial: Trial) -> None:
    """Fifty changes a second, good ones and back; the last is what counts."""
    replicas = trial.replicas()
    changes = 150
    writer = http.client.HTTPSConnection(*API_ADDRESS, timeout=30, context=trial.plane.tls)
    headers = {"Content-Type": "application/merge-patch+json"}
    with trial.answering(replicas) as asking, closing(writer):
        texts = [trial.next_text() for _ in range(changes)]
        start = time.monotonic()
        for number, text in enumerate(texts):
            time.sleep(max(start + number / 50 - time.monotonic(), 0))
            writer.request("PATCH", CONFIGMAP, json.dumps({"data": {"policy.yaml": text}}), headers)
            response = writer.getresponse()
            response.read()
            assert response.status == http.client.OK
        took = time.monotonic() - start
        seconds = trial.felt(texts[-1], replicas, what="flapping", since=time.monotonic())
        known = {parse_policy(text, "enforce").revision for text in [trial.text, *texts]}
        assert {revision for *_, revision in asking.verdicts} <= known
    loaded = [len(replica.logged("policy_loaded")) for replica in replicas]
    assert all(count <= changes for count in loaded)
    assert not any(replica.failures() for replica in replicas)
    sys.stderr.write(
        f"\n{changes} changes in {took:.1f} s: the last felt after {seconds:.2f} s, {loaded} loaded, "
        f"slowest answer {asking.slowest * 1000:.0f} ms\n"
    )
