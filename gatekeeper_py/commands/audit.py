"""``gatekeeper-py audit``: report running images that the policy would refuse."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.clusterinput import (
    CACHE_SIZE,
    note_missing,
    note_unknown_exemptions,
    policy_in,
    progress,
    with_cluster,
)
from gatekeeper_py.commands.exemptions import Exemptions, exemptions_in
from gatekeeper_py.commands.files import UnreadableError, shown
from gatekeeper_py.commands.parameters import (
    CONFIGMAP,
    EXEMPT_NAMESPACES,
    WEBHOOKS_CONFIG,
    Interval,
    check_exempt_usage,
    check_namespace,
    cluster_options,
    given,
)
from gatekeeper_py.commands.policyinput import now, usable_policy, usable_settings
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.names import DEFAULT_NAMESPACE
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.reporting.audit import FORMATS, Style, write_report
from gatekeeper_py.reporting.console import note

if TYPE_CHECKING:
    from gatekeeper_py.cluster.api import ApiClient
    from gatekeeper_py.inventory.suggestion import By
    from gatekeeper_py.inventory.survey import Survey
    from gatekeeper_py.reporting.policyreports.apis import Choice


@click.command(short_help="List the running images that a policy would refuse.")
@click.option("--policy", metavar="POLICY", help="Policy file, ConfigMap manifest, or - for stdin.")
@click.option("--configmap", type=CONFIGMAP, help="Read the policy from this ConfigMap of the cluster.")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Audit only this namespace. Default: all.")
@click.option(
    "--all",
    "approved_too",
    is_flag=True,
    help="Also show approved images. With --suggest: include exempt namespaces.",
)
@click.option(
    "--format", "--output", "-o", "style", type=click.Choice(FORMATS), default="table", show_default=True
)
@click.option("--wide", is_flag=True, help="Do not shorten the table to the width of the terminal.")
@click.option(
    "--suggest", is_flag=True, help="Print a policy that approves the images in use, instead of a report."
)
@click.option(
    "--by",
    type=click.Choice(["registry", "path", "repository"]),
    help="With --suggest: how much one rule covers. Default: registry.",
)
@click.option("--base", metavar="POLICY", help="With --suggest: keep this policy, and add the missing rules.")
@click.option(
    "--every",
    type=Interval(10, 24 * 3600),
    metavar="DURATION",
    help="Repeat the audit at this interval, for example 10m, and write reports into the cluster.",
)
@click.option(
    "--report",
    type=click.Choice(["auto", "openreports", "policyreport", "none"]),
    help="With --every: API of the reports. Default: auto, the first that the cluster serves.",
)
@click.option(
    "--events",
    is_flag=True,
    help="With --every: record an Event about each object whose Pods cause warnings, for example a"
    " ReplicaSet.",
)
@cluster_options
@WEBHOOKS_CONFIG
@EXEMPT_NAMESPACES
def audit(
    policy: str | None,
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    style: Style,
    by: By | None,
    base: str | None,
    every: float | None,
    report: Choice | None,
    kubeconfig: Path | None,
    context: str | None,
    webhooks_config: str | None,
    exempt_namespaces: tuple[str, ...],
    *,
    approved_too: bool,
    wide: bool,
    suggest: bool,
    events: bool,
) -> int:
    """List the images that the policy would refuse, in the Pods and workloads of a cluster.

    With --suggest, give no policy: the command prints a policy that approves the images in use. This policy
    never approves a whole registry where anyone can publish. Its comments list the images that no rule can
    approve: invalid ones, and those that --base denies.

    With --every, repeat the audit until a signal. Each audit logs a JSON line, and writes Report or
    PolicyReport objects instead of a table. If an audit fails, it logs the reason, and the
    reports stay as they are.

    With --configmap, the command reads the exempt namespaces from the ConfigMap gatekeeper-py-webhooks in the
    same namespace. --webhooks-config and --exempt-namespace replace them.

    Exit code: 0 when the policy would refuse no image, 1 when it would refuse some, 2 when the cluster or the
    policy cannot be used. With --suggest or --every: 0 or 2.
    """
    check_namespace(namespace)
    check_exempt_usage()
    if webhooks_config is not None and (suggest or every is not None):
        raise click.UsageError("--webhooks-config cannot be combined with --suggest or --every")
    reports_only = style == "table" and not (suggest or wide or approved_too or policy == "-")
    _check_loop_usage(every, report, events=events, reports_only=reports_only)
    if suggest:
        _check_suggest_usage(policy, configmap, style, approved_too=approved_too)
        left_out = frozenset() if approved_too else frozenset(exempt_namespaces)
        click.echo(_suggested(base, by or "registry", namespace, left_out, kubeconfig, context), nl=False)
        return 0
    if by is not None or base is not None:
        raise click.UsageError("--by and --base need --suggest")
    try:
        checked.check_sources(None if policy is None else Path(policy), configmap)
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None
    from_settings = bool(configmap or webhooks_config) and not given("exempt_namespaces")
    exempt = None if from_settings else frozenset(exempt_namespaces)
    if every is not None:
        return _repeat(
            policy,
            configmap,
            namespace,
            exempt,
            every,
            report or "auto",
            kubeconfig,
            context,
            events=events,
        )
    judged_by = configmap or usable_policy(policy or "")
    settings = None if webhooks_config is None else usable_settings(webhooks_config)
    instant = now()

    async def work(api: ApiClient) -> tuple[Policy, Survey]:
        from gatekeeper_py.inventory.survey import survey  # noqa: PLC0415 - keeps other commands fast to start
        from gatekeeper_py.live import CacheCounts, Snapshot  # noqa: PLC0415

        found = judged_by if isinstance(judged_by, Policy) else await policy_in(api, judged_by)
        known = Exemptions(namespaces=exempt or frozenset())
        if exempt is None:
            installation = DEFAULT_NAMESPACE if configmap is None else configmap.namespace
            known = await exemptions_in(api, installation, namespace, settings)
            note_unknown_exemptions(known)
        judge = Snapshot(found.at(instant), CACHE_SIZE, CacheCounts())
        with progress() as on_page:
            return found, await survey(
                api,
                judge,
                namespace=namespace,
                exempt=known.namespaces,
                # The page counts approved images by registry and namespace, even if it does not list them.
                keep_approved=approved_too or style == "html",
                on_page=on_page,
            )

    judged, survey = with_cluster(kubeconfig, context, work)
    note_missing(survey.missing)
    if style == "html":
        name = f"ConfigMap {configmap}" if configmap is not None else shown(policy or "")
        _write_page(survey, judged, name, namespace, instant, lists_approved=approved_too)
    else:
        write_report(survey.tally, style, wide=wide)
    return 1 if survey.tally.counts["rejected"] else 0


def _check_suggest_usage(
    policy: str | None, configmap: checked.ConfigMapName | None, style: Style, *, approved_too: bool
) -> None:
    if policy is not None or configmap is not None or style != "table":
        raise click.UsageError("--suggest prints a policy; it takes --by and --base, and no policy or format")
    if approved_too and given("exempt_namespaces"):
        raise click.UsageError("--suggest --all includes exempt namespaces; it takes no --exempt-namespace")


def _check_loop_usage(
    every: float | None, report: Choice | None, *, events: bool, reports_only: bool
) -> None:
    if every is None and (report is not None or events):
        raise click.UsageError("--report and --events need --every")
    if every is not None and not reports_only:
        raise click.UsageError(
            "--every writes reports; it takes no --format, --wide, --all or --suggest, and no policy on stdin"
        )


def _repeat(
    policy: str | None,
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    exempt: frozenset[str] | None,
    every: float,
    report: Choice,
    kubeconfig: Path | None,
    context: str | None,
    *,
    events: bool,
) -> int:
    """Audit until a signal. Raises ``UnreadableError``."""
    # Imported here, so that other commands start fast.
    from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415
    from gatekeeper_py.commands.auditloop import LoopSettings, run  # noqa: PLC0415

    try:
        return run(
            LoopSettings(
                cluster=ClusterConfiguration(kubeconfig=kubeconfig, context=context, environ=os.environ),
                policy=policy,
                configmap=configmap,
                namespace=namespace,
                exempt=exempt,
                every=every,
                report=report,
                events=events,
            )
        )
    except checked.SettingsError as problem:
        raise UnreadableError(str(problem)) from None


def _suggested(
    base: str | None,
    by: By,
    namespace: str | None,
    exempt: frozenset[str],
    kubeconfig: Path | None,
    context: str | None,
) -> str:
    """Return the text of a policy that approves what runs. Raises ``UnreadableError``."""
    from gatekeeper_py.commands.extension import extended  # noqa: PLC0415 - keeps other commands fast to start
    from gatekeeper_py.inventory.suggestion import NOTHING, Suggestion  # noqa: PLC0415
    from gatekeeper_py.live import CacheCounts, Snapshot  # noqa: PLC0415
    from gatekeeper_py.reporting.suggestion import left_out_lines, new_policy  # noqa: PLC0415

    kept = NOTHING if base is None else usable_policy(base)
    policy = Snapshot(kept.at(now()), CACHE_SIZE, CacheCounts())
    suggestion = Suggestion(policy, by, exempt)

    async def work(api: ApiClient) -> tuple[GroupKind, ...]:
        from gatekeeper_py.inventory.listing import collect  # noqa: PLC0415

        with progress() as on_page:
            return await collect(api, policy.resources, suggestion, namespace=namespace, on_page=on_page)

    note_missing(with_cluster(kubeconfig, context, work))
    if base is not None:
        return extended(kept, suggestion)
    if not suggestion.rules:
        if suggestion.left_out:
            for line in filter(None, left_out_lines(suggestion)):
                note(line)
        raise UnreadableError("there is no image that a rule could approve")
    return new_policy(suggestion, by)


def _write_page(
    survey: Survey,
    policy: Policy,
    policy_name: str,
    namespace: str | None,
    instant: datetime,
    *,
    lists_approved: bool,
) -> None:
    from gatekeeper_py import __version__  # noqa: PLC0415 - keeps other commands fast to start
    from gatekeeper_py.inventory.resources import kind_text  # noqa: PLC0415
    from gatekeeper_py.reporting.auditpage import AuditPage, audit_page  # noqa: PLC0415
    from gatekeeper_py.reporting.pageparts import write_page  # noqa: PLC0415

    page = AuditPage(
        policy=policy,
        policy_name=policy_name,
        namespace=namespace,
        instant=instant,
        version=__version__,
        missing=[kind_text(kind) for kind in survey.missing],
        lists_approved=lists_approved,
    )
    write_page(audit_page(survey.tally, page))
