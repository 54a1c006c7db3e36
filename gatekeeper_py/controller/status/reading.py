"""Read an installation: its objects, the options of its Deployments, and the health port of its Pods."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import orjson

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.webhooks.templates import MUTATING_PATH, VALIDATING_PATH
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.process.settings import ConfigMapName, SettingsError, parse_configmap

HEALTH_PORT: Final = 8080

RENEW_BEFORE_DAYS: Final = 30.0
"""Default of the controller, and of the certificate that the manifests request from cert-manager."""

MAX_DAYS: Final = 3650.0

MAX_REASON: Final = 300
"""Maximum length of the reason why a Pod is not ready."""

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_REFERENCE: Final = re.compile(r"\$(?:\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
"""``$(NAME)`` is the value of an environment variable, ``$$`` a dollar sign, as in the Pod API."""

_SAMPLE: Final = re.compile(r"([a-z_]+(?:\{[^}]{0,1000}\})?) ([^ ]{1,40})")

_WANTED_METRICS: Final = (
    "gatekeeper_py_certificate_not_after_timestamp_seconds",
    "gatekeeper_py_certificate_files_bad",
    "gatekeeper_py_control_",  # alarms, the proof of enforcement, whether mutation is active
    "gatekeeper_py_fastpath_in_step",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """One Pod: whether it is ready, and what its health listener answers.

    ``policy`` is the JSON object at a replica's ``/policy``. ``metrics`` holds samples by name and labels, as
    written in the text format. ``problem`` is why the Pod could not be read, and ``unready`` why it is not
    ready; both are empty if nothing is known.
    """

    name: str
    ready: bool
    policy: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    unready: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """The objects of an installation, ``None`` for one that does not exist.

    ``secret_readable`` is false if the caller may not read the Secret. ``webhooks`` holds the
    configurations that exist, by path.
    """

    namespace: dict[str, Any] | None
    owner: dict[str, Any] | None = None
    service: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    controller: dict[str, Any] | None = None
    policy: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    secret: dict[str, Any] | None = None
    secret_readable: bool = True
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    replicas: tuple[PodFacts, ...] = ()
    controllers: tuple[PodFacts, ...] = ()


async def read_facts(api: KubernetesApi, proxy: KubernetesApi, installation: Installation) -> Observations:
    """Read everything. ``proxy`` is a client with a short timeout, for Pods that may not answer.

    Raises ``ApiError`` when an object cannot be read. A Secret that the caller is not allowed to read
    and a Pod that does not answer are only noted in the facts.
    """
    namespace = await api.get(installation.namespace_path)
    if namespace is None:
        return Observations(namespace=None)
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
    return Observations(
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
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    base = f"{installation.namespace_path}/pods/{name}:{HEALTH_PORT}/proxy"
    facts = PodFacts(name=name, ready=ready, unready="" if ready else _not_started(status))
    try:
        metrics = dict(_samples(await proxy.text(f"{base}/metrics")))
        policy = orjson.loads(await proxy.text(f"{base}/policy")) if shows_policy else None
    except ApiError as problem:
        return replace(facts, problem=problem.explanation)
    except orjson.JSONDecodeError:
        return replace(facts, problem="/policy is not JSON")
    if policy is not None and not isinstance(policy, dict):
        return replace(facts, problem="/policy is not a JSON object")
    unready = facts.unready
    if not ready and not unready:
        unready = await _failed_checks(proxy, f"{base}/readyz")
    return replace(facts, policy=policy, metrics=metrics, unready=unready)


def _not_started(status: dict[str, Any]) -> str:
    """Return why a Pod waits for a node or for its containers; empty if it waits for neither."""
    waiting = ((each.get("state") or {}).get("waiting") for each in status.get("containerStatuses") or ())
    unscheduled = (
        each
        for each in status.get("conditions") or ()
        if each.get("type") == "PodScheduled" and each.get("status") == "False"
    )
    for each in (*filter(None, waiting), *unscheduled):
        words = filter(None, (each.get("reason"), each.get("message")))
        return escape(": ".join(words), MAX_REASON)
    return ""


async def _failed_checks(proxy: KubernetesApi, path: str) -> str:
    """Return the checks that fail at ``/readyz`` of a Pod, with their reasons; empty if none is known."""
    try:
        await proxy.text(path)
    except ApiError as problem:
        checks = problem.document.get("checks")
        if isinstance(checks, dict):
            failed = (f"{name}: {reason}" for name, reason in checks.items() if reason != "ok")
            return escape("; ".join(failed), MAX_REASON)
    return ""


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """Yield the samples that a status needs from Prometheus' text format."""
    for line in text.splitlines():
        if line.startswith(_WANTED_METRICS) and (match := _SAMPLE.fullmatch(line)) is not None:
            try:
                yield match[1], float(match[2])
            except ValueError:
                continue


