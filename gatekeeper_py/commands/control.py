"""``gatekeeper-py control``: the controller that keeps the webhook in place."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.parameters import ADDRESS, CONFIGMAP, Days, Seconds
from gatekeeper_py.control.certificates import Terms
from gatekeeper_py.control.reconcile import Installation
from gatekeeper_py.control.webhooks import Desired, InvalidManifests, read_manifests
from gatekeeper_py.runtime.logs import LEVELS

if TYPE_CHECKING:
    from gatekeeper_py.control.app import FastPathTerms

ONCE_SECONDS = 300.0
MAX_DAYS = 3650.0


@click.command(
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog=checked.ENVIRONMENT_NOTE,
)
@click.option(
    "--webhooks",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder with the desired webhook configurations.",
)
@click.option(
    "--namespace", metavar="NAMESPACE", default="gatekeeper-py", help="Where the webhook is installed."
)
@click.option("--service", metavar="NAME", default="gatekeeper-py", help="The Service that API servers call.")
@click.option("--deployment", metavar="NAME", default="gatekeeper-py", help="The Deployment of the server.")
@click.option(
    "--secret", metavar="NAME", default="gatekeeper-py-tls", help="The Secret to keep the certificate in."
)
@click.option(
    "--owner", metavar="NAME", default="gatekeeper-py-controller", help="ClusterRole that owns what is made."
)
@click.option(
    "--certificate-days",
    type=Days(0, MAX_DAYS, min_open=True),
    default=90.0,
    help="How long a certificate is valid.",
)
@click.option(
    "--renew-before-days",
    type=Days(0, MAX_DAYS, min_open=True),
    default=30.0,
    help="How long before its end the next one is made.",
)
@click.option(
    "--settle-seconds",
    type=Seconds(0, 3600),
    default=15.0,
    help="From a new authority in the caBundle until its leaf is served.",
)
@click.option(
    "--once", is_flag=True, help="End once armed, with no rotation under way; 2 if not in 5 minutes."
)
@click.option(
    "--fast-path",
    is_flag=True,
    help="Let API servers answer plainly approved Pods themselves, in step with the policy.",
)
@click.option("--configmap", type=CONFIGMAP, help="The policy, for --fast-path.")
@click.option(
    "--probe-namespace",
    metavar="NAMESPACE",
    help="For --fast-path: where to try, in dry run, what was taken off it.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="By default in-cluster, then $KUBECONFIG, then ~/.kube/config.",
)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@click.option(
    "--health-listen", type=ADDRESS, default="0.0.0.0:8080", help="Plain HTTP: /livez, /readyz, /metrics."
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", help="The least that is logged.")
@click.option("--log-format", type=click.Choice(["json", "console"]), help="json unless on a terminal.")
def control(**options: Any) -> int:
    """Keep the webhook's certificates and configurations; arm it once it answers.

    With --fast-path, keep the webhooks' match conditions in step with the policy.

    Exits with 0 after SIGTERM or SIGINT, 2 on bad settings or when it cannot listen. With --once: 0
    once armed, 2 if that takes too long, 130 after a signal.
    """
    if options["renew_before_days"] >= options["certificate_days"]:
        raise click.UsageError("--renew-before-days must be less than --certificate-days")
    try:
        desired = read_manifests(options["webhooks"])
    except InvalidManifests as problem:
        raise click.UsageError(f"--webhooks: {problem}") from None
    if options["fast_path"] and options["once"]:
        raise click.UsageError("--once and --fast-path exclude each other: nobody would follow the policy")
    for option in ("configmap", "probe_namespace"):
        if options[option] is not None and not options["fast_path"]:
            raise click.UsageError(f"--{option.replace('_', '-')} goes with --fast-path")
    installation = Installation(
        namespace=options["namespace"],
        service=options["service"],
        deployment=options["deployment"],
        secret=options["secret"],
        owner=options["owner"],
        desired=desired,
    )
    terms = Terms(
        names=(installation.server_name, f"{installation.service}.{installation.namespace}"),
        lifetime=timedelta(days=options["certificate_days"]),
        renew_before=timedelta(days=options["renew_before_days"]),
        settle=timedelta(seconds=options["settle_seconds"]),
    )
    from gatekeeper_py.control.app import run  # noqa: PLC0415 - other commands start without a client

    fast_path = _fast_path(options, desired) if options["fast_path"] else None

    try:
        return run(
            installation,
            terms,
            kubeconfig=options["kubeconfig"],
            context=options["context"],
            health_listen=options["health_listen"],
            log_level=options["log_level"],
            log_style=options["log_format"] or ("console" if sys.stdout.isatty() else "json"),
            once_seconds=ONCE_SECONDS if options["once"] else None,
            fast_path=fast_path,
        )
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None


def _fast_path(options: dict[str, Any], desired: tuple[Desired, ...]) -> FastPathTerms:
    """Raises ``UsageError``."""
    from gatekeeper_py.control.app import FastPathTerms  # noqa: PLC0415
    from gatekeeper_py.control.fastpath.knowledge import misses  # noqa: PLC0415 - as above

    if options["configmap"] is None:
        raise click.UsageError("--fast-path needs --configmap NAMESPACE/NAME")
    missing = misses(desired)
    if missing:
        raise click.UsageError(f"--fast-path: no webhook named {' or '.join(missing)} in --webhooks")
    return FastPathTerms(configmap=options["configmap"], probe_namespace=options["probe_namespace"] or None)
