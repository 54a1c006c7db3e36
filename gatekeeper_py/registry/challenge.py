"""Parse ``WWW-Authenticate`` challenges, and check where a registry asks us to get a token.

Source: RFC 9110, section 11.6.1; distribution's token specification. A registry chooses the realm, so the
realm is checked: a hostile registry must not make us send our password to another host. The scope in a
challenge is not used: if registries share a token server, a hostile registry could name a repository of
another registry, and get a token for this repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Final, NamedTuple

from yarl import URL

from gatekeeper_py.core.images.reference import escape, fold_registry

MAX_LENGTH: Final = 16 * 1024
"""Maximum number of characters that are read from all challenges of an answer. Real challenges have a few
hundred, but an answer can have a hundred headers of 8 KiB each."""

_CHARACTER: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"
_WORD: Final = rf"(?<!{_CHARACTER}){_CHARACTER}++"
"""A whole word. Without the lookbehind, a search would start again at each character of a long word, and read
the rest of the word each time."""
_PART: Final = re.compile(
    rf"(?P<name>{_WORD})[ \t]*+=[ \t]*+(?:\"(?P<quoted>(?:[^\"\\]|\\.)*+)\"|(?P<plain>[^\s,\"]++))"
    rf"|(?P<scheme>{_WORD})(?=[ \t,]|$)"
)


class ChallengeError(ValueError):
    """The challenge cannot be answered; the message says why, for the log and for ``/policy``."""


class Bearer(NamedTuple):
    """Where to get a token, and for which service and scope."""

    realm: URL
    service: str
    scope: str


class Challenges(NamedTuple):
    """The authentication that a registry accepts. ``bearer`` is preferred, as in container runtimes."""

    basic: bool
    bearer: Mapping[str, str] | None


def parse_challenges(headers: Iterable[str]) -> Challenges:
    """Parse the ``WWW-Authenticate`` headers of an answer; ignore unknown and malformed challenges.

    Ignores the header with which the total length exceeds ``MAX_LENGTH``, and all headers after it.
    """
    basic, bearer = False, None
    for scheme, parameters in _challenges(headers):
        if scheme == "basic":
            basic = True
        elif scheme == "bearer" and bearer is None and parameters.get("realm"):
            bearer = parameters
    return Challenges(basic, bearer)


def _challenges(headers: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    left = MAX_LENGTH
    for header in headers:
        left -= len(header)
        if left < 0:
            return
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


def is_private(url: URL) -> bool:
    """Return whether nobody on the network can read a request to a URL: https, or this machine."""
    if url.scheme == "https" or url.host == "localhost":
        return True
    try:
        return ip_address(url.host or "").is_loopback
    except ValueError:
        return False


def parse_url(text: str) -> URL:
    """Parse a URL that a registry chose. Raises ``ValueError``.

    Refuses a URL that is not ASCII (RFC 3986, section 2), because the time to parse an international host
    name grows with the square of its length.
    """
    if not text.isascii():
        message = "a URL is ASCII"
        raise ValueError(message)
    try:
        return URL(text)
    except IndexError:  # yarl's answer to brackets before an @ and no host after it
        message = "a URL without a host"
        raise ValueError(message) from None


def host_of(url: URL) -> str:
    """Return the host of a URL, folded for comparison; empty if there is none. Raises ``ValueError``."""
    return fold_registry(url.host_port_subcomponent or "") if url.raw_host else ""


def check_bearer(
    parameters: Mapping[str, str], repository: str, *, token_hosts: Iterable[str], plain_hosts: Iterable[str]
) -> Bearer:
    """Check a bearer challenge for a token to pull from ``repository``. Raises ``ChallengeError``.

    ``token_hosts`` are the hosts that may issue tokens; only those also in ``plain_hosts`` may use http.
    """
    try:
        realm = parse_url(parameters["realm"])
        host = host_of(realm)
    except ValueError:
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
