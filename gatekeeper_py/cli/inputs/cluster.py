"""Read from a live cluster: the connection, a policy in a ConfigMap, exempt namespaces, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.policies import PolicyInput, live_policy
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.cli.reporting.console import MAX_LINE, note
from gatekeeper_py.controller.webhooks.settings import (
    SETTINGS_CONFIGMAP,
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
    read_settings,
)
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.exceptions.grants import Grants
from gatekeeper_py.core.images.reference import escape, printable
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, always_exempt
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.process import settings as checked

if TYPE_CHECKING:
    from gatekeeper_py.cli.inventory.listing import Collector, OnPage
    from gatekeeper_py.cluster.api import ApiClient
    from gatekeeper_py.cluster.configuration import ClusterConfiguration

MAX_TRIES: Final = 5
"""How often a request is sent to an overloaded API server."""

CACHE_SIZE: Final = 16384
"""Maximum number of cached decisions, as in ``serve``. A cluster has far fewer images than Pods."""

T = TypeVar("T")


def with_cluster(cluster: Cluster, work: Callable[[ApiClient], Awaitable[T]]) -> T:
    """Connect to the cluster and return the result of ``work``, which gets the client.

    Raises ``UnreadableError`` when the configuration or the cluster cannot be used.
    """
    import asyncio  # noqa: PLC0415 - see _connected

    try:
        return asyncio.run(_connected(cluster.configuration, work))
    except checked.SettingsError as problem:
        raise UnreadableError(str(problem)) from None


async def _connected(cluster: ClusterConfiguration, work: Callable[[ApiClient], Awaitable[T]]) -> T:
    # Imported here, so that commands that need no cluster start fast.
    from gatekeeper_py.cli.inventory.resources import ClusterError  # noqa: PLC0415
    from gatekeeper_py.cluster.api import LIST_TIMEOUT, ApiClient  # noqa: PLC0415

    api = ApiClient(cluster.connect, timeout=LIST_TIMEOUT, tries=MAX_TRIES)
    try:
        await api.connect()
        return await work(api)
    except ClusterError as problem:
        raise UnreadableError(str(problem)) from None
    finally:
        await api.close()


async def policy_in(api: ApiClient, name: checked.ConfigMapName) -> PolicyInput:
    """Return the policy in a ConfigMap, or the findings about it. Raises ``ClusterError``."""
    from gatekeeper_py.cli.inventory.resources import read  # noqa: PLC0415 - see above

    path = f"/api/v1/namespaces/{quote(name.namespace, safe='')}/configmaps/{quote(name.name, safe='')}"
    document = await read(api, path, {}, doing=f"get the ConfigMap {name}")
    return live_policy(f"ConfigMap {name}", document.get("data"), document.get("binaryData"))


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
    from gatekeeper_py.cli.inventory.resources import Forbidden  # noqa: PLC0415 - see above

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
    from gatekeeper_py.cli.inventory.resources import NotFound, read  # noqa: PLC0415 - see above

    name = f"ConfigMap {installation}/{SETTINGS_CONFIGMAP}"
    path = f"/api/v1/namespaces/{quote(installation, safe='')}/configmaps/{SETTINGS_CONFIGMAP}"
    try:
        document = await read(api, path, {}, doing=f"get the {name}")
    except NotFound:
        return WebhookSettings()
    found = read_settings(document.get("data"), document.get("binaryData"))
    if found.findings:
        first = found.findings[0]
        raise _Refused(f"the {name} is refused: {first.path}: {first.message}")
    try:
        return parse_settings(found.text or "")
    except InvalidWebhookSettings as problem:
        raise _Refused(f"the {name} is refused: {problem.findings[0]}") from None


async def _labelled(api: ApiClient, label: str, value: str, namespace: str | None) -> frozenset[str]:
    from gatekeeper_py.cli.inventory.resources import read  # noqa: PLC0415 - see above

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


async def noted_exemptions(
    api: ApiClient,
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    settings: WebhookSettings | None,
) -> frozenset[str]:
    """Return the exempt namespaces of the installation whose policy is in ``configmap``.

    If not all are known, report on stderr that further namespaces may be exempt, and why.
    """
    installation = DEFAULT_NAMESPACE if configmap is None else configmap.namespace
    found = await exemptions_in(api, installation, namespace, settings)
    if found.problem:
        note(f"Note: not all exempt namespaces are known: {found.problem}")
    return found.namespaces


async def noted_exceptions(
    api: ApiClient,
    policies: Iterable[Policy],
    installation: str,
    namespace: str | None,
    *,
    whole: bool = False,
) -> Exceptions:
    """Return the exceptions in the cluster, if a policy has grants. Report on stderr what is missing.

    With ``whole``, exceptions that the caller may not read are an error. Raises ``ClusterError``.
    """
    from gatekeeper_py.cli.inventory.exceptions import read_exceptions_of  # noqa: PLC0415 - see above

    grants = Grants(grant for policy in policies for grant in policy.document.exceptions)
    if not grants:
        return NO_EXCEPTIONS
    found = await read_exceptions_of(api, grants, installation, namespace, whole=whole)
    for problem in found.problems:
        note(f"Note: some exceptions in the cluster are ignored: {escape(problem, MAX_LINE)}")
    if found.bad > len(found.problems):
        note(f"Note: exceptions in more ConfigMaps are ignored: {found.bad - len(found.problems):,}")
    return found.exceptions


async def read_cluster(
    api: ApiClient, collector: Collector, declared: Iterable[GroupKind], namespace: str | None
) -> tuple[GroupKind, ...]:
    """Pass every object that holds images to ``collector``, as ``collect`` does, with a progress bar.

    Returns the kinds that the cluster does not serve, and reports them on stderr. Raises ``ClusterError``.
    """
    from gatekeeper_py.cli.inventory.listing import collect  # noqa: PLC0415 - see above
    from gatekeeper_py.cli.inventory.resources import kind_text  # noqa: PLC0415

    with _progress() as on_page:
        missing = await collect(api, declared, collector, namespace=namespace, on_page=on_page)
    for kind in missing:
        note(f"Note: the cluster does not serve {kind_text(kind)}")
    return missing


@contextmanager
def _progress() -> Iterator[OnPage]:
    """Show a progress bar while lists are read, if stderr is a terminal.

    The bar must end before any other output, because it erases its lines.
    """
    if not sys.stderr.isatty():
        yield lambda _resource, _seen, _left: None
        return
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}"))
    # Redrawn once per page and erased at the end, so that only the report stays on the screen.
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task("pods", total=None)
        bar.refresh()

        def on_page(resource: object, seen: int, left: int | None) -> None:
            total = seen if left is None else seen + left
            bar.update(task, description=printable(str(resource)), completed=seen, total=total, refresh=True)

        yield on_page
