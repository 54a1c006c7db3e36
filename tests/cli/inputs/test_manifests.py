"""``review`` of directories: files that are not Kubernetes manifests are skipped and counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.cli.inputs.files import path_matches
from support.builders import pod, policy_text
from support.commanding import Command, Done, Write

GOOD: Final = json.dumps(pod("registry.corp.io/web:1"))
BAD: Final = json.dumps(pod("nginx:1.25"))

Tree = dict[str, str | bytes]
Reviewed = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def reviewed(command: Command, write: Write, folder: Path) -> Reviewed:
    """Return a function that writes the files of a tree below a directory, and reviews the directory."""

    def reviewed(tree: Tree, *options: object) -> Done:
        for name, content in tree.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return command("review", write(policy_text()), folder, *options)

    return reviewed


MERGES: Final = f"a: &a {{{', '.join(f'k{i}: 1' for i in range(2_000))}}}\nb:\n  <<: [{'*a, ' * 1_500}]\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("[\n---\n" * 10_001, "not valid YAML, and more than 10,000 documents", id="documents"),
        pytest.param('{"a": ' * 3_000 + "1" + "}" * 3_000, "nested too deeply", id="too-deep-json"),
        pytest.param("a: " + "[" * 2_000 + "]" * 2_000, "maximum nesting depth", id="too-deep"),
        pytest.param(
            f"a: [\n---\n{MERGES}---\n{MERGES}",
            "more than 5000000 values once merge",
            id="merges-of-all-parts",
        ),
    ],
)
def test_a_limit_is_an_error_even_in_a_directory(
    reviewed: Reviewed, folder: Path, content: str, problem: str
) -> None:
    done = reviewed({"a.json": GOOD, "bad.yaml": content})
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"Error: {folder}/bad.yaml")
    assert problem in done.err


def test_ignored_files_and_links_are_not_even_opened(reviewed: Reviewed, folder: Path) -> None:
    reviewed({"a.json": GOOD, "link/b.json": BAD})
    (folder / "zero.yaml").symlink_to("/dev/zero")
    (folder / "other").symlink_to(folder / "link")
    done = reviewed({}, "--ignore=zero.yaml", "--ignore=other", "--ignore=link")
    assert (done.code, done.err) == (0, "")


NAMES: Final = st.text("ab.", min_size=1, max_size=3)


@given(
    st.lists(
        st.one_of(st.text("ab.*", min_size=1, max_size=3), st.just("**")).filter(lambda part: part != "."),
        min_size=1,
        max_size=5,
    ),
    st.lists(NAMES, min_size=1, max_size=5),
)
def test_a_glob_matches_paths_as_the_regular_expression_of_its_meaning(
    parts: list[str], names: list[str]
) -> None:
    expression = "".join(
        "(?:[^/]+/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*") + "/" for part in parts
    )
    expected = re.fullmatch(expression, "/".join(names) + "/") is not None
    assert path_matches("/".join(parts), "/".join(names)) is expected
