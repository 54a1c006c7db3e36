"""A registry on a socket."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Final

from registries.signing import Signer, contents, signed
from support.httpserving import serving

DIGEST: Final = "sha256:" + "7c" * 32
OTHER: Final = "sha256:" + "8d" * 32


def _signatures() -> dict[str, bytes]:
    """Return the signatures of ``DIGEST`` by one key and of ``OTHER`` by another, by their paths."""
    images = signed(DIGEST, Signer("p256")), signed(OTHER, Signer("p256-b"), simple=True)
    return {f"/v2/team/app/{path}": content for image in images for path, content in contents(image).items()}


@dataclass
class FakeRegistry:
    """A registry with the tag ``good`` of every repository, which is ``DIGEST``. It fails for ``broken``.

    ``team/app`` has signatures. The registry requires ``credentials`` if they are set.
    """

    host: str = ""
    credentials: str = ""
    queried: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[FakeRegistry]:
        registry, signatures = self, _signatures()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                registry.queried.append(self.path)
                code = {"good": 200, DIGEST: 200, "broken": 500}.get(self.path.rpartition("/")[2], 404)
                token = base64.b64encode(registry.credentials.encode()).decode()
                if registry.credentials and self.headers.get("Authorization") != f"Basic {token}":
                    code = 401
                self.send_response(code)
                if code == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="here"')
                if code == 200:
                    self.send_header("Docker-Content-Digest", DIGEST)
                    self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                content = signatures.get(self.path)
                if content is None:
                    self.do_HEAD()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        with serving(Handler) as self.host:
            yield self
