"""Judge every image of a live cluster as the webhook would."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import ActivePolicy, Judgement
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.listing import OnPage, collect
from gatekeeper_py.inventory.tally import JudgedImage, Tally, Usage
from gatekeeper_py.inventory.warned import Warned


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The images that a cluster runs. ``missing`` are the kinds that the cluster does not serve."""

    tally: Tally
    missing: tuple[GroupKind, ...]


async def survey(
    api: ApiClient,
    policy: ActivePolicy,
    *,
    namespace: str | None,
    exempt: AbstractSet[str] = frozenset(),
    keep_approved: bool,
    on_page: OnPage = lambda _resource, _seen, _left: None,
    warned: Warned | None = None,
) -> Survey:
    """List all objects that hold images, in one namespace or in all, and judge their images.

    Images in the ``exempt`` namespaces have the verdict ``exempt``, since the webhook does not review them.
    ``warned`` collects the owners whose Pods would get warnings. Raises ``ClusterError`` when a kind cannot
    be listed, because an incomplete audit must not look complete.
    """
    judged = _Judged(policy, exempt, keep_approved=keep_approved, warned=warned)
    missing = await collect(api, policy.resources, judged, namespace=namespace, on_page=on_page)
    judged.tally.objects = judged.objects
    return Survey(tally=judged.tally, missing=missing)


class _Judged:
    """Collects the verdicts about all images."""

    def __init__(
        self,
        policy: ActivePolicy,
        exempt: AbstractSet[str],
        *,
        keep_approved: bool,
        warned: Warned | None,
    ) -> None:
        self.objects = 0
        self.tally = Tally(keep_approved=keep_approved)
        self._policy = policy
        self._exempt = exempt
        self._keep_approved = keep_approved
        # Shared by all instances: if a list is read again, its owners are noted twice, but kept once.
        self._warned = warned

    def empty(self) -> _Judged:
        return _Judged(self._policy, self._exempt, keep_approved=self._keep_approved, warned=self._warned)

    def merge(self, other: _Judged) -> None:
        self.objects += other.objects
        self.tally.merge(other.tally)

    def take(self, request: AdmissionRequest) -> None:
        outcome = admission.validate(request, self._policy)
        if self._warned is not None and request.namespace not in self._exempt:
            self._warned.take(request, outcome)
        for judgement in outcome.judgements:
            image = judged_image(judgement, self._policy, request.namespace)
            if request.namespace in self._exempt:
                image = image._replace(verdict="exempt")
            usage = Usage(request.kind, request.namespace, request.name, judgement.slot.path)
            self.tally.add(image, usage, judgement.decision.rule)


def judged_image(judgement: Judgement, policy: ActivePolicy, namespace: str | None) -> JudgedImage:
    """Return the image of a judgement with its verdict.

    The image and its canonical form are those before a mirror rewrite.
    """
    decision = judgement.decision
    value = judgement.slot.value
    image = value if isinstance(value, str) else ""
    written = decision if judgement.rewritten is None else policy.decide(namespace, image)
    return JudgedImage(
        image=image,
        canonical=written.canonical if written.reason != "invalid" else None,
        verdict="approved" if decision.approved else "rejected",
        reason=decision.reason,
        detail=decision.detail,
    )
