"""Options of commands that judge images or exceptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from gatekeeper_py.cli.commands.parameters import Parsed, given, grouped, parse_namespace, usage
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, always_exempt
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.process.settings import ConfigMapName

MAX_CLUSTER_NAME: Final = 253
"""Maximum number of characters of ``--cluster-name``."""


def _parse_cluster_name(text: str) -> str:
    if not 0 < len(text) <= MAX_CLUSTER_NAME:
        raise ValueError(f"give 1 to {MAX_CLUSTER_NAME} characters")
    return text


INSTANT: Final = Parsed("time", parse_instant)
"""A date or an RFC 3339 time."""

AT: Final = click.option(
    "--at", "instant", type=INSTANT, help="Judge at this date or RFC 3339 time. Default: now."
)
WIDE: Final = click.option(
    "--wide", is_flag=True, help="Do not shorten the table to the width of the terminal."
)

INSTALLATION: Final = click.option(
    "--installation",
    metavar="NAMESPACE",
    default=DEFAULT_NAMESPACE,
    show_default=True,
    help="Namespace of gatekeeper-py. Exceptions in it may name other namespaces.",
)

_FILES: Final = click.option(
    "--exceptions",
    metavar="FILE|DIR",
    multiple=True,
    help="Judge with the exceptions in this file or directory: manifests of ConfigMaps, or documents that"
    " apply to the namespace of -n. Repeatable.",
)

EXCEPTIONS: Final = grouped("exceptions", ExceptionFiles, _FILES, INSTALLATION)
"""Options that name documents with exceptions."""

_LOOK_UP: Final = click.option(
    "--look-up",
    is_flag=True,
    help="Look up images in registries, as described above.",
)
_REGISTRY_CONFIG: Final = click.option(
    "--registry-config",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --look-up: directory with config.json (credentials) and CA files.",
)


def look_ups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that switch look-ups on."""
    return _LOOK_UP(_REGISTRY_CONFIG(usage("--registry-config needs --look-up")(command)))


def installation_of(configmap: ConfigMapName | None, named: str) -> str:
    """Return the namespace of the installation: that of the policy, unless the user ``named`` another."""
    return named if configmap is None or given("installation") else configmap.namespace


CLUSTER_NAME: Final = click.option(
    "--cluster-name",
    type=Parsed("NAME", _parse_cluster_name),
    help="Name of the cluster in the report. Default: the context of the kubeconfig.",
)


EXEMPT_NAMESPACES: Final = click.option(
    "--exempt-namespace",
    "exempt_namespaces",
    metavar="NAME",
    multiple=True,
    default=always_exempt(DEFAULT_NAMESPACE),
    show_default=True,
    type=Parsed("NAME", lambda text: text and parse_namespace(text)),
    help="Do not judge objects in this namespace. Repeatable; replaces the default.",
)
"""An option of commands that judge objects. An object in an exempt namespace has the verdict ``exempt``."""

WEBHOOKS_CONFIG: Final = click.option(
    "--webhooks-config",
    metavar="FILE",
    help="Do not judge objects in the namespaces that these webhook settings (webhooks.yaml) exempt.",
)
"""An option of the same commands: the settings that list the exempt namespaces of the webhook."""


def exemptions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --webhooks-config and --exempt-namespace, of which at most one may be given."""
    checked = usage("give at most one of --webhooks-config and --exempt-namespace")(command)
    return WEBHOOKS_CONFIG(EXEMPT_NAMESPACES(checked))
