"""Search for inputs that exceed the limits of the event loop or of memory.

Every input is measured by its effect on other clients: the CPU time of the longest turn of the server's event
loop, and the peak of memory. ``make fuzz`` searches for ``FUZZ_SECONDS``. It prints a found input as a
recipe, which then becomes a row of ``tests/exhaustion``.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Final

import pytest

from fuzz.climbing import Grammar, Recipe
from fuzz.conftest import SECONDS, search
from fuzz.listeners import Served
from gatekeeper_py.core import PolicyError, parse_policy
from support.builders import pod, pod_spec, review
from support.wire import request

pytestmark = pytest.mark.long

PEAK_BYTES: Final = 100 * 2**20
BODY_BYTES: Final = 7 * 2**20 - 4096 if SECONDS else 300_000
DOCUMENT_BYTES: Final = 64 * 1024
DOCUMENT_SECONDS_PER_BYTE: Final = 10e-6
"""The parser process may take 10 s for each MiB (gatekeeper_py/live/parser/process.py)."""

DOCUMENT_PEAK_PER_BYTE: Final = 128

JSON: Final = Grammar(
    (
        *("0", "-1.5e-7", "1e300", "null", "true", '""', '"x"', '"é"', '"\\u00e9"', '"e000"', '"nginx"'),
        *('"registry.corp.io/a"', '"a/b/c:d@e"', "{}", "[]", '{"k":0}', " 0", '"' + "0" * 40 + '"'),
        *('{"image":"a"}', '{"image":""}', '{"name":"n"}', '{"image":{}}', '{"image":{"reference":"x"}}'),
        *('{"containers":[]}', '{"containers":[{}]}', '{"containers":[{"image":"a"}]}'),
    ),
    (
        *(("[", ",", "]"), ("[", ",", "]"), ('{"a":[', ",", "]}"), ('{"containers":[', ",", "]}")),
        *(('{"initContainers":[', ",", "]}"), ('{"volumes":[', ",", "]}"), ('{"steps":[', ",", "]}")),
        *(('{"spec":[', ",", "]}"), ('{"template":{"spec":[', ",", "]}}")),
    ),
    glue=",",
)

YAML: Final = Grammar(
    (
        *("a", "1", " ", "\n", "\n  ", "- ", "a: ", "x: 1\n", "- a.io\n", "  - a.io/*\n", "~", "[", "{"),
        *('"', "'", "a.io/b", "#", "\\n", "&a ", "*a ", "!t ", "|\n", ">\n", "?", ":", ",", "\té"),
        *("until: 2020-01-01", "until: '", "names: [n*]", "image: b.io", "from: c.io, to: d.io"),
    ),
    (
        *(("", "", ""), ("", "\n", "\n"), ("[", ",", "]\n"), ("{", ",", "}\n"), ('"', "", '"\n')),
        *(("'", "", "'\n"), ("message: ", "", "\n"), ("deny:\n", "\n", "\n"), ("deny: [", ",", "]\n")),
        *(("  - {image: a.io, ", ", ", "}\n"), ("mirrors: [", ",", "]\n"), ("- {", ",", "}\n")),
        ("namespaces: [{mode: warn, names: [", ",", "]}]\n"),
    ),
)
CHUNKED: Final = (
    "POST /validate-image HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
)
HTTP: Final = Grammar(
    (
        *("\r\n", "a: b\r\n", "a", " ", "\t", ":", ";", "0", "1\r\n \r\n", "1;a=b\r\nx\r\n", "\0", "é"),
        *("%", "/", "?&=", "HTTP/1.1", "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"),
        *("Connection: close\r\n", "Expect: 100-continue\r\n", "GET /metrics HTTP/1.1\r\n\r\n"),
        "POST /validate-image HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        "POST /mutate-image HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n0",
    ),
    (
        *(("", "", ""), ("POST / HTTP/1.1\r\n", "", "\r\n\r\n"), ("POST /", "", " HTTP/1.1\r\n\r\n")),
        *((CHUNKED, "", ""), ("a: ", "", "\r\n"), ("Content-Type: ", "", "\r\n"), ("0\r\n", "", "\r\n")),
    ),
)
POLICY_HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: [a.io]\n"

STREAM_BYTES: Final = 1_000_000
STREAM_PATIENCE_SECONDS: Final = 0.1


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    listener = Served(direct=True, max_body_bytes=BODY_BYTES + 4096, body_seconds=30.0)
    yield listener
    listener.stop()
    assert listener.problems == []


HOLES: Final = {
    "a Pod's spec": ({**pod(), "spec": "@hole"}, ("", "Pod")),
    "a Pod's containers": ({**pod(), "spec": {"containers": "@hole"}}, ("", "Pod")),
    "a Pod's tolerations": ({**pod(), "spec": {**pod_spec("registry.corp.io/a"), "x": "@hole"}}, ("", "Pod")),
    "a custom resource": ({"spec": "@hole"}, ("example.com", "Thing")),
}


PATHS: Final = ("/validate-image", "/mutate-image")


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("path", PATHS)
def test_no_review_is_slow(served: Served, hole: str, path: str) -> None:
    obj, kind = HOLES[hole]
    document = json.dumps(review(obj, kind=kind))

    def cost(recipe: Recipe) -> float:
        filled = document.replace('"@hole"', recipe.write(BODY_BYTES - len(document)))
        content = request(filled.encode(), path=path)
        return served.cost_of(lambda: served.ask(content), PEAK_BYTES)

    search(JSON, cost, searches=len(HOLES) * len(PATHS))


def test_no_stream_of_bytes_is_slow(served: Served) -> None:
    def cost(recipe: Recipe) -> float:
        content = recipe.write(STREAM_BYTES).encode()
        return served.cost_of(lambda: served.exchange([content], STREAM_PATIENCE_SECONDS), PEAK_BYTES)

    search(HTTP, cost)


def test_no_document_is_slow() -> None:
    def cost(recipe: Recipe) -> float:
        text = POLICY_HEAD + recipe.write(DOCUMENT_BYTES)
        started = time.thread_time()
        parse(text)
        seconds = time.thread_time() - started
        tracemalloc.start()
        try:
            parse(text)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        size = max(len(text.encode()), DOCUMENT_BYTES // 4)  # a short input has mostly fixed costs
        return max(seconds / size / DOCUMENT_SECONDS_PER_BYTE, most / size / DOCUMENT_PEAK_PER_BYTE)

    search(YAML, cost)


def parse(text: str) -> None:
    try:
        parse_policy(text)
    except PolicyError:
        return
