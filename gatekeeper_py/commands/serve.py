"""``gatekeeper-py serve``: the webhook server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, cast

import click

from gatekeeper_py import settings as checked
from gatekeeper_py.logs import LEVELS

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    context_settings={"auto_envvar_prefix": checked.ENVIRONMENT_PREFIX, "show_default": True},
    epilog="Every option is also an environment variable GATEKEEPER_PY_<OPTION>; the option wins.",
)
@click.option("--policy", type=_FILE, help="Policy from a file, polled each second.")
@click.option("--configmap", metavar="NAMESPACE/NAME", help="Policy from a watched ConfigMap.")
@click.option("--kubeconfig", type=_FILE, help="For --configmap; in-cluster, $KUBECONFIG, ~/.kube/config.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--listen", metavar="HOST:PORT", default="0.0.0.0:8443", help="Webhook, HTTPS.")
@click.option("--tls-cert", type=_FILE, help="PEM chain; reloaded when its content changes.")
@click.option("--tls-key", type=_FILE, help="PEM key.")
@click.option("--tls-self-signed", is_flag=True, help="Make a certificate in memory, for trying it out.")
@click.option("--tls-hostname", "tls_hostname", multiple=True, help="Name it must cover; repeatable.")
@click.option("--tls-ca-out", type=_FILE, help="Write its authority here.")
@click.option("--client-ca", type=_FILE, help="Require callers' certificates from this authority.")
@click.option("--client-name", multiple=True, help="Name a caller's certificate must have; repeatable.")
@click.option("--health-listen", metavar="HOST:PORT", default="0.0.0.0:8080", help="Plain HTTP.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info")
@click.option("--log-format", type=click.Choice(["json", "console"]), help="json unless on a terminal.")
@click.option("--cache-size", type=click.IntRange(0), default=16384, help="Decisions kept; 0 for none.")
@click.option(
    "--drain-seconds", type=click.FloatRange(0, 3600), default=5.0, help="Before the socket closes."
)
@click.option("--max-connections", type=click.IntRange(1), default=500)
@click.option("--max-body-bytes", type=click.IntRange(1), default=7 * 1024 * 1024)
def serve(**options: Any) -> int:
    """Answer AdmissionReviews on HTTPS; drain and exit on SIGTERM or SIGINT."""
    from gatekeeper_py.serve import serve as run  # noqa: PLC0415 - other commands start without a server

    try:
        return run(_settings(options))
    except checked.SettingsError as problem:
        raise click.UsageError(str(problem)) from None


def _settings(options: dict[str, Any]) -> checked.Settings:
    configmap = options["configmap"]
    name = None if configmap is None else checked.parse_configmap(configmap)
    checked.check_sources(options["policy"], name)
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
        configmap=name,
        kubeconfig=options["kubeconfig"],
        context=options["context"],
        listen=checked.parse_address(options["listen"]),
        health_listen=checked.parse_address(options["health_listen"]),
        tls=tls,
        log_level=options["log_level"],
        log_format=cast(Literal["json", "console"], style),
        cache_size=options["cache_size"],
        drain_seconds=checked.check_seconds("--drain-seconds", options["drain_seconds"]),
        max_connections=options["max_connections"],
        max_body_bytes=options["max_body_bytes"],
    )
