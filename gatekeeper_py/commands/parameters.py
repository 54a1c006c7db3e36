"""Types of options: what is wrong with a value is said beside the option's name."""

from __future__ import annotations

import math
from typing import Any, Final

import click

from gatekeeper_py.settings import Address, ConfigMapName, SettingsError, parse_address, parse_configmap


class _AddressType(click.ParamType[Address]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        try:
            return value if isinstance(value, Address) else parse_address(value)
        except SettingsError as problem:
            self.fail(str(problem), param, ctx)


class _ConfigMapType(click.ParamType[ConfigMapName]):
    name = "NAMESPACE/NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ConfigMapName:
        try:
            return value if isinstance(value, ConfigMapName) else parse_configmap(value)
        except SettingsError as problem:
            self.fail(str(problem), param, ctx)


class _Duration(click.FloatRange):
    """A finite number of some unit within a range; a range itself lets ``nan`` through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of {self.name}", param, ctx)
        return number


class Seconds(_Duration):
    name = "seconds"


class Days(_Duration):
    name = "days"


ADDRESS: Final = _AddressType()
CONFIGMAP: Final = _ConfigMapType()
