"""A process runs and ends at a signal on every event loop. It raises its limit of open files if it may."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import pytest

from gatekeeper_py.process.process import allow_descriptors

WAITS_FOR_A_SIGNAL = """
import asyncio, sys
if "no-uvloop" in sys.argv:
    sys.modules["uvloop"] = None
if "no-signal-handlers" in sys.argv:  # Windows does not support them
    def refuse(*arguments):
        raise NotImplementedError
    asyncio.SelectorEventLoop.add_signal_handler = refuse
from gatekeeper_py.process.process import Process
process = Process(log_level="info", log_style="json")
async def main():
    process.log.info("loop", module=type(asyncio.get_running_loop()).__module__)
    await process.stop.wait()
    return 3
sys.exit(process.run(main))
"""


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        pytest.param([], ["loop"], id="uvloop"),
        pytest.param(["no-uvloop"], ["slow_event_loop", "loop"], id="asyncio"),
        pytest.param(
            ["no-uvloop", "no-signal-handlers"], ["slow_event_loop", "loop"], id="asyncio-as-on-windows"
        ),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_a_signal_stops_it(arguments: list[str], events: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS_FOR_A_SIGNAL, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in events]
            process.send_signal(number)
            assert process.wait(30) == 3
        finally:
            process.kill()
    assert [line["event"] for line in lines] == events
    assert lines[-1]["module"].startswith("asyncio" if arguments else "uvloop")


@pytest.mark.parametrize(
    ("soft", "hard", "minimum", "allowed"),
    [
        pytest.param(100, 400, 50, 100, id="already-higher"),
        pytest.param(100, 400, 300, 300, id="raised"),
        pytest.param(100, 400, 400, 400, id="raised-to-the-hard-limit"),
        pytest.param(100, 400, 5000, 400, id="no-higher-than-the-hard-limit"),
    ],
)
def test_the_soft_limit_is_raised(soft: int, hard: int, minimum: int, allowed: int) -> None:
    """The test runs in a separate process, because a lowered hard limit cannot be raised again."""
    code = (
        "import resource; from gatekeeper_py.process.process import allow_descriptors;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        f"print(allow_descriptors({minimum}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(allowed), str(allowed), str(hard)]


def test_a_sufficient_limit_is_not_changed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_descriptors(10) >= 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
