"""Choose the proxy for a request, by the rules of Go's ``httpproxy``.

Python's own rules are not used. They ignore ``NO_PROXY=10.0.0.0/8``, so requests to the API server's Service
address would go through the company's proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from yarl import URL


def proxy_for(url: URL, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL, or ``None`` to connect directly.

    Reads ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, and their lower-case spellings when those are
    not set. Source: golang.org/x/net/http/httpproxy.
    """
    proxy = _variable(environ, f"{url.scheme}_proxy").strip()
    if not proxy or _direct(url.host or "", url.port or 0, _variable(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def _direct(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    rules = (rule.strip().lower() for rule in no_proxy.split(","))
    return any(_matches(rule, host, address, port) for rule in rules if rule)


def _matches(
    rule: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    if _address(rule) is None:
        rule, _, rule_port = rule.partition("]:") if rule.startswith("[") else rule.partition(":")
        if rule_port and rule_port != str(port):
            return False
    rule = rule.strip("[]")
    rule_address = _address(rule)
    if rule_address is not None:
        return rule_address == address
    if rule.startswith("*."):
        rule = rule[1:]
    if rule.startswith("."):
        return host.endswith(rule)
    return bool(rule) and (host == rule or host.endswith("." + rule))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
