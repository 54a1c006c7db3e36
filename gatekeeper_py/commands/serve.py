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
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog=checked.ENVIRONMENT_NOTE,
)
@click.option("--policy", type=_FILE, help="Policy from a file, polled each second.")
@click.option("--configmap", type=CONFIGMAP, help="Policy from a watched ConfigMap.")
@click.option("--kubeconfig", type=_FILE, help="For --configmap; in-cluster, $KUBECONFIG, ~/.kube/config.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@click.option("--listen", type=ADDRESS, default="0.0.0.0:8443", help="Webhook, HTTPS; port 0 for any.")
@click.option("--tls-cert", type=_FILE, help="PEM chain; reloaded when its content changes.")
@click.option("--tls-key", type=_FILE, help="PEM key.")
@click.option(
    "--tls-self-signed",
    is_flag=True,
    help="Make a certificate in memory, for trying it out; so it is with --policy and no --tls-cert.",
)
@click.option(
    "--tls-hostname",
    metavar="NAME",
    multiple=True,
    help="Name that the certificate must cover, or is made for; repeatable.",
)
@click.option("--tls-ca-out", type=_FILE, help="Write the self-signed certificate's authority here.")
@click.option("--client-ca", type=_FILE, help="Require callers' certificates from this authority.")
@click.option(
    "--client-name",
    metavar="NAME",
    multiple=True,
    help="Name that a caller's certificate must have, one of these; repeatable.",
)
@click.option(
    "--health-listen",
    type=ADDRESS,
    default="0.0.0.0:8080",
    help="Plain HTTP: /livez, /readyz, /metrics, /policy.",
)
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", help="debug logs allowed reviews too."
)
@click.option("--log-format", type=click.Choice(["json", "console"]), help="json unless on a terminal.")
@click.option("--cache-size", type=click.IntRange(0), default=16384, help="Decisions kept; 0 for none.")
@click.option(
    "--drain-seconds",
    type=Seconds(0, 3600),
    default=5.0,
    help="After SIGTERM, for endpoints to leave, before the socket closes.",
)
@click.option("--max-connections", type=click.IntRange(1), default=500, help="More are closed at accept.")
@click.option(
    "--max-body-bytes", type=click.IntRange(1), default=7 * 1024 * 1024, help="Larger bodies get 413."
)
def serve(**options: Any) -> int:
    """Answer AdmissionReviews on HTTPS; drain and exit on SIGTERM or SIGINT.

    Exits with 0 after the drain, also at once when a second signal comes; 2 on bad settings or when
    it cannot listen.
    """
    from gatekeeper_py.serving.app import serve as run  # noqa: PLC0415 - other commands start without a server

    try:
        return run(_settings(options))
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None


def _settings(options: dict[str, Any]) -> checked.Settings:
    checked.check_sources(options["policy"], options["configmap"])
    tls = checked.build_tls(
        cert=options["tls_cert"],
        key=options["tls_key"],
        self_signed=options["tls_self_signed"],
        hostnames=options["tls_hostname"],
        ca_out=options["tls_ca_out"],
        client_ca=options["client_ca"],
        client_names=options["client_name"],
        policy_is_file=options["policy"] is not None,
    )
    style = options["log_format"] or ("console" if sys.stdout.isatty() else "json")
    return checked.Settings(
        policy=options["policy"],
        configmap=options["configmap"],
        kubeconfig=options["kubeconfig"],
        context=options["context"],
        listen=options["listen"],
        health_listen=options["health_listen"],
        tls=tls,
        log_level=options["log_level"],
        log_format=cast(Literal["json", "console"], style),
        cache_size=options["cache_size"],
        drain_seconds=options["drain_seconds"],
        max_connections=options["max_connections"],
        max_body_bytes=options["max_body_bytes"],
    )
