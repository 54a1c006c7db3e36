"""Read kubeconfigs with kubernetes-asyncio, and choose the context as kubectl does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gatekeeper_py.cluster.library import Library
from gatekeeper_py.process.settings import SettingsError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration


async def load(
    library: Library, paths: tuple[Path, ...], context: str | None, configuration: Configuration
) -> str | None:
    """Load kubeconfigs into ``configuration``, with ``context`` or else the current context.

    Returns the name of the context. Raises ``SettingsError``, and the library's own errors for a document
    that is not a kubeconfig.
    """
    try:
        if context is not None and not _has_context(paths, context):
            raise SettingsError(f"no context {context!r}")
        used = context or _current_context(paths)
        await library.load(
            config_file=os.pathsep.join(map(str, paths)), context=used, client_configuration=configuration
        )
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = "" if mark is None else f" at line {mark.line + 1}"
        raise SettingsError(f"not YAML{where}") from None
    except yaml.YAMLError as problem:
        # Do not use the error's text, which may quote the file.
        raise SettingsError(type(problem).__name__) from None
    return used


def _current_context(paths: tuple[Path, ...]) -> str | None:
    """Return the current context of the first file that has one, as kubectl does.

    The library would use that of the last file.
    """
    for path in paths:
        document = _read(path)
        context = document.get("current-context") if isinstance(document, dict) else None
        if context:
            return str(context)
    return None


def _has_context(paths: tuple[Path, ...], name: str) -> bool:
    for path in paths:
        document = _read(path)
        contexts = document.get("contexts") if isinstance(document, dict) else None
        entries = contexts if isinstance(contexts, list) else []
        if any(isinstance(entry, dict) and entry.get("name") == name for entry in entries):
            return True
    return False


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_bytes())
