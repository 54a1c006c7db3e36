"""``gatekeeper-py status``: show whether an installation is healthy, and what is wrong with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import click

from gatekeeper_py.cli.commands.parameters import cluster_options, format_option, namespace_option
from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.policies import now
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.cli.reporting.console import json_text, note
from gatekeeper_py.cli.reporting.status import print_status
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.status.assess import Status, assess
from gatekeeper_py.controller.status.reading import read_facts
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, POLICY_CONFIGMAP
from gatekeeper_py.process import settings as checked

WATCH_SECONDS: Final = 2.0

READ_SECONDS: Final = 30.0
"""Time limit for reading the cluster."""

POD_SECONDS: Final = 5.0
"""Time limit for the answer of a Pod. A Pod that does not answer in time is reported as a problem."""


def _print_table(found: Status, *, watch: bool) -> None:
    if watch and sys.stdout.isatty():
        click.clear()
    elif watch:
        click.echo(f"--- {now():%H:%M:%S}")
    print_status(found)


FORMATS: Final[Mapping[str, Callable[..., None]]] = {
    "table": _print_table,
    # The JSON text begins with the time, so that a reader sees where each status begins.
    "json": lambda found, *, watch: click.echo(json_text(found.as_json(), indent=None if watch else 2)),
}


@click.command()
@namespace_option("Namespace of the installation.", default=DEFAULT_NAMESPACE)
@format_option(FORMATS)
@click.option("--watch", is_flag=True, help="Print again every two seconds, until Ctrl-C.")
@cluster_options
def status(namespace: str, style: str, cluster: Cluster, *, watch: bool) -> int:
    """Show whether an installation is healthy, and every problem.

    Shows the mode, revision and certificate of every replica, the webhook configurations, the fast
    path and the exempt namespaces. Replicas are read through the API server (pods/proxy).

    Exit code: 0 when healthy, 1 when not, 2 when the cluster cannot be read.
    """
    installation = Installation(
        namespace=namespace,
        service="gatekeeper-py",
        deployment="gatekeeper-py",
        secret="gatekeeper-py-tls",  # noqa: S106 - the name of the Secret
        owner="gatekeeper-py-controller",
        policy=checked.ConfigMapName(namespace, POLICY_CONFIGMAP),
    )
    try:
        return asyncio.run(_show(cluster.configuration, installation, style, watch=watch))
    except checked.SettingsError as problem:
        raise UnreadableError(str(problem)) from None


async def _show(
    cluster: ClusterConfiguration,
    installation: Installation,
    style: str,
    *,
    watch: bool,
) -> int:
    """Print the status once, or repeatedly. Raises ``SettingsError`` and ``UnreadableError``."""
    api = ApiClient(cluster.connect)
    proxy = ApiClient(cluster.connect, timeout=aiohttp.ClientTimeout(total=POD_SECONDS))
    try:
        await api.connect()
        while True:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    facts = await read_facts(api, proxy, installation)
                found = assess(facts, installation, now())
            except (ApiError, TimeoutError) as problem:
                message = f"the cluster cannot be read: {problem or f'no answer in {READ_SECONDS:.0f} s'}"
                if not watch:
                    raise UnreadableError(message) from None
                note(message)
            else:
                FORMATS[style](found, watch=watch)
                if not watch:
                    return 0 if found.healthy else 1
            await asyncio.sleep(WATCH_SECONDS)
    finally:
        await api.close()
        await proxy.close()