def renew_before(controller: dict[str, Any] | None, namespace: str) -> timedelta:
    """Return how long before its expiry the controller renews a certificate.

    This is the value of ``--renew-before-days``, or the default if the option is missing or invalid.
    """
    text = option(controller, "control", "renew-before-days", namespace)
    try:
        days = RENEW_BEFORE_DAYS if text is None else float(text)
    except ValueError:
        days = RENEW_BEFORE_DAYS
    # NaN also fails this comparison.
    return timedelta(days=days if 0 < days <= MAX_DAYS else RENEW_BEFORE_DAYS)


def as_deployed(
    installation: Installation, deployment: dict[str, Any] | None, controller: dict[str, Any] | None
) -> Installation:
    """Return the installation with what the arguments of its Deployments change.

    The policy's ConfigMap is that in the arguments of the servers, else that in the arguments of the
    controller, else that in ``installation``.
    """
    namespace = installation.namespace
    policy = policy_configmap(deployment, "serve", namespace) or policy_configmap(
        controller, "control", namespace
    )
    exceptions = any("--guard-exceptions" in arguments for _, arguments in _arguments(controller, "control"))
    return replace(installation, policy=policy or installation.policy, exceptions=exceptions)


def policy_configmap(deployment: dict[str, Any] | None, command: str, namespace: str) -> ConfigMapName | None:
    """Return the ConfigMap that ``--configmap`` names; ``None`` if the option is missing or invalid."""
    text = option(deployment, command, "configmap", namespace)
    try:
        found = None if text is None else parse_configmap(text)
    except SettingsError:
        return None
    if found is None or not (_NAME.fullmatch(found.namespace) and _NAME.fullmatch(found.name)):
        return None
    return found


def option(deployment: dict[str, Any] | None, command: str, name: str, namespace: str) -> str | None:
    """Return the value of an option of ``gatekeeper-py COMMAND``, ``None`` if the option is not given.

    ``name`` is the option without the leading dashes, ``namespace`` is that of the Deployment. The last value
    wins, as on the command line. Variables are replaced as by the kubelet, if the Deployment alone determines
    their values.
    """
    found = None
    for container, arguments in _arguments(deployment, command):
        following = [*arguments[1:], None]
        for argument, value in zip(arguments, following, strict=True):
            if argument == f"--{name}" and value is not None:
                found = _expanded(value, container, namespace)
            elif argument.startswith(f"--{name}="):
                found = _expanded(argument.partition("=")[2], container, namespace)
    return found


def _arguments(deployment: dict[str, Any] | None, command: str) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield each container that runs ``gatekeeper-py COMMAND``, with its arguments."""
    spec = (((deployment or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in spec.get("containers") or ():
        arguments = [*(container.get("command") or ()), *(container.get("args") or ())]
        if command in arguments:
            yield container, arguments


def _expanded(text: str, container: dict[str, Any], namespace: str) -> str:
    """Replace references to variables; leave a reference unchanged if the value is not known."""
    known = {each["name"]: _value(each, namespace) for each in container.get("env") or ()}

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        value = known.get(match[1])
        return match[0] if value is None else value

    return _REFERENCE.sub(replaced, text)


def _value(variable: dict[str, Any], namespace: str) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value") or "")
    field = (source.get("fieldRef") or {}).get("fieldPath")
    return namespace if field == "metadata.namespace" else None
