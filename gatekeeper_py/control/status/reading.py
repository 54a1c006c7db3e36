"""Read an installation: its objects, and the health port of its Pods through ``pods/proxy``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import orjson

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.control.installation import Installation
from gatekeeper_py.control.status.arguments import as_deployed
from gatekeeper_py.control.status.facts import Facts, PodFacts
from gatekeeper_py.control.webhooks.templates import MUTATING_PATH, VALIDATING_PATH

HEALTH_PORT: Final = 8080

_SAMPLE: Final = re.compile(r"([a-z_]+(?:\{[^}]{0,1000}\})?) ([^ ]{1,40})")

_WANTED_METRICS: Final = (
    "gatekeeper_py_certificate_not_after_timestamp_seconds",
    "gatekeeper_py_control_",  # alarms, the proof of enforcement, whether mutation is active
    "gatekeeper_py_fastpath_in_step",
)


async def read_facts(api: KubernetesApi, proxy: KubernetesApi, installation: Installation) -> Facts:
    """Read everything. ``proxy`` is a client with a short timeout, for Pods that may not answer.

    Raises ``ApiError`` when an object cannot be read. A Secret that the caller is not allowed to read
    and a Pod that does not answer are only noted in the facts.
    """
    namespace = await api.get(installation.namespace_path)
    if namespace is None:
        return Facts(
            namespace=None,
            owner=None,
            service=None,
            deployment=None,
            controller=None,
            policy=None,
            settings=None,
            secret=None,
        )
    owner, service, deployment, controller, settings, validating, mutating = await asyncio.gather(
        api.get(installation.owner_path),
        api.get(installation.service_path),
        api.get(installation.deployment_path),
        api.get(installation.controller_path),
        api.get(installation.settings_path),
        api.get(VALIDATING_PATH),
        api.get(MUTATING_PATH),
    )
    policy = await api.get(as_deployed(installation, deployment, controller).policy_path)
    secret, secret_readable = await _secret(api, installation)
    servers = await _pods(api, proxy, installation, installation.deployment, shows_policy=True)
    controllers = await _pods(api, proxy, installation, installation.controller, shows_policy=False)
    found = {VALIDATING_PATH: validating, MUTATING_PATH: mutating}
    return Facts(
        namespace=namespace,
        owner=owner,
        service=service,
        deployment=deployment,
        controller=controller,
        policy=policy,
        settings=settings,
        secret=secret,
        secret_readable=secret_readable,
        webhooks={path: live for path, live in found.items() if live is not None},
        replicas=servers,
        controllers=controllers,
    )


async def _secret(api: KubernetesApi, installation: Installation) -> tuple[dict[str, Any] | None, bool]:
    """Return the Secret, and whether the caller may read it."""
    try:
        return await api.get(installation.secret_path), True
    except ApiError as problem:
        if problem.status != HTTPStatus.FORBIDDEN:
            raise
        return None, False


async def _pods(
    api: KubernetesApi, proxy: KubernetesApi, installation: Installation, app: str, *, shows_policy: bool
) -> tuple[PodFacts, ...]:
    """Return the Pods of a Deployment that are not being deleted, in order of their names."""
    selector = f"labelSelector=app.kubernetes.io/name%3D{app}"
    listed = await api.get(f"{installation.namespace_path}/pods?{selector}") or {}
    pods = [
        pod for pod in listed.get("items") or () if not (pod.get("metadata") or {}).get("deletionTimestamp")
    ]
    queries = (_pod(proxy, installation, pod, shows_policy=shows_policy) for pod in pods)
    return tuple(sorted(await asyncio.gather(*queries), key=lambda each: each.name))


async def _pod(
    proxy: KubernetesApi, installation: Installation, pod: dict[str, Any], *, shows_policy: bool
) -> PodFacts:
    name = pod["metadata"]["name"]
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    base = f"{installation.namespace_path}/pods/{name}:{HEALTH_PORT}/proxy"
    try:
        metrics = dict(_samples(await proxy.text(f"{base}/metrics")))
        policy = orjson.loads(await proxy.text(f"{base}/policy")) if shows_policy else None
    except ApiError as problem:
        return PodFacts(name=name, ready=ready, problem=problem.explanation)
    except orjson.JSONDecodeError:
        return PodFacts(name=name, ready=ready, problem="/policy is not JSON")
    if policy is not None and not isinstance(policy, dict):
        return PodFacts(name=name, ready=ready, problem="/policy is not a JSON object")
    return PodFacts(name=name, ready=ready, policy=policy, metrics=metrics)


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """Yield the samples that a status needs from Prometheus' text format."""
    for line in text.splitlines():
        if line.startswith(_WANTED_METRICS) and (match := _SAMPLE.fullmatch(line)) is not None:
            try:
                yield match[1], float(match[2])
            except ValueError:
                continue
