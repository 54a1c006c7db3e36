"""``gatekeeper-py audit``: report running images that the policy would refuse."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, get_args

import click
import msgspec

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import (
    ADDRESS,
    CONFIGMAP,
    cluster_options,
    format_option,
    given,
    interval,
    namespace_option,
    usage,
)
from gatekeeper_py.cli.commands.suggestion import suggested
from gatekeeper_py.cli.inputs.cluster import (
    CACHE_SIZE,
    noted_exceptions,
    noted_exemptions,
    policy_in,
    read_cluster,
    with_cluster,
)
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.cli.inputs.files import UnreadableError, shown
from gatekeeper_py.cli.inputs.lookups import with_lookups
from gatekeeper_py.cli.inputs.policies import now, usable, usable_policy, usable_settings
from gatekeeper_py.cli.inputs.recording import merged
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.cli.inventory.provenance import provenance
from gatekeeper_py.cli.inventory.resources import kind_text
from gatekeeper_py.cli.inventory.suggestion import By
from gatekeeper_py.cli.inventory.survey import Survey
from gatekeeper_py.cli.inventory.tally import Tally, rule_key
from gatekeeper_py.cli.reporting.audit import FORMATS, AuditFormat
from gatekeeper_py.cli.reporting.auditpage import AuditPage
from gatekeeper_py.cli.reporting.console import counted, note
from gatekeeper_py.cli.reporting.policyreports.apis import ApiChoice
from gatekeeper_py.cli.reporting.unused import FORMATS as UNUSED_FORMATS
from gatekeeper_py.cli.reporting.unused import unused_exceptions, write_unused
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.admission.judge import Role
from gatekeeper_py.core.admission.world import BY_NAME, NOTHING_SIGNED
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.lint.modes import EXPIRES_SOON
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy
from gatekeeper_py.core.policy.rules import Rule
from gatekeeper_py.process import settings as checked

MAX_EXPIRING: Final = 20
"""Maximum number of expiring entries in the warnings. A count of the others follows."""


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--merge",
    is_flag=True,
    help="Merge audits of several clusters, each a FILE from 'audit --all --format json'.",
)
@click.option("--policy", metavar="POLICY", help="Policy file, ConfigMap manifest, or - for stdin.")
@click.option("--configmap", type=CONFIGMAP, help="Read the policy from this ConfigMap of the cluster.")
@namespace_option("Audit only this namespace. Default: all.")
@click.option(
    "--all",
    "approved_too",
    is_flag=True,
    help="Also show approved images. With --suggest: include exempt namespaces.",
)
@format_option(FORMATS)
@options.WIDE
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
    "--exceptions-unused",
    "unused",
    is_flag=True,
    help="List the exceptions that can be deleted, instead of a report.",
)
@click.option(
    "--every",
    type=interval(10, 24 * 3600),
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
@click.option(
    "--health-listen",
    type=ADDRESS,
    help="With --every: address for /livez, /readyz and /metrics over plain HTTP. Default: none.",
)
@cluster_options
@options.CLUSTER_NAME
@options.exemptions
@options.look_ups
@options.EXCEPTIONS
@usage(
    "FILE needs --merge: only --merge reads saved audits",
    "--merge needs FILE: at least one saved audit",
    "--merge takes only FILE, --all, --format and --wide: it reads saved audits",
    "give at most one of FILE -, --policy -, --base - and --webhooks-config -: stdin can be read only once",
    "--by and --base need --suggest",
    "--report, --events and --health-listen need --every",
    "give exactly one of --policy, --configmap, --suggest and --merge",
    "give at most one of --suggest, --every and --exceptions-unused",
    "--suggest cannot be combined with --look-up or --webhooks-config: it prints a policy",
    "--every cannot be combined with --wide, --all, --exceptions, --webhooks-config or --policy -:"
    " it writes reports into the cluster",
    "--exceptions-unused cannot be combined with --namespace, --all or --look-up: it lists exceptions of the"
    " whole cluster",
    *(
        f"{each} cannot be combined with --format {style}"
        for each in ("--suggest", "--every")
        for style in list(FORMATS)[1:]
    ),
    *(
        f"--exceptions-unused cannot be combined with --format {each}"
        for each in FORMATS
        if each not in UNUSED_FORMATS
    ),
)
def audit(
    files: tuple[str, ...],
    policy: str | None,
    configmap: checked.ConfigMapName | None,
    namespace: str | None,
    style: str,
    by: By | None,
    base: str | None,
    every: float | None,
    report: ApiChoice | None,
    health_listen: checked.Address | None,
    cluster: Cluster,
    cluster_name: str | None,
    webhooks_config: str | None,
    exempt_namespaces: tuple[str, ...],
    exceptions: ExceptionFiles,
    registry_config: Path | None,
    *,
    merge: bool,
    approved_too: bool,
    wide: bool,
    suggest: bool,
    unused: bool,
    events: bool,
    look_up: bool,
) -> int:
    """List the images that the policy would refuse, in the Pods and workloads of a cluster.

    With --suggest, give no policy: the command prints a policy that approves the images in use. This policy
    never approves a whole registry where anyone can publish. Its comments list the images that no rule can
    approve: invalid ones, and those that --base denies.

    With --every, repeat the audit until a signal. Each audit logs a JSON line, and writes Report or
    PolicyReport objects instead of a table. If an audit fails, it logs the reason, and the
    reports stay as they are.

    With --exceptions-unused, list the exceptions that have ended, that no object needs, or whose images the
    policy approves anyway.

    With --look-up, the command also checks the requirements that need a registry, for the images in Pods. It
    verifies the signatures of the digests that run. It does not apply verify and pin of mirrors.

    With --merge, the command reads saved audits instead of a cluster, and writes them as one audit, with the
    cluster of each object.

    With --configmap, the command reads the exempt namespaces from the ConfigMap gatekeeper-py-webhooks in the
    same namespace. --webhooks-config and --exempt-namespace replace them.

    Exit code: 0 when the policy would refuse no image, 1 when it would refuse some, 2 when the cluster or the
    policy cannot be used. With --suggest or --every: 0 or 2. With --exceptions-unused: 0 when no exception
    can be deleted, 1 when some can.
    """
    written = FORMATS[style]
    keep_approved = approved_too or written.counts_approved
    if merge:
        tally, meta = merged(files, now(), keep_approved=keep_approved)
        page = AuditPage(
            meta=meta, policy=None, namespace=None, instant=now(), lists_approved=approved_too, wide=wide
        )
        return _write(tally, page, written)
    if suggest:
        if approved_too and given("exempt_namespaces"):
            raise click.UsageError("--suggest --all cannot be combined with --exempt-namespace")
        left_out = frozenset(() if approved_too else exempt_namespaces)
        click.echo(suggested(base, by or "registry", namespace, left_out, cluster), nl=False)
        return 0
    from_settings = bool(configmap or webhooks_config) and not given("exempt_namespaces")
    exempt = None if from_settings else frozenset(exempt_namespaces)
    if every is not None:
        # Imported here, because a single audit does not need the HTTP server and the metrics.
        from gatekeeper_py.cli.commands import auditloop  # noqa: PLC0415

        try:
            return auditloop.run(
                auditloop.LoopSettings(
                    cluster=cluster.configuration,
                    policy=policy,
                    configmap=configmap,
                    cluster_name=cluster_name,
                    namespace=namespace,
                    exempt=exempt,
                    installation=options.installation_of(configmap, exceptions.installation),
                    every=every,
                    report=report or "auto",
                    events=events,
                    health_listen=health_listen,
                    look_up=look_up,
                    registry_config=registry_config,
                )
            )
        except checked.SettingsError as problem:
            raise UnreadableError(str(problem)) from None
    judged_by = configmap or usable_policy(policy or "")
    settings = None if webhooks_config is None else usable_settings(webhooks_config)
    instant, given_exceptions = now(), exceptions.read(namespace)
    installation = options.installation_of(configmap, exceptions.installation)

    async def work(api: ApiClient) -> tuple[Policy, CompiledPolicy, Survey, tuple[GroupKind, ...]]:
        found = judged_by if isinstance(judged_by, Policy) else usable(await policy_in(api, judged_by))
        excepted = given_exceptions
        if not exceptions:
            excepted = await noted_exceptions(api, (found,), installation, namespace, whole=unused)
        compiled = found.at(instant, excepted)
        judge = compiled.serving(CACHE_SIZE, CacheCounts())
        survey = Survey(
            judge,
            await noted_exemptions(api, configmap, namespace, settings) if exempt is None else exempt,
            keep_approved=keep_approved,
            later=get_args(Role) if unused else ("pod",) if look_up else (),
        )
        return found, compiled, survey, await read_cluster(api, survey, judge.resources, namespace)

    judged, compiled, survey, missing = with_cluster(cluster, work)
    if look_up:
        survey.merge(with_lookups(compiled, registry_config, survey.verified))
    source = f"ConfigMap {configmap}" if configmap is not None else shown(policy or "")
    meta = provenance(instant, cluster_name or cluster.configuration.context, judged, source, namespace)
    if unused:
        deletable = list(unused_exceptions(compiled, _with_and_without_signatures(survey)))
        write_unused(deletable, meta, style, wide=wide)
        return 1 if deletable else 0
    page = AuditPage(
        meta=msgspec.structs.replace(meta, warnings=_expiring(survey.tally, judged, instant)),
        policy=judged,
        namespace=namespace,
        instant=instant,
        missing=[kind_text(kind) for kind in missing],
        lists_approved=approved_too,
        wide=wide,
    )
    return _write(survey.tally, page, written)


def _with_and_without_signatures(survey: Survey) -> Tally:
    """Return what the images need in either case, because no registry is queried."""
    for world in (BY_NAME, NOTHING_SIGNED):
        survey.merge(survey.verified(world))
    return survey.tally


def _write(tally: Tally, page: AuditPage, written: AuditFormat) -> int:
    """Write the report, and return the exit code."""
    for warning in () if written.shows_warnings else page.meta.warnings:
        note(f"Warning: {escape(warning)}")
    written.write(tally, page)
    return 1 if tally.counts["rejected"] else 0


def _expiring(tally: Tally, policy: Policy, instant: datetime) -> tuple[str, ...]:
    """Return a warning about each entry in use that expires soon. Verdicts of today do not show it."""
    found = []
    for (_, index), entry, until in policy.document.dated():
        if not instant < until <= instant + EXPIRES_SOON:
            continue
        at = f"expires at {format_instant(until)}"
        if isinstance(entry, Key):
            found.append(f"keys[{index}] {entry.name} {at}: its signatures do not count from then on")
        elif not isinstance(entry, Rule):
            found.append(
                f"namespaces[{index}] {at}: until then, the mode {entry.mode} applies to its namespaces"
            )
        elif (use := tally.rules.get(rule_key(entry))) is not None:
            found.append(f"{entry} {at}: it decides about {counted(use.places, 'place')}")
    more = len(found) - MAX_EXPIRING
    return (*found[:MAX_EXPIRING], *([f"{more:,} more entries in use expire soon"] if more > 0 else ()))
