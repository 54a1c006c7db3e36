"""Settings: accepted values, and refusals that name the option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.process.settings import (
    Address,
    ConfigMapName,
    SettingsError,
    parse_address,
    parse_configmap,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:8443", "0.0.0.0", 8443),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:65535", "localhost", 65535),
        ("[::]:8443", "::", 8443),
        ("[::1]:1", "::1", 1),
        ("gatekeeper.svc:08443", "gatekeeper.svc", 8443),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "8443", ":8443", "localhost", "localhost:", "localhost:http", "localhost:-1", "localhost:65536",
     "localhost:+1", "localhost: 1", "localhost:1 ", "::1:8443", "[::1]", "[::1]:", "[127.0.0.1]:1", "[]:1",
     "[x]:1", "localhost:٣", "localhost:²", "localhost:" + "1" * 5000, "localhost:1.5", "localhost:0x1"],
)  # fmt: skip
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_address(text)


@given(text=st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except SettingsError:
        return
    assert parse_address(str(address)) == address


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:34567", "[::1]:80"):
        assert str(parse_address(text)) == text


def test_configmap_names() -> None:
    name = parse_configmap("gatekeeper-system/policy")
    assert name == ConfigMapName("gatekeeper-system", "policy")
    assert str(name) == "gatekeeper-system/policy"


@pytest.mark.parametrize("text", ["", "policy", "/policy", "a/", "a/b/c", "/"])
def test_an_invalid_configmap_name_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="NAMESPACE/NAME"):
        parse_configmap(text)
