"""Changes of an installation in memory, for tables of tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from controller.world import VALIDATING, World
from gatekeeper_py.controller.configurations import Wanted


class Site(Protocol):
    """An installation, and what its controller wants."""

    world: World
    wanted: Wanted


Change = Callable[[Site], object]


def edit(change: Callable[[dict[str, Any]], object], *paths: str) -> Change:
    """Edit objects, by default the validating configuration."""

    def each(site: Site) -> None:
        for path in paths or (VALIDATING,):
            site.world.cluster.edit(path, change)

    return each


def pods(**fields: Any) -> Change:
    """Set fields of the validating webhook for Pods."""
    return edit(lambda it: it["webhooks"][0].update(fields))


def extend(*fields: str, by: Any) -> Change:
    """Append to a list within the validating webhook for Pods."""

    def add(live: dict[str, Any]) -> None:
        found = live["webhooks"][0]
        for field in fields:
            found = found[field]
        found.append(by)

    return edit(add)


def delete(*paths: str) -> Change:
    return lambda site: [site.world.cluster.objects.pop(path) for path in paths]


def become(*which: int, **states: bool) -> Change:
    """Change replicas, by default all."""

    def change(site: Site) -> None:
        for at in which or range(len(site.world.replicas)):
            vars(site.world.replicas[at]).update(states)
        site.world.announce()

    return change


def want(**changes: Any) -> Change:
    return lambda site: setattr(site, "wanted", replace(site.wanted, **changes))


def later(span: timedelta) -> Change:
    return lambda site: setattr(site.world, "now", site.world.now + span)


def pause(until: str | None) -> Change:
    return lambda site: site.world.pause(until)
