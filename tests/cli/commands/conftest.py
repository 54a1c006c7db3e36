"""The fixtures that run commands."""

from __future__ import annotations

from commanding import command, reading, write

__all__ = ["command", "reading", "write"]
