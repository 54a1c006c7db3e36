"""A sample of the attacks has every kind, all that a change touches, and the same rows for the same seed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from exhaustion import sampling
from exhaustion.sampling import FOLDER, ONE_IN, PRODUCT, chosen, imported, kind, touched

MODULES = {path.stem for path in sampling.HERE.glob("test_*.py")}
SELECTING = {"conftest", "sampling"}
"""The modules that select attacks and show results. A change of them affects no attack."""

ROWS = [
    *(f"{FOLDER}/test_a.py::test_it[{group}:{number}]" for group in ("x", "y") for number in range(20)),
    *(f"{FOLDER}/test_b.py::test_it[{number}]" for number in range(9)),
    f"{FOLDER}/test_b.py::TestOne::test_it[rare:1]",
    f"{FOLDER}/test_b.py::TestOne::test_alone",
]


def test_a_sample_has_a_share_of_each_kind_and_at_least_one_row() -> None:
    sample = chosen(ROWS, "seed", ())
    kinds = [kind(row) for row in ROWS]
    assert {each: sum(kind(row) == each for row in sample) for each in kinds} == {
        each: -(-kinds.count(each) // ONE_IN) for each in kinds
    }
    assert len(set(kinds)) == 5


def test_a_seed_selects_the_same_rows_and_all_seeds_select_all() -> None:
    assert chosen(ROWS, "seed", ()) == chosen(reversed(ROWS), "seed", ())
    samples = [chosen(ROWS, f"seed {number}", ()) for number in range(100)]
    assert set().union(*samples) == set(ROWS)


def test_a_sample_has_all_rows_of_a_touched_module() -> None:
    sample = chosen(ROWS, "seed", ["test_b"])
    assert {row for row in ROWS if "test_b" in row} <= sample
    assert sample < set(ROWS)


@pytest.mark.parametrize(
    ("path", "modules"),
    [
        pytest.param(
            "gatekeeper_py/registry/signatures/lookup.py", {"test_registries", "test_shares"}, id="product"
        ),
        pytest.param("gatekeeper_py/http/page/charts.py", set(), id="not-attacked"),
        pytest.param(f"{FOLDER}/test_crowds.py", {"test_crowds"}, id="module"),
        pytest.param(f"{FOLDER}/steps.py", {"test_registries"}, id="helper"),
        pytest.param(f"{FOLDER}/probe.py", MODULES, id="helper-of-all"),
        pytest.param(f"{FOLDER}/sampling.py", set(), id="selection"),
        pytest.param("docs/index.md", set(), id="page"),
    ],
)
def test_a_changed_file_touches_its_modules(path: str, modules: set[str]) -> None:
    assert touched([path]) == modules


def test_the_map_names_what_exists_and_every_module_of_attacks() -> None:
    assert [path for path in PRODUCT if not (sampling.ROOT / path).exists()] == []
    assert {module for modules in PRODUCT.values() for module in modules} == MODULES


def test_every_helper_belongs_to_a_module_of_attacks() -> None:
    used = set[str]().union(*map(imported, MODULES))
    assert {path.stem for path in sampling.HERE.glob("*.py")} == used | SELECTING


@pytest.mark.parametrize("branched", [False, True])
def test_the_changes_are_those_since_the_main_branch_or_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, branched: bool
) -> None:
    monkeypatch.setattr(sampling, "ROOT", tmp_path)

    def git(*arguments: str) -> None:
        settings = ("user.name=x", "user.email=x@example.com", "commit.gpgSign=false")
        options = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(["git", *options, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-m", name)
        if branched and name == "a":
            git("update-ref", f"refs/remotes/{sampling.MAIN}", "HEAD")
    assert sampling.changed_since(sampling.base()) == (["b", "c"] if branched else ["c"])
