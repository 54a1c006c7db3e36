"""Generated files of the Helm chart are current."""

from __future__ import annotations

from tools import chart


def test_the_generated_files_are_current() -> None:
    for path, text in chart.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make manifests`"


def test_every_value_in_the_table_has_a_description() -> None:
    values = chart.values()
    assert len(values) > 60
    assert all(each.description.endswith(".") for each in values)
    assert len({each.path for each in values}) == len(values)
