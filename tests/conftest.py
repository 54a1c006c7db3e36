"""Options, markers and hypothesis profiles of the test run."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import groupby
from pathlib import Path
from pkgutil import walk_packages
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
settings.register_profile("quick", deadline=None, max_examples=20)
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


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """With ``--cover-core``, trace the import of the core, but not that of the tests, which takes longer."""
    if not _covers_core(session.config):
        return (yield)
    core = import_module("gatekeeper_py.core")
    for module in walk_packages(core.__path__, f"{core.__name__}."):
        import_module(module.name)
    with _suspended():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Shuffle the modules in each process of pytest-xdist.

    On a fresh machine, each process then compiles other modules first, and finds the rest compiled.
    """
    report = yield
    if isinstance(collector, pytest.Directory) and (worker := _worker(collector.config)):
        random.Random(worker).shuffle(report.result or [])
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, module or fixtures.

    Tests below :data:`LONG` and in modules named ``*growth.py`` are long. Tests with the API server's
    evaluator need Go. Tests of pages need a browser.

    Other modules that check how work grows also run in `make test`, where they compare less.

    The order is the same in each process of pytest-xdist, whatever the order of collection was.
    """
    if _worker(config):
        items.sort(key=lambda item: item.path)
    for path, tests in groupby(items, lambda item: item.path):
        is_browser = path.is_relative_to(BROWSER)
        is_long = path.name.endswith("growth.py") or any(path.is_relative_to(folder) for folder in LONG)
        for item in tests:
            if is_browser:
                item.add_marker("browser")
            if is_long:
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
    if not _covers_core(item.config):
        return (yield)
    with _suspended() as tracing:
        if _is_traced(item):
            item.stash[TRACING] = tracing
        return (yield)


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


def _worker(config: pytest.Config) -> str:
    """Return the name of this process of pytest-xdist, empty in the only or the main process."""
    return str(getattr(config, "workerinput", {}).get("workerid", ""))


def _covers_core(config: pytest.Config) -> bool:
    """Return whether only the core is measured, and coverage traces now."""
    tracer = type(sys.gettrace()).__module__.partition(".")[0]
    return bool(config.getoption("--cover-core")) and tracer == "coverage"


@contextmanager
def _suspended() -> Iterator[tuple[Any, Any]]:
    """Suspend tracing. Yield the trace functions of this thread and of new ones."""
    tracing = (sys.gettrace(), threading.gettrace())
    _trace(None, None)
    try:
        yield tracing
    finally:
        _trace(*tracing)


def _trace(here: Any, in_new_threads: Any) -> None:
    sys.settrace(here)
    threading.settrace(in_new_threads)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Return whether golden files are written instead of compared."""
    return bool(request.config.getoption("--update-golden"))
