"""Make TLS 1.3 records (RFC 8446) with messages that no library sends.

A library makes the handshake and reads the requests. This module then encrypts the records to the client with
the key that the library logged.
"""

from __future__ import annotations

import ssl
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from exhaustion.steps import Act, CutOff, Peer

ALERT, HANDSHAKE, DATA = 21, 22, 23
NEW_SESSION_TICKET, CERTIFICATE_REQUEST, KEY_UPDATE = 4, 13, 24
RECORDS_AT_ONCE: Final = 500


class Sealed:
    """The server's side of a connection after the handshake. Requests are read with ``read``."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = peer.context()
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.num_tickets = 0  # so that the first record after the handshake is the first with this key
        with tempfile.NamedTemporaryFile() as keys:
            made.keylog_filename = keys.name
            self._tls = made.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._until_done(self._tls.do_handshake)
            lines = Path(keys.name).read_text().splitlines()
        logged = dict(line.split(" ")[::2] for line in lines if not line.startswith("#"))
        suite = self._tls.cipher()
        assert suite is not None
        self._hash: HashAlgorithm = SHA384() if suite[0].endswith("384") else SHA256()
        self._key_bytes = 32 if "256_GCM" in suite[0] else 16
        self._use(bytes.fromhex(logged["SERVER_TRAFFIC_SECRET_0"]))

    def read(self) -> None:
        """Wait for a request."""
        self._until_done(lambda: self._tls.read(65536))

    def record(self, kind: int, content: bytes) -> bytes:
        """Return the next record."""
        inner = content + bytes([kind])
        header = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self._iv) ^ self._number).to_bytes(12)
        self._number += 1
        return header + self._sealer.encrypt(nonce, inner, header)

    def update(self) -> None:
        """Use the next key, as after a KeyUpdate message."""
        self._use(self._expanded(self._secret, b"traffic upd", self._hash.digest_size))

    def _use(self, secret: bytes) -> None:
        self._secret, self._number = secret, 0
        self._sealer = AESGCM(self._expanded(secret, b"key", self._key_bytes))
        self._iv = self._expanded(secret, b"iv", 12)

    def _expanded(self, secret: bytes, label: bytes, length: int) -> bytes:
        info = struct.pack("!HB", length, len(label) + 6) + b"tls13 " + label + b"\0"
        return HKDFExpand(self._hash, length, info).derive(secret)

    def _until_done(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._peer.send(self._outgoing.read())
                part = self._peer.connection.recv(65536)
                if not part:
                    raise CutOff from None
                self._incoming.write(part)
            else:
                self._peer.send(self._outgoing.read())
                return


def message(kind: int, content: bytes) -> bytes:
    """Return a handshake message."""
    return bytes([kind]) + len(content).to_bytes(3) + content


def ticket(length: int) -> bytes:
    """Return a NewSessionTicket."""
    return message(NEW_SESSION_TICKET, struct.pack("!IIBH", 3600, 0, 0, length) + b"t" * length + b"\0\0")


def sealed(good: bytes, kind: int, content: bytes, *, updates: bool = False) -> Act:
    """Shake hands, answer one request, and send records with this content for ever.

    With ``updates``, each record announces a new key.
    """

    def act(peer: Peer) -> None:
        made = Sealed(peer)
        made.read()
        peer.send(made.record(DATA, good))
        while True:
            block = bytearray()
            for _ in range(RECORDS_AT_ONCE):
                block += made.record(kind, content)
                if updates:
                    made.update()
            peer.send(bytes(block))

    return act
