"""A second implementation of the kubelet's rules for registry credentials, independent of the product.

Sources: the behaviour of Kubernetes 1.37, ``pkg/credentialprovider``. Nothing here comes from
``gatekeeper_py``, so that the tests can compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

HUB = "docker.io"
HUB_FALLBACK = "index.docker.io"


def keys_tried(keys: Iterable[str], image: str) -> list[str]:
    """Return the keys whose credentials the kubelet tries for ``host/repository``, in order.

    Equivalent keys have the order of ``keys``.
    """
    indexed: dict[str, list[str]] = {}
    for key in keys:
        meant = _indexed(key)
        if meant is not None:
            indexed.setdefault(meant, []).append(key)
    tried = [
        key for meant in sorted(indexed, reverse=True) if _matches(meant, image) for key in indexed[meant]
    ]
    if not tried and image.startswith(f"{HUB}/"):
        return indexed.get(HUB_FALLBACK, [])
    return tried


def _indexed(key: str) -> str | None:
    """Return ``host/path`` of a key, ``None`` if it is not a URL."""
    try:
        split = urlsplit(key if key.startswith(("http://", "https://")) else f"https://{key}")
    except ValueError:
        return None
    host = split.netloc.split("@")[-1]
    if re.search(r"\s", host) or not re.fullmatch(r"[^:]*(:[0-9]*)?", host):
        return None
    path = split.path
    for version in ("/v1/", "/v2/"):
        if path.startswith(version):
            path = path[3:]
            break
    return host if path == "/" else host + path


def _matches(key: str, image: str) -> bool:
    """Return whether a key applies: the port is equal, each label matches as a glob, the path is a prefix."""
    (key_host, key_path), (host, path) = _parts(key), _parts(image)
    key_labels, key_port = _split(key_host)
    labels, port = _split(host)
    if key_port != port or len(key_labels) != len(labels) or not path.startswith(key_path):
        return False
    return all(
        re.fullmatch(".*".join(map(re.escape, glob.split("*"))), label)
        for glob, label in zip(key_labels, labels, strict=True)
    )


def _parts(name: str) -> tuple[str, str]:
    at = name.find("/")
    return (name, "") if at < 0 else (name[:at], name[at:])


def _split(host: str) -> tuple[list[str], str]:
    name, _, port = host.partition(":")
    return name.split("."), port
