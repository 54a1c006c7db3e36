"""``gatekeeper-py diff``: show what a policy change would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.clusterinput import (
    CACHE_SIZE,
    note_missing,
    note_unknown_exemptions,
    policy_in,
    with_cluster,
)
from gatekeeper_py.commands.exemptions import exemptions_in
from gatekeeper_py.commands.files import UnreadableError, shown
from gatekeeper_py.commands.parameters import (
    CONFIGMAP,
    EXEMPT_NAMESPACES,
    WEBHOOKS_CONFIG,
    Instant,
    check_exempt_usage,
    check_namespace,
    cluster_options,
    given,
)
from gatekeeper_py.commands.policyinput import now, usable_policy, usable_settings
from gatekeeper_py.commands.running import Recording, read_cluster
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.compare.difference import Contradiction, Difference, TooComplex, compare
from gatekeeper_py.core.compare.documents import DocumentChanges, compare_documents
from gatekeeper_py.core.names import DEFAULT_NAMESPACE
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.inventory.changes import CHANGES, Change, Changes
from gatekeeper_py.live import CacheCounts, Snapshot
from gatekeeper_py.reporting.diff import FORMATS, Style, write_changes, write_difference

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient


class _FailOn(click.ParamType[tuple[Change, ...]]):
    """One or more changes, separated by commas."""

    name = "change"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Change, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(change for change in CHANGES if change in value.split(","))
        if len(names) != len(value.split(",")):
            self.fail(f"{value!r} is not one of {', '.join(CHANGES)}", param, ctx)
        return names


@click.command(short_help="Show what a change of the policy would do.")
@click.argument("policies", metavar="OLD NEW", nargs=-1)
@click.option(
    "--configmap", type=CONFIGMAP, help="Read OLD from this ConfigMap of the cluster, and give only NEW."
)
@click.option(
    "--all-images",
    is_flag=True,
    help="Compare for every image that can exist, not only for those in use.",
)
@click.option(
    "--audit",
    "audit",
    metavar="FILE",
    help="Read the images in use from a saved 'audit --all --format json'.",
)
@click.option(
    "--images",
    metavar="FILE",
    help="Read the images in use from a list: on each line an image, or namespace, tab and image.",
)
@click.option(
    "--audit-log",
    metavar="FILE",
    help="Read the images in use from the API server's audit log (level Request or RequestResponse).",
)
@click.option(
    "--reviews", metavar="FILE", help="Read the images in use from AdmissionReviews, one on each line."
)
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Look only at this namespace. Default: all.")
@click.option("--at", "instant", type=Instant(), help="Judge at this date or RFC 3339 time. Default: now.")
@click.option(
    "--fail-on",
    metavar="CHANGE",
    type=_FailOn(),
    multiple=True,
    default=("rejected",),
    show_default=True,
    help="Exit with 1 if this happens to an image: rejected, approved or rewritten. Repeatable.",
)
@click.option(
    "--format", "--output", "-o", "style", type=click.Choice(FORMATS), default="table", show_default=True
)
@click.option("--wide", is_flag=True, help="Do not shorten the table to the width of the terminal.")
@cluster_options
@WEBHOOKS_CONFIG
@EXEMPT_NAMESPACES
def diff(
    policies: tuple[str, ...],
    configmap: checked.ConfigMapName | None,
    audit: str | None,
    images: str | None,
    audit_log: str | None,
    reviews: str | None,
    namespace: str | None,
    instant: datetime | None,
    fail_on: tuple[tuple[Change, ...], ...],
    style: Style,
    kubeconfig: Path | None,
    context: str | None,
    webhooks_config: str | None,
    exempt_namespaces: tuple[str, ...],
    *,
    all_images: bool,
    wide: bool,
) -> int:
    """Show what a change from policy OLD to policy NEW would do.

    Both policies judge the images in use. The command lists the images that they treat differently, and the
    objects that use these images. It reads the images in use from the cluster, or from one of --audit,
    --images, --audit-log and --reviews (- for stdin).

    With --all-images, the command compares the policies for every image that can exist, in every namespace.
    This needs no cluster. The answer "No image becomes approved." is then proven for all image
    names. The proof does not cover changes of modes, look-ups, resources and dates.

    Exit code: 0 when no image changes in a way that --fail-on names, 1 when one does, 2 when a policy, a file
    or the cluster cannot be used, or the answer would not be complete.
    """
    recording = Recording(audit=audit, images=images, audit_log=audit_log, reviews=reviews)
    _check_usage(policies, configmap, recording, all_images=all_images)
    check_namespace(namespace)
    *old, new = map(usable_policy, policies)
    settings = None if webhooks_config is None else usable_settings(webhooks_config)
    failing = {change for changes in fail_on for change in changes}
    change = _PolicyChange(old[0] if old else None, new, instant or now())
    if all_images or recording.names():
        if configmap is not None:
            with_cluster(kubeconfig, context, partial(change.read_old, configmap=configmap))
        if all_images:
            difference = change.difference()
            if style == "html":
                _write_page(change, difference, policies, configmap)
            else:
                write_difference(change.documents, difference, style, wide=wide)
            return 1 if failing & difference.changes else 0
        changes = change.changes(exempt_namespaces)
        recording.read(changes, change.declared, namespace)
    else:

        async def work(api: ApiClient) -> tuple[Changes, tuple[GroupKind, ...]]:
            if configmap is not None:
                await change.read_old(api, configmap)
            exempt: Iterable[str] = exempt_namespaces
            if (configmap is not None or settings is not None) and not given("exempt_namespaces"):
                installation = DEFAULT_NAMESPACE if configmap is None else configmap.namespace
                known = await exemptions_in(api, installation, namespace, settings)
                note_unknown_exemptions(known)
                exempt = known.namespaces
            found = change.changes(exempt)
            return found, await read_cluster(api, found, change.declared, namespace)

        changes, missing = with_cluster(kubeconfig, context, work)
        note_missing(missing)
    if style == "html":
        _write_page(change, changes, policies, configmap)
    else:
        write_changes(change.documents, changes, style, wide=wide)
    counts = changes.counts
    return 1 if any(counts[each] for each in failing) else 0


class _PolicyChange:
    """The two policies, compared at one instant. ``read_old`` reads the old one if it is in the cluster."""

    def __init__(self, old: Policy | None, new: Policy, instant: datetime) -> None:
        self._old = old
        self._new = new
        self.instant = instant

    async def read_old(self, api: ApiClient, configmap: checked.ConfigMapName) -> None:
        self._old = await policy_in(api, configmap)

    @property
    def _policies(self) -> tuple[Policy, Policy]:
        assert self._old is not None  # noqa: S101 - the usage is checked
        return self._old, self._new

    @property
    def documents(self) -> DocumentChanges:
        return compare_documents(*self._policies)

    @property
    def declared(self) -> frozenset[GroupKind]:
        """The kinds that at least one of the policies declares."""
        entries = (entry for policy in self._policies for entry in policy.document.resources)
        return frozenset((entry.group, entry.kind) for entry in entries)

    def difference(self) -> Difference:
        """Compute the exact difference. Raises ``UnreadableError`` if that would take too long."""
        old, new = (policy.at(self.instant) for policy in self._policies)
        try:
            return compare(old, new)
        except TooComplex as problem:
            raise UnreadableError(f"no exact answer: {problem}; compare parts of the policies") from None
        except Contradiction as problem:
            raise UnreadableError(f"no exact answer, because of a bug in this program: {problem}") from None

    def changes(self, exempt: Iterable[str]) -> Changes:
        old, new = (Snapshot(policy.at(self.instant), CACHE_SIZE, CacheCounts()) for policy in self._policies)
        return Changes(old, new, frozenset(exempt))


def _write_page(
    change: _PolicyChange,
    found: Changes | Difference,
    policies: Sequence[str],
    configmap: checked.ConfigMapName | None,
) -> None:
    from gatekeeper_py import __version__  # noqa: PLC0415 - keeps other commands fast to start
    from gatekeeper_py.reporting.diffpage import DiffPage, changes_page, difference_page  # noqa: PLC0415
    from gatekeeper_py.reporting.pageparts import write_page  # noqa: PLC0415

    *old, new = map(shown, policies)
    page = DiffPage(
        old_name=old[0] if configmap is None else f"ConfigMap {configmap}",
        new_name=new,
        instant=change.instant,
        version=__version__,
    )
    if isinstance(found, Changes):
        write_page(changes_page(change.documents, found, page))
    else:
        write_page(difference_page(change.documents, found, page))


def _check_usage(
    policies: Sequence[str],
    configmap: checked.ConfigMapName | None,
    recording: Recording,
    *,
    all_images: bool,
) -> None:
    needed = 2 if configmap is None else 1
    if len(policies) != needed:
        raise click.UsageError(
            "give two policies: OLD and NEW" if needed == 2 else "with --configmap, give only the policy NEW"  # noqa: PLR2004
        )
    names = recording.names()
    if len(names) > 1:
        raise click.UsageError("give only one of --audit, --images, --audit-log and --reviews")
    if all_images and names:
        raise click.UsageError("--all-images cannot be combined with a file of images")
    if all_images and (given("namespace") or given("exempt_namespaces")):
        raise click.UsageError(
            "--all-images compares the policies for every namespace; it cannot be combined with --namespace"
            " or --exempt-namespace"
        )
    check_exempt_usage()
    if given("webhooks_config") and (all_images or names):
        raise click.UsageError(
            "--webhooks-config needs the cluster, which has the labels of namespaces: with a file of images,"
            " give --exempt-namespace"
        )
    if (*policies, *names).count("-") > 1:
        raise click.UsageError("stdin can be read only once")
