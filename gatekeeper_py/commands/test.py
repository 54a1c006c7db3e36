"""``gatekeeper-py test``: run policy tests, for CI."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from gatekeeper_py.commands.files import in_folder, real_folder
from gatekeeper_py.commands.parameters import WEBHOOKS_CONFIG
from gatekeeper_py.commands.policyinput import now, read_policy, usable, usable_settings
from gatekeeper_py.commands.testfile import CaseFile, read_tests
from gatekeeper_py.commands.testrun import Runner
from gatekeeper_py.control.webhooks.settings import WebhookSettings
from gatekeeper_py.reporting.cases import print_results, results_as_json, results_as_junit
from gatekeeper_py.reporting.console import json_text
from gatekeeper_py.reporting.findings import print_findings


@click.command(short_help="Run the tests of a policy.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format",
    "--output",
    "-o",
    "style",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
)
@WEBHOOKS_CONFIG
def test(files: tuple[str, ...], style: Literal["text", "json", "junit"], webhooks_config: str | None) -> int:
    """Run the policy tests in each FILE (- for stdin).

    A file names a policy and cases. Each case has an image or a manifest, and the verdict that it must get.
    "gatekeeper-py schema --for test" describes its fields.

    With --webhooks-config, objects of a manifest in exempt namespaces are not judged. The command reads the
    labels of a namespace from its Namespace object in the manifest.

    Exit code: 0 when all cases pass, 1 when some fail, 2 when a file cannot be used.
    """
    if (*files, webhooks_config).count("-") > 1:
        raise click.UsageError("stdin can be read only once")
    instant = now()
    # All files are read before any case runs, so that an invalid file is reported at once.
    given = [(argument, read_tests(argument)) for argument in files]
    if any(file.errors for _, file in given):
        for _, file in given:
            print_findings(file.name, file.lines, file.errors, stderr=True)
        raise click.exceptions.Exit(2)
    settings = WebhookSettings() if webhooks_config is None else usable_settings(webhooks_config)
    runners = [(_runner(argument, file, instant, settings), file.cases) for argument, file in given]
    results = [runner.run(case) for runner, cases in runners for case in cases]
    if style == "json":
        click.echo(json_text(results_as_json(results)))
    elif style == "junit":
        click.echo(results_as_junit(results))
    else:
        print_results(results)
    return 0 if all(each.passed for each in results) else 1


def _runner(argument: str, file: CaseFile, instant: datetime, settings: WebhookSettings) -> Runner:
    folder = Path() if argument == "-" else Path(argument).parent
    within = (real_folder(str(folder)), real_folder("."))
    policy = usable(read_policy(in_folder(folder, file.policy), within))
    return Runner(file.name, folder, within, policy, instant, settings)
