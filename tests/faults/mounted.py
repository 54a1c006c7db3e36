"""A mounted Secret: files that link into ``..data``, a symbolic link that the kubelet replaces."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

NAMES: Final = ("localhost", "127.0.0.1")

KeyType = Literal["EC", "RSA"]

_KEY_TYPES: Final = {"EC": trustme.KeyType.ECDSA, "RSA": trustme.KeyType.RSA}


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert)

    @property
    def serial(self) -> int:
        return self.leaf.serial_number

    @property
    def end(self) -> float:
        return self.leaf.not_valid_after_utc.timestamp()

    @property
    def names(self) -> list[str]:
        """DNS names and addresses."""
        alternative = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value) for name in alternative]

    def files(self) -> dict[str, bytes]:
        """Return the data of a Secret of type kubernetes.io/tls."""
        return {"tls.crt": self.cert, "tls.key": self.key}


def make_pair(
    authority: trustme.CA, key_type: KeyType = "EC", *names: str, days: float = 90, **options: Any
) -> Pair:
    """Issue a leaf for these names that expires in ``days`` days."""
    now = datetime.now(UTC).replace(microsecond=0)
    span = {"not_before": now - timedelta(days=1), "not_after": now + timedelta(days=days)}
    leaf = authority.issue_cert(*(names or NAMES), key_type=_KEY_TYPES[key_type], **{**span, **options})
    return Pair(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())


def make_own_pair(*extensions: x509.ExtensionType, key: ec.EllipticCurvePrivateKey | None = None) -> Pair:
    """Make a self-signed leaf with only these extensions, valid today."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    cert = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return Pair(cert, _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class MountedSecret:
    """A directory that a kubelet keeps in step with a Secret."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._data: dict[str, bytes] = {}

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def set(self, files: dict[str, bytes]) -> None:
        """Replace these files atomically; keep the others."""
        self._data.update(files)
        self._swap()

    def remove(self, name: str) -> None:
        """Remove one key from the Secret. Its link then points to nothing, as in a real mount."""
        del self._data[name]
        self._swap()

    def _swap(self) -> None:
        fresh = Path(tempfile.mkdtemp(prefix="..", dir=self.directory))
        for name, content in self._data.items():
            (fresh / name).write_bytes(content)
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(Path("..data") / name)
        staged = self.directory / "..data_tmp"
        staged.symlink_to(fresh.name)
        staged.replace(self.directory / "..data")
