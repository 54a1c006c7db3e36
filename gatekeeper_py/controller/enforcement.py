"""Prove each minute that every API server that answers enforces the policy.

An API server proves enforcement when it refuses a probe Pod that only our webhook would refuse. The name of
the Pod's image has a random part. An answer that contains this part belongs to this probe.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.controller import probe_pod
from gatekeeper_py.controller.metrics import EnforcementMetrics, ProofResult
from gatekeeper_py.controller.probe_pod import IMAGE_PATH, ProbeAnswer
from gatekeeper_py.controller.webhooks.templates import POD_VALIDATION
from gatekeeper_py.core.admission.messages import NOT_APPROVED, PROBLEM, REJECTIONS
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.process.logs import Log

PERIOD_SECONDS: Final = 60.0
"""Interval between rounds while the policy is enforced."""

RETRY_SECONDS: Final = 10.0
"""Interval between rounds while the policy is not enforced. New webhook configurations reach API servers
within a second."""

WAITING_SECONDS: Final = 2.0
"""Interval between checks whether the webhook is armed."""

CONFIGURED: Final = ""
"""Address that means the API server of the cluster configuration."""

SLICE_PATH: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
"""API servers write their addresses into this object, which belongs to the Service ``kubernetes``."""

SERVER_NAME: Final = "kubernetes.default.svc"
"""A name in the certificate of every API server. The certificate need not contain the address."""

MAX_SERVERS: Final = 32
"""Maximum number of API servers that are probed: more than any control plane has."""

HOST: Final = "gatekeeper-py-probe.invalid"
"""No registry can have this name: the domain ``invalid`` is reserved (RFC 2606)."""

REFUSED: Final = f'admission webhook "{POD_VALIDATION}" denied the request: '
FAILED: Final = f'failed calling webhook "{POD_VALIDATION}"'

REJECTED: Final = (NOT_APPROVED, *REJECTIONS.values(), PROBLEM)
"""Every warning about a rejected probe image contains one of these; no warning about a rewrite does."""

MAX_PROBLEM: Final = 300

Send = Callable[[str, str], Awaitable[ProbeAnswer]]
"""Takes the address of an API server (or ``CONFIGURED``) and an image; creates the probe Pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result for one API server; ``problem`` is why enforcement is not proven."""

    outcome: ProofResult
    problem: str = ""


def probe_image(token: str, *, valid: bool) -> str:
    """Return an image with a random ``token`` of lower-case letters and digits.

    With ``valid``, the image is a valid reference, and a policy rejects it unless the policy approves this
    registry, for example with ``*.invalid``. Without ``valid``, the image is an invalid reference, which
    every policy rejects.
    """
    return f"{HOST}/{token}:1" if valid else f"{HOST}/NOT-VALID-{token}:1"


def rejects_valid_probes(policy: Policy, namespace: str | None, now: datetime) -> bool:
    """Return whether a policy rejects, and does not rewrite, valid probe images for Pods in ``namespace``."""
    compiled = policy.at(now)
    image = probe_image("0" * 16, valid=True)
    return compiled.plan(namespace, image) is None and not compiled.decide(namespace, image).approved


def read_answer(answer: ProbeAnswer, token: str) -> Proof:
    """Return the result that an answer proves.

    An answer proves enforcement only if our webhook denied the Pod, or warned about its image (mode
    ``warn``). A refusal by another webhook, by a quota or by RBAC proves nothing.
    """
    if answer.problem:
        return Proof(outcome="unreachable", problem=answer.problem[:MAX_PROBLEM])
    message = answer.message
    denied = answer.status == HTTPStatus.FORBIDDEN and REFUSED in message and token in message
    if denied or any(_is_ours(warning, token) for warning in answer.warnings):
        return Proof(outcome="enforced")
    return Proof(outcome="not_enforced", problem=_problem(answer.status, message)[:MAX_PROBLEM])


def _is_ours(warning: str, token: str) -> bool:
    return f"{IMAGE_PATH}: " in warning and token in warning and any(each in warning for each in REJECTED)


def _problem(status: int, message: str) -> str:
    if FAILED in message:
        return f"the API server got no answer from the webhook: {message}"
    if status < HTTPStatus.BAD_REQUEST:
        return (
            "the API server admitted an image that the policy rejects,"
            " and returned no warning from the webhook"
        )
    return f"the webhook did not refuse the Pod; the API server answered {status}: {message}"


class ApiServers:
    """Finds the API servers of a cluster, and sends them probe Pods for one namespace.

    ``connect(address, server_name)`` opens a session; without arguments, with the configured API server.
    """

    def __init__(
        self,
        connect: Callable[..., Awaitable[Session]],
        api: KubernetesApi,
        namespace: str,
        *,
        in_cluster: bool,
    ) -> None:
        self._connect = connect
        self._in_cluster = in_cluster
        self._api = api
        self._namespace = namespace

    async def addresses(self) -> tuple[str, ...]:
        """Return HOST:PORT of every API server; empty outside the cluster, or if they cannot be read."""
        if not self._in_cluster:
            return ()  # the kubeconfig may lead through a tunnel or a load balancer
        try:
            return addresses(await self._api.get(SLICE_PATH))
        except ApiError:
            return ()

    async def send(self, server: str, image: str) -> ProbeAnswer:
        """Create a probe Pod at an API server; an empty address means the configured server."""
        named = (server, SERVER_NAME) if server else ()
        return await probe_pod.send(partial(self._connect, *named), self._namespace, image)


def addresses(endpoint_slice: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return HOST:PORT of every API server in the EndpointSlice, sorted; empty if there is none."""
    found = endpoint_slice or {}
    ports = [each["port"] for each in found.get("ports") or () if each.get("port")]
    hosts = {host for each in found.get("endpoints") or () for host in each.get("addresses") or ()}
    shown = (f"[{host}]" if ":" in host else host for host in sorted(hosts))
    return tuple(f"{host}:{port}" for host in shown for port in ports[:1])[:MAX_SERVERS]


