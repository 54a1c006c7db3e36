"""Nothing in the repository tells anybody to install the project by its name from a package index.

On the public index, the name of the command is another project, and this project has no release yet. So
instructions install from the checkout, from a file or from a URL.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES: Final = "|".join(re.sub("-", "[-_.]+", name) for name in (PROJECT["name"], *PROJECT["scripts"]))

OURS: Final = rf"(?<![\w./-])(?:{NAMES})(?:\[[\w, .-]*\])?(?![\w/-]|\.\w|-\*| @ )"
"""The name alone, not as a part of another word, of a path, of a file or of "name @ URL"."""

GAP: Final = r"(?:(?!--no-index|--spec[ =][./]|--from[ =][\w./-]*/|--from[ =][.] )[^;&|#\n])*?"
"""More of the same command, without an option that takes the package from elsewhere."""

WORDS: Final = r"(?:\s+[^\s.:;!?]+){0,3}?"

BY_NAME: Final = re.compile(
    "|".join(
        (
            # A command whose arguments are packages.
            rf"\b(?:pip[\d.]*|pipx|tool|conda|mamba|pipenv)\W+(?:install|download|wheel|inject|upgrade)\b{GAP}{OURS}",
            rf"\b(?:uv|poetry|pdm|rye)\W+add\b{GAP}{OURS}",
            rf"\beasy_install\b{GAP}{OURS}",
            # A command whose first argument is a package.
            rf"\b(?:(?:pipx|tool)\W+run|uvx)(?:\s+(?!--(?:spec|from)\b)--?[a-z]+(?:[ =]\w+)?)*?\s+{OURS}",
            # An option that names a package.
            rf"--(?:with|from|spec)[ =]{OURS}",
            # A requirement with a version.
            rf"(?<![\w.-])(?:{NAMES})(?:\[[\w, .-]*\])?(?:[=~>]=|===)\d",
            # A sentence, which may go on in the next line.
            (
                rf"\b(?:install|download|fetch|get)s?{WORDS}\s+{OURS}{WORDS}\s+(?:with|from|via|by){WORDS}\s+"
                r"(?:pipx?|uvx?|pypi|index)\b"
            ),
        )
    ),
    re.IGNORECASE,
)
NAMED: Final = re.compile(rf"{OURS}|(?:{NAMES})(?:\[[\w, .-]*\])?[=~>]", re.IGNORECASE)
"""What each of these instructions has; a search for it is fast, and most files do not have it."""

FIRST_WORD: Final = re.compile(rf"^{OURS}", re.IGNORECASE | re.MULTILINE)


def instructions(text: str, *, requirements: bool = False) -> list[str]:
    """Return the places that install the project by its name.

    ``requirements`` says that each line of the text is a package, as in a requirements file.
    """
    # One line for a command that goes on in the next line, also within quotes or backticks.
    joined = re.sub(r"\\\r?\n|(?<=install)\n", " ", re.sub(r"[\"'`(),]+", " ", text))
    if not NAMED.search(joined):
        return []
    found = [*BY_NAME.finditer(joined), *(FIRST_WORD.finditer(text) if requirements else ())]
    return [" ".join(match[0].split()) for match in found]


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file of the repository, but not this one, locks, and files that a build wrote."""
    for top in ROOT.iterdir():
        if top.name == "dist" or (top.name.startswith(".") and top.name not in {".ci", ".dockerignore"}):
            continue
        for path in [top, *top.rglob("*")]:
            if not path.is_file() or path.suffix in {".lock", ".pyc"} or path == Path(__file__):
                continue
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # not text


def test_no_file_installs_the_project_by_its_name_from_an_index() -> None:
    seen = 0
    found = {}
    for path, text in texts():
        seen += 1
        if places := instructions(text, requirements="requirements" in path.name):
            found[str(path.relative_to(ROOT))] = places
    assert seen > 500
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "$ pip install gatekeeper-py",
        "pip3 install --upgrade --user 'gatekeeper-py>=0.1'",
        ".venv/bin/pip --quiet install gatekeeper_py==0.1.0",
        "python3 -m pip install \\\n    --require-virtualenv \\\n    gatekeeper-py",
        "- run: pip install pyyaml gatekeeper.py[test] && gatekeeper-py check policy.yaml",
        'RUN ["pip", "install", "gatekeeper-py"]',
        "subprocess.run(('pipx', 'install', 'Gatekeeper_Py'))",
        "pipx run gatekeeper-py check policy.yaml",
        "pipx run --spec gatekeeper-py==0.1.0 gatekeeper-py --version",
        "uvx gatekeeper-py@latest --help",
        "uvx --from gatekeeper-py gatekeeper-py check policy.yaml",
        "uvx --from=gatekeeper-py gatekeeper-py check policy.yaml",
        "uv tool install gatekeeper-py",
        "uv tool run gatekeeper-py",
        "uvx --with pyyaml gatekeeper-py check policy.yaml",
        "uv run --with gatekeeper-py gatekeeper-py check policy.yaml",
        "uv run --with=gatekeeper-py python",
        "uv pip install gatekeeper-py",
        "uv add gatekeeper-py",
        "pip download --no-deps gatekeeper-py",
        "poetry add gatekeeper-py",
        "Then run `pip install\ngatekeeper-py` in a virtual environment.",
        "The message is ``pip install gatekeeper-py``.",
        "You can install `gatekeeper-py` with pipx.",
        "Install\ngatekeeper-py from the Python package index, and run it.",
        "dependencies:\n  - gatekeeper-py==0.1.0",
        f"pip install {PROJECT['name']}",
        f"uv tool install {PROJECT['name']}",
    ],
)
def test_an_instruction_that_uses_the_name_is_found(text: str) -> None:
    assert instructions(text) != []


def test_a_line_of_a_requirements_file_is_found() -> None:
    assert instructions("pyyaml\ngatekeeper-py\n", requirements=True) != []


@pytest.mark.parametrize(
    "text",
    [
        "$ pip install .",
        "pip install dist/gatekeeper_py-*.whl",
        "pip install gatekeeper_py-*.whl",
        "pip install kube_image_gatekeeper-0.1.0-py3-none-any.whl",
        "pip install ./gatekeeper-py",
        "pip install gatekeeper-py/",
        "pip install 'gatekeeper-py @ https://releases.example/gatekeeper_py-0.1.0-py3-none-any.whl'",
        "pip install https://releases.example/gatekeeper_py-0.1.0-py3-none-any.whl",
        "pip install --no-index --find-links dist gatekeeper-py",
        "pip install pyyaml && gatekeeper-py check policy.yaml",
        "pip install pyyaml  # gatekeeper-py needs it",
        "pip install .\ngatekeeper-py check policy.yaml",
        "pipx run --spec . gatekeeper-py --version",
        "uvx --from dist/gatekeeper_py-*.whl gatekeeper-py --help",
        "uvx --from . gatekeeper-py --help",
        "uv run gatekeeper-py check policy.yaml",
        "uv run --with pyyaml gatekeeper-py check policy.yaml",
        "pip uninstall gatekeeper-py",
        "helm install gatekeeper-py charts/gatekeeper-py",
        "The name gatekeeper-py on the Python package index belongs to somebody else.",
        "Each way installs the command `gatekeeper-py`. With pip, use the active environment.",
    ],
)
def test_other_commands_and_sentences_are_not_reported(text: str) -> None:
    assert instructions(text) == []
