"""Push images to a registry over HTTP, in every format that registries store."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Format(NamedTuple):
    """The media types of an image and of an index of images."""

    image: str
    image_index: str
    config: str
    layer: str


OCI = Format(
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar",
)
DOCKER = Format(
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Index(NamedTuple):
    """The digest of an index, and the digests of its images."""

    digest: str
    images: tuple[str, ...]


@dataclass
class Pusher:
    """Pushes images to the registry at ``host``, which includes the port, as in an image name.

    ``trust`` is the TLS context for it, ``None`` for plain HTTP. ``authorization`` returns the header for a
    repository.
    """

    host: str
    trust: ssl.SSLContext | None
    authorization: Callable[[str], str]

    def push(self, repository: str, tag: str, content: bytes = b"layer", *, form: Format = OCI) -> str:
        """Push an image of one layer; return its digest."""
        return digest_of(self._push_image(repository, tag, content, form))

    def push_index(
        self, repository: str, tag: str, content: bytes = b"layer", *, form: Format = OCI
    ) -> Index:
        """Push an image for amd64, one for arm64, and their index with the tag."""
        entries = []
        for architecture in ("amd64", "arm64"):
            manifest = self._push_image(repository, None, architecture.encode() + content, form)
            platform = {"architecture": architecture, "os": "linux"}
            entries.append(descriptor(form.image, manifest) | {"platform": platform})
        index = encoded({"schemaVersion": 2, "mediaType": form.image_index, "manifests": entries})
        self.push_manifest(repository, tag, index, form.image_index)
        return Index(digest_of(index), tuple(entry["digest"] for entry in entries))

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest."""
        self._done("DELETE", repository, f"manifests/{digest}")

    def head(self, repository: str, reference: str, *accept: str) -> Answer:
        """Send HEAD for a manifest with these media types, or without any."""
        headers = {"Accept": ", ".join(accept)} if accept else {}
        return self._request("HEAD", f"/v2/{repository}/manifests/{reference}", b"", repository, headers)

    def answers(self) -> bool:
        """Return whether the registry answers."""
        try:
            self._request("GET", "/v2/", b"", None, {})
        except OSError:
            return False
        return True

    def push_blob(self, repository: str, content: bytes) -> None:
        digest = digest_of(content)
        location = self._done("POST", repository, "blobs/uploads/").headers["Location"]
        split = urlsplit(location)
        query = f"{split.query}&digest={digest}" if split.query else f"digest={digest}"
        self._done("PUT", repository, f"{split.path}?{query}", content)

    def push_manifest(
        self, repository: str, reference: str, content: bytes, media_type: str = OCI.image
    ) -> None:
        self._done("PUT", repository, f"manifests/{reference}", content, media_type)

    def _push_image(self, repository: str, tag: str | None, content: bytes, form: Format) -> bytes:
        """Push an image of one layer and return its manifest; a ``tag`` of ``None`` means no tag."""
        parts = []
        for blob, media_type in ((b"{}", form.config), (content, form.layer)):
            self.push_blob(repository, blob)
            parts.append(descriptor(media_type, blob))
        manifest = encoded(
            {"schemaVersion": 2, "mediaType": form.image, "config": parts[0], "layers": parts[1:]}
        )
        self.push_manifest(repository, tag or digest_of(manifest), manifest, form.image)
        return manifest

    def _done(
        self, method: str, repository: str, path: str, body: bytes = b"", content_type: str = ""
    ) -> Answer:
        """Send a request that must succeed; ``path`` is absolute or below the repository."""
        headers = {"Content-Type": content_type or "application/octet-stream"}
        target = path if path.startswith("/") else f"/v2/{repository}/{path}"
        answer = self._request(method, target, body, repository, headers)
        assert answer.status < 300, (method, target, answer.status, answer.body)
        return answer

    def _request(
        self, method: str, target: str, body: bytes, repository: str | None, headers: dict[str, str]
    ) -> Answer:
        if repository is not None and (authorization := self.authorization(repository)):
            headers = headers | {"Authorization": authorization}
        name, _, port = self.host.partition(":")
        connection = (
            http.client.HTTPConnection(name, int(port), timeout=10)
            if self.trust is None
            else http.client.HTTPSConnection(name, int(port), context=self.trust, timeout=10)
        )
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()
