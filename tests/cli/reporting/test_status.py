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

REPLICAS = """\
REPLICA          READY  MODE     REVISION      CERTIFICATE EXPIRES
gatekeeper-py-1  yes    enforce  0123456789ab  2026-12-31T18:00:00Z
gatekeeper-py-2  no     -        -             -
"""
SHOWN = f"""\
gatekeeper-py in the namespace gatekeeper-py: healthy

mode          enforce
revision      0123456789ab
next expiry   none
fast path     off
enforcement   not probed
exempt        gatekeeper-py, kube-system

{REPLICAS}
WEBHOOK CONFIGURATION     PRESENT  AS DESIRED  PLANNED
image-validation-webhook  yes      yes         -
image-mutation-webhook    no       no          create
"""


EXPIRES: Final = "2026-12-31T18:00:00Z"
WARNS: Final = "warn (refuses nothing, only warns)"
EXPIRED: Final = tuple(Expiry(entry=f"deny[{n}] a.io", at=NOT_AFTER, owner=None) for n in range(7))
EXPIRED_SHOWN: Final = ", ".join(f"deny[{n}] a.io at {EXPIRES}" for n in range(5))
NAMES: Final = tuple(f"ns-{number}" for number in range(25))
EMPTY_TABLE: Final = "REPLICA  READY  MODE  REVISION  CERTIFICATE EXPIRES\n"


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        pytest.param({}, "", "", id="healthy"),
        pytest.param(
            {"problems": ("one", "two \x1b[31m")},
            "healthy\n",
            "not healthy\n  - one\n  - two \\x1b[31m\n",
            id="problems-come-first-and-cannot-control-the-terminal",
        ),
        pytest.param({"mode": MODES["warn"]}, "mode          enforce", f"mode          {WARNS}", id="warn"),
        pytest.param(
            {
                "overrides": (
                    OverrideEntry(names=("shop",), mode=MODES["mutate"]),
                    OverrideEntry(names=("dev-*", "x"), mode=MODES["warn"], until=NOT_AFTER),
                )
            },
            "revision",
            f"              mutate in shop\n              {WARNS} in dev-*, x, until {EXPIRES}\nrevision",
            id="overrides-in-their-order",
        ),
        pytest.param(
            {"next_expiry": Expiry(entry="allow[1] b.io", at=NOT_AFTER, owner="build team")},
            "next expiry   none",
            f"next expiry   allow[1] b.io at {EXPIRES} (owner: build team)",
            id="next-expiry",
        ),
        pytest.param(
            {"expired": EXPIRED},
            "fast path",
            f"expired       {EXPIRED_SHOWN} and 2 more\nfast path",
            id="expired",
        ),
        pytest.param({"paused": NOT_AFTER}, "fast path", f"paused until  {EXPIRES}\nfast path", id="paused"),
        pytest.param({"not_checked": ("a",)}, "fast path", "not checked   a\nfast path", id="not-checked"),
        pytest.param({"in_step": False}, "fast path     off", "fast path     not in step", id="not-in-step"),
        pytest.param(
            {"enforcement": Enforcement(enforced=True, last=NOT_AFTER)},
            "not probed",
            f"proven at {EXPIRES}",
            id="proven",
        ),
        pytest.param(
            {"enforcement": Enforcement(enforced=False, last=NOT_AFTER)},
            "not probed",
            f"last proven at {EXPIRES}",
            id="proven-before",
        ),
        pytest.param(
            {"enforcement": Enforcement(enforced=False, last=None)},
            "not probed",
            "never proven",
            id="never-proven",
        ),
        pytest.param(
            {"exempt_namespaces": NAMES, "exempt_labels": ("a=b",)},
            "gatekeeper-py, kube-system",
            f"{', '.join(NAMES[:20])} and 5 more; labels a=b",
            id="many-exempt-namespaces",
        ),
        pytest.param({"replicas": ()}, REPLICAS, EMPTY_TABLE, id="no-pods"),
        pytest.param(
            {"requirements": {"met": 900, "unmet": 12, "error": 1}},
            "fast path",
            "requirements  12 unmet, 1 unverified, 900 met\nfast path",
            id="requirements",
        ),
    ],
)
def test_the_status_as_text(
    changes: dict[str, Any], before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(replace(STATUS, **changes))
    assert capsys.readouterr().out == SHOWN.replace(before, after, 1)


def test_an_unknown_policy_has_no_next_expiry(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(replace(STATUS, mode=None, revision=None))
    assert "next expiry" not in capsys.readouterr().out


def test_exceptions_are_shown_by_source(capsys: pytest.CaptureFixture[str]) -> None:
    live = {"namespace": 3, "installation": 0, "break-glass": 1}
    at = datetime(2026, 12, 10, 18, tzinfo=UTC)
    ends = tuple(Expiry(entry=f"ghcr.io/{name}", at=at, owner=None) for name in "abcdef")
    found = ExceptionsInUse(
        live=live, next_end="2026-12-10T18:00:00Z", invalid=2, ending=ends, ended=ends[:1]
    )
    print_status(replace(STATUS, exceptions=found))
    listed = "3 namespace, 1 break-glass, next expires 2026-12-10T18:00:00Z"
    expected = f"exceptions    {listed}; invalid ConfigMaps: 2"
    lines = capsys.readouterr().out.splitlines()
    assert expected in lines
    [soon, ended] = lines[lines.index(expected) + 1 :][:2]
    assert soon.startswith("  end soon    ghcr.io/a at 2026-12-10T18:00:00Z, ghcr.io/b at ")
    assert soon.endswith(" and 1 more")
    assert ended == "  ended       ghcr.io/a at 2026-12-10T18:00:00Z"
