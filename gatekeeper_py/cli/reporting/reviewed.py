"""Reviewed objects, as reports show them, and their JSON and text formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gatekeeper_py.cli.inputs.manifests import Manifest
from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.reporting.console import console, counted, print_provenance
from gatekeeper_py.core.admission.judge import Checked, Verdict
from gatekeeper_py.core.admission.messages import exception_line, image_line
from gatekeeper_py.core.admission.slot import Parts
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import Mode

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
class ReviewedObject:
    """One object with its verdict. ``stored`` is what the cluster would store.

    ``mode`` is the mode that applies to the object; ``None`` in an exempt namespace. ``images`` are judged as
    stored, and ``originals`` holds the images that would be stored rewritten, as written. ``empty`` is true
    if no image was found in it, and the policy declares none for its kind. ``note`` explains what to do about
    an unknown kind. ``warnings`` holds a sentence for each image that is not moved to a mirror
    although one applies, and for each image that is approved although its registry did not answer.
    """

    manifest: Manifest
    verdict: ObjectVerdict
    mode: Mode | None
    stored: Any
    images: tuple[Verdict, ...] = ()
    originals: Mapping[Parts, Any] = field(default_factory=dict)
    note: str = ""
    warnings: tuple[str, ...] = ()
    empty: bool = False

    @property
    def title(self) -> str:
        namespace, name = self.manifest.namespace, self.manifest.name
        return f"{self.manifest.kind} {f'{namespace}/{name}' if namespace else name}"

    @property
    def stored_images(self) -> list[str]:
        """Return the images that the object holds when it is stored."""
        images = (image.slot.written for image in self.images)
        return [image for image in images if isinstance(image, str)]

    @property
    def excepted(self) -> tuple[Verdict, ...]:
        """The images that only exceptions approve."""
        return tuple(image for image in self.images if image.decision.exception is not None)

    @property
    def rejected(self) -> tuple[Verdict, ...]:
        return tuple(image for image in self.images if not image.approved)

    @property
    def unmet(self) -> Iterator[tuple[Verdict, Checked]]:
        """The approved images with each requirement that they do not meet, and that only warns."""
        return ((image, each) for image in self.images if image.approved for each in image.warned)

    def as_written(self, image: Verdict) -> Verdict:
        """Return the verdict with the image as written, and with the image to store as its rewrite."""
        slot = image.slot
        if slot.parts not in self.originals:
            return image
        return image._replace(slot=slot._replace(value=self.originals[slot.parts]), rewritten=slot.value)

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        names = ("path", "image", "verdict", "reason", "detail", "rewritten", "exception", "requirements")
        return {
            "source": self.manifest.source,
            "document": self.manifest.document,
            "kind": self.manifest.kind,
            "namespace": self.manifest.namespace,
            "name": self.manifest.name,
            "verdict": self.verdict,
            "mode": self.mode and self.mode.name,
            "images": [self.as_written(image).as_json(*names) for image in self.images],
        }


def unmet_line(image: Verdict, unmet: Checked) -> str:
    """Return the line about a requirement that an approved image does not meet."""
    return f"{escape(image.slot.path)}: {escape(image.image)} {unmet.detail}"


def print_reviewed(reviewed: Sequence[ReviewedObject], meta: Provenance) -> None:
    """Print each object with its mode, and its rejected and rewritten images; then the counts."""
    out = console()
    for each in reviewed:
        where = (
            f"{each.manifest.source}[{each.manifest.document}]{f' (mode {each.mode})' if each.mode else ''}"
        )
        out.print((each.verdict, STYLES[each.verdict]), " ", (escape(each.title), "bold"), f" {where}")
        if each.note:
            out.print(f"  {escape(each.note, MAX_NOTE)}")
        for image in each.images:
            line = _line(each, image)
            if line:
                out.print(f"  {line}")
    counts = [(verdict, sum(each.verdict == verdict for each in reviewed)) for verdict in STYLES]
    summary = ", ".join(f"{number} {verdict}" for verdict, number in counts if number)
    print_provenance(out, meta)
    out.print(f"{counted(len(reviewed), 'object')}: {summary or 'nothing to judge'}")


def _line(reviewed: ReviewedObject, image: Verdict) -> str:
    """Return the line for an image; empty for one that is approved as written, without anything to say."""
    if not image.approved:
        return image_line(image)
    written = reviewed.as_written(image)
    if written.rewritten is None and not written.signatures and not written.warned:
        return "" if written.decision.exception is None else exception_line(written)
    verb = "becomes" if image.slot.parts in reviewed.originals else "will run as"
    notes = [f"{verb} {written.rewritten}"] if written.rewritten is not None else []
    notes += [f"is {signature}" for signature in written.signatures]
    notes += [f"{each.detail} (warning)" for each in written.warned]
    return f"{escape(written.slot.path)}: {escape(written.image)} {', '.join(notes)}"
