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


def normalized(name: str) -> str:
    """Return the form in which package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).strip("-").lower()


NAMES: Final = {normalized(name) for name in (PROJECT["name"], *PROJECT["scripts"])}

INSTALLERS: Final = (
    *(("pip", verb) for verb in ("install", "download", "wheel")),
    *(("pipx", verb) for verb in ("install", "inject", "upgrade")),
    *(("tool", verb) for verb in ("install", "upgrade")),  # uv tool
    *((tool, "add") for tool in ("uv", "poetry", "pdm", "rye")),
    *((tool, "install") for tool in ("conda", "mamba", "pipenv")),
    ("easy_install",),
)
"""Commands whose arguments are packages."""
RUNNERS: Final = (("pipx", "run"), ("tool", "run"), ("uvx",))
"""Commands whose first argument is a package, unless an option names it."""
PROJECT_RUNNER: Final = ("uv", "run")
"""The command whose first argument is a command of the checkout. Its options may name packages."""
SOURCE_OPTIONS: Final = {"--from", "--spec"}
"""Options that name the package instead of the first argument."""
MORE_OPTIONS: Final = {"--with", "-w"}
"""Options that name packages beside the first argument."""
WORD: Final = re.compile(r"""[;&|#]|[^\s"'`,()\[\]{}<>;&|#]+""")
REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:$|[=~!@:?])")
NAME: Final = "|".join(re.sub("-", "[-_.]+", name) for name in sorted(NAMES))
PIN: Final = re.compile(rf"(?<![\w.-])(?:{NAME})(?:\[[\w, .-]*\])?(?:[=~>]=|===)\d", re.IGNORECASE)
SPAN: Final = re.compile(r"(`+)([^`]+)\1")

TOOL: Final = re.compile(
    r"\b(?:pip|uvx?\b|poetry|pdm|rye|conda|mamba|easy_install|pypi|package\s+index\b)", re.IGNORECASE
)
"""A word that every instruction has. It makes the search fast."""
VERBS: Final = re.compile(r"(?:install|download|fetch|get)(?:s|ed|ing)?$")
SOURCES: Final = {"pip", "pipx", "uv", "uvx", "pypi", "index"}
SENTENCE: Final = re.compile(r"[.:;!?](?=\s)|\n\s*\n")


def is_ours(word: str) -> bool:
    """Return whether a word is a name of the project, perhaps with a version, and not a path or a URL."""
    found = REQUIREMENT.match(word)
    return found is not None and normalized(found[1]) in NAMES and "://" not in word


def packages(words: list[str]) -> Iterator[str]:
    """Yield the arguments that are packages in the words of one line."""
    for start in range(len(words)):
        arguments = list(_until_the_end(words[start + 1 :]))
        head = re.sub(r"[\d.]+$", "", words[start].rpartition("/")[2])  # pip3.12, .venv/bin/pip
        plain = [word for word in arguments if not word.startswith("-")]
        for command in (*INSTALLERS, *RUNNERS, PROJECT_RUNNER):
            if (head, *plain[: len(command) - 1]) != command or "--no-index" in arguments:
                continue
            rest = arguments[arguments.index(command[-1]) + 1 :] if len(command) > 1 else arguments
            most = 0 if command == PROJECT_RUNNER else 1 if command in RUNNERS else len(rest)
            yield from _named(rest, most)


def _until_the_end(words: list[str]) -> Iterator[str]:
    for word in words[:40]:
        if word in {";", "&", "|", "#"}:
            return
        yield word


def _named(arguments: list[str], most: int) -> Iterator[str]:
    """Yield the packages among arguments, of which at most the first ``most`` without an option are some."""
    by_option, positional = [], []
    replaced = False
    for before, word, after in zip(["", *arguments], arguments, [*arguments[1:], ""], strict=False):
        option, _, value = word.partition("=")
        options = SOURCE_OPTIONS | MORE_OPTIONS
        replaced = replaced or option in SOURCE_OPTIONS
        if option in options and value:
            by_option.append(value)
        elif before in options:
            by_option.append(word)
        elif not word.startswith("-") and after != "@":  # "name @ URL" installs from the URL
            positional.append(word)
    yield from by_option
    yield from positional[: 0 if replaced and most == 1 else most]


def promises(words: list[str]) -> Iterator[str]:
    """Yield the names in a sentence such as "Install NAME with pip" or "get NAME from the package index"."""
    lowered = [word.lower().rstrip(".,:;!?") for word in words]
    for position, word in enumerate(words):
        before, after = lowered[max(0, position - 5) : position], lowered[position + 1 : position + 8]
        if (
            is_ours(word)
            and any(VERBS.match(each) for each in before)
            and SOURCES & set(after)
            and {"with", "from", "via", "using", "through", "by", "on"} & set(after)
        ):
            yield word


def instructions(text: str, *, requirements: bool = False) -> list[str]:
    """Return the places that install the project by its name.

    ``requirements`` says that each line of the text is a package, as in a requirements file.
    """
    whole = re.sub(r"\\\r?\n", " ", text)
    found = [match[0] for match in PIN.finditer(whole)]
    if requirements:
        found += [line for line in whole.splitlines() if is_ours(line.partition(" ")[0])]
    if not TOOL.search(whole):
        return found
    spans = (" ".join(span[2].split()) for span in SPAN.finditer(whole))
    commands = filter(TOOL.search, (*whole.splitlines(), *spans))
    sentences = filter(TOOL.search, SENTENCE.split(whole))
    for each, named in (*((each, packages) for each in commands), *((each, promises) for each in sentences)):
        found += [
            f"{word} in: {' '.join(each.split())[:120]}"
            for word in named(WORD.findall(each))
            if is_ours(word)
        ]
    return found


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
