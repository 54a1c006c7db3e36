"""Findings about the entries of a document with exceptions, under a policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatekeeper_py.core import Finding, parse_policy
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions, _Held
from gatekeeper_py.core.exceptions.grants import Grants, Source
from gatekeeper_py.core.policy.exceptions import exception_findings
from gatekeeper_py.core.policy.finding import MAX_FINDINGS
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import INSTANT, exceptions_text, policy_text

GRANT = "{source: namespace, images: [ghcr.io/**], longest: 2h, most: 1}"
SOON = "until: 2026-03-01T13:00:00Z, reason: r"


def found(
    *entries: str, grant: str = GRANT, allow: str = "[a.io]", source: Source = "namespace"
) -> tuple[Finding, ...]:
    policy = parse_policy(policy_text(f"exceptions: [{grant}]\n", allow=allow)).at(INSTANT)
    document = parse_exceptions(exceptions_text(*entries), source)
    return exception_findings(policy, Exceptions({DocumentKey(source, "team-a"): document}), INSTANT)


def shown(
    *entries: str, allow: str = "[a.io]", grant: str = GRANT, source: Source = "namespace"
) -> list[str]:
    findings = found(*entries, allow=allow, grant=grant, source=source)
    return [f"{each.severity} {each.code} {each}" for each in findings]


def test_an_entry_that_acts_has_no_finding() -> None:
    assert shown(f"image: ghcr.io/x, {SOON}") == []


def test_an_entry_that_is_too_long_names_the_latest_until_that_is_allowed_now() -> None:
    """`check` and the guard refuse an entry that is longer than its grant, naming the latest `until`."""
    assert shown("image: ghcr.io/x, until: 2026-03-01T14:00:01Z, reason: r") == [
        (
            "error exception-too-long line 4, exceptions[0]: until is further away than the grant allows, so"
            " the exception has no effect yet (the latest until that is allowed now is 2026-03-01T14:00:00Z)"
        )
    ]


def test_an_entry_outside_every_grant() -> None:
    (finding,) = found(f"image: quay.io/x, {SOON}")
    assert (finding.severity, finding.code, finding.line) == ("error", "exception-outside", 4)
    assert finding.message == "no grant with source: namespace covers any of these images here"
    (finding,) = found(f"image: ghcr.io/x, {SOON}", source="break-glass")
    assert finding.message.startswith("the policy has no grant with source: break-glass")


def test_entries_after_the_most_that_count() -> None:
    (finding,) = found(f"image: ghcr.io/x, {SOON}", f"image: ghcr.io/y, {SOON}")
    assert (finding.severity, finding.code, finding.path) == ("error", "too-many", "exceptions[1]")


def test_an_entry_that_has_ended() -> None:
    assert shown("image: ghcr.io/x, until: 2026-03-01T12:00:00Z, reason: r") == [
        "warning expired line 4, exceptions[0]: the exception expired at 2026-03-01T12:00:00Z (remove it)"
    ]


@pytest.mark.parametrize(
    ("allow", "superfluous"),
    [
        ("[ghcr.io]", True),
        ("[{image: ghcr.io, namespaces: [team-*]}]", True),
        ("[{image: ghcr.io, namespaces: [team-b]}]", False),
        ("[{image: ghcr.io, until: 2026-03-01T13:00:00Z}]", True),
        ("[{image: ghcr.io, until: 2026-03-01T12:59:59Z}]", False),
        ("['ghcr.io/x:1']", False),
    ],
)
def test_an_entry_that_the_policy_approves_anyway(allow: str, superfluous: bool) -> None:  # noqa: FBT001
    codes = [finding.code for finding in found(f"image: ghcr.io/x, {SOON}", allow=allow)]
    assert codes == (["exception-superfluous"] if superfluous else [])


def test_an_entry_that_does_not_replace_a_requirement() -> None:
    text = policy_text(
        f"exceptions: [{GRANT}]\nrequire: [{{images: [ghcr.io], digest: true}}]\n", allow="[ghcr.io]"
    )
    document = parse_exceptions(exceptions_text(f"image: ghcr.io/x, {SOON}"), "namespace")
    exceptions = Exceptions({DocumentKey("namespace", "team-a"): document})
    (finding,) = exception_findings(parse_policy(text).at(INSTANT), exceptions, INSTANT)
    assert finding.code == "exception-superfluous"
    assert finding.message.endswith("by allow[0], and an exception does not replace a requirement")


def test_an_entry_that_may_be_needed_for_a_denied_image_is_not_superfluous() -> None:
    grant = "{source: break-glass, images: [ghcr.io], longest: 2h, overrides: deny}"
    assert shown(f"image: ghcr.io/x, {SOON}", grant=grant, allow="[ghcr.io]", source="break-glass") == []


def test_at_most_a_hundred_findings_are_listed() -> None:
    findings = found(*[f"image: quay.io/x, {SOON}"] * 300)
    assert len(findings) == MAX_FINDINGS + 1
    assert findings[-1].message == "200 more findings are not listed"


def test_entries_that_are_too_long_are_not_all_read_again_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard does this between two reviews, for whoever may write exceptions."""
    read: list[_Held] = []
    windows = _Held.windows

    def counted(held: _Held, grants: Grants) -> Iterator[tuple[int, int, int]]:
        read.append(held)
        return windows(held, grants)

    monkeypatch.setattr(_Held, "windows", counted)
    assert len(found(*["image: ghcr.io/x, until: 2099-01-01, reason: r"] * 300)) == MAX_FINDINGS + 1
    assert len(read) == 1
