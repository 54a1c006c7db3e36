"""Compare two policies on the images in use: judge each image by both policies. Pure: no I/O.

The uses of an image are kept only if the image changes, so memory does not grow with the number of objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final, Literal, NamedTuple

from gatekeeper_py.cli.inventory.tally import Usage, interned, only_warned, usage_order
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.admission.judge import Judge, Subject, Verdict
from gatekeeper_py.core.admission.outcome import exemption, role_of, slots_to_judge, subject_of
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Parts, Slot
from gatekeeper_py.core.admission.world import BY_NAME
from gatekeeper_py.core.compare.difference import Change
from gatekeeper_py.core.policy.decision import Decision, Reason
from gatekeeper_py.core.policy.policy import CompiledPolicy

CHANGES: Final[tuple[Change, ...]] = ("rejected", "approved", "rewritten")


class ImageChange(NamedTuple):
    """An image that the two policies treat differently.

    ``reason`` and ``detail`` are the new policy's. ``detail`` of a rewritten image is its new name.
    """

    image: str
    before: Literal["approved", "rejected"]
    after: Literal["approved", "rejected"]
    change: Change
    reason: Reason
    detail: str


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
            self._compare(request.namespace, slot, usage, before.get(parts), after.get(parts))

    def take_image(self, image: str, kind: GroupKind, usage: Usage) -> None:
        """Compare the policies on one image, used in an object of a kind."""
        slot = Slot((), "image", image)
        namespace, role = usage.namespace, role_of(kind)
        before, after = (
            Judge(policy, Subject(namespace, policy.mode(namespace), role), BY_NAME).verdict(slot)
            for policy in (self._old, self._new)
        )
        self._compare(usage.namespace, slot, usage, before, after)

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
            changed[each.change].add(each.image)
            if each.change == "rejected" and not only_warned(usages):
                refused.add(each.image)
        return {
            **{change: len(images) for change, images in changed.items()},
            "unchanged": len(self._images.difference(*changed.values())),
            "warned": len(changed["rejected"] - refused),
            "newlyRefused": len(self._refused),
            "newlyWarned": len(self._only_warned),
        }

    def listed(self) -> Iterator[tuple[ImageChange, list[Usage]]]:
        """Yield each change, and the uses of the image to which the change applies; both are sorted."""
        for change in sorted(self._usages, key=_order):
            yield change, sorted(self._usages[change], key=usage_order)

    def _compare(
        self,
        namespace: str | None,
        slot: Slot,
        usage: Usage,
        before: Verdict | None,
        after: Verdict | None,
    ) -> None:
        image = slot.value if isinstance(slot.value, str) else ""
        change = None
        if namespace not in self._exempt:
            change = self._change(namespace, image, before, after)
            if before is not None and after is not None and not before.approved and not after.approved:
                self._note_modes(namespace, image)
        if change is None:
            if not slot.problem:
                self._images.add(image)
            return
        self._images.add(image)
        in_force = interned(usage._replace(mode=self._new.mode(namespace)))
        self._usages.setdefault(change, []).append(in_force)

    def _note_modes(self, namespace: str | None, image: str) -> None:
        """Note an image that both policies reject, if only one of the modes refuses it."""
        refused, refuses_now = (policy.mode(namespace).refuses for policy in (self._old, self._new))
        if refused != refuses_now:
            (self._refused if refuses_now else self._only_warned).add(image)

    def _change(
        self, namespace: str | None, image: str, before: Verdict | None, after: Verdict | None
    ) -> ImageChange | None:
        was_approved = before is None or before.approved
        decision = _not_judged(image) if after is None else after.decision
        verdicts = _verdict(was_approved), _verdict(decision.approved)
        if was_approved != decision.approved:
            change: Change = "approved" if decision.approved else "rejected"
            return ImageChange(image, *verdicts, change, decision.reason, decision.detail)
        names = [_stored(policy, namespace, image) for policy in (self._old, self._new)]
        if names[0] == names[1]:
            return None
        return ImageChange(image, *verdicts, "rewritten", decision.reason, names[1])


def _verdicts(request: AdmissionRequest, policy: CompiledPolicy) -> dict[Parts, Verdict]:
    judge = Judge(policy, subject_of(request, policy), BY_NAME)
    return {slot.parts: judge.verdict(slot) for slot in slots_to_judge(request, policy)[0]}


def _stored(policy: CompiledPolicy, namespace: str | None, image: str) -> str:
    """Return the name under which a Pod would be stored."""
    judge = Judge(policy, Subject(namespace, policy.mode(namespace)), BY_NAME)
    new = judge.rewrite(Slot((), "image", image)) if judge.subject.mode.rewrites else None
    return image if new is None or new.rewritten is None else new.rewritten


def _not_judged(image: str) -> Decision:
    return Decision(
        image=image, approved=True, reason="allowed", detail="the new policy does not declare this field"
    )


def _verdict(approved: bool) -> Literal["approved", "rejected"]:  # noqa: FBT001
    return "approved" if approved else "rejected"


def _order(change: ImageChange) -> tuple[int, str, str, str, str, str]:
    return (
        CHANGES.index(change.change),
        change.image,
        change.before,
        change.after,
        change.reason,
        change.detail,
    )
