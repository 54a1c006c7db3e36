"""The rows of ``tests/data/signatures/corpus.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

CORPUS: Final[list[dict[str, Any]]] = yaml.load(
    (Path(__file__).parents[2] / "data/signatures/corpus.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader
)


def rows(*forms: str) -> list[Any]:
    """Return the rows of these forms as parameters of a test."""
    return [pytest.param(row, id=row["id"]) for row in CORPUS if row["form"] in forms]
