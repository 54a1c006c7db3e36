"""A tiny admission webhook, to prove that the API server reaches a process through a Service.

Denies objects with the label ``deny: "yes"``. Appends each request to a file, as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open, as the API server expects
    server: _Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        denied = (request["object"]["metadata"].get("labels") or {}).get("deny") == "yes"
        self.server.record(
            {
                "name": request["name"],
                "user_agent": self.headers["User-Agent"],
                "host": self.headers["Host"],
                "server_name": self.server.requested_server_name,
            }
        )
        response: dict[str, Any] = {"uid": request["uid"], "allowed": not denied}
        if denied:
            response["status"] = {"code": 403, "message": f"denied by {self.server.host}"}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingTCPServer):  # HTTPServer would look up its own name in DNS
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], certificate: Path, key: Path, records: Path) -> None:
        super().__init__(address, _Handler)
        self.host = address[0]
        self.requested_server_name: str | None = None
        self._records = records
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.sni_callback = self._remember_server_name
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def record(self, entry: dict[str, Any]) -> None:
        with self._records.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")

    def _remember_server_name(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.requested_server_name = name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    arguments = parser.parse_args()
    address = (arguments.address, arguments.port)
    _Server(address, arguments.certificate, arguments.key, arguments.records).serve_forever()


if __name__ == "__main__":
    main()
