"""Images in use, from files: a list of images, a saved audit, or AdmissionReviews.

Pure: callers read the files.

A record that cannot be used raises ``InvalidRecord`` with its line, because an incomplete answer must not
look complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

import msgspec
import orjson

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.inventory.tally import Tallied, Usage, Use
from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.judge import Checked, Signature, Verdict, exception_as_json
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.exceptions.exceptions import Excepted, Ruling
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.core.policy.decision import Decision, Reason
from gatekeeper_py.core.policy.document import Mode, decoded_mode


class InvalidRecord(ValueError):
    """A file cannot be used. ``line`` counts from 1 and is 0 when the reason concerns the whole file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


class _RecordedUsage(msgspec.Struct, gc=False):
    kind: str
    namespace: str | None
    name: str
    path: str
    mode: Mode | None = None
    cluster: str | None = None

    def usage(self) -> Usage:
        return Usage(self.kind, self.namespace, self.name, self.path, self.mode, self.cluster)


class _Image(msgspec.Struct):
    """``objects`` are decoded one at a time, because an image may run in 50,000 objects."""

    image: str
    objects: list[msgspec.Raw]


class _Signed(msgspec.Struct):
    by: str
    form: str


class _Requirement(msgspec.Struct):
    index: int
    met: bool | None
    reason: Reason | None = None
    detail: str | None = None
    signature: _Signed | None = None
    warns: bool = False

    def checked(self) -> Checked:
        signature = None if self.signature is None else Signature(self.signature.by, self.signature.form)
        return Checked(self.index, self.met, self.reason or "", self.detail or "", signature, self.warns)


class _Judged(_Image):
    canonical: str | None
    verdict: Literal["approved", "rejected", "exempt"]
    reason: Reason
    detail: str
    exception: Excepted | None = None
    requirements: list[_Requirement] = []

    def __post_init__(self) -> None:
        try:
            exception_as_json(self.exception)
        except OverflowError:
            raise ValueError("an exception has a time that does not exist in UTC") from None
        if self.exception is not None and not _has_zones(self.exception):
            raise ValueError("an exception has a time without a time zone")

    def tallied(self) -> Tallied:
        """Return the tallied image. In an exempt namespace, derive the approval from the reason."""
        exempt = self.verdict == "exempt"
        decision = Decision(
            image=self.image,
            approved=self.reason in {"allowed", "exception"} if exempt else self.verdict == "approved",
            reason=self.reason,
            detail=self.detail,
            ruling=None if self.exception is None else Ruling(self.exception),
        )
        problem = self.detail if self.reason == "invalid" else ""
        slot = Slot((), "image", self.image, problem=problem)
        checked = tuple(each.checked() for each in self.requirements)
        return Tallied(Verdict(slot, decision, requirements=checked), exempt)


def _has_zones(exception: Excepted) -> bool:
    return exception.until.tzinfo is not None and all(map(_has_zones, exception.also))


class _Counts(msgspec.Struct):
    images: int
    objects: int = 0


class _Header(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``meta`` is missing in audits that earlier versions saved."""

    counts: _Counts
    meta: Provenance | None = None


class _Audit(_Header, forbid_unknown_fields=False, kw_only=True):
    images: list[msgspec.Raw]


T = TypeVar("T")


def listed_images(lines: Iterable[bytes], namespace: str | None) -> Iterator[Use]:
    """Yield the images of a list: one in each line, optionally as ``namespace<TAB>image``.

    Empty lines and lines that begin with ``#`` are skipped. ``namespace`` applies to lines that name none.
    Each image counts as the image of a Pod, because its use has no kind. Raises ``InvalidRecord``.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
        except UnicodeDecodeError:
            raise InvalidRecord(number, "not UTF-8") from None
        if not text.strip() or text.startswith("#"):
            continue
        before, tab, image = text.partition("\t")
        usage = before.strip() if tab else namespace
        if tab and not NAMESPACE_NAME.fullmatch(before.strip()):
            # With the image in the first column, the text after the tab would silently be judged instead.
            raise InvalidRecord(number, "the text before the tab is not a valid namespace name")
        image = (image if tab else text).strip()
        if any(character.isspace() for character in image):
            # In another file, such as a manifest, every line would silently be an image that no rule matches.
            raise InvalidRecord(number, "an image has no whitespace: write one image in each line")
        yield Use(image, Usage("", usage, "", f"line {number}"))


class SavedAudit:
    """A saved ``audit --all``, in the format ``json`` or ``jsonl``.

    ``meta`` is ``None`` if an earlier version saved it. All methods raise ``InvalidRecord`` if the text is
    not a saved audit, or the audit was made without ``--all``.
    """

    def __init__(self, text: bytes) -> None:
        first, _, rest = text.partition(b"\n")
        found = _header(first)
        self._images: list[tuple[int, bytes | memoryview]]
        if found is not None:
            lines = enumerate(rest.splitlines(), 2)
            self._images = [(number, line) for number, line in lines if line.strip()]
        else:
            found = _decoded(text, 0, _Audit)
            self._images = [(0, memoryview(raw)) for raw in found.images]
        self.meta = found.meta
        self.objects = found.counts.objects
        if len(self._images) != found.counts.images:
            raise InvalidRecord(
                0,
                f"it lists {len(self._images):,} of the {found.counts.images:,} images that were audited; "
                "make it with: audit --all --format json",
            )

    def origin(self) -> tuple[Provenance, str]:
        """Return the provenance and the name of the cluster. An audit without them cannot be merged."""
        meta = self.meta
        if meta is None or not meta.cluster or meta.policy is None:
            raise InvalidRecord(
                0, "it does not name its cluster and policy; audit again, with --cluster-name NAME"
            )
        return meta, meta.cluster

    def used(self) -> Iterator[Use]:
        """Yield each use of an image."""
        for line, entry in self._images:
            each = _decoded(entry, line, _Image)
            for usage in _usages(line, each):
                yield Use(each.image, usage)

    def judged(self) -> Iterator[tuple[Tallied, Iterator[Usage]]]:
        """Yield each image with its verdict and its uses."""
        for line, entry in self._images:
            each = _decoded(entry, line, _Judged)
            yield each.tallied(), _usages(line, each)


def _usages(line: int, image: _Image) -> Iterator[Usage]:
    return (_decoded(raw, line, _RecordedUsage).usage() for raw in image.objects)


def _header(line: bytes) -> _Header | None:
    """Parse the first line of JSON lines, which holds no images; ``None`` if it is any other text."""
    try:
        return msgspec.json.decode(line, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(text: bytes | memoryview | msgspec.Raw, line: int, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=decoded_mode)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRecord(line, f"not a saved audit: {problem}") from None


def reviewed_requests(lines: Iterable[bytes]) -> Iterator[AdmissionRequest]:
    """Yield the requests of AdmissionReviews, one in each line. Raises ``InvalidRecord``."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield review.parse(orjson.loads(line))
        except orjson.JSONDecodeError as problem:
            raise InvalidRecord(number, f"not JSON: {problem}") from None
        except InvalidReview as problem:
            raise InvalidRecord(number, f"not an AdmissionReview: {problem}") from None
