"""Challenges are parsed, and their realm is checked before a request goes there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.registry.challenge import (
    MAX_LENGTH,
    Bearer,
    ChallengeError,
    check_bearer,
    parse_challenges,
)
from support.growth import check_linear

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"'


def test_the_challenge_of_docker_hub() -> None:
    found = parse_challenges([HUB])
    assert not found.basic
    assert found.bearer == {
        "realm": "https://auth.docker.io/token",
        "service": "registry.docker.io",
        "scope": "repository:library/nginx:pull",
    }


@pytest.mark.parametrize(
    ("headers", "basic", "realm"),
    [
        pytest.param([], False, None, id="none"),
        pytest.param(['Basic realm="r"'], True, None, id="basic"),
        pytest.param(["basic"], True, None, id="basic-alone"),
        pytest.param(['BEARER Realm="a"'], False, "a", id="case"),
        pytest.param(['Basic realm="r", Bearer realm="a"'], True, "a", id="two-in-one-header"),
        pytest.param(['Basic realm="r"', 'Bearer realm="a"'], True, "a", id="two-headers"),
        pytest.param(["Bearer realm=a,service=b"], False, "a", id="unquoted"),
        pytest.param(['Bearer realm = "a"'], False, "a", id="spaces"),
        pytest.param([r'Bearer realm="a\"b"'], False, 'a"b', id="escaped-quote"),
        pytest.param(['Bearer service="s"'], False, None, id="no-realm"),
        pytest.param(['Bearer realm="a'], False, None, id="open-quote"),
        pytest.param(['Negotiate, Bearer realm="a"'], False, "a", id="unknown-scheme-first"),
        pytest.param(['realm="a"'], False, None, id="no-scheme"),
        pytest.param(['Bearer realm="a", realm="b"'], False, "a", id="the-first-of-two"),
        pytest.param(['Bearer a@realm="a"'], False, "a", id="odd-character-before-a-word"),
        pytest.param(['Bearer a="b"realm="a"'], False, "a", id="no-separator"),
        pytest.param(["x" * (MAX_LENGTH - 16), 'Bearer realm="a"'], False, "a", id="as-long-as-allowed"),
        pytest.param(["x" * (MAX_LENGTH - 15), 'Bearer realm="a"'], False, None, id="too-long"),
    ],
)
def test_challenges(headers: list[str], basic: bool, realm: str | None) -> None:  # noqa: FBT001
    found = parse_challenges(headers)
    assert found.basic is basic
    assert (None if found.bearer is None else found.bearer["realm"]) == realm


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_headers_are_read_without_an_error(headers: list[str]) -> None:
    parse_challenges(headers)


@pytest.mark.parametrize("end", ["@", "=", "= ", " "])
def test_a_long_word_is_read_once(end: str) -> None:
    """A header of 8 KB took 90 ms, and a hundred of them nine seconds."""
    check_linear(parse_challenges, lambda size: ["a" * (size - len(end)) + end], limit=MAX_LENGTH)


def check(realm: str, scope: str = "", plain: tuple[str, ...] = ()) -> Bearer:
    return check_bearer(
        {"realm": realm, "scope": scope, "service": "s"},
        "team/app",
        token_hosts=["auth.corp.example", "r.io:5000"],
        plain_hosts=plain,
    )


@pytest.mark.parametrize(
    ("realm", "reason"),
    [
        pytest.param("https://evil.example/token", "tokenHosts does not list", id="another-host"),
        pytest.param("https://auth.corp.example.evil.io/", "tokenHosts does not list", id="look-alike"),
        pytest.param("https://auth.corp.example:8443/", "tokenHosts does not list", id="another-port"),
        pytest.param("https://r.io/token", "tokenHosts does not list", id="port-left-out"),
        pytest.param("http://auth.corp.example/token", "does not use https", id="http"),
        pytest.param("https://user:pw@auth.corp.example/", "user information", id="user-information"),
        pytest.param("https://evil@auth.corp.example/", "user information", id="user"),
        pytest.param("file:///etc/passwd", "not an http or https URL", id="file"),
        pytest.param("/token", "not an http or https URL", id="relative"),
        pytest.param("https://[::1", "not a URL", id="malformed"),
        pytest.param("https://[::1]@", "not a URL", id="brackets-without-host"),
        pytest.param("https://auth.corp.example:99999/", "not a URL", id="port-too-large"),
        pytest.param("https://auth.corp.éxample/", "not a URL", id="international-host"),
        pytest.param(f"https://xn--{'a' * 100}/", "tokenHosts does not list", id="undecodable-host"),
        pytest.param("x://y@", "not an http or https URL", id="user-without-host"),
        pytest.param("", "not an http or https URL", id="empty"),
    ],
)
def test_realms_that_are_refused(realm: str, reason: str) -> None:
    with pytest.raises(ChallengeError, match=reason):
        check(realm)


@pytest.mark.parametrize(
    "realm",
    [
        "https://auth.corp.example/token?x=1",
        "https://auth.corp.example:443/token",
        "https://AUTH.corp.example/token",
        "https://r.io:5000/token",
    ],
)
def test_realms_that_are_followed(realm: str) -> None:
    assert check(realm).realm.scheme == "https"


def test_http_needs_an_entry_that_allows_it_for_the_host() -> None:
    assert check("http://r.io:5000/token", plain=("r.io:5000",)).realm.scheme == "http"


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param("", id="none"),
        pytest.param("repository:team/app:pull", id="its-own"),
        pytest.param("repository:other/secret:pull", id="another-repository"),
        pytest.param("repository:team/app:pull repository:other/secret:pull", id="one-more"),
        pytest.param("repository:team/app:pull,push", id="push"),
        pytest.param("repository:team/app:*", id="everything"),
        pytest.param("registry:catalog:*", id="catalog"),
    ],
)
def test_a_token_is_requested_for_pulling_from_one_repository_only(scope: str) -> None:
    assert check("https://auth.corp.example/token", scope).scope == "repository:team/app:pull"
