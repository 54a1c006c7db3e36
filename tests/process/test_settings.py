"""Settings: accepted values, and refusals that name the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.process.settings import (
    DEFAULT_HOSTNAMES,
    Address,
    ConfigMapName,
    SettingsError,
    TlsSettings,
    check_sources,
    check_tls,
    parse_address,
    parse_configmap,
)

FILE = Path("file")


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


def test_exactly_one_source() -> None:
    name = ConfigMapName("a", "b")
    check_sources(FILE, None)
    check_sources(None, name)
    for both in ((None, None), (FILE, name)):
        with pytest.raises(SettingsError, match="--policy"):
            check_sources(*both)


def _tls(*, self_signed: bool = False, policy_is_file: bool = True, **given: Any) -> TlsSettings:
    options: dict[str, Any] = dict.fromkeys(("cert", "key", "ca_out", "client_ca"))
    tls = TlsSettings(**{**options, "hostnames": (), "client_names": (), **given})
    return check_tls(tls, self_signed=self_signed, policy_is_file=policy_is_file)


def test_a_certificate_from_files() -> None:
    tls = _tls(cert=FILE, key=FILE, policy_is_file=False)
    assert (tls.cert, tls.key) == (FILE, FILE)


def test_names_for_a_certificate_from_files_are_those_it_has_to_cover() -> None:
    assert _tls(cert=FILE, key=FILE, hostnames=("a.svc", "b.svc")).hostnames == ("a.svc", "b.svc")
    assert _tls(cert=FILE, key=FILE).hostnames == (), "callers may use any of its names"


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "by-default"])
def test_a_self_signed_certificate_is_the_default_with_a_policy_file(explicit: bool) -> None:  # noqa: FBT001
    tls = _tls(self_signed=explicit)
    assert tls.cert is None
    assert tls.hostnames == DEFAULT_HOSTNAMES == ("localhost", "127.0.0.1", "::1")
    assert _tls(hostnames=("a.svc",)).hostnames == ("a.svc",)


def test_a_self_signed_certificate_with_a_configmap_needs_the_option() -> None:
    assert _tls(self_signed=True, policy_is_file=False).cert is None
    with pytest.raises(SettingsError, match="--tls-cert"):
        _tls(policy_is_file=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"cert": FILE}, "--tls-key", id="cert-alone"),
        pytest.param({"key": FILE}, "--tls-cert", id="key-alone"),
        pytest.param({"cert": FILE, "key": FILE, "self_signed": True}, "--tls-self-signed", id="both"),
        pytest.param({"cert": FILE, "key": FILE, "ca_out": FILE}, "--tls-ca-out", id="ca-out"),
        pytest.param({"client_names": ("a",)}, "--client-ca", id="client-name-alone"),
    ],
)
def test_contradicting_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        _tls(**changes)
