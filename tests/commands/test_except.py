"""``gatekeeper-py except`` prints exceptions that the policy lets act."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import policy_text
from gatekeeper_py.cli import run

GRANTS = """
exceptions:
  - {source: namespace, images: [ghcr.io/**, b.io], longest: 14d}
deny: [b.io]
"""
TODAY = "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:\n"
FIRST = "  # why\n  - image: ghcr.io/a  # first\n    until: 2030-01-01\n    reason: r\n"
HERE = ("-n", "team-a", "--reason", 'a "good" reason: x')


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.yaml"
    file.write_text(policy_text(GRANTS), encoding="utf-8")
    return str(file)


def test_the_manifest_acts_at_once(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["except", "ghcr.io/x:1", *HERE, "--for", "14d", "--owner", "me", "--policy", policy]) == 0
    printed = capsys.readouterr()
    assert printed.err == "ghcr.io/x:1: covered by exceptions[0] of the policy\n"
    file = tmp_path / "exceptions.yaml"
    file.write_text(printed.out, encoding="utf-8")
    assert run(["explain", policy, "ghcr.io/x:1", "-n", "team-a", "--exceptions", str(file)]) == 0
    assert '  reason     a "good" reason: x\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("image", "options", "problem"),
    [
        ("quay.io/x", ["--for", "1h"], "no grant with source: namespace covers any of these images here"),
        ("ghcr.io/x", ["--for", "15d"], "the latest until that is good now is"),
        ("ghcr.io/x", ["--until", "2000-01-01"], "the exception ended at 2000-01-01T00:00:00Z"),
        ("b.io/x", ["--for", "1h"], "b.io/x is denied by deny[0] b.io, and no grant overrides that"),
    ],
)
def test_an_exception_that_cannot_act_is_explained(
    policy: str, image: str, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["except", image, *HERE, *options, "--policy", policy])
    printed = capsys.readouterr()
    assert problem in printed.err
    assert (code, printed.out) == (1, "")


def test_a_file_is_printed_with_the_exception_added_and_its_comments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exceptions.yaml"
    file.write_text(f"{TODAY}{FIRST}\n# the end\n", encoding="utf-8")
    assert run(["except", "ghcr.io/b", *HERE, "--until", "2030-02-01", "--into", str(file)]) == 0
    added = '  - image: "ghcr.io/b"\n    until: 2030-02-01T00:00:00Z\n    reason: "a \\"good\\" reason: x"\n'
    assert capsys.readouterr().out == f"{TODAY}{FIRST}{added}\n# the end\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: Other\n", "must hold one valid document with exceptions"),
        (f"{TODAY.strip()} []\n", "write the exceptions as a list with one item below the other"),
        (
            f"{TODAY.strip()} [{{image: a.io, until: 2030-01-01, reason: r}}]\n",
            "write the exceptions as a list with one item below the other",
        ),
    ],
)
def test_a_file_into_which_nothing_can_be_written_is_an_error(
    tmp_path: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exceptions.yaml"
    file.write_text(text, encoding="utf-8")
    assert run(["except", "ghcr.io/b", *HERE, "--for", "1h", "--into", str(file)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a.io", *HERE], "give --for or --until"),
        (["a.io", "--reason", "r", "--for", "1h"], "Missing option '-n'"),
        (["nginx", *HERE, "--for", "1h"], "the host is missing"),
        (["a.io", *HERE, "--for", "1w"], "is not a duration such as 12h or 7d"),
        (["a.io", "-n", "a", "--reason", "r" * 201, "--for", "1h"], "at most 200 characters"),
    ],
)
def test_bad_usage(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["except", *arguments]) == 2
    assert problem in capsys.readouterr().err
