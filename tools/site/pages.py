"""The built site, in its folder and on a loopback port."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).parents[2] / ".build" / "site"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # A browser may close its connection early. A page that was not served completely has its own errors.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def built() -> list[str]:
    """Return the path of every page of the built site. Raises FileNotFoundError when it was not built."""
    if not (SITE / "index.html").exists():
        raise FileNotFoundError("the site is not built: run make docs")
    return sorted(str(page.relative_to(SITE)) for page in SITE.rglob("*.html"))


@contextmanager
def served() -> Iterator[str]:
    """Serve the built site, and yield its address without a slash at the end."""
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
