"""The exceptions are counted by state, and their ends are shown and logged."""

from __future__ import annotations

from datetime import UTC, datetime

from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from live.exceptions.world import IMAGE, World, document


async def test_entries_are_counted_by_state(world: World) -> None:
    text = (
        document(IMAGE, "docker.io/x")
        + document("ghcr.io/b", until="2026-02-01").partition("exceptions:\n")[2]
    )
    text += document("ghcr.io/c", until="2027-01-01").partition("exceptions:\n")[2]
    await world.load(text)
    await world.keeper.entries.count()
    states = {state: count for (source, state), count in world.keeper.entries.counts.items() if count}
    assert states == {"live": 1, "outside": 1, "expired": 1, "early": 1}
    assert world.keeper.entries.next_end == datetime.fromisoformat("2026-03-05T00:00:00Z")


async def test_an_end_is_shown_before_and_after_and_logged_once(world: World) -> None:
    later = document("ghcr.io/b", until="2026-03-06").partition("exceptions:\n")[2]
    await world.deliver(document(IMAGE, "ghcr.io/a") + later)
    await world.load(document("quay.io/x"), DocumentKey("installation", "gatekeeper-py"))
    own = "quay.io/x (gatekeeper-py/gatekeeper-py-exceptions)"
    for now, ending, ended, logged in (
        ("2026-03-01", [], [], []),
        ("2026-03-04", [own, f"{IMAGE} (team-a/gatekeeper-py-exceptions, 2 more)"], [], []),
        (
            "2026-03-05",
            ["ghcr.io/b (team-a/gatekeeper-py-exceptions)"],
            [own, f"{IMAGE} (team-a/gatekeeper-py-exceptions, 1 more)"],
            [own, f"{IMAGE} (team-a/gatekeeper-py-exceptions, 1 more)"],
        ),
        (
            "2026-03-05T00:01:00",
            ["ghcr.io/b (team-a/gatekeeper-py-exceptions)"],
            [own, f"{IMAGE} (team-a/gatekeeper-py-exceptions, 1 more)"],
            [],
        ),
        (
            "2026-03-07",
            [],
            [own, "ghcr.io/b (team-a/gatekeeper-py-exceptions, 2 more)"],
            ["ghcr.io/b (team-a/gatekeeper-py-exceptions)"],
        ),
        ("2026-05-01", [], [], []),
    ):
        world.now = datetime.fromisoformat(now).replace(tzinfo=UTC)
        world.log.lines.clear()
        await world.keeper.entries.count()
        found = (*world.keeper.entries.ends.values(), world.log.named("exceptions_ended"))
        assert [[each["entry"] for each in shown] for shown in found] == [ending, ended, logged]


async def test_an_end_before_the_first_count_is_not_logged(world: World) -> None:
    await world.load(document(IMAGE, until="2026-02-20"))
    await world.keeper.entries.count()
    assert len(world.keeper.entries.ends["ended"]) == 1
    assert not world.log.named("exceptions_ended")


async def test_ends_that_come_together_take_ten_lines_and_those_of_the_installation_come_first(
    world: World,
) -> None:
    for number in range(20):
        await world.deliver(document(IMAGE), DocumentKey("namespace", f"team-{number}"))
    await world.load(document("quay.io/x"), DocumentKey("installation", "gatekeeper-py"))
    await world.keeper.entries.count()
    world.now = datetime(2026, 3, 5, 1, tzinfo=UTC)
    await world.keeper.entries.count()
    logged = world.log.named("exceptions_ended")
    assert len(logged) == 10
    assert logged[0]["entry"] == "quay.io/x (gatekeeper-py/gatekeeper-py-exceptions)"
    assert {each["suppressed"] for each in logged} == {11}
