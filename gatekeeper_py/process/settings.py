"""Settings that commands share, checked once when they are read."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ENVIRONMENT_PREFIX: Final = "GATEKEEPER_PY"
ENVIRONMENT_NOTE: Final = (
    "Every option is also an environment variable GATEKEEPER_PY_<OPTION>; the option takes precedence."
)
MAX_PORT: Final = 65535
DEFAULT_MOST_REJECTED: Final = 50
EVERY: Final = ""
"""Host of an ``Address``: IPv6 and IPv4, or IPv4 alone where the machine has no IPv6."""


class SettingsError(ValueError):
    """A setting is invalid, or two contradict each other; the message names them."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on. Port 0 means any free port, ``EVERY`` every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host == EVERY:
            return f"every address, port {self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConfigMapName:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """A certificate from files, or a self-signed one if ``cert`` is ``None``.

    ``hostnames`` are the names of the self-signed certificate, or the names that the certificate from files
    must cover.
    """

    cert: Path | None
    key: Path | None
    hostnames: tuple[str, ...]
    ca_out: Path | None
    client_ca: Path | None
    client_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of ``serve``."""

    policy: Path | None
    configmap: ConfigMapName | None
    kubeconfig: Path | None
    context: str | None
    listen: Address
    health_listen: Address
    tls: TlsSettings
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"]
    cache_size: int
    drain_seconds: float
    max_connections: int
    max_body_bytes: int
    registry_config: Path | None = None
    status_details: bool = False
    exceptions: tuple[Path, ...] = ()
    guard_most_rejected: int = DEFAULT_MOST_REJECTED


DEFAULT_HOSTNAMES: Final = ("localhost", "127.0.0.1", "::1")


def parse_address(text: str) -> Address:
    """Parse ``HOST:PORT``. An IPv6 host must be in brackets. Raises ``SettingsError``."""
    host, colon, port = text.rpartition(":")
    # Check the length first: for a number with thousands of digits, int() raises an error of its own.
    digits = port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))
    if not colon or not digits or int(port) > MAX_PORT:
        raise SettingsError(f"{text!r} is not HOST:PORT with a port from 0 to {MAX_PORT}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise SettingsError(f"{host!r} is not an IPv6 address") from None
    elif ":" in host:
        raise SettingsError(f"write the IPv6 address of {text!r} in brackets, e.g. [::]:8443")
    if not host:
        raise SettingsError(f"{text!r} has no host; [::]:{port} means every address")
    return Address(host, int(port))


def parse_configmap(text: str) -> ConfigMapName:
    """Parse ``NAMESPACE/NAME``. Raises ``SettingsError``."""
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise SettingsError(f"{text!r} is not NAMESPACE/NAME")
    return ConfigMapName(namespace, name)
