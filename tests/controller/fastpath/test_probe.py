"""The controller probes removed images until the webhook is called, as long as the probe is useful."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from controller.fastpath.stepping import HEAD, OTHER, REMOVED, TIGHT, WIDE, view_of
from controller.world import START
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.controller.fastpath.policy_view import NOTHING_SKIPPED, PolicyView, unknown
from gatekeeper_py.controller.fastpath.probe import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MUTATING,
    SUSPICIOUS_SECONDS,
    ProbeImage,
    RemovalProbe,
    dry_run,
    why_not_called,
)
from gatekeeper_py.controller.probe_pod import IMAGE_PATH, ProbeAnswer, pod
from gatekeeper_py.core.admission import mutate
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.compile.fastpath import FastPath
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.process.settings import SettingsError
from support.apisession import session_with
from support.builders import review
from support.recording import RecordingLog

FROM_WIDE = view_of(WIDE).fast_path


class Site:
    """A removal probe with a clock, and an API server that calls the webhook or not."""

    def __init__(self, *, probing: bool = True) -> None:
        self.calls_webhook = True
        self.clock = 0.0
        self.probed: list[str] = []
        self.log = RecordingLog()
        self.removal_probe = RemovalProbe(
            self.probe,
            "probe" if probing else None,
            log=self.log,
            now=lambda: START + timedelta(seconds=self.clock),
            monotonic=lambda: self.clock,
        )

    async def probe(self, _namespace: str, candidate: ProbeImage) -> str:
        self.probed.append(candidate.image)
        return "" if self.calls_webhook else "403 exceeded quota"

    @property
    def alarms(self) -> list[dict[str, Any]]:
        return self.log.named("fastpath_not_verified")

    async def pauses(self, most: int = 100) -> list[float]:
        """Run the attempts when they are due; return the pauses between them."""
        found: list[float] = []
        while len(found) < most and (pause := await self.removal_probe.attempt()) is not None:
            found.append(pause)
            self.clock += pause
        return found


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_probe_that_calls_the_webhook_succeeds_at_once(site: Site) -> None:
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT))
    assert await site.removal_probe.attempt() is None
    assert site.probed == [REMOVED]
    assert site.removal_probe.verified == (ProbeImage("validating", REMOVED),)
    assert await site.removal_probe.attempt() is None
    assert site.probed == [REMOVED]


async def test_both_webhooks_are_probed(site: Site) -> None:
    text = OTHER + "- {from: b.io, to: c.io/b}\n"
    await site.removal_probe.begin(FROM_WIDE, view_of(text, "mutate"))
    assert await site.removal_probe.attempt() is None
    assert site.removal_probe.verified == (
        ProbeImage("validating", "a.io/gatekeeper-py-probe"),
        ProbeImage("mutating", REMOVED),
    )


async def test_a_probe_that_does_not_call_the_webhook_is_repeated_and_alarms(site: Site) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT))
    pauses = await site.pauses(most=20)
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    late = [each for each in range(20) if sum(pauses[:each]) > SUSPICIOUS_SECONDS]
    assert len(site.alarms) == len(late)
    assert site.alarms[0]["image"] == REMOVED
    assert site.alarms[0]["problem"] == "403 exceeded quota"
    site.calls_webhook = True
    assert await site.removal_probe.attempt() is None


@pytest.mark.parametrize("later", [view_of(WIDE), unknown("deleted")], ids=["approved-again", "no-policy"])
async def test_a_pending_probe_is_kept_while_it_is_useful(site: Site, later: PolicyView) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT))
    await site.removal_probe.attempt()
    tight = view_of(TIGHT + "message: ask us\n", None)
    await site.removal_probe.begin(tight.fast_path, tight)
    assert await site.removal_probe.attempt() is not None
    await site.removal_probe.begin(tight.fast_path, later)
    site.probed.clear()
    assert await site.removal_probe.attempt() is None
    assert site.probed == []


async def test_a_newer_removal_replaces_a_pending_probe(site: Site) -> None:
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT))
    await site.removal_probe.begin(view_of(TIGHT).fast_path, view_of(OTHER))
    site.calls_webhook = True
    assert await site.removal_probe.attempt() is None
    assert site.probed == ["a.io/gatekeeper-py-probe"]


async def test_a_pending_probe_ends_when_expiry_approves_its_image(site: Site) -> None:
    deny = HEAD + "allow: [a.io, b.io]\ndeny: [{image: b.io, until: 2026-01-02}]\n"
    site.calls_webhook = False
    await site.removal_probe.begin(FROM_WIDE, view_of(deny, None))
    assert len(await site.pauses(most=20)) == 20
    site.clock += 24 * 3600
    assert len(await site.pauses()) == 1


@pytest.mark.parametrize(
    ("previous", "known"),
    [
        pytest.param(FROM_WIDE, view_of(WIDE), id="nothing-taken-off"),
        pytest.param(FROM_WIDE, unknown("deleted"), id="no-policy"),
        pytest.param(NOTHING_SKIPPED, view_of(WIDE), id="nothing-skipped-before"),
    ],
)
async def test_nothing_is_probed_without_a_useful_image(
    site: Site, previous: FastPath, known: PolicyView
) -> None:
    await site.removal_probe.begin(previous, known)
    assert await site.removal_probe.attempt() is None
    assert site.probed == []


async def test_nothing_is_probed_without_a_probe_namespace() -> None:
    site = Site(probing=False)
    await site.removal_probe.begin(FROM_WIDE, view_of(TIGHT))
    assert await site.removal_probe.attempt() is None
    assert site.removal_probe.verified == ()


WEBHOOK = "pods.hook.gk"
PROBE_IMAGE = ProbeImage("validating", "a.io/x")


REFUSED = '299 - "spec.containers[0].image: a.io/x is not approved"'


def answered(code: int, message: str = "", *warnings: str) -> ProbeAnswer:
    return ProbeAnswer(status=code, body=json.dumps({"message": message}).encode(), warnings=warnings)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        pytest.param(answered(403, f'admission webhook "{WEBHOOK}" denied it: no'), "", id="refused"),
        pytest.param(answered(500, f'failed calling webhook "{WEBHOOK}": refused'), "", id="called-in-vain"),
        pytest.param(answered(403, "exceeded quota: no-pods", REFUSED), "", id="warned"),
        pytest.param(answered(403, "exceeded quota"), "403 exceeded quota", id="let-through"),
        pytest.param(answered(201, "", '299 - "something else"'), "201", id="let-through-without-a-quota"),
        pytest.param(
            answered(403, 'admission webhook "other" denied it'),
            '403 admission webhook "other" denied it',
            id="another-webhook",
        ),
        pytest.param(ProbeAnswer(status=502, body=b"<html>"), "502", id="not-json"),
        pytest.param(ProbeAnswer(status=500, body=b"[]"), "500", id="no-object"),
        pytest.param(ProbeAnswer(status=500, body=b'{"message": 1}'), "500", id="no-text"),
    ],
)
def test_answers_show_whether_the_webhook_was_called(answer: ProbeAnswer, seen: str) -> None:
    assert why_not_called(answer, "validating", WEBHOOK) == seen


@pytest.mark.parametrize(
    "warning",
    [
        pytest.param("was rewritten to b.io/x", id="rewritten"),
        pytest.param("is left as written: no mirror has it", id="on-no-mirror"),
        pytest.param("is left as written: no mirror could be queried: 401", id="no-answer-of-a-mirror"),
    ],
)
def test_some_warnings_are_of_the_mutating_webhook_only(warning: str) -> None:
    rewritten = f'299 - "spec.containers[0].image: a.io/x {warning}"'
    assert not why_not_called(answered(403, "", rewritten), "mutating", WEBHOOK)
    assert why_not_called(answered(403, "", REFUSED), "mutating", WEBHOOK)
    assert why_not_called(answered(403, "", rewritten), "validating", WEBHOOK)
    assert not why_not_called(answered(403, "", rewritten, REFUSED), "validating", WEBHOOK)


def test_the_warnings_are_those_that_users_get() -> None:
    """``MUTATING`` and ``IMAGE_PATH`` match the webhook's messages."""
    policy = parse_policy(
        "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: mutate\nallow: [a.io]\n"
        "mirrors: [{from: b.io, to: a.io}]\n"
    )
    request = parse(review(pod(f"b.io/{'x' * 200}")))
    [warning] = mutate(request, policy.at(START)).response.warnings
    assert f"{IMAGE_PATH}: " in warning
    assert MUTATING[0] in warning


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """Run an API server that refuses on behalf of the webhook; yield its address and its requests."""
    requests: list[tuple[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append((request.path_qs, await request.json()))
        message = f'admission webhook "{WEBHOOK}" denied the request'
        return web.json_response({"message": message}, status=403)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    await runner.cleanup()


async def test_a_probe_is_a_dry_run_on_its_own_connection(
    server: tuple[str, list[tuple[str, Any]]],
) -> None:
    url, requests = server
    made: list[Session] = []

    async def connect() -> Session:
        made.append(session_with(url))
        return made[-1]

    for _ in range(2):
        assert await dry_run(connect, "probe", PROBE_IMAGE, WEBHOOK) == ""
    assert requests == [("/api/v1/namespaces/probe/pods?dryRun=All", pod("a.io/x"))] * 2
    assert len(made) == 2
    assert all(each._session.closed for each in made)


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        pytest.param(None, "cannot connect", id="no-api-server"),
        pytest.param(SettingsError("the token is gone"), "the token is gone", id="no-token"),
    ],
)
async def test_without_an_answer_the_problem_is_shown(refusal: Exception | None, problem: str) -> None:
    async def connect() -> Session:
        if refusal is not None:
            raise refusal
        return session_with("http://127.0.0.1:9")

    assert problem in await dry_run(connect, "probe", PROBE_IMAGE, WEBHOOK)
