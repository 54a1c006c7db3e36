"""The rules of command lines. The table ``usage`` has the messages of every command."""

from __future__ import annotations

import shlex
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from gatekeeper_py.cli.commands.parameters import usage
from support.builders import policy_text
from support.commanding import Command, Write


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"explain POLICY --rule {'9' * 5000}", "is not a number"),
        (f"serve --policy x --listen [::1]:{'1' * 5000}", "HOST:PORT"),
        ("x" * 100_000, "No such command"),
    ],
    ids=["rule", "port", "command"],
)
def test_a_huge_argument_is_bad_usage(command: Command, write: Write, line: str, message: str) -> None:
    policy = write(policy_text())
    done = command(*(policy if each == "POLICY" else each for each in line.split()))
    assert (done.code, done.out) == (2, "")
    assert message in done.err


_NEEDS: Final = "--flag and --many need FILE or --text: why"
_EXCLUDES: Final = "--flag cannot be combined with --many or FILE"
_TAKES: Final = "--flag takes only FILE and --text"
_EXACTLY: Final = "give exactly one of FILE and --flag"
_ONLY: Final = "give at most one of FILE -, --text - and --many c: why"


@pytest.mark.parametrize(
    ("rule", "refused", "accepted"),
    [
        (_NEEDS, ("--flag", "--many b"), ("", "a", "--flag a", "--many b --text default")),
        (_EXCLUDES, ("--flag --many b", "--flag a --text x"), ("", "--flag --text x", "--many b a")),
        (_TAKES, ("--flag --many b",), ("", "--flag a --text x", "--many b")),
        (_EXACTLY, ("", "--flag a"), ("a", "a b", "--flag --text x")),
        (_ONLY, ("- -", "- --text -", "--many b,c -"), ("", "- a --text x", "a b --flag", "--many c")),
    ],
)
def test_a_command_line_that_breaks_a_rule_is_refused_with_it(
    rule: str, refused: tuple[str, ...], accepted: tuple[str, ...]
) -> None:
    @click.command()
    @click.argument("files", metavar="[FILE]...", nargs=-1)
    @click.option("--flag", is_flag=True, envvar="FLAG")
    @click.option("--text", default="default")
    @click.option("--many", multiple=True, default=("a",), callback=_split)
    @usage(rule)
    def command(**_values: Any) -> None:
        """Do nothing."""

    def run(line: str) -> str:
        """Run the command with the flag from its environment variable, ``True`` or ``False``."""
        runner = CliRunner(env={"FLAG": str("--flag" in line)})
        return runner.invoke(command, shlex.split(line.replace("--flag", ""))).stderr

    assert {line for line in (*refused, *accepted) if f"Error: {rule}\n" in run(line)} == {*refused}
    assert {run(line) for line in accepted} == {""}


def _split(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(tuple(each.split(",")) for each in values)
