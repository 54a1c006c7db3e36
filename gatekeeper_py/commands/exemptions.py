"""Find the namespaces that the settings of the webhook exempt from review, in a cluster or in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatekeeper_py.control.webhooks.configmap import SETTINGS_CONFIGMAP, read_configmap
from gatekeeper_py.control.webhooks.settings import InvalidWebhookSettings, WebhookSettings, parse_settings
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, always_exempt

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemptions:
    """Exempt namespaces. ``problem`` is the reason why some may be missing; empty if all are known."""

    namespaces: frozenset[str]
    problem: str = ""


async def exemptions_in(
    api: ApiClient, installation: str, namespace: str | None, settings: WebhookSettings | None = None
) -> Exemptions:
    """Return the namespaces that the installation in the namespace ``installation`` exempts.

    ``settings`` replace the settings in the cluster. Namespaces are exempt by name or by label. With
    ``namespace``, only the labels of this namespace are read. If the caller may not read the settings or the
    namespaces, or if the settings are refused, ``problem`` is the reason. Raises ``ClusterError``.
    """
    from gatekeeper_py.inventory.reading import Forbidden  # noqa: PLC0415 - keeps other commands fast to start

    known = frozenset(always_exempt(installation))
    try:
        settings = settings or await _settings(api, installation)
        known |= frozenset(settings.exempt_namespaces)
        for label, value in settings.exempt_namespace_labels:
            known |= await _labelled(api, label, value, namespace)
    except (Forbidden, _Refused) as problem:
        return Exemptions(namespaces=known, problem=str(problem))
    return Exemptions(namespaces=known)


def exempt_by(settings: WebhookSettings, namespaces: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the namespaces that settings exempt, by name or by label.

    Labels are read only from the given Namespace objects. As in other offline commands, the installation is
    assumed to be in its default namespace.
    """
    labels = dict(settings.exempt_namespace_labels)
    named = (*always_exempt(DEFAULT_NAMESPACE), *settings.exempt_namespaces)
    return frozenset(named) | _with_any(labels, namespaces)


class _Refused(Exception):
    """The settings in the cluster have errors."""


async def _settings(api: ApiClient, installation: str) -> WebhookSettings:
    """Return the settings, or the defaults without a ConfigMap. Raises ``_Refused``, ``ClusterError``."""
    from gatekeeper_py.inventory.reading import NotFound, read  # noqa: PLC0415 - see above

    name = f"ConfigMap {installation}/{SETTINGS_CONFIGMAP}"
    path = f"/api/v1/namespaces/{quote(installation, safe='')}/configmaps/{SETTINGS_CONFIGMAP}"
    try:
        document = await read(api, path, {}, doing=f"get the {name}")
    except NotFound:
        return WebhookSettings()
    found = read_configmap(document.get("data"), document.get("binaryData"))
    if found.findings:
        first = found.findings[0]
        raise _Refused(f"the {name} is refused: {first.path}: {first.message}")
    try:
        return parse_settings(found.text or "")
    except InvalidWebhookSettings as problem:
        raise _Refused(f"the {name} is refused: {problem.findings[0]}") from None


async def _labelled(api: ApiClient, label: str, value: str, namespace: str | None) -> frozenset[str]:
    from gatekeeper_py.inventory.reading import read  # noqa: PLC0415 - see above

    query = {"labelSelector": f"{label}={value}"}
    if namespace is not None:
        query["fieldSelector"] = f"metadata.name={namespace}"
    doing = f"list namespaces with the label {label}={value}"
    items = (await read(api, "/api/v1/namespaces", query, doing=doing)).get("items") or ()
    return _with_any({label: value}, items)


def _with_any(labels: Mapping[str, str], namespaces: Iterable[Any]) -> frozenset[str]:
    """Return the names of the Namespace objects that have one of the labels with its value."""
    found = set()
    for each in namespaces:
        metadata = each.get("metadata") if isinstance(each, dict) else None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            continue
        has = metadata.get("labels")
        if isinstance(has, dict) and any(has.get(label) == value for label, value in labels.items()):
            found.add(metadata["name"])
    return frozenset(found)
