"""Other processes, as /proc shows them."""

from __future__ import annotations

from pathlib import Path


def runs(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Return the IDs of the processes that the main thread of a process started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
