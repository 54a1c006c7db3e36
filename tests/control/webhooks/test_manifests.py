"""The static webhook configurations are those of the templates."""

from __future__ import annotations

from pathlib import Path

import yaml

from gatekeeper_py.control.webhooks.settings import WebhookSettings, parse_settings
from gatekeeper_py.control.webhooks.templates import mutating, validating
from tools.webhook_manifests import TARGET, manifests

K8S = Path(__file__).parents[3] / "k8s"


def test_the_static_manifests_hold_the_templates() -> None:
    for (path, text), build in zip(manifests().items(), (validating, mutating), strict=True):
        assert path.read_text(encoding="utf-8") == text, "run: make manifests"
        document, desired = yaml.safe_load(text), build(TARGET, WebhookSettings())
        assert (document["kind"], document["metadata"]["name"]) == (desired.kind, desired.name)
        assert document["webhooks"] == [dict(webhook) for webhook in desired.webhooks]


def test_the_settings_that_are_shipped_are_the_defaults() -> None:
    assert parse_settings((K8S / "base/webhooks.yaml").read_text(encoding="utf-8")) == WebhookSettings()
