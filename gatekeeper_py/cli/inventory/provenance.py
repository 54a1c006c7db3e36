"""Where a report comes from: when it was made, by which version and policy, and about which cluster."""

from __future__ import annotations

from datetime import datetime

import msgspec

from gatekeeper_py import __version__
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.policy import Policy


class PolicySource(msgspec.Struct, frozen=True):
    """The file or the ConfigMap that held a policy, and the revision of the policy."""

    source: str
    revision: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The field ``meta`` of a report. ``cluster`` is ``None`` if no name of it is known.

    ``namespace`` is set if the report covers only this namespace. For ``diff``, ``policy`` is the new policy,
    and ``at`` is when both policies judge. ``audits`` are the saved audits from which the report was made. If
    they have different policies, ``policy`` is ``None``.
    """

    time: str
    version: str
    cluster: str | None
    policy: PolicySource | None
    namespace: str | None = None
    old_policy: PolicySource | None = None
    at: str | None = None
    audits: tuple[Provenance, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        document: dict[str, object] = msgspec.to_builtins(self)
        return document

    def properties(self) -> dict[str, str]:
        """Return the values for formats that have only texts."""
        policy = self.policy or PolicySource("", "")
        return {
            "time": self.time,
            "version": self.version,
            "cluster": self.cluster or "",
            "policy": policy.source,
            "revision": policy.revision,
        }

    def __str__(self) -> str:
        cluster = f"cluster {self.cluster}, " if self.cluster else ""
        cluster += f"only the namespace {self.namespace}, " if self.namespace else ""
        old = f"{_named(self.old_policy)} -> " if self.old_policy else ""
        policy = f"policy {old}{_named(self.policy)}, " if self.policy else ""
        return f"{cluster}{policy}{self.time}, gatekeeper-py {self.version}"


def provenance(
    instant: datetime, cluster: str | None, policy: Policy, source: str, namespace: str | None = None
) -> Provenance:
    """Return the provenance of a report that this program makes."""
    return Provenance(
        time=format_instant(instant),
        version=__version__,
        cluster=cluster,
        policy=PolicySource(source, policy.revision),
        namespace=namespace,
    )


def _named(policy: PolicySource | None) -> str:
    return "" if policy is None else f"{policy.source} (revision {policy.revision})"
