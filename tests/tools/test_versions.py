"""The documents and the chart state the Kubernetes versions that the end-to-end tests run on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from tools.gobuild import Product
from tools.programs import OLDEST_PRODUCTS, PRODUCTS

ROOT: Final = Path(__file__).parents[2]


def minor(products: tuple[Product, ...]) -> str:
    (product,) = (each for each in products if "kube-apiserver" in each.packages)
    return ".".join(product.version.removeprefix("v").split(".")[:2])


OLDEST: Final = minor(OLDEST_PRODUCTS)
NEWEST: Final = minor(PRODUCTS)


@pytest.mark.parametrize("document", ["README.md", "docs/install.md"])
def test_a_document_states_the_range(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert re.findall(r"Kubernetes (1\.\d+) to (1\.\d+)", text) == [(OLDEST, NEWEST)]


@pytest.mark.parametrize("document", ["docs/install.md", "charts/gatekeeper-py/README.md"])
def test_a_document_states_the_oldest(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert re.findall(r"needs Kubernetes (1\.\d+)\s+or\s+later", text) == [OLDEST]


def test_the_chart_refuses_older_clusters() -> None:
    chart = yaml.safe_load((ROOT / "charts/gatekeeper-py/Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
