"""The policy guard: which reviews it checks, its answers, and its cost."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.names import BREAK_GLASS_CONFIGMAP, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy, ParsedExceptions
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.live.parser.process import Interrupted, Judged, ParserError
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.memory import collector_off
from gatekeeper_py.webhook.guard import (
    LEAST_SHARE,
    LONGEST_CHECK_SECONDS,
    MAX_CHECKS,
    REMEMBERED_SECONDS,
    PolicyGuard,
)
from gatekeeper_py.webhook.metrics import CHECK_RESULTS, Metrics
from support.builders import UID, pod, policy, policy_text, review, workload
from support.parsing import InProcessParser
from support.recording import Clock, RecordingLog
from support.served import GUARDED, Served, Start, sample
from support.wire import Answer, eventually, request

CLEAN: Final = policy_text('deny: ["*/**:latest"]\n')
"""A policy without lint findings."""


def configmap(text: Any = CLEAN, *, name: str = GUARDED.name, **more: Any) -> dict[str, Any]:
    data = {"policy.yaml": text, **more}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def change(obj: dict[str, Any] | None, operation: str = "CREATE", **more: Any) -> dict[str, Any]:
    """Return a review of a ConfigMap in the namespace of the policy."""
    return review(obj, operation=operation, kind=("", "ConfigMap"), namespace=GUARDED.namespace, **more)


async def ask(served: Served, document: dict[str, Any], query: str = "") -> Answer:
    return await served.ask(request(json.dumps(document).encode(), path=f"/validate-policy{query}"))


def verdict(answer: Answer) -> dict[str, Any]:
    document = answer.json()
    assert answer.status == 200
    assert (document["apiVersion"], document["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = document["response"]
    assert response["uid"] == UID
    assert not {"patch", "patchType"} & set(response)
    if not response["allowed"]:
        assert (response["status"]["code"], response["status"]["reason"]) == (403, "Forbidden")
        assert len(response["status"]["message"].encode()) <= 1024
    return response


GRANTS: Final = """
exceptions:
  - {source: namespace, namespaces: [team-*], images: ["ghcr.io/**"], longest: 14d, most: 2}
