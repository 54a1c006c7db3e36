"""The static webhook configurations are those of the templates."""

from __future__ import annotations

from pathlib import Path

import yaml

from gatekeeper_py.controller.webhooks.settings import WebhookSettings, parse_settings
from gatekeeper_py.controller.webhooks.templates import mutating, validating
from tools.webhook_manifests import TARGET, manifests

K8S = Path(__file__).parents[3] / "k8s"


def test_the_static_manifests_hold_the_templates() -> None:
    texts = manifests()
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text, "run: make manifests"
    for name, build in (("validating.yaml", validating), ("mutating.yaml", mutating)):
        (text,) = (text for path, text in texts.items() if path.name == name)
        document, desired = yaml.safe_load(text), build(TARGET, WebhookSettings())
        assert (document["kind"], document["metadata"]["name"]) == (desired.kind, desired.name)
        assert document["webhooks"] == [dict(webhook) for webhook in desired.webhooks]


def test_the_settings_that_are_shipped_are_the_defaults() -> None:
    assert parse_settings((K8S / "base/webhooks.yaml").read_text(encoding="utf-8")) == WebhookSettings()
