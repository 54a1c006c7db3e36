"""The fixtures that run commands."""

from __future__ import annotations

from support.commanding import command, reading, write

__all__ = ["command", "reading", "write"]
