"""The server weighs bodies before it parses them, and processes large bodies one at a time."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.http.bodymemory import BodyMemory
from gatekeeper_py.process.slices import Steps
from gatekeeper_py.webhook.body import (
    KEY_WEIGHT,
    LARGE_BODY_BYTES,
    MAX_BRACKETS,
    MAX_TYPED_WEIGHT,
    MAX_WEIGHT,
    check_weight,
    parse_json,
    read_body,
    with_document,
)
from support.hostilejson import VALUES

SMALL: Final = b'{"a": 1}'
LARGE: Final = b'{"a": "' + b" " * LARGE_BODY_BYTES + b'"}'
MANY: Final = 8


def posted(content: bytes) -> web.BaseRequest:
    """Return a request with a complete body."""
    loop = asyncio.get_running_loop()
    payload = StreamReader(BaseProtocol(loop), 2 * len(content), loop=loop)
    payload.feed_data(content)
    payload.feed_eof()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    return make_mocked_request("POST", "/validate-image", headers=headers, payload=payload)


async def read(
    content: bytes, memory: BodyMemory, use: Callable[[Any], Any], decode: Callable[[bytes], Any] = parse_json
) -> Any:
    whole = await read_body(posted(content), max_bytes=2**22, seconds=10, memory=memory)
    return await with_document(whole, memory, decode=decode, use=in_one_step(use))


def in_one_step(use: Callable[[Any], Any]) -> Callable[[Any], Steps[Any]]:
    def steps(document: Any) -> Steps[Any]:
        yield from ()
        return use(document)

    return steps


class TestTurns:
    """Large bodies are processed one at a time, and other requests run between the steps."""

    async def test_small_bodies_are_read_between_two_large_ones(self) -> None:
        order: list[str] = []
        memory = BodyMemory(2**26)

        async def small_ones() -> None:
            while order.count("large") < MANY:
                await read(SMALL, memory, lambda _: order.append("small"))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(MANY):
                group.create_task(read(LARGE, memory, lambda _: order.append("large")))
            group.create_task(small_ones())
        largest = [place for place, size in enumerate(order) if size == "large"]
        assert len(largest) == MANY
        assert all(after - before > 1 for before, after in itertools.pairwise(largest))

    async def test_decoding_using_and_freeing_take_three_turns(self) -> None:
        order: list[str] = []

        class Document:
            def __del__(self) -> None:
                order.append("freed")

        def decode(_body: bytes) -> Document:
            order.append("decoded")
            return Document()

        async def others() -> None:
            while "freed" not in order:
                order.append("others")
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append("others")

        async with asyncio.TaskGroup() as group:
            group.create_task(read(LARGE, BodyMemory(2**26), lambda _: order.append("used"), decode))
            group.create_task(others())
        steps = [step for step, _ in itertools.groupby(order)]
        assert steps == ["decoded", "others", "used", "others", "freed", "others"]

    async def test_waiting_bodies_count_as_held(self) -> None:
        memory = BodyMemory(len(LARGE) * 2)
        reads = (read(LARGE, memory, len) for _ in range(MANY))
        answers = await asyncio.gather(*reads, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        assert {answer.status for answer in refused} == {503}
        assert 0 < len(refused) < MANY
        # All memory is released, even that of refused requests.
        assert await asyncio.gather(*(read(LARGE, memory, len) for _ in range(2))) == [1, 1]


class TestCollector:
    """The garbage collector does not visit the values of a large body."""

    @pytest.fixture(autouse=True)
    async def on_before_and_after(self) -> AsyncIterator[None]:
        assert gc.isenabled()
        yield
        assert gc.isenabled()

    @pytest.mark.parametrize(("body", "enabled"), [(SMALL, True), (LARGE, False)])
    async def test_the_collector_is_off_with_a_large_document(self, body: bytes, enabled: bool) -> None:  # noqa: FBT001
        assert await read(body, BodyMemory(2**26), lambda _: gc.isenabled()) is enabled

    async def test_an_error_keeps_no_document(self) -> None:
        """A traceback would keep the values of its frames."""
        freed: list[bool] = []

        class Document:
            def __del__(self) -> None:
                freed.append(gc.isenabled())

        def refuse(document: Any) -> None:
            raise ValueError(repr(document))

        with pytest.raises(ValueError, match="Document"):
            await read(LARGE, BodyMemory(2**26), refuse, lambda _: Document())
        assert freed == [False]

    async def test_a_disabled_collector_stays_disabled(self) -> None:
        gc.disable()
        try:
            await read(LARGE, BodyMemory(2**26), len)
            assert not gc.isenabled()
        finally:
            gc.enable()


def listed(item: str, count: int) -> bytes:
    return f"[{','.join([item] * count)}]".encode()


def keyed(count: int, form: str = '"{}":1') -> bytes:
    return f"{{{','.join(form.format(n) for n in range(count))}}}".encode()


class TestWeight:
    """A body over a limit is refused before it is parsed."""

    @pytest.mark.parametrize("item", ["[]", "{}"])
    def test_brackets_have_a_limit_of_their_own(self, item: str) -> None:
        assert len(parse_json(listed(item, MAX_BRACKETS - 1))) == MAX_BRACKETS - 1
        assert refusal(listed(item, MAX_BRACKETS)) == (413, "more than 400000 arrays and objects")

    @pytest.mark.parametrize("item", ["1", '""', "null"])
    def test_values_count_once(self, item: str) -> None:
        assert len(parse_json(listed(item, MAX_WEIGHT))) == MAX_WEIGHT
        assert refusal(listed(item, MAX_WEIGHT + 1)) == TOO_HEAVY

    @pytest.mark.parametrize("form", ['"{}":1', '"{}" :1', '"{}"\n\t:1'])
    def test_keys_of_a_wide_mapping_count_three_times_more(self, form: str) -> None:
        most = MAX_WEIGHT // (KEY_WEIGHT + 1) + 1
        assert len(parse_json(keyed(most, form))) == most
        assert refusal(keyed(most + 2, form)) == TOO_HEAVY

    @pytest.mark.parametrize(
        ("item", "count"),
        [
            pytest.param('{"image":"a"}', 300_000, id="image"),
            pytest.param('{"name":"a","image":"a"}', 250_000, id="name-and-image"),
            pytest.param('{"image":{"reference":"a"}}', 190_000, id="image-volumes"),
            pytest.param('"a"', 1_000_000, id="texts"),
        ],
    )
    def test_hundreds_of_thousands_of_containers_are_light_enough(self, item: str, count: int) -> None:
        """A review must be read before it can be rejected for too many containers."""
        assert refusal(listed(item, count)) is None

    def test_colons_and_commas_in_texts_do_not_make_keys(self) -> None:
        """Times, addresses and digests are full of colons."""
        assert refusal(b'"' + b"a:b" * 2_000_000 + b'"') is None
        assert refusal(b'"' + b"a, " * 400_000 + b'"') is None

    @pytest.mark.parametrize("size", [1000, MAX_BRACKETS])
    def test_a_small_body_cannot_weigh_too_much(self, size: int) -> None:
        """Small bodies are therefore not weighed."""
        for make in VALUES.values():
            assert check_weight(make(size).encode()[:size]) <= MAX_WEIGHT

    @pytest.mark.parametrize(
        ("body", "typed"),
        [
            pytest.param(LARGE, True, id="light"),
            pytest.param(listed("1", MAX_TYPED_WEIGHT), True, id="just-light-enough"),
            pytest.param(listed("1", MAX_TYPED_WEIGHT + 1), False, id="heavy"),
        ],
    )
    async def test_a_heavy_body_is_not_decoded_twice(self, body: bytes, typed: bool) -> None:  # noqa: FBT001
        """The typed decoder may decline after all the work."""
        decoded: list[bool] = []

        def decode(body: bytes) -> Any:
            decoded.append(True)
            return parse_json(body)

        await with_document(body, BodyMemory(2**26), decode=decode, use=in_one_step(len))
        assert bool(decoded) is typed


TOO_HEAVY: Final = (413, "too many values, or too many keys in an object")


def refusal(body: bytes) -> tuple[int, str] | None:
    """Return the status and reason of a refusal by weight; ``None`` if the body is light enough."""
    try:
        check_weight(body)
    except Refusal as problem:
        return problem.status, problem.reason
    return None
