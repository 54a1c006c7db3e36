"""The bodies of all scenarios, by name, as template files of the generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import bodies
from benchmarks.bodies import IMAGE, MARKED, UID
from benchmarks.policies import FIRST, UNLISTED

KB: Final = 1000
APPROVED: Final = (FIRST % 1, FIRST % 2, FIRST % 3)
REFUSED: Final = (UNLISTED % 1, UNLISTED % 2, UNLISTED % 3)


def _pod(size: int) -> bytes:
    return bodies.pod_review(size=size, images=MARKED, uid=UID)


BODIES: Final[dict[str, Callable[[], bytes]]] = {
    "pod-2k": lambda: _pod(2300),
    "pod-7k": lambda: _pod(7 * KB),
    "pod-33k": lambda: _pod(33 * KB),
    "pod-1m": lambda: _pod(1 << 20),
    "deployment-7k": lambda: bodies.deployment_review(size=7 * KB, images=MARKED, uid=UID),
    "ephemeral-7k": lambda: bodies.ephemeral_review(size=7 * KB, debugger=IMAGE, images=APPROVED, uid=UID),
    "update-7k": lambda: bodies.pod_update(size=7 * KB, images=APPROVED, uid=UID),
    "image-update-7k": lambda: bodies.image_update(size=7 * KB, old=FIRST % 0, images=MARKED, uid=UID),
    "approved-7k": lambda: bodies.pod_review(size=7 * KB, images=APPROVED, uid=UID),
    "refused-7k": lambda: bodies.pod_review(size=7 * KB, images=REFUSED, uid=UID),
    "no-json-7k": lambda: b"x" + _pod(7 * KB)[1:],
    "empty": lambda: b"",
}


class BodyFiles:
    """Writes each body once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sizes: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """Return the path of the body. Raises ``KeyError`` for an unknown name."""
        file = self._folder / f"{name}.json"
        if name not in self.sizes:
            content = BODIES[name]()
            self.sizes[name] = len(content)
            file.write_bytes(content)
        return file
