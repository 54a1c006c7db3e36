"""``gatekeeper-py test``: run policy tests, for CI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import format_option, usage
from gatekeeper_py.cli.commands.review import exempt_among, review_manifest
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.cli.inputs.files import UnreadableError, in_folder, real_folder
from gatekeeper_py.cli.inputs.manifests import read_manifests
from gatekeeper_py.cli.inputs.policies import now, read_policy, usable, usable_settings
from gatekeeper_py.cli.inputs.testfile import UNSET, Case, CaseFile, read_tests
from gatekeeper_py.cli.reporting.cases import CaseResult, print_results, results_as_json, results_as_junit
from gatekeeper_py.cli.reporting.console import json_text
from gatekeeper_py.cli.reporting.findings import print_findings
from gatekeeper_py.cli.reporting.reviewed import ReviewedObject, unmet_line
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.core.admission.explain import Explanation, explain
from gatekeeper_py.core.admission.messages import image_line
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, Exceptions
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy

FORMATS: Final[Mapping[str, Callable[[Sequence[CaseResult]], None]]] = {
    "text": print_results,
    "json": lambda results: click.echo(json_text(results_as_json(results))),
    "junit": lambda results: click.echo(results_as_junit(results)),
}


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@format_option(FORMATS)
@options.WEBHOOKS_CONFIG
@options.EXCEPTIONS
@usage("give at most one of FILE - and --webhooks-config -: stdin can be read only once")
def test(
    files: tuple[str, ...],
    style: str,
    webhooks_config: str | None,
    exceptions: ExceptionFiles,
) -> int:
    """Run the policy tests in each FILE (- for stdin).

    A file names a policy and cases. Each case has an image or a manifest, and the verdict that it must get.
    "gatekeeper-py schema --for test" describes its fields.

    With --webhooks-config, objects of a manifest in exempt namespaces are not judged. The command reads the
    labels of a namespace from its Namespace object in the manifest.

    Exit code: 0 when all cases pass, 1 when some fail, 2 when a file cannot be used.
    """
    instant = now()
    # All files are read before any case runs, so that an invalid file is reported at once.
    given = [(argument, read_tests(argument)) for argument in files]
    if any(file.errors for _, file in given):
        for _, file in given:
            print_findings(file.name, file.lines, file.errors, stderr=True)
        raise click.exceptions.Exit(2)
    settings = WebhookSettings() if webhooks_config is None else usable_settings(webhooks_config)
    beside = exceptions.read()
    runners = [
        (_runner(argument, file, instant, settings, exceptions.installation, beside), file.cases)
        for argument, file in given
    ]
    results = [runner.run(case) for runner, cases in runners for case in cases]
    FORMATS[style](results)
    return 0 if all(each.passed for each in results) else 1


def _runner(
    argument: str,
    file: CaseFile,
    instant: datetime,
    settings: WebhookSettings,
    installation: str,
    beside: Exceptions,
) -> Runner:
    folder = Path() if argument == "-" else Path(argument).parent
    within = (real_folder(str(folder)), real_folder("."))
    policy = usable(read_policy(in_folder(folder, file.policy), within))
    named = [in_folder(folder, each) for each in file.exceptions]
    exceptions = ExceptionFiles(named, installation, within).read(beside=beside)
    return Runner(file.name, folder, within, policy, instant, settings, exceptions)


@dataclass(slots=True)
class Runner:
    """Judges cases by one policy.

    Paths in cases are relative to ``folder``, and must be below one of the directories ``within``. Cases
    without a time are judged at ``now``. ``settings`` add exempt namespaces to those that are always exempt.
    """

    source: str
    folder: Path
    within: tuple[str, ...]
    policy: Policy
    now: datetime
    settings: WebhookSettings = field(default_factory=WebhookSettings)
    exceptions: Exceptions = NO_EXCEPTIONS
    _compiled: dict[tuple[Mode | None, datetime], CompiledPolicy] = field(default_factory=dict)

    def run(self, case: Case) -> CaseResult:
        """Judge a case. Raises ``UnreadableError`` when its manifest cannot be read."""
        compiled = self._policy_for(case)
        actual, failures = (self._image if case.image or not case.manifest else self._manifest)(
            case, compiled
        )
        return CaseResult(
            source=self.source,
            line=case.line,
            number=case.number,
            name=case.name,
            expected=case.expect,
            actual=actual,
            failures=tuple(failures),
        )

    def _policy_for(self, case: Case) -> CompiledPolicy:
        key = (case.mode, case.at or self.now)
        known = self._compiled.get(key)
        if known is None:
            policy = self.policy if case.mode is None else dataclasses.replace(self.policy, mode=case.mode)
            known = self._compiled[key] = policy.at(key[1], self.exceptions)
        return known

    @staticmethod
    def _image(case: Case, policy: CompiledPolicy) -> tuple[str, list[str]]:
        found = explain(policy, case.namespace, case.image)
        actual, decision = found.verdict.in_words, found.verdict.decision
        failures: list[str] = []
        if actual != case.expect:
            failures.append(f"expected {case.expect}, but it is {actual}: {decision.detail}")
            failures += (f"near miss: {miss.rule}: {miss.missed}" for miss in found.nearest)
        if case.reason is not None and decision.reason != case.reason:
            failures.append(
                f"expected the reason {case.reason}, but it is {decision.reason}: {decision.detail}"
            )
        if case.rewritten is not UNSET:
            failures += _rewrite_problem(case, found, policy.mode(case.namespace))
        return actual, failures

    def _manifest(self, case: Case, policy: CompiledPolicy) -> tuple[str, list[str]]:
        path = in_folder(self.folder, case.manifest)
        try:
            manifests = list(read_manifests(path, namespace=case.namespace or "default", within=self.within))
        except UnreadableError as problem:
            raise UnreadableError(f"{problem.message} ({self.source}, line {case.line})") from None
        exempt = exempt_among(self.settings, manifests)
        reviewed = [review_manifest(manifest, policy, exempt) for manifest in manifests]
        actual = _combined(reviewed)
        failures: list[str] = []
        if actual != case.expect:
            failures.append(f"expected {case.expect}, but it is {actual}")
            failures += _reasons(reviewed)
        elif all(each.empty for each in reviewed):
            why = "the objects hold none"
            if all(each.verdict == "unknown" for each in reviewed):
                kinds = ", ".join(sorted({each.manifest.kind for each in reviewed}))
                why = f"the policy declares no images of {kinds}"
            failures.append(f"no image was judged: {why}")
        if case.images is not None:
            stored = sorted(image for each in reviewed for image in each.stored_images)
            if stored != sorted(case.images):
                failures.append(f"expected the images {_listed(case.images)}, but they are {_listed(stored)}")
        return actual, failures


def _rewrite_problem(case: Case, found: Explanation, mode: Mode) -> Iterator[str]:
    new = found.new if mode.rewrites else None
    actual, problem = (None, "") if new is None else (new.rewritten, new.problem)
    if actual == case.rewritten:
        return
    stays = f"it stays as written in mode {mode}" + (f": {problem}" if problem else "")
    expected = "no rewrite" if case.rewritten is None else f"the rewrite {case.rewritten}"
    yield f"expected {expected}, but {stays if actual is None else f'it becomes {actual}'}"


def _combined(reviewed: list[ReviewedObject]) -> str:
    """Return the most severe verdict: one rejected object makes the whole file rejected."""
    verdicts = {each.verdict for each in reviewed}
    return next(
        (verdict for verdict in ("rejected", "warned", "rewritten") if verdict in verdicts), "admitted"
    )


def _reasons(reviewed: list[ReviewedObject]) -> Iterator[str]:
    for each in reviewed:
        lines = [image_line(image) for image in each.rejected]
        lines += [unmet_line(image, unmet) for image, unmet in each.unmet]
        yield from (f"{each.title}: {line}" for line in lines or [each.verdict])


def _listed(images: Any) -> str:
    return ", ".join(images) or "none"
