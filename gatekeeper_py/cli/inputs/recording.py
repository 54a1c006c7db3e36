"""Images in use from recorded files, for ``diff`` and ``audit --merge``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from gatekeeper_py import __version__
from gatekeeper_py.cli.inputs.files import MAX_BYTES, UnreadableError, read_bytes, read_lines, shown
from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.recorded import (
    InvalidRecord,
    SavedAudit,
    listed_images,
    reviewed_requests,
)
from gatekeeper_py.cli.inventory.tally import Tally, Use
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.policy.instant import format_instant

MAX_LINE: Final = 32 * 2**20
"""Maximum size of one record in bytes. An API server accepts objects of 3 MiB, and a review contains two."""

MAX_AUDIT: Final = 2**30
"""Maximum size of a saved audit in bytes. An audit of 50,000 Pods has 30 MiB."""


def read_recording(
    option: str, argument: str, changes: ImageChanges, namespace: str | None
) -> tuple[Provenance, ...]:
    """Pass the records in a file to ``changes``: all, or with ``namespace`` those of this namespace.

    ``option`` is the option that named the file. Returns the provenance of a saved audit. Raises
    ``UnreadableError``.
    """
    taken = 0
    meta = None
    try:
        records: Iterator[Use | AdmissionRequest]
        if option == "audit":
            saved = SavedAudit(read_bytes(argument, MAX_AUDIT)[1])
            meta, records = saved.meta, saved.used()
        else:
            lines = read_lines(argument, MAX_LINE)
            records = listed_images(lines, namespace) if option == "images" else reviewed_requests(lines)
        for record in records:
            used_in = record.usage.namespace if isinstance(record, Use) else record.namespace
            if namespace is not None and used_in != namespace:
                continue
            taken += 1
            if isinstance(record, Use):
                changes.take_image(*record)
            else:
                changes.take(record)
    except InvalidRecord as problem:
        raise UnreadableError(f"{shown(argument)}: {problem}") from None
    # An empty result would look like success, for example if the namespace is misspelled. Only a whole saved
    # audit may be empty, because it states its number of images, so an incomplete one is an error.
    if not taken and (option != "audit" or namespace is not None):
        where = "" if namespace is None else f" in the namespace {namespace}"
        raise UnreadableError(f"{shown(argument)}: there is nothing to judge{where}")
    return () if meta is None else (meta,)


def merged(files: Sequence[str], instant: datetime, *, keep_approved: bool) -> tuple[Tally, Provenance]:
    """Return the audits in several files as one, with the cluster of each use. Raises ``UnreadableError``."""
    tally = Tally(keep_approved=keep_approved)
    seen: Counter[str] = Counter()
    metas = [_merge(file, tally, seen) for file in files]
    warnings = [
        f"{count} audits are about the cluster {cluster}, so its objects are counted {count} times"
        for cluster, count in seen.items()
        if count > 1
    ]
    warnings += [
        f"the audit of the cluster {meta.cluster} covers only the namespace {meta.namespace}"
        for meta in metas
        if meta.namespace is not None
    ]
    revisions = {meta.policy.revision for meta in metas if meta.policy}
    if len(revisions) > 1:
        warnings.append(f"the audits have {len(revisions)} different policy revisions")
    return tally, Provenance(
        time=format_instant(instant),
        version=__version__,
        cluster=None,
        policy=metas[0].policy if len({meta.policy for meta in metas}) == 1 else None,
        audits=tuple(metas),
        warnings=tuple(warnings),
    )


def _merge(file: str, tally: Tally, seen: Counter[str]) -> Provenance:
    """Add the audit in a file to ``tally``. A second audit of one cluster is labelled as such."""
    name, content = read_bytes(file, MAX_BYTES)
    try:
        saved = SavedAudit(content)
        meta, cluster = saved.origin()
        seen[cluster] += 1
        if seen[cluster] > 1:
            cluster = f"{cluster} ({seen[cluster]})"
        tally.objects += saved.objects
        for image, usages in saved.judged():
            for usage in usages:
                tally.add(image, usage._replace(cluster=cluster))
    except InvalidRecord as problem:
        raise UnreadableError(f"{name}: {problem}") from None
    return msgspec.structs.replace(meta, cluster=cluster)
