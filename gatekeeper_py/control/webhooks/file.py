"""The settings file, polled by content.

It is a key of a mounted ConfigMap. The kubelet replaces such a file by swapping a symlink, which inotify
misses, so the file is read each second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gatekeeper_py.control.webhooks.settings import (
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
)
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.runtime.logs import Log

POLL_SECONDS: Final = 1.0

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
        self._content: bytes | str | None = None

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
        if isinstance(content, str):
            self._refuse(content, [])
        else:
            self._parse(content)
        self._on_changed()

    def _parse(self, content: bytes) -> None:
        try:
            settings = parse_settings(content.decode("utf-8-sig"))
        except UnicodeDecodeError as problem:
            self._refuse(f"not UTF-8 at byte {problem.start}", [])
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


def _read(path: Path) -> bytes | str:
    """Return the content of a file as bytes, or as text the reason why it cannot be used."""
    try:
        others = _other_keys(path)
        if others:
            shown = ", ".join(others[:MAX_NAMED_FILES])
            return f"the only key of the ConfigMap is {path.name}, but it also has {shown}"
        with path.open("rb") as file:
            content = file.read(MAX_CONFIGMAP_BYTES + 1)
    except OSError as problem:
        return problem.strerror or type(problem).__name__
    return content if len(content) <= MAX_CONFIGMAP_BYTES else f"larger than {MAX_CONFIGMAP_BYTES:,} bytes"


def _other_keys(path: Path) -> list[str]:
    """Return the other keys of the mounted ConfigMap; none if the file is not in such a volume.

    Without this check, the controller would silently ignore the exemptions under a misnamed key.
    """
    try:
        keys = [each.name for each in (path.parent / VOLUME_LINK).iterdir()]
    except FileNotFoundError:
        return []
    return sorted(set(keys) - {path.name})
