"""Options and option types that several commands use. Click reports a bad value with the option's name."""

from __future__ import annotations

import functools
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import click
from click.core import ParameterSource

from gatekeeper_py.core.names import DEFAULT_NAMESPACE, NAMESPACE_NAME, always_exempt
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.settings import ConfigMapName, SettingsError, parse_address, parse_configmap

if TYPE_CHECKING:
    from gatekeeper_py.cluster.configuration import ClusterConfiguration

MAX_CLUSTER_NAME: Final = 253
"""Maximum number of characters of ``--cluster-name``."""

T = TypeVar("T")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Parsed(click.ParamType[T]):
    """A value that ``parse`` reads from text; it raises ``ValueError`` for a bad one.

    Click may pass a value that is already parsed, such as a default.
    """

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._parse(value) if isinstance(value, str) else cast("T", value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class _Duration(click.FloatRange):
    """A finite number within a range. Click's own range type accepts ``nan``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of {self.name}", param, ctx)
        return number


class Seconds(_Duration):
    name = "seconds"


class Days(_Duration):
    name = "days"


def interval(least: float, most: float) -> Parsed[float]:
    """Return the type of a time such as ``90s``, ``10m``, ``1h`` or ``7d``, in seconds."""

    def parse(text: str) -> float:
        match = _INTERVAL.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a duration such as 90s, 10m, 1h or 7d")
        seconds = int(match[1]) * _UNITS[match[2]]
        if not least <= seconds <= most:
            raise ValueError(f"{text} is not between {least:g} s and {most / 3600:g} h")
        return float(seconds)

    return Parsed("duration", parse)


_INTERVAL: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _parse_namespace(text: str) -> str:
    if text and not NAMESPACE_NAME.fullmatch(text):
        raise SettingsError(f"{text!r} is not a valid namespace name")
    return text


def _checked_namespace(_ctx: click.Context, _param: click.Parameter, name: str | None) -> str | None:
    """Refuse an invalid name, before it becomes part of a path."""
    if name is not None and not NAMESPACE_NAME.fullmatch(name):
        raise click.UsageError(f"--namespace: {name!r} is not a valid namespace name")
    return name


def _checked_cluster_name(_ctx: click.Context, _param: click.Parameter, name: str | None) -> str | None:
    if name is not None and not 0 < len(name) <= MAX_CLUSTER_NAME:
        raise click.UsageError(f"--cluster-name: give 1 to {MAX_CLUSTER_NAME} characters")
    return name


def namespace_option(explained: str, default: str | None = None) -> Decorator:
    """Return the option ``--namespace`` with its help text."""
    return click.option(
        "-n",
        "--namespace",
        metavar="NAMESPACE",
        default=default,
        show_default=default is not None,
        callback=_checked_namespace,
        help=explained,
    )


def format_option(*formats: str) -> Decorator:
    """Return the option that chooses one of the formats of the output. The default is the first."""
    return click.option(
        "--format",
        "--output",
        "-o",
        "style",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
    )


def given(parameter: str) -> bool:
    """Return whether the user set a parameter of the running command, instead of using its default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}


def installation_of(configmap: ConfigMapName | None, named: str) -> str:
    """Return the namespace of the installation: that of the policy, unless the user ``named`` another."""
    return named if configmap is None or given("installation") else configmap.namespace


INSTANT: Final = Parsed("time", parse_instant)
"""A date or an RFC 3339 time."""

AT: Final = click.option(
    "--at", "instant", type=INSTANT, help="Judge at this date or RFC 3339 time. Default: now."
)
WIDE: Final = click.option(
    "--wide", is_flag=True, help="Do not shorten the table to the width of the terminal."
)


@dataclass(frozen=True)
class Cluster:
    """The cluster that the user selected with the options of a command."""

    kubeconfig: Path | None
    context: str | None

    @functools.cached_property
    def configuration(self) -> ClusterConfiguration:
        """Return the location of the cluster's configuration. Raises ``SettingsError``."""
        # Imported here, so that commands that need no cluster start fast.
        from gatekeeper_py.cluster.configuration import ClusterConfiguration  # noqa: PLC0415

        return ClusterConfiguration(kubeconfig=self.kubeconfig, context=self.context, environ=os.environ)


_KUBECONFIG: Final = click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Kubeconfig. Default: the Pod's service account, then $KUBECONFIG, then ~/.kube/config.",
)
_CONTEXT: Final = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a cluster. The command gets them as ``cluster``."""

    @functools.wraps(command)
    def with_options(kubeconfig: Path | None, context: str | None, **others: Any) -> Any:
        return command(cluster=Cluster(kubeconfig, context), **others)

    return _KUBECONFIG(_CONTEXT(with_options))


CLUSTER_NAME: Final = click.option(
    "--cluster-name",
    metavar="NAME",
    callback=_checked_cluster_name,
    help="Name of the cluster in the report. Default: the context of the kubeconfig.",
)


EXEMPT_NAMESPACES: Final = click.option(
    "--exempt-namespace",
    "exempt_namespaces",
    metavar="NAME",
    multiple=True,
    default=always_exempt(DEFAULT_NAMESPACE),
    show_default=True,
    type=Parsed("NAME", _parse_namespace),
    help="Do not judge objects in this namespace. Repeatable; replaces the default.",
)
"""An option of commands that judge objects. An object in an exempt namespace has the verdict ``exempt``."""

WEBHOOKS_CONFIG: Final = click.option(
    "--webhooks-config",
    metavar="FILE",
    help="Do not judge objects in the namespaces that these webhook settings (webhooks.yaml) exempt.",
)
"""An option of the same commands: the settings that list the exempt namespaces of the webhook."""


def check_exempt_usage() -> None:
    """Refuse --exempt-namespace together with --webhooks-config in the running command."""
    if given("webhooks_config") and given("exempt_namespaces"):
        raise click.UsageError("--exempt-namespace replaces the settings: give it or --webhooks-config")


ADDRESS: Final = Parsed("HOST:PORT", parse_address)
CONFIGMAP: Final = Parsed("NAMESPACE/NAME", parse_configmap)

LOG_FORMAT: Final = click.option(
    "--log-format", type=click.Choice(["json", "console"]), help="Default: json, or console on a terminal."
)


def usable_log_format(chosen: Literal["json", "console"] | None) -> Literal["json", "console"]:
    """Return the format of the log: the one chosen with ``LOG_FORMAT``, or its default."""
    return chosen or ("console" if sys.stdout.isatty() else "json")
