"""The queries to a registry about one image, and the possible answers.

The types are here, in the core, because decisions read the answers. The requests are made elsewhere
(``gatekeeper_py/registry``).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from gatekeeper_py.core.images.image import Image


class Kind(NamedTuple):
    """A kind of look-up, and what its answer means. ``registry.kinds`` has how a registry is asked.

    With ``found_approves``, the answer ``found`` is enough to approve an image. Otherwise, ``found`` approves
    one digest if the answer names that digest and a key of the requirement. Such an answer never expires.
    """

    name: str
    found_approves: bool = False


EXISTENCE: Final = Kind("manifest", found_approves=True)
"""Finds out whether the manifest exists, and its digest."""

SIGNATURE: Final = Kind("signature")
"""Finds out whether one of the keys of a requirement signed the manifest."""


class Manifest(NamedTuple):
    """One manifest in one registry: the tag or the digest that a runtime would pull.

    ``host`` is folded for matching (``docker.io``, ``registry.corp.example:5000``). ``kind`` is the
    kind of look-up. Requests, answers and facts of different kinds are kept apart.

    For the kind ``SIGNATURE``, ``reference`` is a digest, and ``keys`` are the sorted fingerprints of the
    keys that may have signed it. ``signatures`` is the repository that holds the signatures
    (``host/repository``), empty for the image's own.
    """

    host: str
    repository: str
    reference: str
    kind: Kind = EXISTENCE
    keys: tuple[str, ...] = ()
    signatures: str = ""

    @property
    def by_digest(self) -> bool:
        """Whether the manifest is named by its digest, so that the answer can never change."""
        return ":" in self.reference

    @property
    def name(self) -> str:
        """``host/repository``, the form with which credentials are matched."""
        return f"{self.host}/{self.repository}"

    @property
    def located(self) -> Manifest:
        """The same look-up in the repository that holds the signatures."""
        if not self.signatures:
            return self
        host, _, repository = self.signatures.partition("/")
        return self._replace(host=host, repository=repository, signatures="")

    def __str__(self) -> str:
        return f"{self.name}{'@' if self.by_digest else ':'}{self.reference}"


class Answer(NamedTuple):
    """The answer about a manifest.

    ``digest`` is set if the manifest was found. ``cause`` is the reason why it could not be verified.

    For the kind ``SIGNATURE``, ``found`` means that a signature is valid: ``key`` is the fingerprint of the
    key that made it, and ``form`` is how the registry holds it (``registry.signatures.lookup.FORMS``).
    ``missing`` means that there is no valid signature. Then ``cause`` is empty if there is no signature,
    ``OTHER_KEY`` if there are only signatures by other keys, and otherwise the reason why a signature was
    skipped.
    """

    status: Literal["found", "missing", "error"]
    digest: str = ""
    cause: str = ""
    key: str = ""
    form: str = ""


MISSING: Final = Answer("missing")

OTHER_KEY: Final = "other_key"
"""The cause if an image has signatures, but only by keys that do not count."""


def found(digest: str) -> Answer:
    return Answer("found", digest=digest)


def failed(cause: str) -> Answer:
    return Answer("error", cause=cause)


def manifest_of(image: Image) -> Manifest:
    """Return the manifest that a runtime would pull for an image (a digest wins over a tag)."""
    location = image.location
    return Manifest(location.host, "/".join(location.segments), image.digest or image.tag or "")


class Lookup(NamedTuple):
    """One look-up for one image: which of these manifests exists? The first one found is used.

    All candidates have the same kind.
    """

    candidates: tuple[Manifest, ...]


class Resolution(NamedTuple):
    """The answer to a ``Lookup``.

    ``candidate`` is the index of the candidate that was found. If none was found, it is ``-1``, and
    ``answer`` is the first error, or ``missing`` if every candidate is missing. ``unanswered`` is the host of
    that error if the host sent no answer: no request was sent, or the request has not ended yet.
    """

    answer: Answer
    candidate: int = -1
    unanswered: str = ""


def resolve(answers: tuple[Answer, ...]) -> Resolution:
    """Combine the answers for all candidates, in order."""
    for index, answer in enumerate(answers):
        if answer.status == "found":
            return Resolution(answer, index)
    missing = next(iter(answers), MISSING)
    return Resolution(next((answer for answer in answers if answer.status == "error"), missing))
