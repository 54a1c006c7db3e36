"""Create a Pod in dry run, to get the answer of an API server and its webhooks.

The Pods are created in a separate namespace with a quota of zero Pods, so the permission to create Pods there
cannot be used for anything else. The API server calls the webhook before it checks the quota.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from gatekeeper_py.cluster.errors import failure_of
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.process.settings import SettingsError

LIMITS: Final = aiohttp.ClientTimeout(total=15.0, connect=5.0, sock_connect=5.0)
"""Time limits of a request. Our webhook may take 5 s, and another webhook in the cluster 10 s by default."""

IMAGE_PATH: Final = "spec.containers[0].image"
"""The path that our denials and warnings name for the Pod's image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """An answer of the API server. ``status`` is 0 if there was none; ``problem`` is then the reason."""

    status: int = 0
    body: bytes = b""
    warnings: tuple[str, ...] = ()
    problem: str = ""

    @property
    def message(self) -> str:
        """The message of the Status object in the body; empty if there is none."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return ""
        message = document.get("message") if isinstance(document, dict) else None
        return message if isinstance(message, str) else ""


async def send(connect: Callable[[], Awaitable[Session]], namespace: str, image: str) -> ProbeAnswer:
    """Create one Pod in dry run; never raise for an answer or a failure of the API server.

    Each call opens a new session, because several API servers may share the address.
    """
    try:
        session = await connect()
    except SettingsError as problem:
        return ProbeAnswer(problem=str(problem))
    try:
        response = await session.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/pods",
            {"dryRun": "All"},
            LIMITS,
            body=orjson.dumps(pod(image)),
        )
        try:
            body = await response.read()
            warnings = tuple(response.headers.getall("Warning", []))
            return ProbeAnswer(status=response.status, body=body, warnings=warnings)
        finally:
            response.release()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, SettingsError) as problem:
        return ProbeAnswer(problem=failure_of(problem).text)
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
