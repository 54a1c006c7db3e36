"""``gatekeeper-py audit``: report running images that the policy would refuse."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.parameters import CONFIGMAP, EXEMPT_NAMESPACES, NAMESPACE
from gatekeeper_py.commands.policyinput import UnreadableError, live_policy, now, usable, usable_policy
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.reporting.audit import FORMATS, write_report

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient
    from gatekeeper_py.cluster.configuration import ClusterConfiguration
    from gatekeeper_py.inventory.survey import OnPage, Survey

MAX_TRIES: Final = 5
"""How often a request is sent to an overloaded API server."""

CACHE_SIZE: Final = 16384
"""Cached decisions, as in ``serve``; a cluster has far fewer images than Pods."""


@click.command()
@click.option("--policy", metavar="POLICY", help="Policy file, ConfigMap manifest, or - for stdin.")
@click.option("--configmap", type=CONFIGMAP, help="Read the policy from this ConfigMap of the cluster.")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Audit only this namespace. Default: all.")
@click.option("--all", "approved_too", is_flag=True, help="Also show approved images.")
@click.option("--format", "style", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: the Pod's service account, then $KUBECONFIG, then ~/.kube/config.",
)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@EXEMPT_NAMESPACES
def audit(
    policy: str | None,
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    style: Literal["table", "json", "csv"],
    kubeconfig: Path | None,
    context: str | None,
    exempt_namespaces: tuple[str, ...],
    *,
    approved_too: bool,
) -> int:
    """Show each image in a cluster's Pods and workloads that the policy would refuse.

    Exit code: 0 when there is none, 1 when there are some, 2 when the cluster or the policy cannot
    be used.
    """
    try:
        checked.check_sources(None if policy is None else Path(policy), configmap)
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None
    if namespace is not None and not NAMESPACE.fullmatch(namespace):
        raise click.UsageError(f"--namespace: {namespace!r} is not a valid namespace name")
    from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415 - keeps other commands fast to start

    judged_by = configmap or usable_policy(policy or "")
    try:
        cluster = ClusterConfiguration(kubeconfig=kubeconfig, context=context, environ=os.environ)
        survey = asyncio.run(
            _survey(cluster, judged_by, namespace, frozenset(exempt_namespaces), keep_approved=approved_too)
        )
    except checked.SettingsError as problem:
        raise UnreadableError(str(problem)) from None
    _note_missing(survey)
    write_report(survey.tally, style)
    return 1 if survey.tally.counts["rejected"] else 0


async def _survey(
    cluster: ClusterConfiguration,
    judged_by: Policy | checked.ConfigMapName,
    namespace: str | None,
    exempt: frozenset[str],
    *,
    keep_approved: bool,
) -> Survey:
    """Connect, read the policy if it is in the cluster, and judge everything that runs.

    Raises ``SettingsError`` for an unusable configuration and ``UnreadableError`` for an unusable cluster.
    """
    from gatekeeper_py.cluster.api import LIST_TIMEOUT, ApiClient  # noqa: PLC0415 - see above
    from gatekeeper_py.inventory.reading import ClusterError  # noqa: PLC0415
    from gatekeeper_py.inventory.survey import survey  # noqa: PLC0415
    from gatekeeper_py.live import CacheCounts, Snapshot  # noqa: PLC0415

    api = ApiClient(cluster.connect, timeout=LIST_TIMEOUT, tries=MAX_TRIES)
    try:
        await api.connect()
        policy = judged_by if isinstance(judged_by, Policy) else await _policy_of(api, judged_by)
        judge = Snapshot(policy.at(now()), CACHE_SIZE, CacheCounts())
        # The progress bar ends before anything else is written, because it erases its lines.
        with _progress() as on_page:
            return await survey(
                api, judge, namespace=namespace, exempt=exempt, keep_approved=keep_approved, on_page=on_page
            )
    except ClusterError as problem:
        raise UnreadableError(str(problem)) from None
    finally:
        await api.close()


async def _policy_of(api: ApiClient, name: checked.ConfigMapName) -> Policy:
    path = f"/api/v1/namespaces/{quote(name.namespace, safe='')}/configmaps/{quote(name.name, safe='')}"
    from gatekeeper_py.inventory.reading import read  # noqa: PLC0415 - see above

    document = await read(api, path, {}, doing=f"get the ConfigMap {name}")
    return usable(live_policy(f"ConfigMap {name}", document.get("data"), document.get("binaryData")))


def _note_missing(survey: Survey) -> None:
    from gatekeeper_py.inventory.resources import kind_text  # noqa: PLC0415 - see above

    for kind in survey.missing:
        click.echo(f"Note: the cluster does not serve {kind_text(kind)}", err=True)


@contextmanager
def _progress() -> Iterator[OnPage]:
    """Show a progress bar while lists are read, if stderr is a terminal."""
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    if not sys.stderr.isatty():
        yield lambda _resource, _seen, _left: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
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
            bar.update(task, description=str(resource), completed=seen, total=total, refresh=True)

        yield on_page
