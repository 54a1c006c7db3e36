"""The status of an installation as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from gatekeeper_py.cli.reporting.status import print_status
from gatekeeper_py.controller.status.assess import (
    Enforcement,
    ExceptionsInUse,
    Expiry,
    Replica,
    Status,
    Webhook,
)
from gatekeeper_py.core.policy.document import MODES, OverrideEntry
from support.golden import golden, recorded

NOT_AFTER = datetime(2026, 12, 31, 18, tzinfo=UTC)
STATUS = Status(
    namespace="gatekeeper-py",
    problems=(),
    mode=MODES["enforce"],
    revision="0123456789ab",
    next_expiry=None,
    expired=(),
    replicas=(
        Replica(
            pod="gatekeeper-py-1",
            ready=True,
            mode="enforce",
            revision="0123456789ab",
            certificate_not_after=NOT_AFTER,
        ),
        Replica(pod="gatekeeper-py-2", ready=False, mode=None, revision=None, certificate_not_after=None),
    ),
    webhooks=(
        Webhook(name="image-validation-webhook", present=True, as_desired=True),
        Webhook(name="image-mutation-webhook", present=False, as_desired=False, planned="create"),
    ),
    paused=None,
    in_step=None,
    enforcement=None,
    exempt_namespaces=("gatekeeper-py", "kube-system"),
    exempt_labels=(),
)

LIVE: Final = {"namespace": 3, "installation": 0, "break-glass": 1}
ENDS: Final = tuple(Expiry(entry=f"ghcr.io/{name}", at=NOT_AFTER, owner=None) for name in "abcdef")

CHANGES: Final[dict[str, dict[str, Any]]] = {
    "healthy": {},
    "problems-come-first-and-cannot-control-the-terminal": {"problems": ("one", "two \x1b[31m")},
    "warn": {"mode": MODES["warn"]},
    "overrides-in-their-order": {
        "overrides": (
            OverrideEntry(names=("shop",), mode=MODES["mutate"]),
            OverrideEntry(names=("dev-*", "x"), mode=MODES["warn"], until=NOT_AFTER),
        )
    },
    "next-expiry": {"next_expiry": Expiry(entry="allow[1] b.io", at=NOT_AFTER, owner="build team")},
    "expired": {
        "expired": tuple(Expiry(entry=f"deny[{n}] a.io", at=NOT_AFTER, owner=None) for n in range(7))
    },
    "paused": {"paused": NOT_AFTER},
    "not-checked": {"not_checked": ("a",)},
    "not-in-step": {"in_step": False},
    "proven": {"enforcement": Enforcement(enforced=True, last=NOT_AFTER)},
    "proven-before": {"enforcement": Enforcement(enforced=False, last=NOT_AFTER)},
    "never-proven": {"enforcement": Enforcement(enforced=False, last=None)},
    "many-exempt-namespaces": {
        "exempt_namespaces": tuple(f"ns-{number}" for number in range(25)),
        "exempt_labels": ("a=b",),
    },
    "no-pods": {"replicas": ()},
    "requirements": {"requirements": {"met": 900, "unmet": 12, "error": 1}},
    "unknown-policy": {"mode": None, "revision": None},
    "exceptions-by-source": {
        "exceptions": ExceptionsInUse(
            live=LIVE, next_end="2026-12-10T18:00:00Z", invalid=2, ending=ENDS, ended=ENDS[:1]
        )
    },
}


def test_every_case_has_a_text() -> None:
    assert golden("reporting/status").keys() == CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_the_status_is_shown_as_recorded(
    name: str,
    capsys: pytest.CaptureFixture[str],
    update_golden: bool,  # noqa: FBT001
) -> None:
    print_status(replace(STATUS, **CHANGES[name]))
    shown = capsys.readouterr().out
    table = "reporting/status"
    assert shown == recorded(table, golden(table), name, shown, update=update_golden)
