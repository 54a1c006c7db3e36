"""The conditions that a step writes after each event, and its pause.

A row holds events, and after them what a step does. It begins with a controller that has been in step with
``WIDE`` for a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from controller.fastpath.stepping import (
    BAD,
    GONE,
    HEAD,
    MUTATE,
    OTHER,
    OWNER,
    POLICY,
    TIGHT,
    VALIDATE,
    WIDE,
    Setup,
    view_of,
)
from gatekeeper_py.controller.fastpath.reconcile import CHECK_SECONDS
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS
from gatekeeper_py.core.names import FAST_PATH_CONDITION

Event = Callable[[Setup], object]

arm, recover, restart = Setup.arm, Setup.recover, Setup.start

NOTHING: Final = HEAD + "allow: ['foo:443/']\n"
"""A policy that pre-approves nothing."""

TEXTS: Final = {"wide": WIDE, "tight": TIGHT, "other": OTHER, "none": NOTHING}


def deliver(text: str, mode: str | None = None, *, stored: bool = True) -> Event:
    return lambda setup: setup.arrive(text, mode, stored=stored)


def store(text: str) -> Event:
    return lambda setup: setup.store(text)


def wait(seconds: float, *, seen: bool = True) -> Event:
    """Let time pass, at the end of which the watch of the policy is alive."""

    def pass_by(setup: Setup) -> None:
        setup.clock += seconds
        if seen:
            setup.controller.seen()

    return pass_by


def refuse(status: int = 500, path: str = "", *, part: str = "") -> Event:
    """Let writes fail, of configurations with a path and a part."""
    return lambda setup: setup.refuse(status, path, part=part)


def forbid(status: int) -> Event:
    return refuse(status, part=FAST_PATH_CONDITION)


def hide_configmap(setup: Setup) -> None:
    setup.cluster.fail = lambda _verb, path: path == POLICY


def skip_everything(setup: Setup) -> None:
    """Overwrite a condition, and report that."""
    setup.cluster.edit(
        VALIDATE.path, lambda live: live["webhooks"][0]["matchConditions"][-1].update(expression="false")
    )


def strip(setup: Setup) -> None:
    """Remove a condition."""
    live = setup.cluster.objects[VALIDATE.path]
    setup.cluster.put(VALIDATE.path, {**live, **VALIDATE.document(b"authority", OWNER)})


def check(setup: Setup) -> None:
    setup.controller.check()


def expect(setup: Setup) -> None:
    setup.controller.expect()


def disarm(setup: Setup) -> None:
    for each in (VALIDATE, MUTATE):
        del setup.cluster.objects[each.path]


def no_mutation(setup: Setup) -> None:
    """Remove the mutating configuration, as the controller does if the policy rewrites nothing."""
    setup.expected = (VALIDATE,)
    del setup.cluster.objects[MUTATE.path]


def mutation(setup: Setup) -> None:
    setup.expected = (VALIDATE, MUTATE)
    setup.cluster.put(MUTATE.path, MUTATE.document(b"ca", OWNER))


def call_nothing(setup: Setup) -> None:
    """Let API servers skip the webhook for each probe Pod."""
    setup.probe_result = lambda _image: "403 exceeded quota"


ROWS: Final[dict[str, tuple[Event | str, ...]]] = {
    "nothing": ("wide, in step",),
    "tightening": (deliver(TIGHT), "tight, 2 written, probed b.io, tightened in 0"),
    "write-fails": (
        refuse(500, VALIDATE.path), deliver(TIGHT), "wide tight, 1 written, 1 failed, next 0.1", recover,
        wait(0.1), "tight, 1 written, probed b.io, tightened in 0.1",
    ),
    "writes-fail": (
        refuse(), deliver(TIGHT), "wide, 1 failed, next 0.1", "wide, 1 failed, next 0",
        "wide, 1 failed, next 0.4", "wide, 1 failed, next 0.8", "wide, 1 failed, next 1.6",
        "wide, 1 failed, next 3.2", "wide, 1 failed, next 5", "wide, 1 failed, next 5",
        "wide, 1 failed, next 5",
    ),
    "probe-fails": (
        call_nothing, deliver(TIGHT), "tight, 2 written, probed b.io, next 0.02", wait(0.02),
        "tight, probed b.io, next 0.04", recover, wait(0.02),
        "tight, probed b.io, tightened in 0.04, next 59.96",
    ),
    "loosening": (
        deliver(TIGHT), "tight, 2 written, probed b.io, tightened in 0", wait(60), deliver(WIDE),
        "tight, next 1", wait(1), "wide, 2 written, loosened in 1",
    ),
    "loosening-soon": (
        deliver(TIGHT), "tight, 2 written, probed b.io, tightened in 0", deliver(WIDE), "tight, next 5",
        wait(1), "tight, next 4", wait(4), "wide, 2 written, loosened in 5",
    ),
    "other-images": (deliver(OTHER), "other, 2 written, probed a.io, tightened in 0"),
    "new-mode": (deliver(WIDE, "warn"), "wide, loosened in 0"),
    "not-armed": (
        disarm, restart, deliver(WIDE), "missing, next 1", wait(2), "missing, next 2", arm, wait(5),
        "wide, 2 written, loosened in 7",
    ),
    "no-mutation": (
        no_mutation, restart, deliver(WIDE), "wide missing, loosened in 0", wait(60), "wide missing, in step",
        mutation, check, "wide, 1 written, loosened in 0",
    ),
    "removed-by-a-pass": (strip, check, "wide, 1 written, loosened in 0", strip, check, "none wide, next 5"),
    "foreign-condition": (
        skip_everything, check, "wide, 1 written, loosened in 0", skip_everything, check,
        "foreign wide, next 0", "none, 2 written, another controller writes match, next 5", wait(5),
        "wide, 2 written, loosened in 5",
    ),
    "unreported-foreign-condition": (
        "wide, in step", skip_everything, wait(59), "foreign wide, in step, next 1", wait(1),
        "wide, 1 written, loosened in 0",
    ),
    "checks": (wait(60), "wide, in step", wait(60), "wide, in step"),
    "not-parsed-yet": (expect, "wide", deliver(WIDE), "wide, loosened in 0"),
    "restarted": (restart, "none, 2 written, the policy is not, next 3600"),
    "bad-document": (
        deliver(BAD), "none, 2 written, the document is refused:, next 3600", deliver(BAD), "none, next 3600",
    ),
    "not-yaml": (deliver("}"), "none, 2 written, the document is refused:, next 3600"),
    "bad-mode": (deliver(WIDE, "strict"), "none, 2 written, the document is refused:, next 3600"),
    "gone": (
        deliver(GONE), "none, 2 written, ConfigMap was deleted, next 3600", deliver(GONE), "none, next 3600",
        deliver(WIDE), "none, next 5",
    ),
    "nothing-pre-approved": (deliver(NOTHING), "none, 2 written, probed a.io, tightened in 0, next 90"),
    "unseen": (
        wait(89, seen=False), "wide, in step, next 1", wait(1.1, seen=False),
        "none, 2 written, the policy was not, next 3600", wait(0), "none, next 5",
    ),
    "seen": (wait(89), "wide, in step", wait(89), "wide, in step"),
    "newer-configmap": (
        store(TIGHT), deliver(OTHER, stored=False), "wide, next 0",
        "none, 2 written, the ConfigMap does not, next 1", wait(1), "none, next 4", "none, next 4",
    ),
    "configmap-is-gone": (
        store(GONE), deliver(OTHER, stored=False), "wide, next 0",
        "none, 2 written, the ConfigMap does not, next 1",
    ),
    "unreadable-configmap": (
        hide_configmap, deliver(TIGHT), "wide, next 0",
        "none, 2 written, the ConfigMap does not, next 1",
    ),
    "unreadable-configmap-as-wide": (
        hide_configmap, deliver(WIDE + " # as wide\n"), "wide, next 1", wait(5), "wide, next 0",
        "none, 2 written, the ConfigMap does not, next 1",
    ),
    "unreported-policy": (
        "wide, in step", store(TIGHT), wait(59), "wide, in step, next 1", wait(1), "wide, next 0",
        "none, 2 written, the ConfigMap does not, next 1",
    ),
    "refused-400": (
        forbid(400), deliver(OTHER), "wide, 1 refused, next 0", "none, 2 written, the API server refuses",
        wait(59), "none, next 1", wait(1), "none, 1 refused, next 0", "none, next 120",
    ),
    "refused-422": (
        forbid(422), deliver(OTHER), "wide, 1 refused, next 0", "none, 2 written, the API server refuses",
    ),
    "forbidden": (
        forbid(403), deliver(TIGHT), "wide, 1 failed, next 0",
        "none, 2 written, the expression cannot be, next 5", wait(5), "none, 1 failed, next 0",
        "none, next 10", wait(10), "none, 1 failed, next 0",
    ),
    "server-error": (
        forbid(500), deliver(TIGHT), "wide, 1 failed, next 0.1", wait(0.1), "wide, 1 failed, next 0",
        "none, 2 written, the expression cannot be, next 5",
    ),
    "too-large": (
        forbid(413), deliver(TIGHT), "wide, 1 failed, next 0",
        "none, 2 written, the expression cannot be, next 5",
    ),
    "unreachable": (
        forbid(0), deliver(TIGHT), "wide, 1 failed, next 0.1", wait(0.1), "wide, 1 failed, next 0",
        "none, 2 written, the expression cannot be, next 5",
    ),
    "conflict": (
        forbid(409), deliver(TIGHT), "wide, 1 failed, next 0.1", "wide, 1 failed, next 0.2",
        "wide, 1 failed, next 0.4", "wide, 1 failed, next 0.8", "wide, 1 failed, next 1.6",
        "wide, 1 failed, next 3.2",
    ),
}  # fmt: skip


async def stepped(setup: Setup) -> str:
    """Run a step, and return what it did."""
    recorder = setup.recorder
    for notes in (recorder.writes, recorder.synced, setup.probed, setup.log.lines):
        notes.clear()
    pause = await setup.controller.step()
    assert recorder.in_step or not recorder.synced
    conditions = " ".join(dict.fromkeys(setup.conditions()))
    if setup.log.named("fastpath_disabled"):
        assert setup.controller.conditions == NO_CONDITIONS
    elif recorder.in_step and conditions in TEXTS:
        assert setup.controller.conditions == view_of(TEXTS[conditions]).conditions
        assert recorder.rules == view_of(TEXTS[conditions]).rules
    parts = [conditions]
    parts += [f"{number} {result}" for result, number in Counter(recorder.writes).items()]
    parts += [f"probed {image.partition('/')[0]}" for image in setup.probed]
    parts += [" ".join(line["reason"].split()[:4]) for line in setup.log.named("fastpath_disabled")]
    parts += [f"{change} in {seconds:g}" for change, seconds in recorder.synced]
    parts += ["in step"] if recorder.in_step and not recorder.synced else []
    parts += [] if pause == CHECK_SECONDS else [f"next {round(pause, 2):g}"]
    return ", ".join(parts)


@pytest.mark.parametrize("name", ROWS)
async def test_events_lead_to_the_steps_of_their_row(name: str) -> None:
    setup = Setup()
    await setup.in_step_with_wide()
    for each in ROWS[name]:
        if isinstance(each, str):
            assert await stepped(setup) == each
        else:
            each(setup)
    recover(setup)
    await setup.deliver(WIDE)
    await setup.settle()
    assert (setup.conditions(), setup.recorder.in_step) == (["wide", "wide"], True)
