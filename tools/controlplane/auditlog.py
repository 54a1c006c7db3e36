"""Read the API server's audit log while the API server writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_events(log: Path, *, since: int = 0, containing: str = "") -> list[dict[str, Any]]:
    """Return the complete events of a log, oldest first.

    ``since`` is a size that the log had before; an event that was not complete then is left out.
    ``containing`` leaves out events whose JSON text does not contain it.
    """
    with log.open("rb") as file:
        file.seek(max(since - 1, 0))
        text = file.read()
    if since:
        # Skip the rest of an event that was half written at ``since``, or the line break just before it.
        text = text.partition(b"\n")[2]
    wanted = containing.encode()
    # The last event may be half written now.
    complete = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in complete.splitlines() if wanted in line]
