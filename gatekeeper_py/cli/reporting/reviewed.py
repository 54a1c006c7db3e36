"""Reviewed objects, as reports show them, and their JSON and text formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.text import Text

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.reporting.console import console, counted, print_provenance
from gatekeeper_py.core.admission.explain import exception_as_json
from gatekeeper_py.core.admission.judge import Signature
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.decision import Reason

ObjectVerdict = Literal["admitted", "warned", "rejected", "rewritten", "exempt", "unknown"]

MAX_NOTE: Final = 500

STYLES: Final = {
    "admitted": "bold green",
    "rewritten": "bold cyan",
    "warned": "bold yellow",
    "rejected": "bold red",
    "exempt": "bold blue",
    "unknown": "bold yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedImage:
    """One image of an object. ``image`` is as written.

    ``message`` is the reason for a rejection, or until when an exception approves the image; otherwise empty.
    """

    path: str
    image: Any
    approved: bool
    reason: Reason
    detail: str
    rewritten: str | None
    stored: bool
    """Whether the stored object contains the rewritten image. Templates keep the original."""
    message: str
    exception: Excepted | None = None
    """The exception that approves the image, if only an exception does."""
    signature: Signature | None = None
    """The valid signature that the image's rule requires, if registries were queried."""
    line: int = 1
    """Line of the image in its file, from 1. It is looked up only for reports that show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedObject:
    """One object with its verdict, and where it was read: ``document`` counts from 0, ``line`` from 1.

    ``mode`` is the mode that applies to the object; ``None`` in an exempt namespace. ``note`` explains what
    to do about an unknown kind. ``warnings`` holds a sentence for each image that is not moved to a mirror
    although one applies, and for each image that is approved although its registry did not answer.
    """

    source: str
    document: int
    kind: str
    namespace: str | None
    name: str
    verdict: ObjectVerdict
    mode: str | None
    images: tuple[ReviewedImage, ...]
    note: str = ""
    line: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}"

    @property
    def excepted(self) -> tuple[ReviewedImage, ...]:
        """The images that only exceptions approve."""
        return tuple(image for image in self.images if image.exception is not None)

    @property
    def rejected(self) -> tuple[ReviewedImage, ...]:
        return tuple(image for image in self.images if not image.approved)

    def as_json(self, *, looked_up: bool = False) -> dict[str, Any]:
        """Return the stable JSON form. With ``looked_up``, registries were queried."""
        return {
            "source": self.source,
            "document": self.document,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "verdict": self.verdict,
            "mode": self.mode,
            "images": [
                {
                    "path": image.path,
                    "image": image.image,
                    "verdict": "approved" if image.approved else "rejected",
                    "reason": image.reason,
                    "detail": image.detail,
                    "rewritten": image.rewritten,
                    **({} if image.exception is None else {"exception": exception_as_json(image.exception)}),
                    **({"signature": image.signature and image.signature._asdict()} if looked_up else {}),
                }
                for image in self.images
            ],
        }


def print_reviewed(reviewed: Sequence[ReviewedObject], meta: Provenance) -> None:
    """Print each object with its mode, and its rejected and rewritten images; then the counts."""
    out = console()
    for each in reviewed:
        where = f"{each.source}[{each.document}]{f' (mode {each.mode})' if each.mode else ''}"
        out.print(
            Text.assemble(
                (each.verdict, STYLES[each.verdict]), " ", (escape(each.title), "bold"), f" {where}"
            )
        )
        if each.note:
            out.print(f"  {escape(each.note, MAX_NOTE)}")
        for image in each.images:
            line = _line(image)
            if line:
                out.print(f"  {line}")
    counts = [(verdict, sum(each.verdict == verdict for each in reviewed)) for verdict in STYLES]
    summary = ", ".join(f"{number} {verdict}" for verdict, number in counts if number)
    print_provenance(out, meta)
    out.print(f"{counted(len(reviewed), 'object')}: {summary or 'nothing to judge'}")


def _line(image: ReviewedImage) -> str:
    """Return the line for an image; empty for one that a rule approves as written, without a signature."""
    if not image.approved or (image.rewritten is None and image.signature is None):
        return image.message
    verb = "becomes" if image.stored else "will run as"
    change = "" if image.rewritten is None else f" {verb} {image.rewritten}"
    signed = "" if image.signature is None else f"{', ' if change else ' is '}{image.signature}"
    return f"{escape(image.path)}: {escape(image.image)}{change}{signed}"
