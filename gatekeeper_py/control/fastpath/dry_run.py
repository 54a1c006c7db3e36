"""Create a probe Pod in dry run, to see whether the API server calls the webhook for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gatekeeper_py.cluster.session import HttpSession
from gatekeeper_py.control import probe_pod
from gatekeeper_py.control.fastpath.probe_image import ProbeImage
from gatekeeper_py.control.probe_pod import IMAGE_PATH
from gatekeeper_py.core.compile.fastpath import Endpoint

MUTATING: Final = (" was rewritten", " is left as written")
"""Each warning of the mutating webhook about an image contains one of these, and no other warning does.

The second text appears if a mirror looks up its images, because no registry has the probe's image.
"""

_MAX_PROBLEM: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Whether the webhook was called for the Pod; if not, ``problem`` is the answer of the API server."""

    called: bool
    problem: str = ""


async def create(
    connect: Callable[[], Awaitable[HttpSession]], namespace: str, probe: ProbeImage, webhook: str
) -> DryRun:
    """Create one Pod in dry run; never raise for an answer or a failure of the API server."""
    answer = await probe_pod.send(connect, namespace, probe.image)
    if answer.problem:
        return DryRun(called=False, problem=answer.problem[:_MAX_PROBLEM])
    return read_answer(probe.endpoint, answer.status, answer.body, list(answer.warnings), webhook)


def read_answer(endpoint: Endpoint, status: int, body: bytes, warnings: list[str], webhook: str) -> DryRun:
    """Return whether the API server called the webhook.

    It did if the answer names the webhook, which refused the Pod or was unreachable, or if the answer has a
    warning of this endpoint about the image.
    """
    message = probe_pod.message_of(body)
    ours = [warning for warning in warnings if f"{IMAGE_PATH}: " in warning]
    from_endpoint = [
        warning for warning in ours if any(each in warning for each in MUTATING) is (endpoint == "mutating")
    ]
    if f'"{webhook}"' in message or from_endpoint:
        return DryRun(called=True)
    return DryRun(called=False, problem=f"{status} {message}"[:_MAX_PROBLEM].strip())
