"""Images in use, from files: a list of images, a saved audit, AdmissionReviews, or an audit log of requests.

Pure: callers read the files.

A record that cannot be used raises ``InvalidRecord`` with its line, because an incomplete answer must not
look complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
import orjson

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import IMAGE_LISTS, POD, WORKLOAD_KINDS, GroupKind
from gatekeeper_py.core.admission.judgement import Signature
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.inventory.provenance import Provenance
from gatekeeper_py.inventory.tally import ImageException, JudgedImage, Usage

ANY_KIND: Final[GroupKind] = ("", "")
"""Stands for every kind but Pod. The exact kind does not matter, because all kinds but Pod are judged alike:
by the images after the mirror rewrite."""

AUDIT_API: Final = "audit.k8s.io/"
STAGE: Final = "ResponseComplete"
"""The stage of the audit event that contains both the request's object and the answer. Events of earlier
stages are about the same request."""

VERBS: Final = frozenset({"create", "update", "patch"})

IMAGE_KEYS: Final = frozenset(field for each in IMAGE_LISTS for field in each.path[-1:])
"""The last field of every path to an image in a pod spec."""

OUR_DENIAL: Final = "image-validation-webhook.gatekeeper-py"
"""Part of the message of a denial by this webhook (``k8s/base/webhooks``)."""

_KINDS: Final = {(kind.group, kind.plural): kind for kind in WORKLOAD_KINDS}


class InvalidRecord(ValueError):
    """A file cannot be used. ``line`` counts from 1 and is 0 when the reason concerns the whole file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


class UsedImage(NamedTuple):
    """One use of an image."""

    image: str
    kind: GroupKind
    usage: Usage


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


class _Signature(msgspec.Struct):
    key: str
    form: Literal["bundle", "simple"]


class _Judged(_Image):
    canonical: str | None
    verdict: Literal["approved", "rejected", "exempt"]
    reason: Reason
    detail: str
    exception: ImageException | None = None
    signature: _Signature | Literal[""] | None = ""


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


def listed_images(lines: Iterable[bytes], namespace: str | None) -> Iterator[UsedImage]:
    """Yield the images of a list: one in each line, optionally as ``namespace<TAB>image``.

    Empty lines and lines that begin with ``#`` are skipped. ``namespace`` applies to lines that name none.
    Each image counts as the image of a Pod. Raises ``InvalidRecord``.
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
        yield UsedImage(image, POD, Usage("", usage, "", f"line {number}"))


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

    def used(self) -> Iterator[UsedImage]:
        """Yield each use of an image."""
        for line, entry in self._images:
            each = _decoded(entry, line, _Image)
            for usage in _usages(line, each):
                yield UsedImage(each.image, POD if usage.kind == POD[1] else ANY_KIND, usage)

    def judged(self) -> Iterator[tuple[JudgedImage, Iterator[Usage]]]:
        """Yield each image with its verdict and its uses."""
        for line, entry in self._images:
            each = _decoded(entry, line, _Judged)
            signed = each.signature
            signature = Signature(signed.key, signed.form) if isinstance(signed, _Signature) else signed
            image = JudgedImage(
                each.image, each.canonical, each.verdict, each.reason, each.detail, each.exception, signature
            )
            yield image, _usages(line, each)


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
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRecord(line, f"not a saved audit: {problem}") from None


def reviewed_requests(lines: Iterable[bytes]) -> Iterator[AdmissionRequest]:
    """Yield the requests of AdmissionReviews, one in each line. Raises ``InvalidRecord``."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield review.parse(_json(number, line))
        except InvalidReview as problem:
            raise InvalidRecord(number, f"not an AdmissionReview: {problem}") from None


def logged_requests(
    lines: Iterable[bytes], declared: AbstractSet[GroupKind]
) -> Iterator[AdmissionRequest | UsedImage]:
    """Yield the requests in an audit log (``audit.k8s.io/v1``, JSON lines) that create or change objects.

    Skips dry runs, subresources that hold no images, and failed requests, unless this webhook denied them.
    For a patch, yields the images that the patch sets. ``declared`` are kinds that hold images besides the
    built-in ones. Raises ``InvalidRecord``, even for a log whose level leaves out the objects.
    """
    groups = {group for group, _ in declared}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        event = _json(number, line)
        version = event.get("apiVersion") if isinstance(event, dict) else None
        if not isinstance(version, str) or not version.startswith(AUDIT_API) or event.get("kind") != "Event":
            raise InvalidRecord(number, "not an event of an audit log (audit.k8s.io)")
        target = _mapping(event.get("objectRef"))
        if (
            event.get("stage") == STAGE
            and _text(event.get("verb")) in VERBS
            and target
            and _took_effect(event)
        ):
            yield from _logged(number, event, target, groups)


def _logged(
    number: int, event: dict[str, Any], target: dict[str, Any], groups: AbstractSet[str]
) -> Iterator[AdmissionRequest | UsedImage]:
    group, plural, sub = (_text(target.get(key)) for key in ("apiGroup", "resource", "subresource"))
    known = _KINDS.get((group, plural))
    if sub and (known is None or sub not in known.subresources):
        return
    obj = event.get("requestObject")
    if obj is None:
        if known is not None or group in groups:
            reason = f"it has no requestObject: log {plural} at the level Request or RequestResponse"
            raise InvalidRecord(number, reason)
        return
    kind = known.kind if known is not None else _text(_mapping(obj).get("kind")) or plural
    metadata = _mapping(_mapping(obj).get("metadata"))
    name = _text(target.get("name")) or _text(metadata.get("name")) or _text(metadata.get("generateName"))
    namespace = _text(target.get("namespace")) or None
    if event.get("verb") == "patch" and (known is not None or group in groups):
        if not isinstance(obj, dict | list):
            raise InvalidRecord(number, "its patch is not JSON")
        for image in images_in(obj):
            yield UsedImage(image, (group, kind), Usage(kind, namespace, name, "patch"))
        return
    # In any other kind, pod templates are found by their shape, whether in a patch or in a whole object.
    yield AdmissionRequest(
        uid="audit-log",
        group=group,
        kind=kind,
        # Even for an update: the log does not contain the old object, so every image is judged.
        operation="CREATE",
        sub_resource=sub,
        namespace=namespace,
        name=name,
        object=obj,
    )


def images_in(patch: Any) -> Iterator[str]:
    """Yield the images that a merge patch, an apply configuration or a JSON patch sets."""
    waiting = [patch]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            # An operation of a JSON patch names the field in ``path``, and has the image in ``value``.
            path = value.get("path")
            if "op" in value and isinstance(path, str) and path.rpartition("/")[2] in IMAGE_KEYS:
                waiting.append({"image": value.get("value")})
            for key, item in reversed(value.items()):
                if isinstance(item, dict | list):
                    waiting.append(item)
                elif key in IMAGE_KEYS and isinstance(item, str):
                    yield item


def _took_effect(event: dict[str, Any]) -> bool:
    query = _text(event.get("requestURI")).partition("?")[2]
    if any(field.partition("=")[0] == "dryRun" for field in query.split("&")):
        return False
    status = _mapping(event.get("responseStatus"))
    code = status.get("code")
    if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
        return code == HTTPStatus.FORBIDDEN and OUR_DENIAL in _text(status.get("message"))
    return True


def _json(number: int, line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        raise InvalidRecord(number, f"not JSON: {problem}") from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
