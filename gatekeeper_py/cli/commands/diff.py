"""``gatekeeper-py diff``: show what a policy change would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import click
import msgspec

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import (
    CONFIGMAP,
    Parsed,
    cluster_options,
    format_option,
    given,
    namespace_option,
    usage,
)
from gatekeeper_py.cli.inputs.cluster import (
    CACHE_SIZE,
    noted_exceptions,
    noted_exemptions,
    policy_in,
    read_cluster,
    with_cluster,
)
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.cli.inputs.files import UnreadableError, shown
from gatekeeper_py.cli.inputs.policies import now, usable, usable_policy, usable_settings
from gatekeeper_py.cli.inputs.recording import read_recording
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.cli.inventory.changes import CHANGES, ImageChanges
from gatekeeper_py.cli.inventory.provenance import PolicySource, Provenance, provenance
from gatekeeper_py.cli.reporting.diff import (
    DiffPage,
    print_changes,
    print_difference,
    write_changes,
    write_difference,
)
from gatekeeper_py.cli.reporting.diffpage import changes_page, difference_page
from gatekeeper_py.cli.reporting.pageparts import write_page
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.compare.difference import Change, Contradiction, Difference, TooComplex, compare
from gatekeeper_py.core.compare.documents import DocumentChanges, compare_documents
from gatekeeper_py.core.exceptions.exceptions import Exceptions
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.process import settings as checked

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient


_WITHOUT_CLUSTER: Final = "to compare without a cluster, give --all-images, --images, --audit or --reviews"


class _Format(NamedTuple):
    """How a format writes the changes of images in use, and the difference for all images."""

    changes: Callable[[DocumentChanges, ImageChanges, DiffPage], None]
    difference: Callable[[DocumentChanges, Difference, DiffPage], None]


FORMATS: Final[Mapping[str, _Format]] = {
    "table": _Format(print_changes, print_difference),
    "json": _Format(write_changes, write_difference),
    "html": _Format(
        lambda *found: write_page(changes_page(*found)), lambda *found: write_page(difference_page(*found))
    ),
}

FailOn = Change | Literal["granted"]


def _changes(text: str) -> tuple[FailOn, ...]:
    """Parse one or more changes, separated by commas."""
    known: tuple[FailOn, ...] = (*CHANGES, "granted")
    names = tuple(change for change in known if change in text.split(","))
    if len(names) != len(text.split(",")):
        raise ValueError(f"{text!r} is not one of {', '.join(known)}")
    return names


@click.command()
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
    "--reviews", metavar="FILE", help="Read the images in use from AdmissionReviews, one on each line."
)
@namespace_option("Look only at this namespace. Default: all.")
@options.AT
@click.option(
    "--fail-on",
    metavar="CHANGE",
    type=Parsed("change", _changes),
    multiple=True,
    default=("rejected",),
    show_default=True,
    help="Exit with 1 if this happens to an image: rejected, approved or rewritten; or, with --all-images,"
    " if exceptions could approve more images: granted. Repeatable.",
)
@format_option(FORMATS)
@options.WIDE
@cluster_options
@options.CLUSTER_NAME
@options.exemptions
@options.EXCEPTIONS
@usage(
    "give at most one of --all-images, --audit, --images and --reviews",
    "--all-images cannot be combined with --exceptions, --namespace, --exempt-namespace or --webhooks-config:"
    " it compares the rules of the policies, for every namespace",
    "--webhooks-config cannot be combined with --audit, --images or --reviews: only a cluster has labels of"
    " namespaces, so give --exempt-namespace instead",
    "--fail-on granted needs --all-images",
    "give at most one of OLD -, NEW -, --audit -, --images -, --reviews - and --webhooks-config -: stdin can"
    " be read only once",
)
def diff(
    policies: tuple[str, ...],
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    instant: datetime | None,
    fail_on: tuple[tuple[FailOn, ...], ...],
    style: str,
    cluster: Cluster,
    cluster_name: str | None,
    webhooks_config: str | None,
    exempt_namespaces: tuple[str, ...],
    exceptions: ExceptionFiles,
    *,
    all_images: bool,
    wide: bool,
    **files: str | None,
) -> int:
    """Show what a change from policy OLD to policy NEW would do.

    Both policies judge the images in use. The command lists the images that they treat differently, and the
    objects that use these images. It reads the images in use from the cluster, or from one of --audit,
    --images and --reviews (- for stdin).

    With --all-images, the command compares the policies for every image that can exist, in every namespace,
    what they require of images that both approve by name, and what exceptions could approve of the images
    that both policies reject. This needs no cluster. The answers are proven for all image names. The proof
    does not cover changes of modes, look-ups of mirrors, resources and dates. For --fail-on,
    weaker requirements count as approved, and stricter ones as rejected.

    Exit code: 0 when no image changes in a way that --fail-on names, 1 when one does, 2 when a policy, a file
    or the cluster cannot be used, or the answer would not be complete.
    """
    _check_number(policies, configmap)
    recordings = {option: name for option, name in files.items() if name is not None}
    given_policies = [usable_policy(each) for each in policies]
    excepted = exceptions.read(namespace)
    change = _PolicyChange(given_policies[0], given_policies[-1], instant or now(), excepted)
    settings = None if webhooks_config is None else usable_settings(webhooks_config)

    async def read_from(api: ApiClient) -> _PolicyChange:
        read = change if configmap is None else replace(change, old=usable(await policy_in(api, configmap)))
        if exceptions or all_images:
            return read
        installation = options.installation_of(configmap, exceptions.installation)
        found = await noted_exceptions(api, (read.old, read.new), installation, namespace)
        return replace(read, exceptions=found)

    async def changes_in(api: ApiClient) -> tuple[_PolicyChange, ImageChanges]:
        exempt: Iterable[str] = exempt_namespaces
        read = await read_from(api)
        if (configmap is not None or settings is not None) and not given("exempt_namespaces"):
            exempt = await noted_exemptions(api, configmap, namespace, settings)
        changes = read.changes(exempt)
        await read_cluster(api, changes, sorted(read.declared), namespace)
        return read, changes

    found: ImageChanges | Difference
    audits: tuple[Provenance, ...] = ()
    if all_images or recordings:
        change = change if configmap is None else with_cluster(cluster, read_from)
        if all_images:
            found = change.difference()
        else:
            found = change.changes(exempt_namespaces)
            audits = read_recording(*recordings.popitem(), found, namespace)
            cluster_name = cluster_name or next((each.cluster for each in audits), None)
    else:
        try:
            change, found = with_cluster(cluster, changes_in)
        except UnreadableError as problem:
            if any(map(given, ("kubeconfig", "context", "configmap"))):
                raise
            raise UnreadableError(f"{problem.message}; {_WITHOUT_CLUSTER}") from None
        cluster_name = cluster_name or cluster.configuration.context
    documents = compare_documents(change.old, change.new)
    old_source = shown(policies[0]) if configmap is None else f"ConfigMap {configmap}"
    meta = msgspec.structs.replace(
        provenance(now(), cluster_name, change.new, shown(policies[-1]), namespace),
        old_policy=PolicySource(old_source, change.old.revision),
        at=format_instant(change.instant),
        audits=audits,
    )
    page = DiffPage(meta=meta, instant=change.instant, wide=wide)
    if isinstance(found, ImageChanges):
        FORMATS[style].changes(documents, found, page)
    else:
        FORMATS[style].difference(documents, found, page)
    happened = _happened(found)
    return 1 if any(name in happened for names in fail_on for name in names) else 0


def _happened(found: ImageChanges | Difference) -> frozenset[str]:
    """Return the changes of at least one image, in the words of ``--fail-on``."""
    if isinstance(found, ImageChanges):
        return frozenset(name for name, count in found.counts.items() if count)
    happened = {"approved": found.widens, "rejected": found.narrows, "rewritten": found.rewrites}
    happened["granted"] = found.grants.widens
    return frozenset(name for name, holds in happened.items() if holds)


@dataclass(frozen=True, slots=True)
class _PolicyChange:
    """Two policies to compare at one instant, with the same exceptions.

    Before a live policy has been read, ``old`` equals ``new``.
    """

    old: Policy
    new: Policy
    instant: datetime
    exceptions: Exceptions

    @property
    def declared(self) -> frozenset[GroupKind]:
        """The kinds that at least one of the policies declares."""
        entries = (*self.old.document.resources, *self.new.document.resources)
        return frozenset((entry.group, entry.kind) for entry in entries)

    def difference(self) -> Difference:
        """Compute the exact difference. Raises ``UnreadableError`` if that would take too long."""
        try:
            return compare(self.old.at(self.instant), self.new.at(self.instant))
        except TooComplex as problem:
            raise UnreadableError(f"no exact answer: {problem}; compare parts of the policies") from None
        except Contradiction as problem:
            raise UnreadableError(f"no exact answer, because of a bug in this program: {problem}") from None

    def changes(self, exempt: Iterable[str]) -> ImageChanges:
        """Return an empty collector of changes."""
        old, new = (
            each.at(self.instant, self.exceptions).serving(CACHE_SIZE, CacheCounts())
            for each in (self.old, self.new)
        )
        return ImageChanges(old, new, frozenset(exempt))


def _check_number(policies: tuple[str, ...], configmap: checked.ConfigMapName | None) -> None:
    if len(policies) != (2 if configmap is None else 1):
        raise click.UsageError("give OLD and NEW, or --configmap and only NEW")
