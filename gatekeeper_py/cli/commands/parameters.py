"""Options and option types that several commands use. Click reports a bad value with the option's name."""

from __future__ import annotations

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import click
from click.core import ParameterSource

from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.process.settings import parse_address, parse_configmap

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


def parse_namespace(text: str) -> str:
    """Return the name of a namespace. Raises ``ValueError`` for an invalid one."""
    if not NAMESPACE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a valid namespace name")
    return text


NAMESPACE: Final = Parsed("NAMESPACE", parse_namespace)


def namespace_option(explained: str, **attributes: Any) -> Decorator:
    """Return the option ``--namespace`` with its help text."""
    return click.option("-n", "--namespace", type=NAMESPACE, show_default=True, help=explained, **attributes)


def format_option(formats: Mapping[str, Any]) -> Decorator:
    """Return the option that names one row of a table of formats. The default is the first."""
    return click.option(
        "--format",
        "--output",
        "-o",
        "style",
        type=click.Choice(list(formats)),
        default=next(iter(formats)),
        show_default=True,
    )


def given(parameter: str) -> bool:
    """Return whether the user set a parameter of the running command, instead of using its default.

    A flag that an environment variable sets to false does not count, nor does a list without values.
    """
    context = click.get_current_context()
    value, source = context.params[parameter], context.get_parameter_source(parameter)
    is_set = value is not None and value is not False and value != ()
    return is_set and source not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}


def usage(*rules: str) -> Decorator:
    """Return a decorator that refuses a command line that breaks one of the rules. The rule is the message.

    The forms of a rule are "A and B need C or D", "A cannot be combined with B or C", "A takes only B and C",
    "give exactly one of A and B" and "give at most one of A and B". Each letter stands for an option or an
    argument, as the help shows it, or for one with a value: "--policy -". A colon may begin an explanation.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(**values: Any) -> Any:
            for rule in rules:
                if _breaks(rule, click.get_current_context()):
                    raise click.UsageError(rule)
            return command(**values)

        return checked

    return decorated


_VERB: Final = re.compile(
    r" ?\b(needs?|cannot be combined with|takes only|give exactly one of|give at most one of) "
)
_SETTING: Final = re.compile(r"(--[a-z-]+|[A-Z]+)(?: (?!and |or )([a-z-]+))?")


def _breaks(rule: str, context: click.Context) -> bool:
    names = {
        word: str(each.name)
        for each in context.command.params
        for word in (*each.opts, *re.findall("[A-Z]+", each.human_readable_name))
    }

    def settings(text: str) -> set[tuple[str, str]]:
        return {(names[word], value) for word, value in _SETTING.findall(text)}

    def number(text: str) -> int:
        return sum(
            _flat(context.params[name]).count(value) if value else given(name)
            for name, value in settings(text)
        )

    left, verb, right = _VERB.split(rule.partition(":")[0])
    match verb:
        case "give exactly one of":
            return number(right) != 1
        case "give at most one of":
            return number(right) > 1
        case "cannot be combined with":
            return number(left) > 0 and number(right) > 0
        case "takes only":
            taken = {name for name, _ in settings(left) | settings(right)}
            return number(left) > 0 and any(map(given, context.params.keys() - taken))
        case _:
            return number(left) > 0 and number(right) == 0


def _flat(value: Any) -> list[Any]:
    """Return the values of a parameter. Several may be in tuples, and each in a tuple of its own."""
    return [one for each in value for one in _flat(each)] if isinstance(value, tuple) else [value]


_KUBECONFIG: Final = click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Kubeconfig. Default: the Pod's service account, then $KUBECONFIG, then ~/.kube/config.",
)
_CONTEXT: Final = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")


def grouped(name: str, build: Callable[..., Any], *options: Decorator) -> Decorator:
    """Return a decorator that adds options, from which ``build`` makes the argument ``name`` of the command.

    The parameters of ``build`` have the names of the options.
    """
    taken = inspect.signature(build).parameters

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        def with_options(**given: Any) -> Any:
            found = build(**{each: given.pop(each) for each in taken if each in given})
            return command(**given, **{name: found})

        whole: Callable[..., Any] = functools.wraps(command)(with_options)
        for option in reversed(options):
            whole = option(whole)
        return whole

    return decorated


cluster_options: Final = grouped("cluster", Cluster, _KUBECONFIG, _CONTEXT)
"""Options that choose a cluster."""

ADDRESS: Final = Parsed("HOST:PORT", parse_address)
CONFIGMAP: Final = Parsed("NAMESPACE/NAME", parse_configmap)

LOG_FORMAT: Final = click.option(
    "--log-format", type=click.Choice(["json", "console"]), help="Default: json, or console on a terminal."
)


def usable_log_format(chosen: Literal["json", "console"] | None) -> Literal["json", "console"]:
    """Return the format of the log: the one chosen with ``LOG_FORMAT``, or its default."""
    return chosen or ("console" if sys.stdout.isatty() else "json")
