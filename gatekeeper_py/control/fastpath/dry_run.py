"""Create a probe Pod in dry run, to see whether the API server calls the webhook for it.

The Pods are created in a namespace of their own with a quota of zero Pods, which makes the right to create
Pods there useless for anything else. The webhook runs before the quota is checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from gatekeeper_py.cluster.api import HttpSession
from gatekeeper_py.cluster.errors import failure_of
from gatekeeper_py.control.fastpath.probe_image import ProbeImage
from gatekeeper_py.core.compile.fastpath import Endpoint
from gatekeeper_py.settings import SettingsError

LIMITS: Final = aiohttp.ClientTimeout(total=15.0, connect=5.0, sock_connect=5.0)
"""The webhook may take 5 s, and another webhook in the cluster 10 s by default."""

IMAGE_PATH: Final = "spec.containers[0].image"
"""The path that our warnings name for the Pod's image."""

REWRITTEN: Final = " was rewritten"
"""In the warnings of the mutating webhook, and in no others."""

_MAX_PROBLEM: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Whether the webhook was called for the Pod; if not, ``problem`` is what the API server answered."""

    called: bool
    problem: str = ""


async def create(
    connect: Callable[[], Awaitable[HttpSession]], namespace: str, probe: ProbeImage, webhook: str
) -> DryRun:
    """Create one Pod in dry run; never raises for what the API server does.

    Opens a session of its own, because several API servers may share the address.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        session = await connect()
    except SettingsError as problem:
        return DryRun(called=False, problem=str(problem)[:_MAX_PROBLEM])
    try:
        response = await session.request(
            "POST", path, {"dryRun": "All"}, LIMITS, body=orjson.dumps(pod(probe.image))
        )
        try:
            body = await response.read()
            warnings = response.headers.getall("Warning", [])
            return read_answer(probe.endpoint, response.status, body, warnings, webhook)
        finally:
            response.release()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
        return DryRun(called=False, problem=failure_of(problem).text[:_MAX_PROBLEM])
    finally:
        await session.close()


def pod(image: str) -> dict[str, Any]:
    """Return a Pod that passes Pod Security at level restricted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "gatekeeper-py-probe-"},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def read_answer(endpoint: Endpoint, status: int, body: bytes, warnings: list[str], webhook: str) -> DryRun:
    """Tell from an answer whether the webhook was called: it refused, warned, rewrote or was unreachable."""
    message = _message(body)
    ours = [warning for warning in warnings if f"{IMAGE_PATH}: " in warning]
    from_endpoint = [warning for warning in ours if (REWRITTEN in warning) is (endpoint == "mutating")]
    if f'"{webhook}"' in message or from_endpoint:
        return DryRun(called=True)
    return DryRun(called=False, problem=f"{status} {message}"[:_MAX_PROBLEM].strip())


def _message(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""