class Prover:
    """Probes every API server, and reports whether all that answer enforce the policy.

    An API server that does not answer proves nothing either way. It is counted as ``unreachable``, and an
    alert fires when that lasts.

    ``servers`` returns the known addresses of API servers. ``armed`` returns whether the webhook should be
    called at all. ``rejects_valid_images`` returns whether the policy rejects valid probe images.
    """

    def __init__(
        self,
        send: Send,
        servers: Callable[[], Awaitable[Sequence[str]]],
        *,
        armed: Callable[[], bool],
        rejects_valid_images: Callable[[], bool],
        metrics: EnforcementMetrics,
        log: Log,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._servers = servers
        self._armed = armed
        self._rejects_valid_images = rejects_valid_images
        self._metrics = metrics
        self._log = log
        self._token = token
        self._sleep = sleep
        self._last: tuple[bool, tuple[str, ...]] | None = None

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            await self._sleep(await self.round())

    async def round(self) -> float:
        """Probe every API server once; return the seconds until the next round is due."""
        if not self._armed():
            self._metrics.enforced(enforced=False, servers={})
            self._last = None
            return WAITING_SECONDS
        proofs = await self._probe_all(await self._servers() or (CONFIGURED,))
        if CONFIGURED not in proofs and all(each.outcome == "unreachable" for each in proofs.values()):
            # A network policy or a certificate may prevent direct connections.
            proofs |= await self._probe_all((CONFIGURED,))
        counts: dict[ProofResult, int] = {"enforced": 0, "not_enforced": 0, "unreachable": 0}
        for each in proofs.values():
            counts[each.outcome] += 1
        enforced = counts["enforced"] > 0 and counts["not_enforced"] == 0
        self._metrics.enforced(enforced=enforced, servers=counts)
        self._report(proofs, enforced=enforced)
        return PERIOD_SECONDS if enforced else RETRY_SECONDS

    async def _probe_all(self, servers: Sequence[str]) -> dict[str, Proof]:
        found = await asyncio.gather(*map(self._probe, servers))
        return dict(zip(servers, found, strict=True))

    async def _probe(self, server: str) -> Proof:
        token = self._token()
        return read_answer(
            await self._send(server, probe_image(token, valid=self._rejects_valid_images())), token
        )

    def _report(self, proofs: Mapping[str, Proof], *, enforced: bool) -> None:
        """Log only when the outcome or the set of failing servers changes."""
        problems = {
            server or "the configured API server": each.problem
            for server, each in proofs.items()
            if each.problem
        }
        state = (enforced, tuple(problems))
        if state == self._last:
            return
        self._last = state
        if enforced:
            self._log.info("enforced", servers=len(proofs), problems=problems)
        else:
            self._log.warning("not_enforced", servers=len(proofs), problems=problems)
