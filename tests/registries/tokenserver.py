"""Run a token server for registries with ``auth: token`` in a separate process.

``python tokenserver.py FOLDER`` serves https on any port of localhost with the certificate and the key in
FOLDER, and signs tokens (ES256) with a key whose certificate stands in each token (``x5c``). It reads
``settings.json`` again for each request and appends the request to ``requests``. Source: distribution's
token specification, https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

SERVICE, ISSUER = "registry.test", "token-server.test"
PUSHER: Final = "pusher"
"""The user of pushes by the tests, which sign these tokens themselves."""

START_SECONDS: Final = 30.0


@dataclass
class TokenServer:
    """The running process and its folder. ``host`` is what ``tokenHosts`` must list."""

    folder: Path
    process: subprocess.Popen[bytes]
    host: str

    @property
    def realm(self) -> str:
        return f"https://{self.host}/token"

    def use(self, **settings: Any) -> None:
        """Replace ``settings.json``.

        ``users`` maps a name to ``{"password", "repositories"}``. ``anonymous`` lists the repositories that
        need no user. ``seconds`` is the lifetime that the server states. ``left`` is the time in seconds
        until a token expires, and may be negative.
        """
        fresh = self.folder / "settings.json.new"
        fresh.write_text(json.dumps(settings), encoding="utf-8")
        fresh.rename(self.folder / "settings.json")

    def token_requests(self) -> list[tuple[str, str]]:
        """Return the user (empty for none) and the scopes of every request."""
        lines = (self.folder / "requests").read_text(encoding="utf-8").splitlines()
        return [(user, scopes) for user, scopes in map(json.loads, lines)]

    def sign(self, user: str, repository: str, *actions: str, left: float) -> str:
        """Return a token that the server could have issued."""
        return Signer(self.folder).token(user, [_access(repository, [*actions])], left=left)

    def authorization(self, repository: str) -> str:
        """Return the Authorization header for pushing to a repository."""
        return f"Bearer {self.sign(PUSHER, repository, 'pull', 'push', 'delete', left=300)}"

    def auth(self) -> dict[str, Any]:
        """Return the ``auth`` of the configuration of a registry that trusts this server."""
        bundle = str(self.folder / "signing.pem")
        return {
            "token": {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
        }

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start_token_server(folder: Path, ca: trustme.CA) -> TokenServer:
    """Start a server that accepts no user yet, and wait until it listens."""
    folder.mkdir()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    signing = ca.issue_cert("token-signing.test")
    signing.private_key_pem.write_to_path(folder / "signing-key.pem")
    # Registries trust this one certificate, not all that the CA has signed.
    signing.cert_chain_pems[0].write_to_path(folder / "signing.pem")
    (folder / "requests").touch()
    (folder / "settings.json").write_text("{}", encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, __file__, str(folder)], stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS
    while not (folder / "port").exists():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
    return TokenServer(folder, process, f"localhost:{(folder / 'port').read_text()}")


class Signer:
    """Makes tokens that registries verify by the certificate in them."""

    def __init__(self, folder: Path) -> None:
        key = load_pem_private_key((folder / "signing-key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        self._key = key
        certificate = x509.load_pem_x509_certificate((folder / "signing.pem").read_bytes())
        chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
        self._header = _part({"typ": "JWT", "alg": "ES256", "x5c": chain})

    def token(self, user: str, access: Iterable[dict[str, Any]], *, left: float) -> str:
        """Return a token that expires in ``left`` seconds."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": int(now + left),
            "nbf": now - 600,
            "iat": now - 600,
            "jti": os.urandom(8).hex(),
            "access": list(access),
        }
        signed = f"{self._header}.{_part(claims)}"
        # A JWS holds the two numbers of the signature, 32 bytes each, and not their DER form (RFC 7518, 3.4).
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_coded(r.to_bytes(32) + s.to_bytes(32))}"


def _part(document: Any) -> str:
    return _coded(json.dumps(document).encode())


def _coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _access(repository: str, actions: list[str]) -> dict[str, Any]:
    return {"type": "repository", "name": repository, "actions": actions}


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET /token``."""

    protocol_version = "HTTP/1.1"
    folder: Path
    signer: Signer

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query = parse_qs(target.query)
        scopes = query.get("scope", [])
        user, password = self._login()
        with (self.folder / "requests").open("a", encoding="utf-8") as requests:
            requests.write(json.dumps([user, " ".join(scopes)]) + "\n")
        settings = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        users = settings.get("users", {})
        if target.path != "/token" or query.get("service") != [SERVICE]:
            self._answer(404, {})
        elif user and (user not in users or users[user]["password"] != password):
            self._answer(401, {"details": "incorrect username or password"})
        else:
            granted = {*settings.get("anonymous", ()), *(users[user]["repositories"] if user else ())}
            seconds = settings.get("seconds", 300)
            access = [_access(name, ["pull"]) for name in map(_pulled, scopes) if name in granted]
            token = self.signer.token(user, access, left=settings.get("left", seconds))
            self._answer(200, {"token": token, "expires_in": seconds})

    def _login(self) -> tuple[str, str]:
        scheme, _, coded = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return "", ""
        user, _, password = base64.b64decode(coded).decode().partition(":")
        return user, password

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing, because ``requests`` holds every request."""


def _pulled(scope: str) -> str:
    """Return the repository of ``repository:NAME:pull``; empty for another scope."""
    kind, _, rest = scope.partition(":")
    name, _, action = rest.rpartition(":")
    return name if (kind, action) == ("repository", "pull") else ""


def serve(folder: Path) -> None:
    Handler.folder, Handler.signer = folder, Signer(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    (folder / "port.new").write_text(str(server.server_address[1]), encoding="utf-8")
    (folder / "port.new").rename(folder / "port")
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
