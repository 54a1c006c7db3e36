"""What the composition root refuses before it listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.process.settings import TlsSettings
from gatekeeper_py.webhook.app import _make_certificate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"ca_out": Path("/nonexistent/ca")}, "--tls-ca-out /nonexistent/ca: No such f", id="out"
        ),
        pytest.param({"client_ca": Path("/nonexistent")}, "--client-ca /nonexistent: No such f", id="client"),
        pytest.param({"hostnames": ("b\u00fccher.example",)}, "A-label", id="hostname"),
    ],
)
def test_a_certificate_that_cannot_be_made_is_a_bad_setting(options: dict[str, Any], message: str) -> None:
    names: dict[str, Any] = {"hostnames": ("localhost",), "client_names": ()}
    files = dict.fromkeys(("cert", "key", "ca_out", "client_ca"))
    with pytest.raises(ValueError, match=message):
        _make_certificate(TlsSettings(**{**files, **names, **options}))
