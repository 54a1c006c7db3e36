"""Read the options of a command from the Deployment that runs it. Pure: no I/O."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from gatekeeper_py.control.installation import Installation
from gatekeeper_py.settings import ConfigMapName, SettingsError, parse_configmap

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_REFERENCE: Final = re.compile(r"\$(?:\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
"""``$(NAME)`` is the value of an environment variable, ``$$`` a dollar sign, as in the Pod API."""


RENEW_BEFORE_DAYS: Final = 30.0
"""Default of the controller, and of the certificate that the manifests request from cert-manager."""

MAX_DAYS: Final = 3650.0


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
    """Return the installation with the ConfigMap from which its servers read the policy.

    The ConfigMap is that in the arguments of the servers, else that in the arguments of the controller, else
    that in ``installation``.
    """
    namespace = installation.namespace
    policy = policy_configmap(deployment, "serve", namespace) or policy_configmap(
        controller, "control", namespace
    )
    return installation if policy is None else replace(installation, policy=policy)


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
    spec = (((deployment or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    found = None
    for container in spec.get("containers") or ():
        arguments = [*(container.get("command") or ()), *(container.get("args") or ())]
        if command not in arguments:
            continue
        following = [*arguments[1:], None]
        for argument, value in zip(arguments, following, strict=True):
            if argument == f"--{name}" and value is not None:
                found = _expanded(value, container, namespace)
            elif argument.startswith(f"--{name}="):
                found = _expanded(argument.partition("=")[2], container, namespace)
    return found


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
