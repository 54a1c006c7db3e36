"""``gatekeeper-py serve``: the webhook server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from gatekeeper_py.cli.commands.parameters import (
    ADDRESS,
    CONFIGMAP,
    LOG_FORMAT,
    Seconds,
    usable_log_format,
    usage,
)
from gatekeeper_py.process import settings as checked
from gatekeeper_py.process.logs import LEVELS
from gatekeeper_py.webhook.app import serve as run

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog=checked.ENVIRONMENT_NOTE,
)
@click.option("--policy", type=_FILE, help="Read the policy from this file, and again when it changes.")
@click.option(
    "--exceptions",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="With --policy: read exceptions from the ConfigMaps in this file or directory, and again when they"
    " change. Repeatable.",
)
@click.option("--configmap", type=CONFIGMAP, help="Read the policy from this ConfigMap, and watch it.")
@click.option(
    "--kubeconfig",
    type=_FILE,
    help="For --configmap. Default: the Pod's service account, then $KUBECONFIG, then ~/.kube/config.",
)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@click.option(
    "--listen",
    type=ADDRESS,
    default=checked.Address(checked.EVERY, 8443),
    help="Address of the webhook, HTTPS. Port 0 means any free port.",
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain, PEM; reloaded when it changes.")
@click.option("--tls-key", type=_FILE, help="Key of the certificate, PEM.")
@click.option(
    "--tls-self-signed",
    is_flag=True,
    help="Create a certificate in memory. Default when --policy is set and --tls-cert is not.",
)
@click.option(
    "--tls-hostname",
    metavar="NAME",
    multiple=True,
    help="Host name for which the certificate must be valid, or for which a self-signed one is created."
    " Repeatable.",
)
@click.option("--tls-ca-out", type=_FILE, help="Write the CA of the self-signed certificate to this file.")
@click.option("--client-ca", type=_FILE, help="Require client certificates from this CA.")
@click.option(
    "--client-name",
    metavar="NAME",
    multiple=True,
    help="Accept only client certificates with one of these names. Repeatable.",
)
@click.option(
    "--health-listen",
    type=ADDRESS,
    default=checked.Address(checked.EVERY, 8080),
    help="Address for the status page, /livez, /readyz, /metrics and /policy over plain HTTP.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    help="Lowest level that is logged; debug includes allowed reviews.",
)
@LOG_FORMAT
@click.option(
    "--cache-size",
    type=click.IntRange(0),
    default=16384,
    help="Number of cached decisions; 0 disables the cache.",
)
@click.option(
    "--drain-seconds",
    type=Seconds(0, 3600),
    default=5.0,
    help="Seconds from SIGTERM until the socket closes. Meanwhile Kubernetes updates the endpoints.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=500,
    help="Maximum number of open connections. At the limit, the server closes an open connection for each new"
    " one.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1),
    default=7 * 1024 * 1024,
    help="Maximum size of a request body; larger ones get 413.",
)
@click.option(
    "--guard-most-rejected",
    type=click.IntRange(0, 100),
    default=checked.DEFAULT_MOST_REJECTED,
    metavar="PERCENT",
    help="Refuse a change of the ConfigMap in --configmap that rejects more of the images that this replica"
    " admitted in the last 24 hours; 0 never refuses.",
)
@click.option(
    "--registry-config",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory with config.json (credentials) and CA files for look-ups in registries.",
)
@click.option(
    "--status-details",
    is_flag=True,
    help="Show images, namespaces, names and users of the last denials on the status page.",
)
@usage(
    "give exactly one of --policy and --configmap",
    "--exceptions needs --policy: with --configmap, exceptions come from the cluster",
    "--tls-cert needs --tls-key",
    "--tls-key needs --tls-cert",
    "--tls-cert cannot be combined with --tls-self-signed or --tls-ca-out",
    "--configmap needs --tls-cert or --tls-self-signed",
    "--client-name needs --client-ca",
)
def serve(
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_hostname: tuple[str, ...],
    tls_ca_out: Path | None,
    client_ca: Path | None,
    client_name: tuple[str, ...],
    log_format: Literal["json", "console"] | None,
    *,
    tls_self_signed: bool,  # noqa: ARG001 - says nothing more than the absence of --tls-cert
    **options: Any,
) -> int:
    """Run the webhook server, which answers AdmissionReviews over HTTPS.

    Give the policy with --policy or --configmap. SIGTERM or SIGINT drains the server and ends it.

    Exit code: 0 after the drain, or at once after a second signal; 2 on bad settings or when it
    cannot listen.
    """
    tls = checked.TlsSettings(
        cert=tls_cert,
        key=tls_key,
        hostnames=tls_hostname or (() if tls_cert else checked.DEFAULT_HOSTNAMES),
        ca_out=tls_ca_out,
        client_ca=client_ca,
        client_names=client_name,
    )
    try:
        return run(checked.Settings(**options, tls=tls, log_format=usable_log_format(log_format)))
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None
