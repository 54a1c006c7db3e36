"""Options and option types that several commands use. Click reports a bad value with the option's name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click
from click.core import ParameterSource

from gatekeeper_py.core.names import DEFAULT_NAMESPACE, NAMESPACE_NAME, always_exempt
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.settings import SettingsError, parse_address, parse_configmap

T = TypeVar("T")


class _Setting(click.ParamType[T]):
    """A setting that ``parse`` reads. Click may pass a value that is already parsed, such as a default."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._parse(value) if isinstance(value, str) else cast("T", value)
        except SettingsError as problem:
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


class Interval(click.ParamType[float]):
    """A time such as ``90s``, ``10m`` or ``1h``, in seconds."""

    name = "duration"

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _INTERVAL.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 10m or 1h", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if not self._least <= seconds <= self._most:
            self.fail(f"{value} is not between {self._least:g} s and {self._most / 3600:g} h", param, ctx)
        return float(seconds)


_INTERVAL: Final = re.compile(r"([0-9]{1,6})([smh])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def _parse_namespace(text: str) -> str:
    if text and not NAMESPACE_NAME.fullmatch(text):
        raise SettingsError(f"{text!r} is not a valid namespace name")
    return text


def check_namespace(name: str | None) -> None:
    """Refuse an invalid namespace name in ``--namespace``, before it becomes part of a path."""
    if name is not None and not NAMESPACE_NAME.fullmatch(name):
        raise click.UsageError(f"--namespace: {name!r} is not a valid namespace name")


def given(parameter: str) -> bool:
    """Return whether the user set a parameter of the running command, instead of using its default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}


class Instant(click.ParamType[datetime]):
    """A date or an RFC 3339 time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


_KUBECONFIG: Final = click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Kubeconfig. Default: the Pod's service account, then $KUBECONFIG, then ~/.kube/config.",
)
_CONTEXT: Final = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a cluster."""
    return _KUBECONFIG(_CONTEXT(command))


EXEMPT_NAMESPACES: Final = click.option(
    "--exempt-namespace",
    "exempt_namespaces",
    metavar="NAME",
    multiple=True,
    default=always_exempt(DEFAULT_NAMESPACE),
    show_default=True,
    type=_Setting("NAME", _parse_namespace),
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


ADDRESS: Final = _Setting("HOST:PORT", parse_address)
CONFIGMAP: Final = _Setting("NAMESPACE/NAME", parse_configmap)
