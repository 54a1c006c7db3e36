"""The bases that the image is built on, and one build of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from image.build import Builder, Image, builder
from tools.gobuild import BuildError

DEBIAN_RELEASES = ("bookworm", "forky")
"""Bases with the oldest supported version of Python and with the newest, 3.11 and 3.14."""

MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[MEASURED]:
        terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--image-base",
        action="append",
        help="test on this base instead: a Debian release, a root file system's tar, or an image's name",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "base" in metafunc.fixturenames:
        bases = metafunc.config.getoption("--image-base", default=None) or DEBIAN_RELEASES
        metafunc.parametrize("base", bases, scope="session")


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> list[str]:
    """Return the list of lines to show at the end."""
    return pytestconfig.stash[MEASURED]


@pytest.fixture(scope="session")
def builds() -> Iterator[Builder]:
    try:
        with builder() as made:
            yield made
    except BuildError as problem:
        pytest.exit(str(problem), returncode=2)


@pytest.fixture(scope="session")
def image(builds: Builder, base: str, measured: list[str]) -> Image:
    """Build the image on this base."""
    built = builds.image(base)
    measured.append(
        f"{base}: {built.size / 1e6:.0f} MB, {built.pulled_size / 1e6:.0f} MB to pull, "
        f"built in {built.build_seconds:.0f} s"
    )
    return built
