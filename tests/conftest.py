"""Options, markers and hypothesis profiles of the test run."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
LONG = (TESTS / "faults",)
"""Folders with tests that start real servers and load them."""
BROWSER = TESTS / "pages"
COVERING = TESTS / "core"
"""The tests of the core. `make test` measures its coverage with these only: tracing doubles the time of a
test, and the core must be covered by its own tests. See also :func:`_is_traced`."""

TRACING = pytest.StashKey[tuple[Any, Any]]()
"""The suspended trace functions, of this thread and of new ones."""

# A slow example on a busy machine is not a failure, so no profile has a deadline. `make test-long`
# selects "long"; budget.py reads its name. An option on the command line takes precedence over this.
settings.register_profile("quick", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=100, print_blob=True)
settings.load_profile("quick")

# A shell starts a background job with SIGINT ignored. The programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the expected answers below tests/data again from what the code answers now",
    )
    parser.addoption(
        "--cover-core",
        action="store_true",
        help="measure coverage only during the tests of the core (with --cov)",
    )
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail instead of skipping the tests of pages when there is no Chromium",
    )
    parser.addoption(
        "--update-pictures",
        action="store_true",
        help="update the screenshots in docs/images",
    )
    parser.addoption(
        "--oldest",
        action="store_true",
        help="run the end-to-end tests on the oldest supported Kubernetes instead of the newest",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, module or fixtures.

    Tests below :data:`LONG` and in modules named ``*growth.py`` are long. Tests with the API server's
    evaluator need Go. Tests of pages need a browser.

    Other modules that check how work grows also run in `make test`, where they compare less.
    """
    for item in items:
        if item.path.is_relative_to(BROWSER):
            item.add_marker("browser")
        if item.path.name.endswith("growth.py") or any(item.path.is_relative_to(folder) for folder in LONG):
            item.add_marker("long")
        if "evaluator" in getattr(item, "fixturenames", ()):
            item.add_marker("go")
        if isinstance(item, pytest.Function) and hasattr(item.module, "check_linear"):
            item.add_marker("growth")


def pytest_collection_finish() -> None:
    """Exempt the thousands of collected tests from garbage collection, which would visit them each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With ``--cover-core``, suspend coverage outside the functions of :func:`_is_traced` tests.

    The marker ``no_cover`` of pytest-cov does not work in the processes of pytest-xdist. A debugger stays on.
    """
    tracing = (sys.gettrace(), threading.gettrace())
    covers = type(tracing[0]).__module__.partition(".")[0] == "coverage"
    if not item.config.getoption("--cover-core") or not covers:
        return (yield)
    if _is_traced(item):
        item.stash[TRACING] = tracing
    _trace(None, None)
    try:
        return (yield)
    finally:
        _trace(*tracing)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Resume the coverage that :func:`pytest_runtest_protocol` suspended, for the test's function only."""
    if TRACING not in pyfuncitem.stash:
        return (yield)
    _trace(*pyfuncitem.stash[TRACING])
    try:
        return (yield)
    finally:
        _trace(None, None)


def _is_traced(item: pytest.Item) -> bool:
    """Return whether a test counts for the coverage of the core.

    Tests that count instructions, bulk tests, and properties without an ``@example`` do not count: tracing
    would double their time, and random examples would reach other lines in each run.
    """
    if not item.path.is_relative_to(COVERING) or not isinstance(item, pytest.Function):
        return False
    counts_instructions = {"check_linear", "instructions"}.intersection(item.function.__code__.co_names)
    is_random = item.get_closest_marker("hypothesis") and not hasattr(
        item.function, "hypothesis_explicit_examples"
    )
    return not (counts_instructions or is_random or item.get_closest_marker("bulk"))


def _trace(here: Any, in_new_threads: Any) -> None:
    sys.settrace(here)
    threading.settrace(in_new_threads)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Return whether golden files are written instead of compared."""
    return bool(request.config.getoption("--update-golden"))
