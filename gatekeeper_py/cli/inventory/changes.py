"""Compare two policies on the images in use: judge each image by both policies. Pure: no I/O.

The uses of an image are kept only if the image changes, so memory does not grow with the number of objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.cli.inventory.tally import Usage, interned, only_warned, to_keep, usage_order
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.judge import Judge, Role, Subject, Verdict
from gatekeeper_py.core.admission.outcome import exemption, slots_to_judge, subject_of
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Parts, Slot
from gatekeeper_py.core.admission.world import BY_NAME
from gatekeeper_py.core.compare.difference import Change
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.policy import CompiledPolicy

CHANGES: Final[tuple[Change, ...]] = ("rejected", "approved", "rewritten")


class ImageChange(NamedTuple):
    """An image that the two policies treat differently: the verdicts, with the names that Pods would have."""

    change: Change
    before: Verdict
    after: Verdict

    @property
    def detail(self) -> str:
        """The detail of the new policy's decision, or the new name if the image is rewritten differently."""
        after = self.after
        return (after.rewritten or after.image) if self.change == "rewritten" else after.decision.detail

    @property
    def key(self) -> tuple[int, str, str, str, str, str]:
        """What distinguishes changes in a report, in the order of the report."""
        words = self.before.in_words, self.after.in_words
        return CHANGES.index(self.change), self.after.image, *words, self.after.decision.reason, self.detail

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageChange) and self.key == other.key

    def as_json(self) -> dict[str, Any]:
        return {
            **self.after.as_json("image"),
            "before": self.before.in_words,
            "after": self.after.in_words,
            "change": self.change,
            **self.after.as_json("reason"),
            "detail": self.detail,
        }


class ImageChanges:
    """The changes found so far, and where the images are used.

    Images are judged by their names alone, without look-ups. As in the webhook, a Pod is judged by the images
    it names, and any other object by the images that its Pods will run. Images in the ``exempt`` namespaces
    do not change, because the webhook does not review them.
    """

    def __init__(
        self, old: CompiledPolicy, new: CompiledPolicy, exempt: AbstractSet[str] = frozenset()
    ) -> None:
        self.objects = 0
        self._old = old
        self._new = new
        self._exempt = exempt
        self._images: set[str] = set()
        self._usages: dict[ImageChange, list[Usage]] = {}
        # Images that both policies reject, where only one of the modes refuses them.
        self._refused: set[str] = set()
        self._only_warned: set[str] = set()

    def empty(self) -> ImageChanges:
        return ImageChanges(self._old, self._new, self._exempt)

    def merge(self, other: ImageChanges) -> None:
        """Take over the contents of another instance, which must not be used afterwards."""
        self.objects += other.objects
        self._images |= other._images
        self._refused |= other._refused
        self._only_warned |= other._only_warned
        for change, usages in other._usages.items():
            self._usages.setdefault(change, []).extend(usages)

    def take(self, request: AdmissionRequest) -> None:
        """Compare the policies on every image that the webhook would judge in a request."""
        self.objects += 1
        if exemption(request):
            return
        before, after = _verdicts(request, self._old), _verdicts(request, self._new)
        for parts in dict.fromkeys((*before, *after)):
            slot = (before.get(parts) or after[parts]).slot
            usage = Usage(request.kind, request.namespace, request.name, slot.path)
            old = before.get(parts) or _not_judged(slot, "old")
            self._compare(usage, old, after.get(parts) or _not_judged(slot, "new"))

    def take_image(self, image: str, usage: Usage) -> None:
        """Compare the policies on one image. A use without a kind counts as a Pod."""
        slot = Slot((), "image", image)
        role: Role = "pod" if usage.kind in {"", POD[1]} else "template"
        before, after = (
            Judge(policy, Subject(usage.namespace, policy.mode(usage.namespace), role), BY_NAME).verdict(slot)
            for policy in (self._old, self._new)
        )
        self._compare(usage, before, after)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of distinct images for each change, and of those that change nowhere.

        ``warned`` are the images among ``rejected`` for which the new policy only causes warnings. A
        change of the mode changes no verdict, but ``newlyRefused`` counts images that both policies reject
        and only the new policy refuses somewhere. ``newlyWarned`` counts the opposite.
        """
        changed: dict[Change, set[str]] = {change: set() for change in CHANGES}
        refused = set()
        for each, usages in self._usages.items():
            changed[each.change].add(each.after.image)
            if each.change == "rejected" and not only_warned(usages):
                refused.add(each.after.image)
        return {
            **{change: len(images) for change, images in changed.items()},
            "unchanged": len(self._images.difference(*changed.values())),
            "warned": len(changed["rejected"] - refused),
            "newlyRefused": len(self._refused),
            "newlyWarned": len(self._only_warned),
        }

    def listed(self) -> Iterator[tuple[ImageChange, list[Usage]]]:
        """Yield each change, and the uses of the image to which the change applies; both are sorted."""
        for change in sorted(self._usages, key=attrgetter("key")):
            yield change, sorted(self._usages[change], key=usage_order)

    def _compare(self, usage: Usage, before: Verdict, after: Verdict) -> None:
        namespace, image = usage.namespace, before.image
        change = None
        if namespace not in self._exempt:
            change = self._change(namespace, before, after)
            if not before.approved and not after.approved:
                self._note_modes(namespace, image)
        if change is not None or not before.slot.problem:
            self._images.add(image)
        if change is not None:
            in_force = interned(usage._replace(mode=self._new.mode(namespace)))
            usages = self._usages.get(change)
            if usages is None:
                kept = change._replace(before=to_keep(change.before), after=to_keep(change.after))
                usages = self._usages[kept] = []
            usages.append(in_force)

    def _note_modes(self, namespace: str | None, image: str) -> None:
        """Note an image that both policies reject, if only one of the modes refuses it."""
        refused, refuses_now = (policy.mode(namespace).refuses for policy in (self._old, self._new))
        if refused != refuses_now:
            (self._refused if refuses_now else self._only_warned).add(image)

    def _change(self, namespace: str | None, before: Verdict, after: Verdict) -> ImageChange | None:
        if before.approved != after.approved:
            return ImageChange("approved" if after.approved else "rejected", before, after)
        old, new = (_stored(policy, namespace, before.image) for policy in (self._old, self._new))
        if old == new:
            return None
        return ImageChange("rewritten", before._replace(rewritten=old), after._replace(rewritten=new))


def _verdicts(request: AdmissionRequest, policy: CompiledPolicy) -> dict[Parts, Verdict]:
    judge = Judge(policy, subject_of(request, policy), BY_NAME)
    return {slot.parts: judge.verdict(slot) for slot in slots_to_judge(request, policy)[0]}


def _stored(policy: CompiledPolicy, namespace: str | None, image: str) -> str:
    """Return the name under which a Pod would be stored."""
    judge = Judge(policy, Subject(namespace, policy.mode(namespace)), BY_NAME)
    new = judge.rewrite(Slot((), "image", image)) if judge.subject.mode.rewrites else None
    return image if new is None or new.rewritten is None else new.rewritten


def _not_judged(slot: Slot, name: Literal["old", "new"]) -> Verdict:
    detail = f"the {name} policy does not declare this field"
    return Verdict(slot, Decision(image=slot.value, approved=True, reason="allowed", detail=detail))
