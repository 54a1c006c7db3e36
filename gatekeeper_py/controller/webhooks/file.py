"""The settings file, polled by content.

It is a key of a mounted ConfigMap. The kubelet replaces such a file by swapping a symlink, which inotify
misses, so the file is read each second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gatekeeper_py.controller.webhooks.settings import (
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
)
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.live.sources.file import POLL_SECONDS, read_text
from gatekeeper_py.process.logs import Log

VOLUME_LINK: Final = "..data"
"""The kubelet's link, in the directory of a mounted ConfigMap, to the directory that holds all its keys."""

MAX_NAMED_FILES: Final = 5


class SettingsFile:
    """Keeps ``settings`` up to date with a file; ``None`` until the first good content.

    Without a path the settings are always the defaults. ``problem`` is set while the file is not acceptable;
    the last good settings then stay in force. ``on_changed`` is called after each change.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        log: Log,
        on_changed: Callable[[], object] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings: WebhookSettings | None = WebhookSettings() if path is None else None
        self.problem = ""
        self._path = path
        self._log = log
        self._on_changed = on_changed
        self._sleep = sleep
        self._content: tuple[str | None, str] | None = None
        """What ``_read`` returned last."""

    async def run(self) -> None:
        """Poll the file until cancelled."""
        while True:
            await self.load()
            await self._sleep(POLL_SECONDS)

    async def load(self) -> None:
        """Read the file now, and load its content if it has changed."""
        if self._path is None:
            return
        content = await asyncio.to_thread(_read, self._path)
        if content == self._content:
            return
        self._content = content
        text, unread = content
        if text is None:
            self._refuse(unread, [])
        else:
            self._parse(text)
        self._on_changed()

    def _parse(self, text: str) -> None:
        try:
            settings = parse_settings(text)
        except InvalidWebhookSettings as problem:
            findings = [f"{finding.code}: {finding}" for finding in problem.findings[:20]]
            self._refuse(str(problem.findings[0]), findings)
        else:
            self.settings, self.problem = settings, ""
            self._log.info(
                "webhook_settings_loaded",
                path=str(self._path),
                exempt_namespaces=list(settings.exempt_namespaces),
                exempt_namespace_labels=[f"{key}={value}" for key, value in settings.exempt_namespace_labels],
            )

    def _refuse(self, problem: str, findings: list[str]) -> None:
        self.problem = f"{self._path}: {problem}"
        keys = {"path": str(self._path), "problem": problem, "findings": findings}
        self._log.error("webhook_settings_refused", **keys, last_good_stays=self.settings is not None)


def _read(path: Path) -> tuple[str | None, str]:
    """Return the text of the file, or ``None`` and why it cannot be used."""
    try:
        others = _other_keys(path)
    except OSError as problem:
        return None, problem.strerror or type(problem).__name__
    if others:
        shown = ", ".join(others[:MAX_NAMED_FILES])
        return None, f"the only key of the ConfigMap is {path.name}, but it also has {shown}"
    return read_text(path, MAX_CONFIGMAP_BYTES)


def _other_keys(path: Path) -> list[str]:
    """Return the other keys of the mounted ConfigMap; none if the file is not in such a volume.

    Without this check, the controller would silently ignore the exemptions under a misnamed key.
    """
    try:
        keys = [each.name for each in (path.parent / VOLUME_LINK).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(set(keys) - {path.name})
