"""``gatekeeper-py serve``: the webhook server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, cast

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.commands.parameters import ADDRESS, CONFIGMAP, Seconds
from gatekeeper_py.runtime.logs import LEVELS

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    short_help="Run the webhook server.",
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog=checked.ENVIRONMENT_NOTE,
)
@click.option("--policy", type=_FILE, help="Read the policy from this file, and again when it changes.")
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
@click.option(
    "--log-format", type=click.Choice(["json", "console"]), help="Default: json, or console on a terminal."
)
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
    "--registry-config",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory with config.json (credentials) and CA files for look-ups in registries.",
)
@click.option(
    "--status-details",
    is_flag=True,
    help="Show images, namespaces, names and users of the last denials on the status page.",
)
def serve(**options: Any) -> int:
    """Run the webhook server, which answers AdmissionReviews over HTTPS.

    Give the policy with --policy or --configmap. SIGTERM or SIGINT drains the server and ends it.

    Exit code: 0 after the drain, or at once after a second signal; 2 on bad settings or when it
    cannot listen.
    """
    from gatekeeper_py.serving.app import serve as run  # noqa: PLC0415 - keeps other commands fast to start

    try:
        return run(_settings(options))
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None


def _settings(options: dict[str, Any]) -> checked.Settings:
    checked.check_sources(options["policy"], options["configmap"])
    tls = checked.TlsSettings(
        cert=options["tls_cert"],
        key=options["tls_key"],
        hostnames=options["tls_hostname"],
        ca_out=options["tls_ca_out"],
        client_ca=options["client_ca"],
        client_names=options["client_name"],
    )
    style = options["log_format"] or ("console" if sys.stdout.isatty() else "json")
    return checked.Settings(
        policy=options["policy"],
        configmap=options["configmap"],
        kubeconfig=options["kubeconfig"],
        context=options["context"],
        listen=options["listen"],
        health_listen=options["health_listen"],
        tls=checked.check_tls(
            tls, self_signed=options["tls_self_signed"], policy_is_file=options["policy"] is not None
        ),
        log_level=options["log_level"],
        log_format=cast(Literal["json", "console"], style),
        cache_size=options["cache_size"],
        drain_seconds=options["drain_seconds"],
        max_connections=options["max_connections"],
        max_body_bytes=options["max_body_bytes"],
        registry_config=options["registry_config"],
        status_details=options["status_details"],
    )
