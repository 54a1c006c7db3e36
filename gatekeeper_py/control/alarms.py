"""Alarms: conditions that need attention, logged when they begin and when they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol, get_args

from gatekeeper_py.runtime.logs import Log

Alarm = Literal["service", "deployment", "endpoints", "secret", "settings", "pause", "selector", "policy"]
ALARMS: Final[tuple[Alarm, ...]] = get_args(Alarm)


class Observer(Protocol):
    """Receives the state of each alarm, for metrics."""

    def alarm(self, what: Alarm, *, active: bool) -> None: ...


class Alarms:
    """The state of every alarm. Call ``update`` after each check of the conditions."""

    def __init__(self, observer: Observer, log: Log) -> None:
        self._observer = observer
        self._log = log
        self._active: dict[Alarm, str] = {}
        for what in ALARMS:
            observer.alarm(what, active=False)

    def update(self, problems: Mapping[Alarm, str]) -> None:
        """Set the problems of some alarms; an empty text ends an alarm. Other alarms do not change."""
        for what, problem in problems.items():
            was_active = what in self._active
            if problem:
                self._active[what] = problem
                if not was_active:
                    self._log.warning("alarm", what=what, problem=problem[:500])
            elif was_active:
                del self._active[what]
                self._log.info("alarm_ended", what=what)
            self._observer.alarm(what, active=bool(problem))