"""


def exceptions(
    *entries: str, namespace: str = "team-a", name: str = EXCEPTIONS_CONFIGMAP, **more: Any
) -> dict[str, Any]:
    """Return a review of a ConfigMap with exceptions for images, each ``IMAGE UNTIL``."""
    text = "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:\n"
    for entry in entries:
        image, until = entry.split()
        text += f"  - {{image: {image}, until: {until}, reason: x}}\n"
    data = {"exceptions.yaml": text, **more}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    return review(obj, kind=("", "ConfigMap"), namespace=namespace)


def in_days(days: int) -> str:
    """Return a date that many days from now."""
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


class TestExceptions:
    """Over a socket: exceptions are judged by the live policy when somebody applies them."""

    async def test_an_acceptable_one_is_answered_with_what_it_approves_and_until_when(
        self, start: Start
    ) -> None:
        served = start(policy(GRANTS))
        end = in_days(10)
        response = verdict(await ask(served, exceptions(f"ghcr.io/acme/tool:1.* {end}")))
        assert response["allowed"]
        assert response["warnings"] == [f"approved until {end}T00:00:00Z: ghcr.io/acme/tool:1.*"]
        assert served.metric("policy_checks_total", result="accepted") == 1

    @pytest.mark.parametrize(
        ("document", "finding"),
        [
            pytest.param(
                exceptions(f"ghcr.io/a {in_days(30)}"),
                "until is further away than the grant allows",
                id="too-long",
            ),
            pytest.param(exceptions("ghcr.io/a never"), "until", id="bad-document"),
            pytest.param(exceptions(f"ghcr.io/a {in_days(5)}", more="x"), "data.more", id="bad-configmap"),
        ],
    )
    async def test_a_bad_one_is_refused_with_the_finding(
        self, start: Start, document: dict[str, Any], finding: str
    ) -> None:
        served = start(policy(GRANTS))
        response = verdict(await ask(served, document))
        assert not response["allowed"]
        message = response["status"]["message"]
        assert message.startswith("the exceptions are not acceptable: ")
        assert finding in message
        assert served.metric("policy_checks_total", result="refused") == 1

    async def test_a_configmap_with_the_break_glass_name_elsewhere_is_ignored(self, start: Start) -> None:
        served = start(policy(GRANTS))
        document = exceptions("nonsense now", name=BREAK_GLASS_CONFIGMAP)
        assert verdict(await ask(served, document)) == {"uid": UID, "allowed": True}
        assert served.metric("policy_checks_total", result="skipped") == 1

    async def test_an_expired_entry_is_allowed_with_a_warning(self, start: Start) -> None:
        served = start(policy(GRANTS))
        response = verdict(await ask(served, exceptions(f"ghcr.io/a {in_days(-1)}")))
        assert response["allowed"]
        [warning] = response["warnings"]
        assert "the exception expired at" in warning


class TestAnswers:
    """Over a socket, with the documents parsed in this process."""

    @pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
    @pytest.mark.parametrize(
        ("obj", "message"),
        [
            pytest.param(configmap("x: y"), "allow is required", id="bad-document"),
            pytest.param(configmap(mode="audit"), "enforce, warn or mutate", id="bad-mode"),
            pytest.param({**configmap(), "data": [1]}, "data: must be a mapping", id="data-is-a-list"),
            pytest.param({**configmap(), "binaryData": {"x": "AA=="}}, "binaryData", id="binary-data"),
        ],
    )
    async def test_a_bad_policy_is_denied_with_its_findings(
        self, served: Served, obj: dict[str, Any], message: str, operation: str
    ) -> None:
        response = verdict(await ask(served, change(obj, operation)))
        assert not response["allowed"]
        assert message in response["status"]["message"]
        assert served.metric("policy_checks_total", result="refused") == 1

    async def test_problems_of_the_document_and_of_the_configmap_are_listed_together(
        self, served: Served
    ) -> None:
        text = policy_text("colour: red\ndeny: nginx\n", mode="audit", allow="[nginx]")
        response = verdict(await ask(served, change(configmap(text, mode="neither", other="x"))))
        message = response["status"]["message"]
        for place in ("colour", "deny", "mode", "allow[0]", "data.other"):
            assert place in message

    @pytest.mark.parametrize(
        "document",
        [
            pytest.param(change(configmap()), id="create"),
            pytest.param(change(configmap(mode="enforce"), "UPDATE"), id="update-with-mode"),
        ],
    )
    async def test_an_acceptable_policy_is_allowed(self, served: Served, document: dict[str, Any]) -> None:
        assert verdict(await ask(served, document)) == {"uid": UID, "allowed": True}
        assert served.metric("policy_checks_total", result="accepted") == 1

    async def test_a_mode_that_differs_from_the_documents_is_allowed_with_a_warning(
        self, served: Served
    ) -> None:
        response = verdict(await ask(served, change(configmap(mode="warn"), "UPDATE")))
        assert response["allowed"]
        (warning,) = response["warnings"]
        assert "the ConfigMap's key mode replaces this mode with warn" in warning

    async def test_lint_findings_are_warnings(self, served: Served) -> None:
        response = verdict(await ask(served, change(configmap(policy_text()))))
        assert response["allowed"]
        (warning,) = response["warnings"]
        assert warning.startswith("line 4, allow[0]: registry.corp.io approves :latest")

    @pytest.mark.parametrize(
        "document",
        [
            pytest.param(change(configmap("bad", name="other")), id="another-name"),
            pytest.param(
                change(configmap("bad"), "UPDATE", old=configmap("bad")), id="update-that-leaves-a-bad-policy"
            ),
            pytest.param(review(pod("nginx")), id="pod"),
        ],
    )
    async def test_anything_else_is_allowed_without_a_check(
        self, served: Served, document: dict[str, Any]
    ) -> None:
        assert verdict(await ask(served, document)) == {"uid": UID, "allowed": True}
        assert served.metric("policy_checks_total", result="skipped") == 1
        assert served.parser.parsed == []

    async def test_a_server_with_a_policy_file_allows_every_configmap(self, start: Start) -> None:
        served = start(guarded=None)
        assert verdict(await ask(served, change(configmap("bad"))))["allowed"]
        assert served.metric("policy_checks_total", result="skipped") == 1

    async def test_the_first_policy_is_judged_before_any_is_loaded(self, start: Start) -> None:
        served = start(None)
        assert not verdict(await ask(served, change(configmap("bad"))))["allowed"]
        assert verdict(await ask(served, change(configmap())))["allowed"]

    async def test_a_check_that_fails_is_a_denial_with_the_reason(self, served: Served) -> None:
        served.parser.failures.append(ParserError("memory", "it needs more than 256 MiB of memory to parse"))
        response = verdict(await ask(served, change(configmap())))
        assert not response["allowed"]
        assert "it needs more than 256 MiB of memory" in response["status"]["message"]
        assert served.metric("policy_checks_total", result="failed") == 1
        assert served.log.named("policy_check_failed") == [
            {"cause": "memory", "problem": "it needs more than 256 MiB of memory to parse"}
        ]

    async def test_a_check_that_does_not_begin_in_time_gets_503_and_retry_after(self, served: Served) -> None:
        async with served.parser.turn():  # as while a policy is loaded
            answer = await ask(served, change(configmap()), "?timeout=1s")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert served.metric("policy_checks_total", result="busy") == 1

    async def test_a_problem_of_the_configmap_is_denied_while_the_parser_is_busy(
        self, served: Served
    ) -> None:
        async with served.parser.turn():
            response = verdict(await ask(served, change(configmap(other="x")), "?timeout=1s"))
        assert "data.other" in response["status"]["message"]
        assert served.metric("policy_checks_total", result="refused") == 1


class TestBlastRadius:
    """Over a socket: what a change does to the images that the server admitted before."""

    ELSEWHERE: Final = policy_text('deny: ["*/**:latest"]\n', allow="[elsewhere.io]")

    @staticmethod
    async def admit(
        served: Served, number: int, namespace: str = "shop", host: str = "registry.corp.io"
    ) -> None:
        for each in range(number):
            obj = pod(f"{host}/app{each}:1") if each % 2 else workload("Deployment", f"{host}/app{each}:1")
            assert (await served.review(review(obj, namespace=namespace))).allowed

    async def test_a_change_that_rejects_most_images_is_refused(self, served: Served) -> None:
        await self.admit(served, 12)
        response = verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE")))
        assert not response["allowed"]
        message = response["status"]["message"]
        assert "this policy rejects 12 of 12 images that were approved here in the last 24 hours" in message
        assert "registry.corp.io/app0:1" in message
        assert served.metric("policy_checks_total", result="refused") == 1
        assert served.metric("guard_rejected_images") == 12

    async def test_the_annotation_insists_on_the_change(self, served: Served) -> None:
        await self.admit(served, 12)
        obj = configmap(self.ELSEWHERE)
        obj["metadata"]["annotations"] = {"gatekeeper-py/accept-rejections": "true"}
        response = verdict(await ask(served, change(obj, "UPDATE")))
        assert response["allowed"]
        first, *_, last = response["warnings"]
        assert first.startswith("this policy rejects 12 of 12 images")
        assert last.startswith("remove the annotation")

    @pytest.mark.parametrize("images", [1, 9])
    async def test_a_change_that_rejects_few_images_is_allowed_with_a_warning(
        self, served: Served, images: int
    ) -> None:
        await self.admit(served, images)
        response = verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE")))
        assert response["allowed"]
        assert response["warnings"][0].startswith(f"this policy rejects {images} of {images} images")

    async def test_denied_images_do_not_count(self, served: Served) -> None:
        for number in range(12):
            obj = pod(f"denied.io/app{number}:1", "registry.corp.io/web:1")
            assert not (await served.review(review(obj))).allowed
        assert verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE"))) == {
            "uid": UID,
            "allowed": True,
        }

    async def test_kept_images_whose_pods_are_refused_do_not_count(self, served: Served) -> None:
        for number in range(12):
            kept = f"denied.io/app{number}:1"
            after = workload("Deployment", kept, "registry.corp.io/web:1")
            update = review(after, operation="UPDATE", old=workload("Deployment", kept))
            answer = await served.review(update)
            assert answer.allowed
            assert "denied.io" in str(answer.warnings)
        response = verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE")))
        assert "denied.io" not in str(response)

    async def test_a_change_to_enforce_is_judged_by_the_images_that_were_warned_about(
        self, start: Start
    ) -> None:
        text = policy_text('deny: ["*/**:latest"]\n', mode="warn")
        served = start(parse_policy(text).at(datetime.now(UTC)))
        await self.admit(served, 12, host="other.io")
        for data, allowed in (({"mode": "enforce"}, False), ({"mode": "warn"}, True), ({}, True)):
            response = verdict(await ask(served, change(configmap(text, **data), "UPDATE")))
            assert response["allowed"] is allowed
            assert "images that were approved" not in str(response.get("warnings"))

    async def test_the_live_policy_is_not_judged_again(self, start: Start) -> None:
        """For example when a label changes. Its images may have been admitted under another policy."""
        served = start(parse_policy(CLEAN).at(datetime.now(UTC)))
        await self.admit(served, 12)
        assert verdict(await ask(served, change(configmap(mode="enforce"), "UPDATE")))["allowed"]
        assert served.metric("guard_rejected_images") == 0

    async def test_images_are_still_known_after_the_policy_changed(self, start: Start) -> None:
        """An operator who corrects a typing error at once may make a larger one."""
        served = start(parse_policy(CLEAN).at(datetime.now(UTC)))
        await self.admit(served, 12)
        changed = parse_policy(policy_text(allow="[registry.corp.io, more.io]")).at(datetime.now(UTC))
        served.live.install(changed.serving(100, CacheCounts()))
        assert not verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE")))["allowed"]

    async def test_no_limit_means_a_warning_only(self, start: Start) -> None:
        served = start(most_rejected=0)
        await self.admit(served, 12)
        response = verdict(await ask(served, change(configmap(self.ELSEWHERE), "UPDATE")))
        assert response["allowed"]
        assert response["warnings"][0].startswith("this policy rejects 12 of 12 images")


class SlowParser(InProcessParser):
    """Takes ``seconds`` of a clock for each document; ``budgets`` records the time limits."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.budgets: list[float | None] = []
        self._clock = clock
        self.seconds = seconds

    async def judge(
        self,
        text: str,
        mode: str | None,
        instant: datetime | None,
        *,
        seconds: float | None = None,
        on_accepted: Any = None,
        admitted: Any = None,
    ) -> Judged:
        self.budgets.append(seconds)
        self._clock.now += self.seconds
        return await super().judge(text, mode, instant, seconds=seconds, admitted=admitted)

    async def parse_exceptions(
        self, text: str, source: Source, *, seconds: float | None = None
    ) -> ParsedExceptions:
        self._clock.now += self.seconds
        return await super().parse_exceptions(text, source, seconds=seconds)


