"""Credentials are matched as the kubelet matches them."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.registry.credentials import (
    MAX_CONFIG_BYTES,
    MAX_ENTRIES,
    MAX_TRIED,
    Credential,
    CredentialsError,
    parse_docker_config,
)
from registry.kubelet import keys_tried
from support.budget import budget

HUB_KEY = "https://index.docker.io/v1/"


def auth(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def keyring(**auths: Any) -> Any:
    return parse_docker_config(json.dumps({"auths": auths}).encode())


def users(keys: list[str], name: str) -> list[str]:
    """Return the user names found for an image; the user of each key is the key itself."""
    config = {key: {"username": key, "password": "x"} for key in keys}
    return [credential.username for credential in keyring(**config).find(name)]


@pytest.mark.parametrize(
    ("keys", "name", "found"),
    [
        pytest.param(["r.io"], "r.io/team/app", ["r.io"], id="host"),
        pytest.param(["r.io"], "other.io/team/app", [], id="another-host"),
        pytest.param(["https://r.io"], "r.io/app", ["https://r.io"], id="https"),
        pytest.param(["http://r.io"], "r.io/app", ["http://r.io"], id="http"),
        pytest.param(["https://r.io/v1/"], "r.io/app", ["https://r.io/v1/"], id="v1"),
        pytest.param(["https://r.io/v2/"], "r.io/app", ["https://r.io/v2/"], id="v2"),
        pytest.param(["r.io/v2/team"], "r.io/team/app", ["r.io/v2/team"], id="v2-before-a-path"),
        pytest.param(["r.io/v1"], "r.io/app", [], id="v1-without-slash-is-a-path"),
        pytest.param(["r.io/team"], "r.io/team/app", ["r.io/team"], id="path"),
        pytest.param(["r.io/team"], "r.io/team-b/app", ["r.io/team"], id="path-is-a-text-prefix"),
        pytest.param(["r.io/team/"], "r.io/team-b/app", [], id="path-with-slash"),
        pytest.param(["r.io/*"], "r.io/team", [], id="no-globs-in-the-path"),
        pytest.param(["r.io:5000"], "r.io:5000/app", ["r.io:5000"], id="port"),
        pytest.param(["r.io:5000"], "r.io/app", [], id="port-missing"),
        pytest.param(["r.io"], "r.io:5000/app", [], id="port-too-many"),
        pytest.param(["r.io:443"], "r.io/app", [], id="port-443-is-not-none"),
        pytest.param(["*.r.io"], "a.r.io/app", ["*.r.io"], id="glob"),
        pytest.param(["*.r.io"], "a.b.r.io/app", [], id="glob-is-one-label"),
        pytest.param(["*.r.io"], "r.io/app", [], id="glob-needs-its-label"),
        pytest.param(["a*c.r.io"], "abc.r.io/app", ["a*c.r.io"], id="glob-inside-a-label"),
        pytest.param(["R.io"], "r.io/app", [], id="case-matters"),
        pytest.param(
            ["r.io", "r.io/team", "*.io"],
            "r.io/team/app",
            ["r.io/team", "r.io", "*.io"],
            id="reverse-order",
        ),
        pytest.param(
            ["*.io", "r.io", "r.io/a", "r.io/a/b"],
            "r.io/a/b",
            ["r.io/a/b", "r.io/a", "r.io"],
            id="three-at-most",
        ),
        pytest.param(["docker.io"], "docker.io/library/nginx", ["docker.io"], id="docker-hub"),
        pytest.param([HUB_KEY], "docker.io/library/nginx", [HUB_KEY], id="docker-hub-fallback"),
        pytest.param(
            ["docker.io", "index.docker.io"],
            "docker.io/a/b",
            ["docker.io"],
            id="fallback-only-if-nothing-matches",
        ),
        pytest.param(["index.docker.io"], "quay.io/a/b", [], id="fallback-is-docker-hubs"),
        pytest.param(["registry-1.docker.io"], "docker.io/a/b", [], id="registry-1-never"),
        pytest.param(["r.io bad", "r.io"], "r.io/a", ["r.io"], id="a-key-with-a-space-is-skipped"),
        pytest.param(["[::1]:5000"], "[::1]:5000/a", ["[::1]:5000"], id="ipv6"),
    ],
)
def test_keys_match(keys: list[str], name: str, found: list[str]) -> None:
    assert users(keys, name) == found


LABELS = st.sampled_from(["a", "b", "ab", "A"])
GLOBS = LABELS | st.sampled_from(["*", "*", "*", "a*", "*b", "a*b", "**", ""])
PORTS = st.sampled_from(["", "", "", "", "", ":5000", ":443"])
PATHS = st.sampled_from(["team", "team/app", "team-b/app", "library/nginx", "v1/app", "v2/team/app", "Team"])
KEY_PATHS = st.sampled_from(
    ["", "", "/", "/v1/", "/v2/", "/v1", "/v1/team", "/v2/v1/", "/team", "/team/", "/team/app", "/t", "/*"]
)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def hosts(labels: st.SearchStrategy[str], last: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        joined(labels, st.just("."), last),
        joined(labels, st.just("."), labels, st.just("."), last),
        st.sampled_from(["docker.io", "index.docker.io", "registry-1.docker.io"]),
    )


NAMES = joined(hosts(LABELS, st.just("io")), PORTS, st.just("/"), PATHS)
KEY_HOSTS = hosts(GLOBS, st.sampled_from(["io", "io", "*", "i*"]))
SCHEMES = st.sampled_from(["", "", "https://", "http://", "user@", "HTTP://"])
KEYS = joined(
    SCHEMES,
    KEY_HOSTS,
    PORTS | st.sampled_from([":", ":*", ":5000 "]),
    KEY_PATHS,
    st.sampled_from(["", "", "", "?query", "#fragment"]),
)


@st.composite
def matching_keys(draw: st.DrawFn, name: str) -> str:
    """Draw a key that matches a name: globs in its labels, and a prefix of its path."""
    host, _, path = name.partition("/")
    labels, colon, port = host.partition(":")
    globs = [draw(st.sampled_from([label, "*", f"{label[0]}*", f"*{label}*"])) for label in labels.split(".")]
    prefix = f"/{path}"[: draw(st.integers(0, len(path) + 1))]
    version = draw(st.sampled_from(["", "/v1", "/v2"])) if prefix else ""
    return draw(SCHEMES) + ".".join(globs) + colon + port + version + prefix


@st.composite
def keys_and_names(draw: st.DrawFn) -> tuple[list[str], str]:
    name = draw(NAMES)
    return draw(st.lists(KEYS | matching_keys(name), max_size=6, unique=True)), name


@settings(max_examples=budget(500))
@given(keys_and_names())
def test_keys_match_as_in_the_kubelet(case: tuple[list[str], str]) -> None:
    keys, name = case
    expected = keys_tried(keys, name)
    event(f"{min(len(expected), 4)} keys match")
    assert users(keys, name) == expected[:MAX_TRIED]


@pytest.mark.parametrize("decorated", ["{}/", "https://{}", "http://{}", "https://{}/v1/", "{}/v2/"])
@given(keys=st.lists(joined(KEY_HOSTS, PORTS), min_size=1, max_size=4, unique=True), name=NAMES)
def test_scheme_and_api_version_of_a_key_do_not_matter(decorated: str, keys: list[str], name: str) -> None:
    plain = users(keys, name)
    assert users([decorated.format(key) for key in keys], name) == [decorated.format(key) for key in plain]


def test_auth_wins_over_username_and_password() -> None:
    (found,) = keyring(**{"r.io": {"username": "a", "password": "b", **auth("alice", "pa:ss")}}).find(
        "r.io/x"
    )
    assert found == Credential("alice", "pa:ss")


def test_padding_is_optional() -> None:
    entry = {"auth": base64.b64encode(b"ab:cd").decode().rstrip("=")}
    assert keyring(**{"r.io": entry}).find("r.io/x") == (Credential("ab", "cd"),)


@pytest.mark.parametrize("text", ["YWxpY2U6\nc2VjcmV0\n", "YWxpY2U6\r\nc2VjcmV0", "\nYWxpY2U6c2VjcmV0"])
def test_line_breaks_in_base64_are_ignored(text: str) -> None:
    """The command ``base64`` breaks lines after 76 characters, and the kubelet accepts that."""
    assert keyring(**{"r.io": {"auth": text}}).find("r.io/x") == (Credential("alice", "secret"),)


def test_helpers_and_identity_tokens_are_ignored() -> None:
    config = {
        "auths": {"r.io": {"username": "a", "password": "b", "identitytoken": "x"}},
        "credHelpers": {"r.io": "ecr-login"},
        "credsStore": "desktop",
    }
    found = parse_docker_config(json.dumps(config).encode()).find("r.io/x")
    assert found == (Credential("a", "b"),)


def test_the_old_layout_without_auths_is_read() -> None:
    assert parse_docker_config(json.dumps({"r.io": auth("alice")}).encode()).find("r.io/x")


@pytest.mark.parametrize("content", [b"{}", b'{"auths": {}}', b'{"auths": null}'])
def test_a_file_may_hold_no_credentials(content: bytes) -> None:
    assert len(parse_docker_config(content)) == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"{", "not JSON, line 1", id="not-json"),
        pytest.param(b"[]", "not a JSON object", id="a-list"),
        pytest.param(b'{"auths": []}', "auths is not an object", id="auths-a-list"),
        pytest.param(b'{"auths": {"r.io": 1}}', "'r.io'] is not an object", id="entry-a-number"),
        pytest.param(b'{"auths": {"r.io": {"username": 1}}}', "username is not text", id="number"),
        pytest.param(b'{"auths": {"r.io": {"auth": "!!"}}}', "not base64", id="not-base64"),
        pytest.param(b'{"auths": {"r.io": {"auth": "YTpi IA"}}}', "not base64", id="a-space"),
        pytest.param(b'{"auths": {"r.io": {"auth": "YQ-_"}}}', "not base64", id="url-safe-base64"),
        pytest.param(b'{"auths": {"r.io": {"auth": "gICA"}}}', "not base64 of UTF-8", id="not-utf-8"),
        pytest.param(b'{"auths": {"r.io": {"auth": "YWJj"}}}', "USERNAME:PASSWORD", id="no-colon"),
        pytest.param(b" " * (MAX_CONFIG_BYTES + 1), "larger than", id="too-large"),
        pytest.param(
            json.dumps({"auths": {f"r{n}": {} for n in range(MAX_ENTRIES + 1)}}).encode(),
            "more than 10000 entries",
            id="too-many",
        ),
    ],
)
def test_one_bad_entry_makes_the_file_unusable(content: bytes, reason: str) -> None:
    with pytest.raises(CredentialsError, match=reason.replace("[", r"\[")):
        parse_docker_config(content)


def test_messages_and_representations_hold_no_secret() -> None:
    entry = {"auth": base64.b64encode(b"alice-hunter2").decode()}
    with pytest.raises(CredentialsError) as caught:
        keyring(**{"r.io": entry})
    assert "hunter2" not in str(caught.value)
    assert entry["auth"] not in str(caught.value)
    assert "hunter2" not in repr(Credential("alice", "hunter2"))


def test_basic_is_the_header_of_http() -> None:
    assert Credential("Aladdin", "open sesame").basic == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@given(st.binary(max_size=200))
def test_any_bytes_are_a_keyring_or_refused(content: bytes) -> None:
    with suppress(CredentialsError):
        parse_docker_config(content).find("r.io/x")
