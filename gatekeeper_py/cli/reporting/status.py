"""The status of an installation, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from gatekeeper_py.cli.reporting.console import Console, console
from gatekeeper_py.cli.reporting.tables import print_table
from gatekeeper_py.controller.status.assess import ExceptionsInUse, Expiry, Replica, Status, Webhook
from gatekeeper_py.core.admission.judge import Met
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.instant import format_instant

MAX_EXPIRED: Final = 5
"""Maximum number of expired entries that are listed. A count of the others follows."""

MAX_NAMES: Final = 20
"""Maximum number of exempt namespaces that are listed. A count of the others follows."""


def print_status(status: Status) -> None:
    """Print the status with its problems first."""
    out = console()
    verdict = ("healthy", "bold green") if status.healthy else ("not healthy", "bold red")
    out.print(f"gatekeeper-py in the namespace {status.namespace}: ", verdict)
    for problem in status.problems:
        out.print(("  - ", "bold red"), problem)
    out.print()
    _row(out, "mode", "unknown" if status.mode is None else _effect(status.mode))
    for each in status.overrides:
        until = "" if each.until is None else f", until {format_instant(each.until)}"
        _row(out, "", f"{_effect(each.mode)} in {_listed(each.names, MAX_NAMES)}{until}")
    _row(out, "revision", status.revision or "unknown")
    if status.mode is not None:
        _row(out, "next expiry", "none" if status.next_expiry is None else _expiry(status.next_expiry))
    if status.expired:
        _row(out, "expired", _listed(list(map(_expiry, status.expired)), MAX_EXPIRED))
    if status.requirements is not None:
        met, unmet, error = (status.requirements[result] for result in get_args(Met))
        _row(out, "requirements", f"{unmet} unmet, {error} unverified, {met} met")
    if status.exceptions is not None:
        _print_exceptions(out, status.exceptions)
    if status.paused is not None:
        _row(out, "paused until", format_instant(status.paused))
    for unknown in status.not_checked:
        _row(out, "not checked", unknown)
    _row(out, "fast path", {None: "off", True: "in step", False: "not in step"}[status.in_step])
    _row(out, "enforcement", _enforcement(status))
    _row(out, "exempt", _exempt(status))
    replicas = [_replica(each) for each in status.replicas]
    _table(out, ("REPLICA", "READY", "MODE", "REVISION", "CERTIFICATE EXPIRES"), replicas)
    webhooks = [_webhook(each) for each in status.webhooks]
    _table(out, ("WEBHOOK CONFIGURATION", "PRESENT", "AS DESIRED", "PLANNED"), webhooks)


def _row(out: Console, label: str, value: str) -> None:
    out.print((f"{label:<14}", "dim"), value)


def _effect(mode: Mode) -> str:
    return mode.name if mode.refuses else f"{mode} (refuses nothing{', only warns' if mode.warns else ''})"


def _enforcement(status: Status) -> str:
    found = status.enforcement
    if found is None:
        return "not probed"
    last = "never proven" if found.last is None else f"last proven at {format_instant(found.last)}"
    return f"proven at {format_instant(found.last)}" if found.enforced and found.last else last


def _exempt(status: Status) -> str:
    text = _listed(status.exempt_namespaces, MAX_NAMES)
    return f"{text}; labels {', '.join(status.exempt_labels)}" if status.exempt_labels else text


def _print_exceptions(out: Console, found: ExceptionsInUse) -> None:
    live = ", ".join(f"{count} {source}" for source, count in found.live.items() if count)
    end = "" if found.next_end is None else f", next expires {found.next_end}"
    invalid = f"; invalid ConfigMaps: {found.invalid}" if found.invalid else ""
    _row(out, "exceptions", f"{live or 'none live'}{end}{invalid}")
    for label, ends in (("end soon", found.ending), ("ended", found.ended)):
        if ends:
            _row(out, f"  {label}", _listed(list(map(_expiry, ends)), MAX_EXPIRED))


def _expiry(expiry: Expiry) -> str:
    owner = f" (owner: {expiry.owner})" if expiry.owner else ""
    return f"{expiry.entry} at {format_instant(expiry.at)}{owner}"


def _listed(names: Sequence[str], at_most: int) -> str:
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")


def _replica(each: Replica) -> tuple[str, ...]:
    expires = each.certificate_not_after
    return (
        each.pod,
        _yes_or_no(each.ready),
        each.mode or "-",
        each.revision or "-",
        "-" if expires is None else format_instant(expires),
    )


def _webhook(each: Webhook) -> tuple[str, ...]:
    return each.name, _yes_or_no(each.present), _yes_or_no(each.as_desired), each.planned or "-"


def _yes_or_no(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else "no"


def _table(out: Console, headings: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    out.print()
    print_table(out, headings, rows, [""] * len(rows), wide=True)
