"""The API server knows every field of the manifests, and none belongs to a disabled feature."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml

from e2e.acting import kustomization
from e2e.strictly import check_every_field, dropped
from tools.controlplane.plane import ControlPlane

COMPONENTS: Final = ("autoscaling", "reports", "report-events", "report-look-ups")
CERT_MANAGER: Final = "cert-manager-webhooks"
"""The component that belongs to one overlay only."""


@pytest.mark.parametrize(
    "overlay",
    [
        pytest.param("cert-manager", marks=pytest.mark.oldest),
        pytest.param("fast-path", marks=pytest.mark.oldest),  # it contains all fields of the others, and more
        "enforce",
        "mutate",
        "warn",
    ],
)
def test_the_api_server_keeps_every_field_of_an_overlay(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, overlay: str
) -> None:
    """Runs after the removal, because the webhook would refuse the image of the manifests."""
    names = (*COMPONENTS, CERT_MANAGER) if overlay == "cert-manager" else COMPONENTS
    kustomization(tmp_path, overlay, *names)
    rendered = control_plane.kubectl("kustomize", str(tmp_path)).stdout
    check_every_field(control_plane, namespace, list(yaml.safe_load_all(rendered)))


def test_a_dropped_field_is_found() -> None:
    sent = {"spec": {"a": 1, "b": [{"c": "x"}, {"d": "y"}], "e": {}}}
    assert list(dropped(sent, sent)) == []
    assert list(dropped(sent, {"spec": {"a": 1, "b": [{"c": "x"}], "new": 1}})) == [
        ".spec.b[1].d: 'y' became None"
    ]
    assert list(dropped({"a": "1000m"}, {"a": "1"})) == [".a: '1000m' became '1'"]
