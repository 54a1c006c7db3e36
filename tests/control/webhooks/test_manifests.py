"""The static webhook configurations are those of the templates."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gatekeeper_py.control.webhooks.settings import WebhookSettings, parse_settings
from gatekeeper_py.control.webhooks.templates import mutating, validating
from tools.webhook_manifests import TARGET, manifests

K8S = Path(__file__).parents[3] / "k8s"


@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.name)
def test_a_static_manifest_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == manifests()[path], "run: make manifests"


def test_a_static_manifest_holds_the_templates() -> None:
    for path, build in zip(manifests(), (validating, mutating), strict=True):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        desired = build(TARGET, WebhookSettings())
        assert (document["kind"], document["metadata"]["name"]) == (desired.kind, desired.name)
        assert document["webhooks"] == [dict(webhook) for webhook in desired.webhooks]


def test_the_settings_that_are_shipped_are_the_defaults() -> None:
    assert parse_settings((K8S / "base/webhooks.yaml").read_text(encoding="utf-8")) == WebhookSettings()
