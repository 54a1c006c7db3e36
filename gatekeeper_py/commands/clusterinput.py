"""Read from a live cluster: the connection, a policy in a ConfigMap, and the progress bar."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.exemptions import Exemptions
from gatekeeper_py.commands.files import UnreadableError
from gatekeeper_py.commands.policyinput import PolicyInput, live_policy, usable
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.images.reference import printable
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.reporting.console import note

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient
    from gatekeeper_py.inventory.listing import OnPage

MAX_TRIES: Final = 5
"""How often a request is sent to an overloaded API server."""

CACHE_SIZE: Final = 16384
"""Maximum number of cached decisions, as in ``serve``. A cluster has far fewer images than Pods."""

T = TypeVar("T")


def with_cluster(
    kubeconfig: Path | None, context: str | None, work: Callable[[ApiClient], Awaitable[T]]
) -> T:
    """Connect to the cluster and return the result of ``work``, which gets the client.

    Raises ``UnreadableError`` when the configuration or the cluster cannot be used.
    """
    # Imported here, so that commands that need no cluster start fast.
    from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415

    try:
        cluster = ClusterConfiguration(kubeconfig=kubeconfig, context=context, environ=os.environ)
        return asyncio.run(_connected(cluster.connect, work))
    except checked.SettingsError as problem:
        raise UnreadableError(str(problem)) from None


async def _connected(connect: Any, work: Callable[[ApiClient], Awaitable[T]]) -> T:
    from gatekeeper_py.cluster.api import LIST_TIMEOUT, ApiClient  # noqa: PLC0415 - see above
    from gatekeeper_py.inventory.reading import ClusterError  # noqa: PLC0415

    api = ApiClient(connect, timeout=LIST_TIMEOUT, tries=MAX_TRIES)
    try:
        await api.connect()
        return await work(api)
    except ClusterError as problem:
        raise UnreadableError(str(problem)) from None
    finally:
        await api.close()


async def policy_in(api: ApiClient, name: checked.ConfigMapName) -> Policy:
    """Return the policy of a ConfigMap. Without a usable one, print the findings and exit with 2."""
    return usable(await policy_input_in(api, name))


async def policy_input_in(api: ApiClient, name: checked.ConfigMapName) -> PolicyInput:
    """Return the policy in a ConfigMap, or the findings about it. Raises ``ClusterError``."""
    from gatekeeper_py.inventory.reading import read  # noqa: PLC0415 - see above

    path = f"/api/v1/namespaces/{quote(name.namespace, safe='')}/configmaps/{quote(name.name, safe='')}"
    document = await read(api, path, {}, doing=f"get the ConfigMap {name}")
    return live_policy(f"ConfigMap {name}", document.get("data"), document.get("binaryData"))


def note_missing(kinds: Iterable[GroupKind]) -> None:
    """Report on stderr which kinds the cluster does not serve."""
    from gatekeeper_py.inventory.resources import kind_text  # noqa: PLC0415 - see above

    for kind in kinds:
        note(f"Note: the cluster does not serve {kind_text(kind)}")


def note_unknown_exemptions(exemptions: Exemptions) -> None:
    """Report on stderr that further namespaces may be exempt, and why they are not known."""
    if exemptions.problem:
        note(f"Note: not all exempt namespaces are known: {exemptions.problem}")


@contextmanager
def progress() -> Iterator[OnPage]:
    """Show a progress bar while lists are read, if stderr is a terminal.

    The bar must end before any other output, because it erases its lines.
    """
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    if not sys.stderr.isatty():
        yield lambda _resource, _seen, _left: None
        return
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
