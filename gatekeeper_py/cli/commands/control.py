"""``gatekeeper-py control``: the controller, which keeps the webhook installed."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from gatekeeper_py.cli.commands.parameters import (
    ADDRESS,
    CONFIGMAP,
    LOG_FORMAT,
    NAMESPACE,
    Days,
    Seconds,
    cluster_options,
    usable_log_format,
    usage,
)
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.controller.app import ControlSettings
from gatekeeper_py.controller.app import control as run
from gatekeeper_py.controller.certificates import CertificateSettings
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, POLICY_CONFIGMAP, always_exempt
from gatekeeper_py.process import settings as checked
from gatekeeper_py.process.logs import LEVELS

MAX_DAYS = 3650.0

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


@click.command(
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog=checked.ENVIRONMENT_NOTE,
)
@click.option(
    "--webhooks-config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings of the webhook configurations (webhooks.yaml), read again when they change.",
)
@click.option(
    "--namespace", metavar="NAMESPACE", default=DEFAULT_NAMESPACE, help="Namespace of the installation."
)
@click.option("--service", metavar="NAME", default="gatekeeper-py", help="Service that API servers call.")
@click.option("--deployment", metavar="NAME", default="gatekeeper-py", help="Deployment of the server.")
@click.option(
    "--secret", metavar="NAME", default="gatekeeper-py-tls", help="Secret that holds the certificate."
)
@click.option(
    "--owner",
    metavar="NAME",
    default="gatekeeper-py-controller",
    help="ClusterRole that owns the webhook configurations. Deleting this ClusterRole deletes them too.",
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
    help="How long before its expiry a certificate is renewed.",
)
@click.option(
    "--settle-seconds",
    type=Seconds(0, 3600),
    default=15.0,
    help="Delay between publishing a new CA and serving its certificate.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Exit with 0 once the webhook configurations exist and no certificate is being rotated, or with 2"
    " after 5 minutes.",
)
@click.option(
    "--remove",
    is_flag=True,
    help="Delete the webhook configurations and the ClusterRole that owns them, and wait until they are gone."
    " Exit with 0, or with 2 after 2 minutes. helm uninstall runs this in a Job. Run it"
    " yourself if that Job or the controller cannot run.",
)
@click.option(
    "--fast-path",
    is_flag=True,
    help="Let API servers admit Pods that use only pre-approved images without calling the webhook.",
)
@click.option(
    "--configmap",
    type=CONFIGMAP,
    help=f"ConfigMap with the policy. Default: {POLICY_CONFIGMAP} in the installation's namespace.",
)
@click.option(
    "--guard-exceptions",
    is_flag=True,
    help="Read exceptions in every namespace, and record Events about them. Also review them when they are"
    " applied, if the policy guard is enabled.",
)
@click.option(
    "--probe-namespace",
    type=NAMESPACE,
    help="Namespace for dry-run Pods, which prove each minute that API servers enforce the policy. With"
    " --fast-path, dry-run Pods also prove that an image whose rule was removed is refused.",
)
@cluster_options
@click.option(
    "--health-listen",
    type=ADDRESS,
    default=checked.Address(checked.EVERY, 8080),
    help="Address for /livez, /readyz and /metrics over plain HTTP.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", help="Lowest level that is logged.")
@LOG_FORMAT
@usage("give at most one of --once, --remove and --fast-path")
def control(cluster: Cluster, **options: Any) -> int:
    """Run the controller, which keeps the webhook installed.

    The controller creates and renews the certificate. Once a server answers, it creates the webhook
    configurations, and repairs them from then on. With --probe-namespace, it also proves each minute that API
    servers enforce the policy. With --fast-path, it also updates the match conditions of the webhooks
    when the policy changes.

    Exit code: 0 after SIGTERM or SIGINT, 2 on bad settings or when it cannot listen. With --once or
    --remove: 0 when done, 2 when that takes too long, 130 after a signal.
    """
    try:
        return run(_settings(cluster, options))
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None


def _settings(cluster: Cluster, options: dict[str, Any]) -> ControlSettings:
    """Return the settings that the command's options specify. Raises ``SettingsError``."""
    if options["renew_before_days"] >= options["certificate_days"]:
        raise checked.SettingsError("--renew-before-days must be less than --certificate-days")
    if options["probe_namespace"] in always_exempt(options["namespace"]):
        raise checked.SettingsError(
            f"--probe-namespace: Pods in {options['probe_namespace']} are never reviewed"
        )
    policy = options["configmap"] or checked.ConfigMapName(options["namespace"], POLICY_CONFIGMAP)
    if not _NAME.fullmatch(policy.name):
        raise checked.SettingsError(f"--configmap: {policy.name!r} is not a valid ConfigMap name")
    if policy.namespace != options["namespace"]:
        raise checked.SettingsError("--configmap must be in the namespace of the installation")
    names = ("namespace", "service", "deployment", "secret", "owner")
    installation = Installation(
        **{name: options[name] for name in names}, policy=policy, exceptions=options["guard_exceptions"]
    )
    certificates = CertificateSettings(
        names=(installation.server_name, f"{installation.service}.{installation.namespace}"),
        lifetime=timedelta(days=options["certificate_days"]),
        renew_before=timedelta(days=options["renew_before_days"]),
        settle=timedelta(seconds=options["settle_seconds"]),
    )
    same = ("webhooks_config", "health_listen", "log_level", "once", "remove", "fast_path", "probe_namespace")
    return ControlSettings(
        installation=installation,
        certificates=certificates,
        kubeconfig=cluster.kubeconfig,
        context=cluster.context,
        log_format=usable_log_format(options["log_format"]),
        **{name: options[name] for name in same},
    )
