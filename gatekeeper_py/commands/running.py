"""Images in use, for ``diff``: from the cluster, or from a recorded file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper_py.commands.clusterinput import progress
from gatekeeper_py.commands.files import UnreadableError, read_bytes, read_lines, shown
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.changes import Changes
from gatekeeper_py.inventory.recorded import InvalidRecord, UsedImage, audited_images, listed_images
from gatekeeper_py.inventory.requests import logged_requests, reviewed_requests

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient

MAX_LINE: Final = 32 * 2**20
"""Maximum size of one record in bytes. An API server accepts objects of 3 MiB, and an event of its audit log
contains two of them."""

MAX_AUDIT: Final = 2**30
"""Maximum size of a saved audit in bytes. An audit of 50,000 Pods has 30 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The file that contains the images in use. At most one of the fields is set."""

    audit: str | None
    images: str | None
    audit_log: str | None
    reviews: str | None

    def names(self) -> list[str]:
        given = (self.audit, self.images, self.audit_log, self.reviews)
        return [name for name in given if name is not None]

    def read(self, changes: Changes, declared: frozenset[GroupKind], namespace: str | None) -> None:
        """Pass every record in the file to ``changes``; with ``namespace``, only those of this namespace.

        ``declared`` are the kinds that the policies declare. Raises ``UnreadableError``.
        """
        (argument,) = self.names()
        taken = 0
        try:
            for record in self._records(declared, namespace):
                taken += _take(record, changes, namespace)
        except InvalidRecord as problem:
            raise UnreadableError(f"{shown(argument)}: {problem}") from None
        # An empty result would look like success, for example if the namespace is misspelled. A whole saved
        # audit may be empty, because it states its number of images.
        if not taken and (self.audit is None or namespace is not None):
            where = "" if namespace is None else f" in the namespace {namespace}"
            raise UnreadableError(f"{shown(argument)}: there is nothing to judge{where}")

    def _records(
        self, declared: frozenset[GroupKind], namespace: str | None
    ) -> Iterator[UsedImage | AdmissionRequest]:
        if self.audit is not None:
            return audited_images(read_bytes(self.audit, MAX_AUDIT)[1])
        if self.images is not None:
            return listed_images(read_lines(self.images, MAX_LINE), namespace)
        if self.audit_log is not None:
            return logged_requests(read_lines(self.audit_log, MAX_LINE), declared)
        return reviewed_requests(read_lines(self.reviews or "", MAX_LINE))


def _take(record: UsedImage | AdmissionRequest, changes: Changes, namespace: str | None) -> bool:
    if isinstance(record, UsedImage):
        if namespace is not None and record.usage.namespace != namespace:
            return False
        changes.take_image(*record)
    else:
        if namespace is not None and record.namespace != namespace:
            return False
        changes.objects += 1
        changes.take(record)
    return True


async def read_cluster(
    api: ApiClient, changes: Changes, declared: frozenset[GroupKind], namespace: str | None
) -> tuple[GroupKind, ...]:
    """Pass every object in the cluster to ``changes``. Return the kinds that the cluster does not serve.

    Raises ``ClusterError``.
    """
    from gatekeeper_py.inventory.listing import collect  # noqa: PLC0415 - keeps other commands fast to start

    with progress() as on_page:
        return await collect(api, sorted(declared), changes, namespace=namespace, on_page=on_page)
