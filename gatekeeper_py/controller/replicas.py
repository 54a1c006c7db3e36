"""Probe a replica as an API server would: TLS with the Service's name, then one review."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

PROBE_SECONDS: Final = 3.0

PROBE_UID: Final = "gatekeeper-py-probe"

# Every policy allows a DELETE, so the answer depends only on the server.
_REVIEW: Final = orjson.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": PROBE_UID,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "DELETE",
            "name": "probe",
            "userInfo": {"username": "gatekeeper-py-controller"},
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaAddress:
    """An address behind the Service. A dual-stack Pod has two, with the same ``replica``.

    ``leaving``: the Pod is shutting down, and still answers until it ends.
    """

    host: str
    port: int
    replica: str
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The result of a probe.

    ``fingerprint`` is that of the served leaf (SHA-256, hexadecimal); ``None`` if the probe did not get a
    leaf that the CA bundle trusts. ``answered`` is whether the replica answered the review. ``untrusted`` is
    whether the replica served a leaf that no API server would accept.
    """

    fingerprint: str | None = None
    answered: bool = False
    untrusted: bool = False
    problem: str = ""


def addresses(slices: Mapping[str, Any], port_name: str) -> Iterator[ReplicaAddress]:
    """Yield every address behind a Service, ready or not, from a list of EndpointSlices."""
    for item in slices.get("items") or ():
        ports = [p for p in item.get("ports") or () if p.get("name") == port_name and p.get("port")]
        for endpoint in item.get("endpoints") or ():
            leaving = bool((endpoint.get("conditions") or {}).get("terminating"))
            target = endpoint.get("targetRef") or {}
            for address in endpoint.get("addresses") or ():
                replica = target.get("uid") or target.get("name") or address
                for port in ports[:1]:
                    yield ReplicaAddress(host=address, port=port["port"], replica=replica, leaving=leaving)


async def probe(host: str, port: int, *, server_name: str, bundle: bytes) -> ProbeResult:
    """Probe one replica; never raise for a failure of the replica."""
    leaves: list[bytes | None] = []

    class LeafRecorder(ssl.SSLObject):
        """Records the leaf in the handshake: aiohttp drops a response's connection once the body is read."""

        def do_handshake(self) -> None:
            super().do_handshake()
            leaves.append(self.getpeercert(binary_form=True))

    context = ssl.create_default_context(cadata=bundle.decode("ascii"))
    context.sslobject_class = LeafRecorder
    shown = f"[{host}]" if ":" in host else host
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(
                f"https://{shown}:{port}/validate-image?timeout=2s",
                data=_REVIEW,
                headers={"Content-Type": "application/json"},
                ssl=context,
                server_hostname=server_name,
                allow_redirects=False,
            ) as response,
        ):
            body = await response.read()
    except aiohttp.ClientConnectorCertificateError as problem:
        return ProbeResult(untrusted=True, problem=str(problem.certificate_error)[:200])
    except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as problem:
        return ProbeResult(problem=f"{type(problem).__name__}: {problem}"[:200])
    leaf = leaves[-1] if leaves else None
    fingerprint = None if leaf is None else hashlib.sha256(leaf).hexdigest()
    answered = response.status == 200 and _is_answer(body)  # noqa: PLR2004 - HTTP
    problem_text = "" if answered else f"it answered {response.status} without a verdict"
    return ProbeResult(fingerprint=fingerprint, answered=answered, problem=problem_text)


def _is_answer(body: bytes) -> bool:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    response = document.get("response") if isinstance(document, dict) else None
    return isinstance(response, dict) and response.get("uid") == PROBE_UID and response.get("allowed") is True
