"""The objects of an installation, as their watches last showed them.

A watch may lag, so nothing is written because of what it shows: see ``Passes.run``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.cluster.watch import ListWatch, Seen, Timing, WatchError

TIMING: Final = Timing(first_pause=2.0, longest_pause=3.0)
"""After a failure, the controller lists an object again in 2 to 3 s. The pass that runs each minute handles
changes that it missed in the meantime."""


class Watched(NamedTuple):
    """What one watch follows: an object by its name, or a list.

    ``path`` is that of the object or of the list, and ``query`` selects it within the ``collection``.
    """

    path: str
    collection: str
    query: dict[str, str]
    is_list: bool = False


def named(path: str) -> Watched:
    """Return the watch of one object."""
    collection, _, name = path.rpartition("/")
    return Watched(path, collection, {"fieldSelector": f"metadata.name={name}"})


class Store:
    """Follows objects, and calls ``on_changed`` after each change and each failure of a watch.

    ``get`` asks the API server for what no watch shows at this moment.
    """

    def __init__(
        self,
        api: KubernetesApi,
        connect: Callable[[], Awaitable[Session]],
        watched: Iterable[Watched],
        *,
        on_changed: Callable[[], None],
        timing: Timing = TIMING,
    ) -> None:
        self._api = api
        self._connect = connect
        self._watched = {each.path: each for each in watched}
        self._on_changed = on_changed
        self._timing = timing
        self._shown: dict[str, dict[str, dict[str, Any]]] = {}
        """Path -> name -> object. The path is missing while its watch is not in step."""

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return an object or a list, ``None`` if it does not exist. Callers must not change it."""
        shown = self._shown.get(path)
        if shown is None:
            return await self._api.get(path)
        items = list(shown.values())
        if self._watched[path].is_list:
            return {"items": items}
        return items[0] if items else None

    async def run(self) -> None:
        """Follow the objects until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in self._watched.values():
                group.create_task(self._follow(each))

    async def _follow(self, watched: Watched) -> None:
        def failed(_error: WatchError, _pause: float) -> None:
            self._shown.pop(watched.path, None)
            # A pass starts: if the API server fails, the pass logs the reason.
            self._on_changed()

        watch = ListWatch(
            self._connect,
            watched.collection,
            watched.query,
            read=lambda seen: None if seen.kind == "BOOKMARK" else seen,
            on_failed=failed,
            timing=self._timing,
        )
        async with aclosing(watch.results()) as changes:
            async for seen in changes:
                self._show(watched, seen)
                self._on_changed()

    def _show(self, watched: Watched, seen: Seen) -> None:
        # Check the name again, because a proxy may ignore the query.
        found = {
            name: each
            for each in seen.objects
            if isinstance(metadata := each.get("metadata"), dict)
            and isinstance(name := metadata.get("name"), str)
            and (watched.is_list or watched.path.endswith(f"/{name}"))
        }
        shown = self._shown.get(watched.path, {})
        if seen.kind == "LISTED":
            self._shown[watched.path] = found
        elif seen.kind == "DELETED":
            self._shown[watched.path] = {name: each for name, each in shown.items() if name not in found}
        else:
            self._shown[watched.path] = shown | found
