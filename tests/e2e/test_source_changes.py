"""The prerequisites of the policy's source change: rights, tokens, and the ConfigMap itself.

As during faults of the API server, every review is answered, and a later change is loaded.
"""

from __future__ import annotations

from contextlib import closing

from e2e.acting import recreate
from e2e.extrareplica import ExtraReplica
from e2e.faultcheck import FaultCheck, wait_until_logged
from e2e.replicas import ask, connected
from tools.installation.product import APPROVED, NAMESPACE
from tools.polling import wait_until

ACCOUNT = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/gatekeeper-py"
ROLE = [
    f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/{kind}/gatekeeper-py"
    for kind in ("roles", "rolebindings")
]


def test_a_role_that_is_taken_away(fault_check: FaultCheck, extra_replica: ExtraReplica) -> None:
    """A running replica continues; one that starts without the right is not ready until it has it."""
    crashed = fault_check.product.servers()[0]
    replicas = fault_check.replicas()
    first, *steady = replicas
    kept = {path: fault_check.plane.api("GET", path) for path in ROLE}
    with extra_replica:
        wait_until(extra_replica.replica.ready, seconds=30, what="the extra replica ready")
        steady.append(extra_replica.replica)
        with fault_check.reviewing(steady) as reviews:
            for path in ROLE:
                fault_check.plane.api("DELETE", path)
            try:
                fault_check.product.kubelet.crash(crashed)
                # A watch is authorized when it begins.
                extra_replica.proxy.break_connections()
                wait_until_logged(
                    [first, extra_replica.replica], "403 Forbidden: does the Role allow", times=2
                )
                assert not first.ready()
                with closing(connected(first.address, fault_check.trust)) as connection:
                    status, answer = ask(connection, APPROVED)
                assert (status, "error" in answer) == (503, True)
                assert extra_replica.replica.ready()
                fault_check.wait_for_verdicts(reviews, steady)
            finally:
                for path, document in kept.items():
                    recreate(fault_check.plane, path, document)
            fault_check.check_recovery([first, *steady], what="a Role that was taken away")


def test_a_token_that_is_refused(fault_check: FaultCheck, extra_replica: ExtraReplica) -> None:
    """The ServiceAccount is created again, so every token of the old one is invalid."""
    with extra_replica:
        wait_until(extra_replica.replica.ready, seconds=30, what="the extra replica ready")
        everybody = [*fault_check.replicas(), extra_replica.replica]
        with fault_check.reviewing(everybody) as reviews:
            account = fault_check.plane.api("GET", ACCOUNT)
            fault_check.plane.api("DELETE", ACCOUNT)
            recreate(fault_check.plane, ACCOUNT, account)
            try:
                # The API server caches a token's identity for ten seconds, and checks a watch only at its
                # start.
                wait_until(
                    lambda: not extra_replica.token_is_valid(), seconds=30, what="the old token refused"
                )
                extra_replica.proxy.break_connections()
                wait_until_logged([extra_replica.replica], "401 Unauthorized", times=3)
                fault_check.wait_for_verdicts(reviews, everybody)
            finally:
                # The kubelet mounts a new token before the old one expires.
                extra_replica.write_token()
                for pod in fault_check.product.servers():
                    name = pod.name.removeprefix("pod-")
                    fault_check.plane.kubeconfig_for_service_account(NAMESPACE, "gatekeeper-py", name)
            pauses = [
                line["retry_seconds"]
                for line in extra_replica.replica.logged("policy_source_failed")
                if "401" in line["problem"]
            ]
            assert pauses[0] == 0, "the token is read again at once"
            assert all(pause >= 0.8 for pause in pauses[1:]), "but only once"
            fault_check.check_recovery(everybody, what="a token that was refused")