class Text(str):
    """A text that a weak reference can refer to."""

    __slots__ = ("__weakref__",)


def known(key: str = "192.0.2.1", reviews: int = 100) -> Peer:
    """Return the peer of an API server, whose reviews were good."""
    peer = Peer(key, 1)
    peer.reviews = reviews
    return peer


def results(metrics: Metrics) -> dict[str, float]:
    """Return how many checks had each result; a result without checks is left out."""
    counts = {result: sample(metrics, "policy_checks_total", result=result) for result in CHECK_RESULTS}
    return {result: count for result, count in counts.items() if count}


class TestCost:
    """Checks run one at a time. The checks of one share take at most a fifth of the time."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def parser(self, clock: Clock) -> SlowParser:
        return SlowParser(clock, 0.5)

    @pytest.fixture
    def metrics(self) -> Metrics:
        return Metrics(LivePolicy(), CacheCounts())

    @pytest.fixture
    def guard(self, clock: Clock, parser: SlowParser, metrics: Metrics) -> PolicyGuard:
        return PolicyGuard(
            GUARDED,
            parser,
            LivePolicy(),
            observer=metrics,
            log=RecordingLog(),
            monotonic=clock,
            sleep=clock.sleep,
        )

    @staticmethod
    async def judge(guard: PolicyGuard, seconds: float = 4.5) -> Outcome:
        parsed = parse(change(configmap()))
        return await guard.judge(parsed, guard.read(parsed), seconds, known())

    async def test_after_a_check_the_next_waits_four_times_as_long(
        self, guard: PolicyGuard, clock: Clock
    ) -> None:
        start = clock.now
        for _ in range(5):
            assert (await self.judge(guard)).response.allowed
        assert clock.slept == pytest.approx([0.0, 2.0, 2.0, 2.0, 2.0])
        assert clock.now - start == pytest.approx(5 * 0.5 + 4 * 2.0)

    async def test_a_failed_check_delays_the_next_one(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser
    ) -> None:
        parser.failures.append(ParserError("time", "it was stopped after 4 s"))
        assert not (await self.judge(guard)).response.allowed
        await self.judge(guard)
        assert clock.slept == pytest.approx([0.0, 2.0])

    async def test_a_check_that_would_wait_too_long_gets_503_at_once(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser, metrics: Metrics
    ) -> None:
        parser.seconds = 2.0
        await self.judge(guard)
        with pytest.raises(Refusal) as refusal:
            await self.judge(guard)
        assert (refusal.value.status, refusal.value.headers) == (503, {"Retry-After": "1"})
        assert clock.slept == [0.0]
        assert results(metrics) == {"accepted": 1, "busy": 1}
        clock.now += 8.0
        assert (await self.judge(guard)).response.allowed

    async def test_a_check_has_the_whole_rest_of_the_budget(
        self, guard: PolicyGuard, parser: SlowParser
    ) -> None:
        await self.judge(guard, 4.5)
        await self.judge(guard, 4.5)
        assert parser.budgets == pytest.approx([4.5, 2.5])
        assert parser.budgets[1] is not None
        assert parser.budgets[1] >= 4.5 * LEAST_SHARE

    async def test_without_a_timeout_the_budget_is_still_bounded(
        self, guard: PolicyGuard, parser: SlowParser
    ) -> None:
        await self.judge(guard, float("inf"))
        assert parser.budgets == pytest.approx([LONGEST_CHECK_SECONDS])

    async def test_an_interrupted_check_is_repeated_after_the_pause(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser, metrics: Metrics
    ) -> None:
        parser.failures.append(Interrupted())
        assert (await self.judge(guard, 6.0)).response.allowed
        assert clock.slept == pytest.approx([0.0, 2.0])
        assert results(metrics) == {"accepted": 1}

    async def test_an_interrupted_check_without_time_to_repeat_it_gets_503(
        self, guard: PolicyGuard, parser: SlowParser, metrics: Metrics
    ) -> None:
        parser.seconds = 1.0
        parser.failures.append(Interrupted())
        with pytest.raises(Refusal) as refusal:
            await self.judge(guard)
        assert (refusal.value.status, refusal.value.headers) == (503, {"Retry-After": "1"})
        assert refusal.value.reason == "the policy changed during the check"
        assert results(metrics) == {"busy": 1}
        assert guard.checking == 0

    async def test_a_check_that_gets_503_leaves_no_text_to_the_garbage_collector(
        self, guard: PolicyGuard, parser: SlowParser
    ) -> None:
        parser.seconds = 2.0
        await self.judge(guard)
        parsed = parse(change(configmap()))
        written = guard.read(parsed)
        assert isinstance(written, ConfigMapPolicy)
        text = Text(written.text)
        watched = weakref.ref(text)
        with collector_off():
            with pytest.raises(Refusal):
                await guard.judge(parsed, dataclasses.replace(written, text=text), 4.5, known())
            del text
            assert watched() is None

    async def test_a_few_of_a_hundred_concurrent_checks_wait_and_the_others_get_503(
        self, metrics: Metrics
    ) -> None:
        parser = InProcessParser()
        guard = PolicyGuard(GUARDED, parser, LivePolicy(), observer=metrics, log=RecordingLog())
        async with parser.turn():
            tasks = [asyncio.create_task(self.judge(guard)) for _ in range(100)]
            await eventually(lambda: results(metrics).get("busy") == 100 - MAX_CHECKS)
            assert guard.checking == MAX_CHECKS
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(outcome, Outcome) for outcome in outcomes) == MAX_CHECKS
        assert guard.checking == 0
        assert len(parser.parsed) == MAX_CHECKS

    async def test_checks_of_namespaces_leave_room_for_break_glass(self, metrics: Metrics) -> None:
        parser = InProcessParser()
        guard = PolicyGuard(GUARDED, parser, LivePolicy(), observer=metrics, log=RecordingLog())

        def judge(document: dict[str, Any]) -> asyncio.Task[Outcome]:
            parsed = parse(document)
            return asyncio.create_task(guard.judge(parsed, guard.read(parsed), 4.5, known()))

        entry = f"ghcr.io/a {in_days(5)}"
        async with parser.turn():
            tasks = [judge(exceptions(entry, namespace=f"team-{number}")) for number in range(10)]
            await eventually(lambda: results(metrics).get("busy") == 10 - MAX_CHECKS)
            own = judge(exceptions(entry, name=BREAK_GLASS_CONFIGMAP, namespace=GUARDED.namespace))
            await eventually(lambda: results(metrics).get("busy") == 11 - MAX_CHECKS)
            assert guard.checking == MAX_CHECKS
        assert (await own).response.allowed
        await asyncio.gather(*tasks, return_exceptions=True)


class TestShares:
    """A check does not wait for a share that used more, or for the pause of another share."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def parser(self, clock: Clock) -> SlowParser:
        return SlowParser(clock, 0.2)

    @pytest.fixture
    def metrics(self) -> Metrics:
        return Metrics(LivePolicy(), CacheCounts())

    @pytest.fixture
    def guard(self, clock: Clock, parser: SlowParser, metrics: Metrics) -> PolicyGuard:
        return PolicyGuard(
            GUARDED,
            parser,
            LivePolicy(),
            observer=metrics,
            log=RecordingLog(),
            monotonic=clock,
            sleep=clock.sleep,
        )

    @staticmethod
    async def begin(
        guard: PolicyGuard, name: str, peer: Peer | None, namespace: str = "", seconds: float = 9.0
    ) -> asyncio.Task[Outcome]:
        """Begin the check of a policy, or of exceptions of a namespace, which ends by itself or waits.

        The text begins with the name.
        """
        entry = f"ghcr.io/a {in_days(5)}"
        document = exceptions(entry, namespace=namespace) if namespace else change(configmap())
        (key, text), *_ = document["request"]["object"]["data"].items()
        document["request"]["object"]["data"][key] = f"# {name}\n{text}"
        parsed = parse(document)
        task = asyncio.create_task(guard.judge(parsed, guard.read(parsed), seconds, peer))
        for _ in range(30):
            await asyncio.sleep(0)
        return task

    @staticmethod
    def order(parser: SlowParser) -> list[str]:
        return [text.partition("\n")[0].removeprefix("# ") for text in parser.parsed]

    @pytest.mark.parametrize(
        ("before", "first", "second", "expected"),
        [
            pytest.param([], (None, ""), (known(), ""), "second", id="stranger-and-known"),
            pytest.param([], (None, ""), (known(), "shop"), "second", id="stranger-and-tenant"),
            pytest.param([], (known("192.0.2.66", 1), ""), (known(), "shop"), "second", id="hardly-known"),
            pytest.param([], (known(), ""), (None, ""), "first", id="known-and-stranger"),
            pytest.param([], (known(), "shop"), (known(), ""), "second", id="tenant-and-policy"),
            pytest.param([], (known(), ""), (known(), "shop"), "first", id="policy-and-tenant"),
            pytest.param(
                [(known(), "")] * 3, (known(), "shop"), (known(), ""), "second", id="policies-were-checked"
            ),
            pytest.param([], (known(), "noisy"), (known(), "quiet"), "first", id="two-quiet-tenants"),
            pytest.param(
                [(known(), "noisy")], (known(), "noisy"), (known(), "quiet"), "second", id="noisy-tenant"
            ),
            pytest.param(
                [(known("192.0.2.2"), "")] * 2, (known("192.0.2.2"), ""), (known(), ""), "second", id="peers"
            ),
        ],
    )  # fmt: skip
    async def test_the_share_that_used_less_goes_first(
        self,
        guard: PolicyGuard,
        clock: Clock,
        parser: SlowParser,
        before: list[tuple[Peer, str]],
        first: tuple[Peer | None, str],
        second: tuple[Peer | None, str],
        expected: str,
    ) -> None:
        """A check that has its turn, but still waits for the parser process, gives way."""
        for peer, namespace in before:
            await (await self.begin(guard, "before", peer, namespace))
            clock.now += 10 * parser.seconds
        async with parser.turn():
            tasks = [await self.begin(guard, "first", *first), await self.begin(guard, "second", *second)]
        assert all(outcome.response.allowed for outcome in await asyncio.gather(*tasks))
        assert self.order(parser)[len(before)] == expected
        assert sorted(self.order(parser)[len(before) :]) == ["first", "second"]

    async def test_a_check_under_way_gives_way_after_its_grace(
        self, guard: PolicyGuard, parser: SlowParser
    ) -> None:
        stuck = asyncio.Event()
        judge = parser.judge

        async def hang(text: str, *arguments: Any, **more: Any) -> Judged:
            if "costly" in text and not stuck.is_set():
                stuck.set()
                await asyncio.Event().wait()
            return await judge(text, *arguments, **more)

        parser.judge = hang  # type: ignore[method-assign]
        costly = await self.begin(guard, "costly", None)
        assert stuck.is_set()
        assert (await (await self.begin(guard, "quick", known()))).response.allowed
        assert (await costly).response.allowed
        assert self.order(parser) == ["quick", "costly"]

    async def test_a_check_that_gives_way_without_time_to_repeat_it_gets_503(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser, metrics: Metrics
    ) -> None:
        async with parser.turn():
            stranger = await self.begin(guard, "stranger", None, seconds=4.5)
            clock.now += 3.0
            own = await self.begin(guard, "own", known())
            with pytest.raises(Refusal) as refusal:
                await stranger
            assert refusal.value.reason == "other policies are being checked"
        assert (await own).response.allowed
        assert results(metrics) == {"accepted": 1, "busy": 1}
        assert guard.checking == 0

    async def test_a_pause_delays_only_the_share_that_ran(self, guard: PolicyGuard, clock: Clock) -> None:
        for peer, namespace in [
            (known(), "a"), (known(), "b"), (known(), ""), (known("192.0.2.2"), ""), (None, ""),
        ]:  # fmt: skip
            await (await self.begin(guard, "x", peer, namespace))
        assert clock.slept == [0.0] * 5
        await (await self.begin(guard, "x", known(), "a"))
        assert clock.slept[-1] == pytest.approx(9 * 0.2 - 4 * 0.2)

    async def test_strangers_take_a_tenth_of_the_time_together(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser
    ) -> None:
        start = clock.now
        for number in range(10):
            await (await self.begin(guard, "x", known(f"192.0.2.{number}", 0), seconds=9.0))
        assert clock.slept == pytest.approx([0.0] + 9 * [9 * parser.seconds])
        assert clock.now - start == pytest.approx((10 + 9 * 9) * parser.seconds)

    async def test_a_newcomer_takes_the_place_of_the_share_with_most(
        self, guard: PolicyGuard, parser: SlowParser, metrics: Metrics
    ) -> None:
        async with parser.turn():
            noisy = [await self.begin(guard, "noisy", known(), "noisy") for _ in range(MAX_CHECKS)]
            assert guard.checking == MAX_CHECKS
            more = await self.begin(guard, "noisy", known(), "noisy")
            with pytest.raises(Refusal):
                await more
            quiet = await self.begin(guard, "quiet", known(), "quiet")
            assert guard.checking == MAX_CHECKS
            assert results(metrics) == {"busy": 2}
        assert (await quiet).response.allowed
        found = await asyncio.gather(*noisy, return_exceptions=True)
        assert sum(isinstance(each, Refusal) for each in found) >= 1
        assert guard.checking == 0

    async def test_use_is_forgotten_after_a_minute(
        self, guard: PolicyGuard, clock: Clock, parser: SlowParser
    ) -> None:
        await (await self.begin(guard, "before", known(), "noisy"))
        clock.now += REMEMBERED_SECONDS
        async with parser.turn():
            tasks = [await self.begin(guard, name, known(), name) for name in ("noisy", "quiet")]
        await asyncio.gather(*tasks)
        assert self.order(parser) == ["before", "noisy", "quiet"]
