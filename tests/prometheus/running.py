"""Run promtool, and a real Prometheus as a process."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Jobs = Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]
"""Targets by job. A target is HOST:PORT and the labels that the scrape adds."""

DEADLINE_SECONDS: Final = 60.0


class Prometheus:
    """A Prometheus that scrapes its targets each second and answers queries."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an API path. Raises AssertionError or HTTPError for a query that fails."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current result of an expression."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        found = self.get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
            time.sleep(0.2)


@contextlib.contextmanager
def start_prometheus(
    directory: Path,
    jobs: Jobs,
    *,
    groups: Sequence[Mapping[str, Any]] = (),
    scheme: str = "http",
    job_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Prometheus]:
    """Start Prometheus, and end it when the context closes.

    ``job_settings`` are added to the section of a job.
    """
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": list(groups)}))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": job,
                "scheme": scheme,
                "static_configs": [{"targets": [host], "labels": dict(labels)} for host, labels in targets],
                **(job_settings or {}).get(job, {}),
            }
            for job, targets in jobs.items()
        ],
    }
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump(configuration))
    command = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'series'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            yield Prometheus(f"http://{_address(process, lines)}")
        finally:
            process.kill()
            reader.join(DEADLINE_SECONDS)


def promtool(*arguments: str, directory: Path) -> str:
    """Run promtool. Return its output if it fails, and an empty text otherwise."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)  # noqa: PERF402 - each line as it comes


def _address(process: subprocess.Popen[str], lines: list[str]) -> str:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        text = "".join(lines)
        found = re.search(r"address=(127\.0\.0\.1:[1-9]\d*)", text)
        if found and "Server is ready" in text:
            return found[1]
        time.sleep(0.05)
    raise AssertionError("".join(lines))
