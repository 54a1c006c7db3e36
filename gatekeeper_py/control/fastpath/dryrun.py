"""Ask an API server for a Pod in dry run, to see whether it asks the webhook.

In a namespace of its own, whose quota of no Pods at all keeps the right to create them there from
being worth anything: what the webhook does not refuse, the quota does, after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from gatekeeper_py.cluster.api import HttpSession
from gatekeeper_py.control.fastpath.canary import Canary
from gatekeeper_py.core.compile.preapproved import Endpoint
from gatekeeper_py.settings import SettingsError

LIMITS: Final = aiohttp.ClientTimeout(total=15.0, connect=5.0, sock_connect=5.0)
"""The webhook has five seconds, and another one in the cluster ten at the most by default."""

PLACE: Final = "spec.containers[0].image"
"""Where warnings of ours say the image is."""

REWRITTEN: Final = " was rewritten"
"""In the warnings of the mutating webhook, and in no other's."""

_TEXT: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Whether the webhook was asked about the Pod, and if not what was answered."""

    asked: bool
    problem: str = ""


async def create(
    connect: Callable[[], Awaitable[HttpSession]], namespace: str, canary: Canary, webhook: str
) -> Seen:
    """Try once whether a webhook is asked.

    On a connection of its own: several API servers may stand behind the address. Never raises for what
    the API server does.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        connection = await connect()
    except SettingsError as problem:
        return Seen(asked=False, problem=str(problem)[:_TEXT])
    try:
        response = await connection.request(
            "POST", path, {"dryRun": "All"}, LIMITS, body=orjson.dumps(pod(canary.image))
        )
        try:
            body = await response.read()
            warnings = response.headers.getall("Warning", [])
            return judge(canary.endpoint, response.status, body, warnings, webhook)
        finally:
            response.release()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
        return Seen(asked=False, problem=f"{type(problem).__name__}: {problem}"[:_TEXT])
    finally:
        await connection.close()


def pod(image: str) -> dict[str, Any]:
    """A Pod that Pod security at its strictest lets through."""
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


def judge(endpoint: Endpoint, status: int, body: bytes, warnings: list[str], webhook: str) -> Seen:
    """Read an answer. A webhook was asked when it refused, warned, rewrote or could not be reached."""
    message = _message(body)
    ours = [warning for warning in warnings if f"{PLACE}: " in warning]
    said = [warning for warning in ours if (REWRITTEN in warning) is (endpoint == "mutating")]
    if f'"{webhook}"' in message or said:
        return Seen(asked=True)
    return Seen(asked=False, problem=f"{status} {message}"[:_TEXT].strip())


def _message(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""
