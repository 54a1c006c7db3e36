"""The status of an installation as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gatekeeper_py.control.status.assess import Enforcement, ExceptionsInUse, Expiry, Replica, Status, Webhook
from gatekeeper_py.core.policy.document import Mode, OverrideEntry
from gatekeeper_py.reporting.status import print_status

NOT_AFTER = datetime(2026, 12, 31, 18, tzinfo=UTC)
STATUS = Status(
    namespace="gatekeeper-py",
    problems=(),
    mode="enforce",
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
        Webhook(name="image-mutation-webhook", present=False, as_desired=True),
    ),
    paused=None,
    in_step=None,
    enforcement=None,
    exempt_namespaces=("gatekeeper-py", "kube-system"),
    exempt_labels=(),
)

SHOWN = """\
gatekeeper-py in the namespace gatekeeper-py: healthy

mode          enforce
revision      0123456789ab
next expiry   none
fast path     off
enforcement   not probed
exempt        gatekeeper-py, kube-system

REPLICA          READY  MODE     REVISION      CERTIFICATE EXPIRES
gatekeeper-py-1  yes    enforce  0123456789ab  2026-12-31T18:00:00Z
gatekeeper-py-2  no     -        -             -

WEBHOOK CONFIGURATION     PRESENT  AS DESIRED
image-validation-webhook  yes      yes
image-mutation-webhook    no       yes
"""


def shown(status: Status, capsys: pytest.CaptureFixture[str]) -> str:
    print_status(status)
    return capsys.readouterr().out


def test_what_the_caller_may_not_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(replace(STATUS, not_checked=("the Secret a, because you may not read it",)), capsys)
    assert "\nnot checked   the Secret a, because you may not read it\n" in lines


@pytest.mark.parametrize(
    ("mode", "overrides", "expected"),
    [
        pytest.param("warn", (), ["mode          warn (refuses nothing, only warns)"], id="warn"),
        pytest.param(
            "enforce",
            (OverrideEntry(names=("shop",), mode="mutate"), OverrideEntry(names=("dev-*", "x"), mode="warn")),
            [
                "mode          enforce",
                "              mutate in shop",
                "              warn (refuses nothing, only warns) in dev-*, x",
            ],
            id="overrides-in-their-order",
        ),
        pytest.param(
            "enforce",
            (OverrideEntry(names=("*",), mode="warn", until=NOT_AFTER),),
            [
                "mode          enforce",
                "              warn (refuses nothing, only warns) in *, until 2026-12-31T18:00:00Z",
            ],
            id="an-override-that-expires",
        ),
    ],
)
def test_the_modes_show_where_nothing_is_refused(
    mode: Mode, overrides: tuple[OverrideEntry, ...], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(replace(STATUS, mode=mode, overrides=overrides), capsys).splitlines()
    assert lines[2 : 2 + len(expected)] == expected


def test_a_healthy_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(STATUS, capsys) == SHOWN


def test_problems_come_first_and_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    broken = replace(STATUS, problems=("one", "two \x1b[31m"), paused=NOT_AFTER, in_step=False)
    lines = shown(broken, capsys).splitlines()
    assert lines[:3] == [
        "gatekeeper-py in the namespace gatekeeper-py: not healthy",
        "  - one",
        "  - two \\x1b[31m",
    ]
    assert "paused until  2026-12-31T18:00:00Z" in lines
    assert "fast path     not in step" in lines


def test_the_next_expiry_and_the_latest_ones(capsys: pytest.CaptureFixture[str]) -> None:
    following = Expiry(entry="allow[1] b.io", at=NOT_AFTER, owner="build team")
    expired = tuple(Expiry(entry=f"deny[{n}] a.io", at=NOT_AFTER, owner=None) for n in range(7))
    lines = shown(replace(STATUS, next_expiry=following, expired=expired), capsys).splitlines()
    assert "next expiry   allow[1] b.io at 2026-12-31T18:00:00Z (owner: build team)" in lines
    [line] = [each for each in lines if each.startswith("expired")]
    assert line.startswith("expired       deny[0] a.io at 2026-12-31T18:00:00Z, deny[1] a.io at ")
    assert line.endswith("deny[4] a.io at 2026-12-31T18:00:00Z and 2 more")
    unknown = replace(STATUS, mode=None, revision=None)
    assert "next expiry" not in shown(unknown, capsys)


def test_many_exempt_namespaces_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    many = replace(
        STATUS, exempt_namespaces=tuple(f"ns-{number}" for number in range(25)), exempt_labels=("a=b",)
    )
    [line] = [each for each in shown(many, capsys).splitlines() if each.startswith("exempt")]
    assert line.endswith("ns-19 and 5 more; labels a=b")


def test_without_pods_only_the_headings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "REPLICA  READY  MODE  REVISION  CERTIFICATE EXPIRES\n" in shown(
        replace(STATUS, replicas=()), capsys
    )


@pytest.mark.parametrize(
    ("enforcement", "text"),
    [
        pytest.param(Enforcement(enforced=True, last=NOT_AFTER), "proven at 2026-12-31T18:00:00Z", id="now"),
        pytest.param(
            Enforcement(enforced=False, last=NOT_AFTER), "last proven at 2026-12-31T18:00:00Z", id="before"
        ),
        pytest.param(Enforcement(enforced=False, last=None), "never proven", id="never"),
    ],
)
def test_the_proof_of_enforcement(
    enforcement: Enforcement, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"enforcement   {text}\n" in shown(replace(STATUS, enforcement=enforcement), capsys)


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
