"""``WWW-Authenticate`` challenges, and what a registry may make us do with them.

Source: RFC 9110, section 11.6.1; distribution's token specification. A registry chooses the realm, so it is
checked: a hostile registry must not send our password to another host. The scope that it names is not used:
if registries share a token server, a hostile one could name a repository of another, and get a token for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from yarl import URL

from gatekeeper_py.core.images.reference import InvalidReference, escape, fold_registry

_WORD: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
_PART: Final = re.compile(
    rf"(?P<name>{_WORD})[ \t]*+=[ \t]*+(?:\"(?P<quoted>(?:[^\"\\]|\\.)*+)\"|(?P<plain>[^\s,\"]++))"
    rf"|(?P<scheme>{_WORD})(?=[ \t,]|$)"
)


class ChallengeError(ValueError):
    """The challenge cannot be answered; the message says why, for the log and for ``/policy``."""


class Bearer(NamedTuple):
    """Where to get a token, and for what."""

    realm: URL
    service: str
    scope: str


class Challenges(NamedTuple):
    """What a registry accepts. ``bearer`` is preferred, as by container runtimes."""

    basic: bool
    bearer: Mapping[str, str] | None


def parse_challenges(headers: Iterable[str]) -> Challenges:
    """Parse every ``WWW-Authenticate`` header of an answer; what is unknown or malformed is left out."""
    basic, bearer = False, None
    for scheme, parameters in _challenges(headers):
        if scheme == "basic":
            basic = True
        elif scheme == "bearer" and bearer is None and parameters.get("realm"):
            bearer = parameters
    return Challenges(basic, bearer)


def _challenges(headers: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for header in headers:
        scheme, parameters = "", dict[str, str]()
        for part in _PART.finditer(header):
            if part["scheme"] is not None:
                if scheme:
                    yield scheme, parameters
                scheme, parameters = part["scheme"].lower(), {}
            elif scheme:
                value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
                parameters.setdefault(part["name"].lower(), value)
        if scheme:
            yield scheme, parameters


def check_bearer(
    parameters: Mapping[str, str], repository: str, *, token_hosts: Iterable[str], plain_hosts: Iterable[str]
) -> Bearer:
    """Check a bearer challenge, for a token to pull from ``repository``. Raises ``ChallengeError``.

    ``token_hosts`` are the hosts that may issue tokens; ``plain_hosts`` those that may do so over http.
    """
    try:
        realm = URL(parameters["realm"])
        host = fold_registry(realm.host_port_subcomponent or "") if realm.host else ""
    except (ValueError, InvalidReference):
        raise ChallengeError("the token realm is not a URL") from None
    shown = escape(str(realm.with_query(None).with_fragment(None)), 120)
    if realm.scheme not in {"http", "https"} or not host:
        raise ChallengeError(f"the token realm {shown} is not an http or https URL")
    if realm.user is not None or realm.password is not None:
        raise ChallengeError("the token realm holds user information")
    if host not in set(token_hosts):
        raise ChallengeError(f"the token realm {shown} is on a host that tokenHosts does not list")
    if realm.scheme == "http" and host not in set(plain_hosts):
        raise ChallengeError(f"the token realm {shown} does not use https")
    return Bearer(realm, parameters.get("service", ""), f"repository:{repository}:pull")
