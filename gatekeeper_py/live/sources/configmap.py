"""Follow a ConfigMap with a policy by its name. During a failure, the last good policy stays in use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gatekeeper_py.cluster.session import Session
from gatekeeper_py.cluster.watch import ListWatch, Seen, Timing, WatchError, version_of
from gatekeeper_py.core.policy.configmap import read_configmap
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.settings import ConfigMapName


class ConfigMapSource:
    """Delivers the content of a ConfigMap after the first list, and then whenever the content changes.

    ``connect`` and ``timing`` are those of ``ListWatch``. ``on_synced`` is called after each list, event and
    bookmark.
    """

    def __init__(
        self,
        name: ConfigMapName,
        connect: Callable[[], Awaitable[Session]],
        *,
        log: Log,
        on_synced: Callable[[], None] = lambda: None,
        timing: Timing | None = None,
    ) -> None:
        self._name = name
        self._log = log
        self._on_synced = on_synced
        self._watch = ListWatch(
            connect,
            f"/api/v1/namespaces/{quote(name.namespace, safe='')}/configmaps",
            {"fieldSelector": f"metadata.name={name.name}"},
            read=self._read,
            on_failed=self._failed,
            timing=timing,
        )
        self.connect = self._watch.connect
        self.close = self._watch.close

    async def deliveries(self) -> AsyncGenerator[Delivery]:
        """Yield each change of text, mode or problem, for ever.

        Other changes, such as of labels, only update the version that the next watch starts from.
        """
        last: Delivery | None = None
        async with aclosing(self._watch.results()) as deliveries:
            async for delivery in deliveries:
                if last is None or not delivery.same_state(last):
                    last = delivery
                    yield delivery

    def _read(self, seen: Seen) -> Delivery | None:
        """Return the state of the ConfigMap; ``None`` for a bookmark, or an event of another object."""
        found = next((each for each in seen.objects if self._is_named(each)), None)
        delivery = None if found is None else self._delivery(found, seen)
        if seen.kind == "LISTED":
            self._log.info("policy_source_synced", source=str(self._name), resource_version=seen.version)
            if found is None:
                # The API server answers a list with a field selector with an empty list, not with a 404, if
                # the object does not exist.
                delivery = self._absent(seen, "does not exist")
        self._on_synced()
        return delivery

    def _is_named(self, item: dict[str, Any]) -> bool:
        """Return whether an object is the ConfigMap of that name.

        The field selector already asks for the name. It is checked here as well, so that neither a proxy nor
        a server can deliver another policy.
        """
        metadata = item.get("metadata")
        return (
            isinstance(metadata, dict)
            and metadata.get("name") == self._name.name
            and metadata.get("namespace") == self._name.namespace
        )

    def _delivery(self, item: dict[str, Any], seen: Seen) -> Delivery:
        if seen.kind == "DELETED":
            return self._absent(seen, "was deleted")
        found = read_configmap(item.get("data"), item.get("binaryData"))
        return Delivery(
            text=found.text,
            mode=found.mode,
            resource_version=version_of(item, "a ConfigMap"),
            problem="" if not found.findings else f"ConfigMap {self._name}: {found.findings[0]}",
            findings=found.findings,
        )

    def _absent(self, seen: Seen, reason: str) -> Delivery:
        problem = f"ConfigMap {self._name} {reason}"
        return Delivery(text=None, resource_version=seen.version, problem=problem)

    def _failed(self, error: WatchError, pause: float) -> None:
        problem = str(error)
        if error.status == HTTPStatus.FORBIDDEN:
            problem += ": does the Role allow get, list and watch of this ConfigMap?"
        keys = {"source": str(self._name), "problem": problem, "retry_seconds": round(pause, 2)}
        if error.bug is not None:
            self._log.error("policy_source_failed", **keys, exc_info=error.bug)
        else:
            self._log.warning("policy_source_failed", **keys)
