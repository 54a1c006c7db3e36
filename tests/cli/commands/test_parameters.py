"""Bad usage of every command exits with 2 and a reason, before anything is read or written."""

from __future__ import annotations

import shlex
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from gatekeeper_py.cli.commands.parameters import usage
from support.builders import policy_text
from support.commanding import Command, Write

USAGE: Final = (
    ("", "Usage: gatekeeper-py"),
    ("colour", "Usage: gatekeeper-py"),
    ("--colour", "Usage: gatekeeper-py"),
    ("version more", "Usage: gatekeeper-py"),
    ("schema -x", "Usage: gatekeeper-py"),
    ("check", "Usage: gatekeeper-py check"),
    ("check a b", "Usage: gatekeeper-py check"),
    ("check a --format xml", "Usage: gatekeeper-py check"),
    ("check --colour", "Usage: gatekeeper-py check"),
    ("check - --policy -", "stdin can be read only once"),
    ("explain", "Usage: gatekeeper-py explain"),
    ("explain POLICY", "give exactly one of IMAGE and --rule"),
    ("explain POLICY --fast-path", "give exactly one of IMAGE and --rule"),
    ("explain a x --at yesterday", "neither a date"),
    ("explain a x --at 2030-01-01T00:00:00", "--at"),
    ("explain POLICY nginx -n ''", "'' is not a valid namespace name"),
    ("explain POLICY nginx -n 'a b'", "'a b' is not a valid namespace name"),
    ("explain POLICY nginx --namespace=-a", "'-a' is not a valid namespace name"),
    ("explain POLICY nginx --registry-config .", "--registry-config needs --look-up"),
    ("explain POLICY nginx --look-up --registry-config /nowhere", "does not exist"),
    ("explain POLICY nginx --look-up --fast-path", "give at most one of --rule, --fast-path and --look-up"),
    ("explain POLICY --rule 0 --look-up", "give at most one of --rule, --fast-path and --look-up"),
    ("explain POLICY --rule 0 -n shop", "--rule cannot be combined with --namespace"),
    ("explain POLICY nginx --rule 0", "give exactly one of IMAGE and --rule"),
    ("explain POLICY --rule 9", "there is no allow[9]; the policy has 1 such rules"),
    ("explain POLICY --rule deny[1]", "there is no deny[1]"),
    ("explain POLICY --rule=-1", "is not a number, allow[N] or deny[N]"),
    (f"explain POLICY --rule {'9' * 5000}", "is not a number"),
    ("review POLICY x --registry-config .", "--registry-config needs --look-up"),
    ("review POLICY x -n 'a b'", "'a b' is not a valid namespace name"),
    ("review POLICY x --exempt-namespace=*", "'*' is not a valid namespace name"),
    (
        "review POLICY x --webhooks-config y --exempt-namespace a",
        "give at most one of --webhooks-config and --exempt-namespace",
    ),
    ("review POLICY POLICY --ignore=b", "no FILE is a directory"),
    ("review POLICY x --mutate --format sarif", "--mutate cannot be combined with --format sarif"),
    ("review POLICY x --mutate --format junit", "--mutate cannot be combined with --format junit"),
    ("review - -", "stdin can be read only once"),
    ("review - a -", "stdin can be read only once"),
    ("review policy - -", "stdin can be read only once"),
    (
        "compile POLICY --to match-conditions --backstop",
        "--exempt-namespace need --to validating-admission-policy",
    ),
    (
        "compile POLICY --to match-conditions --static",
        "--exempt-namespace need --to validating-admission-policy",
    ),
    (
        "compile POLICY --to match-conditions --exempt-namespace x",
        "--exempt-namespace need --to validating-admission-policy",
    ),
    ("diff a", "give OLD and NEW, or --configmap and only NEW"),
    ("diff a b c", "give OLD and NEW, or --configmap and only NEW"),
    ("diff a b --configmap x/y", "give OLD and NEW, or --configmap and only NEW"),
    ("diff a b --images x --audit y", "give at most one of --all-images, --audit, --images and --reviews"),
    ("diff a b --images x --all-images", "give at most one of --all-images, --audit, --images and --reviews"),
    ("diff a b --all-images -n shop", "--all-images cannot be combined with"),
    ("diff a b --all-images --exempt-namespace shop", "--all-images cannot be combined with"),
    ("diff a b --all-images --exceptions x", "--all-images cannot be combined with"),
    ("diff a b --all-images --webhooks-config x", "--all-images cannot be combined with"),
    ("diff a b --images x --webhooks-config y", "--webhooks-config cannot be combined with --audit"),
    (
        "diff a b --exempt-namespace x --webhooks-config y",
        "give at most one of --webhooks-config and --exempt-namespace",
    ),
    ("diff - b --images -", "stdin can be read only once"),
    ("diff - -", "stdin can be read only once"),
    ("diff a b -n ../x", "not a valid namespace name"),
    ("diff a b --fail-on widened", "not one of rejected, approved"),
    ("diff a b --at noon", "neither a date"),
    ("diff a b --fail-on granted", "--fail-on granted needs --all-images"),
    ("diff a b --fail-on approved,granted", "--fail-on granted needs --all-images"),
    ("audit", "give exactly one of --policy, --configmap, --suggest and --merge"),
    ("audit --policy x --configmap a/b", "give exactly one of --policy, --configmap, --suggest and --merge"),
    ("audit --configmap b", "not NAMESPACE/NAME"),
    ("audit --configmap a/b -n ../x", "'../x' is not a valid namespace name"),
    ("audit --configmap a/b -n ''", "'' is not a valid namespace name"),
    ("audit --configmap a/b --format xml", "'xml' is not one of"),
    ("audit --policy POLICY --cluster-name ''", "give 1 to 253 characters"),
    (f"audit --policy POLICY --cluster-name {'x' * 254}", "give 1 to 253 characters"),
    ("audit --policy POLICY --exceptions-unused -n shop", "--exceptions-unused cannot be combined with"),
    ("audit --policy POLICY --exceptions-unused --all", "--exceptions-unused cannot be combined with"),
    ("audit --policy POLICY --exceptions-unused --look-up", "--exceptions-unused cannot be combined with"),
    (
        "audit --policy POLICY --exceptions-unused --format csv",
        "--exceptions-unused cannot be combined with --format csv",
    ),
    (
        "audit --policy POLICY --exceptions-unused --every 10s",
        "give at most one of --suggest, --every and --exceptions-unused",
    ),
    ("audit --merge", "--merge needs FILE: at least one saved audit"),
    ("audit a.json", "only --merge reads saved audits"),
    ("audit --merge - -", "stdin can be read only once"),
    ("audit --merge a.json --policy p", "--merge takes only FILE, --all, --format and --wide"),
    ("audit --merge a.json -n shop", "--merge takes only FILE, --all, --format and --wide"),
    ("audit --merge a.json --context x", "--merge takes only FILE, --all, --format and --wide"),
    ("audit --merge a.json --every 1m", "--merge takes only FILE, --all, --format and --wide"),
    ("audit --policy POLICY --by path", "--by and --base need --suggest"),
    ("audit --policy POLICY --base x", "--by and --base need --suggest"),
    (
        "audit --policy POLICY --webhooks-config x --exempt-namespace a",
        "give at most one of --webhooks-config and --exempt-namespace",
    ),
    ("audit --policy POLICY --webhooks-config x --every 10m", "--every cannot be combined with"),
    ("audit --suggest --webhooks-config x", "--suggest cannot be combined with"),
    ("audit --suggest --policy x", "give exactly one of --policy, --configmap, --suggest and --merge"),
    ("audit --suggest --configmap a/b", "give exactly one of --policy, --configmap, --suggest and --merge"),
    ("audit --suggest --format json", "--suggest cannot be combined with"),
    ("audit --suggest --look-up", "--suggest cannot be combined with"),
    ("audit --suggest --by tag", "'tag' is not one of"),
    ("audit --suggest --base /nowhere", "/nowhere: No such file"),
    ("audit --suggest --all --exempt-namespace shop", "--suggest --all cannot be combined"),
    ("audit --policy POLICY --report auto", "need --every"),
    ("audit --policy POLICY --events", "need --every"),
    ("audit --policy POLICY --every 10m --format json", "--every cannot be combined with"),
    ("audit --every 10m --suggest", "give at most one of --suggest, --every and --exceptions-unused"),
    ("audit --policy POLICY --every 10m --all", "--every cannot be combined with"),
    ("audit --policy POLICY --every 10m --exceptions x", "--every cannot be combined with"),
    ("audit --policy - --every 10m", "--every cannot be combined with"),
    ("audit --policy - --webhooks-config -", "stdin can be read only once"),
    ("audit --policy POLICY --registry-config .", "--registry-config needs --look-up"),
    ("audit --policy POLICY --every soon", "is not a duration"),
    ("audit --policy POLICY --every 5s", "is not between 10 s and 24 h"),
    ("audit --policy POLICY --every 25h", "is not between 10 s and 24 h"),
    ("audit --policy POLICY --every \u0663m", "is not a duration"),
    ("except a.io/x --for 1d --reason r", "Missing option '-n'"),
    ("except a.io/x -n a --reason r", "give exactly one of --for and --until"),
    ("except a.io/x -n a --for 1d --until 2999-01-01 --reason r", "give exactly one of --for and --until"),
    ("except a.io/x -n a --until 2020-01-01 --reason r", "--until is in the past"),
    ("except a.io/x -n a --for 401d --reason r", "401d is not between"),
    ("except a.io/x -n a --for 1d --reason ''", "must not be empty"),
    (f"except a.io/x -n a --for 1d --reason {'x' * 201}", "at most 200 characters"),
    ("except */x -n a --for 1d --reason r", "would approve every registry"),
    ("except NGINX -n a --for 1d --reason r", "'NGINX': "),
    ("test - -", "stdin can be read only once"),
    ("status -n Shop", "'Shop' is not a valid namespace name"),
    ("status --kubeconfig /nowhere", "/nowhere: no such file"),
    ("status --format xml", "'xml' is not one of"),
    ("serve", "give exactly one of --policy and --configmap"),
    ("serve --policy x --configmap a/b", "give exactly one of --policy and --configmap"),
    ("serve --configmap a", "'--configmap': 'a' is not NAMESPACE/NAME"),
    ("serve --configmap a/b", "--configmap needs --tls-cert or --tls-self-signed"),
    ("serve --policy x --exceptions absent", "'--exceptions': Path 'absent' does not exist"),
    ("serve --policy x --listen nowhere", "'--listen': 'nowhere' is not HOST:PORT"),
    (f"serve --policy x --listen [::1]:{'1' * 5000}", "HOST:PORT"),
    ("serve --policy x --health-listen :1", "'--health-listen': ':1' has no host"),
    ("serve --configmap a/b --tls-self-signed --exceptions .", "--exceptions needs --policy"),
    ("serve --policy x --tls-cert x", "--tls-cert needs --tls-key"),
    ("serve --policy x --tls-key x", "--tls-key needs --tls-cert"),
    ("serve --policy x --tls-cert x --tls-key x --tls-self-signed", "--tls-cert cannot be combined"),
    ("serve --policy x --tls-cert x --tls-key x --tls-ca-out x", "--tls-cert cannot be combined"),
    ("serve --policy x --client-name x", "--client-name needs --client-ca"),
    ("serve --policy x --max-connections 0", "--max-connections"),
    ("serve --policy x --max-body-bytes 7MiB", "--max-body-bytes"),
    ("serve --policy x --cache-size=-1", "--cache-size"),
    ("serve --policy x --drain-seconds nan", "nan is not a number of seconds"),
    ("serve --policy x --log-level loud", "--log-level"),
    ("serve --policy x --log-format xml", "--log-format"),
    ("serve --policy /", "directory"),
    ("serve --policy x more", "more"),
    ("control --certificate-days=30", "must be less than"),
    ("control --certificate-days=0", "--certificate-days"),
    ("control --certificate-days=1e9", "--certificate-days"),
    ("control --certificate-days=nan", "'--certificate-days': nan is not a number of days"),
    ("control --renew-before-days=nan", "'--renew-before-days': nan is not a number of days"),
    ("control --settle-seconds=nan", "'--settle-seconds': nan is not a number of seconds"),
    ("control --settle-seconds=-1", "--settle-seconds"),
    ("control --settle-seconds=inf", "--settle-seconds"),
    ("control --health-listen=nowhere", "'--health-listen': 'nowhere' is not"),
    ("control --log-level=loud", "--log-level"),
    ("control --fast-path --once", "give at most one of --once, --remove and --fast-path"),
    ("control --remove --once", "give at most one of --once, --remove and --fast-path"),
    ("control --remove --fast-path", "give at most one of --once, --remove and --fast-path"),
    ("control --configmap=ns/p", "must be in the namespace"),
    ("control --configmap=policy", "'policy' is not NAMESPACE/NAME"),
    ('control "--configmap=gatekeeper-py/p\'"', "is not a valid ConfigMap name"),
    ("control --webhooks=.", "No such option"),
    ("control --probe-namespace=gatekeeper-py", "Pods in gatekeeper-py are never"),
    ("control --probe-namespace=kube-system", "are never reviewed"),
    ("control --probe-namespace=../x", "not a valid namespace name"),
    ("control extra", "unexpected extra argument"),
)
"""Command lines, and a part of each message. POLICY is a good policy; no other file exists."""


@pytest.mark.parametrize(
    ("line", "message"), [pytest.param(*row, id=row[0][:80] or "no-command") for row in USAGE]
)
def test_bad_usage_exits_with_2(command: Command, write: Write, line: str, message: str) -> None:
    path = str(write(policy_text()))
    arguments = [path if each == "POLICY" else each for each in shlex.split(line)]
    done = command(*arguments, stdin=policy_text())
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
