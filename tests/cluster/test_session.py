"""Proxies are chosen as in Go's httpproxy; the rows follow its tests."""

from __future__ import annotations

import pytest
from yarl import URL

from gatekeeper_py.cluster.session import proxy_for

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        pytest.param("https://api.corp.io", "", False, id="no-rule"),
        pytest.param("https://10.96.0.1", "10.0.0.0/8", True, id="cidr"),
        pytest.param("https://11.96.0.1", "10.0.0.0/8", False, id="outside-of-cidr"),
        pytest.param("https://10.96.0.1", "10.96.0.9/8", True, id="cidr-with-host-bits"),
        pytest.param("https://10.96.0.1", "10.0.0.0/99", False, id="cidr-that-is-none"),
        pytest.param("https://api.corp.io", "10.0.0.0/8", False, id="cidr-and-a-name"),
        pytest.param("https://[fd00::1]", "fd00::/8", True, id="cidr-v6"),
        pytest.param("https://[fd00::1]", "10.0.0.0/8", False, id="cidr-of-another-family"),
        pytest.param("https://10.96.0.1", "10.96.0.1", True, id="address"),
        pytest.param("https://10.96.0.1", "10.96.0.1:443", True, id="address-and-port"),
        pytest.param("https://10.96.0.1:6443", "10.96.0.1:443", False, id="address-and-other-port"),
        pytest.param("https://10.96.0.11", "10.96.0.1", False, id="address-is-no-prefix"),
        pytest.param("https://[fd00::1]", "fd00::1", True, id="address-v6"),
        pytest.param("https://[fd00::1]:6443", "[fd00::1]:6443", True, id="address-v6-and-port"),
        pytest.param("https://[fd00::1]", "[fd00::1]", True, id="address-v6-in-brackets"),
        pytest.param("https://api.corp.io", "corp.io", True, id="domain-and-below"),
        pytest.param("https://corp.io", "corp.io", True, id="domain-itself"),
        pytest.param("https://corp.io", ".corp.io", False, id="dot-means-below-only"),
        pytest.param("https://api.corp.io", ".corp.io", True, id="dot"),
        pytest.param("https://api.corp.io", "*.corp.io", True, id="star-dot"),
        pytest.param("https://evilcorp.io", "corp.io", False, id="domain-is-no-suffix"),
        pytest.param("https://API.corp.io", "api.CORP.io", True, id="case"),
        pytest.param("https://api.corp.io:6443", "corp.io:6443", True, id="domain-and-port"),
        pytest.param("https://api.corp.io", "corp.io:6443", False, id="domain-and-other-port"),
        pytest.param("https://api.corp.io", " a.io , corp.io ", True, id="spaces"),
        pytest.param("https://api.corp.io", "*", True, id="star"),
        pytest.param("https://api.corp.io", ",,", False, id="empty-rules"),
        pytest.param("https://localhost:6443", "", True, id="localhost"),
        pytest.param("https://127.0.0.2", "", True, id="loopback"),
        pytest.param("https://[::1]", "", True, id="loopback-v6"),
    ],
)
def test_no_proxy(url: str, no_proxy: str, direct: bool) -> None:  # noqa: FBT001 - a column of the table
    chosen = proxy_for(URL(url), {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})

    assert chosen == (None if direct else PROXY)


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        pytest.param("https://x.io", {}, None, id="none"),
        pytest.param("https://x.io", {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, None, id="of-another-scheme"),
        pytest.param("http://x.io", {"HTTP_PROXY": PROXY}, PROXY, id="http"),
        pytest.param("https://x.io", {"https_proxy": PROXY}, PROXY, id="lower-case"),
        pytest.param(
            "https://x.io", {"HTTPS_PROXY": PROXY, "https_proxy": "http://o"}, PROXY, id="upper-first"
        ),
        pytest.param(
            "https://x.io", {"https_proxy": PROXY, "no_proxy": "x.io"}, None, id="no-proxy-lower-case"
        ),
        pytest.param("https://x.io", {"HTTPS_PROXY": "proxy:3128"}, PROXY, id="without-a-scheme"),
    ],
)
def test_variables(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(URL(url), environ) == proxy
