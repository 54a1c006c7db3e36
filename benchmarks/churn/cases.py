"""The cases as data: what is registered with the API server, and the expected answers.

To add a case, add a row to ``CASES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import yaml

from benchmarks.churn import native
from benchmarks.churn.approval import MIRROR
from benchmarks.churn.gatekeeper import Gatekeeper
from benchmarks.churn.pods import Sidecar
from benchmarks.churn.site import Site
from tools.installation.product import K8S, MUTATING, NAMESPACE, VALIDATING

OTHERS = (NAMESPACE, "kube-system")
"""Exempt namespaces, as for our own webhook."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The control plane and the peer that a case may use."""

    site: Site
    gatekeeper: Gatekeeper | None = None


Registered = Callable[[Stage], AbstractContextManager[Sequence[str]]]
"""A context manager that registers a case. It yields the names of the processes that answer reviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to decide about images.

    ``denies`` is whether an unlisted image is refused. A create leads to ``preapproved_reviews`` reviews by
    our replicas when all of its images are pre-approved, to ``unlisted_reviews`` when one is unlisted, and to
    ``other_reviews`` otherwise. ``shares`` are the percentages of pre-approved Pods to measure with; there is
    one when the percentage makes no difference. The remaining Pods have a sidecar of the kind ``other``.
    Every answer contains the text ``holds`` and has ``warnings`` warnings.
    """

    name: str
    registered: Registered
    denies: bool = True
    preapproved_reviews: int = 0
    other_reviews: int = 0
    unlisted_reviews: int = 0
    shares: tuple[int, ...] = (50,)
    other: Sidecar = "with-port"
    holds: str = ""
    warnings: int = 0

    def reviews(self, share: int) -> float:
        """Return the reviews per create when ``share`` per cent of the Pods are pre-approved."""
        return (self.preapproved_reviews * share + self.other_reviews * (100 - share)) / 100


@contextmanager
def _nothing(_: Stage) -> Iterator[Sequence[str]]:
    yield ()


@contextmanager
def ours(stage: Stage, *, overlay: str) -> Iterator[Sequence[str]]:
    """Apply an overlay unchanged, and yield the process names of our replicas."""
    stage.site.arm(overlay)
    try:
        yield stage.site.servers()
    finally:
        stage.site.disarm()


@contextmanager
def _both(stage: Stage) -> Iterator[Sequence[str]]:
    """Install the overlay ``enforce`` with the mutating webhook, without a controller."""
    with ours(stage, overlay="enforce") as servers:
        stage.site.end_controller()
        validating = stage.site.product.get(VALIDATING)
        assert validating is not None
        bundle = validating["webhooks"][0]["clientConfig"]["caBundle"]
        document = yaml.safe_load((K8S / "base/webhooks/mutating.yaml").read_text(encoding="utf-8"))
        for webhook in document["webhooks"]:
            webhook["clientConfig"]["caBundle"] = bundle
        stage.site.create(MUTATING.rpartition("/")[0], document)
        yield servers


@contextmanager
def _native(stage: Stage) -> Iterator[Sequence[str]]:
    made: list[str] = []
    try:
        for document in native.documents():
            made.append(native.path(document))
            stage.site.create(native.COLLECTIONS[document["kind"]], document)
        yield ()
    finally:
        for path in reversed(made):
            stage.site.delete(path)


@contextmanager
def _gatekeeper(stage: Stage) -> Iterator[Sequence[str]]:
    if stage.gatekeeper is None:
        raise ValueError("there is no Gatekeeper here")
    with stage.gatekeeper.registered():
        yield (stage.gatekeeper.process,)


CASES = (
    Case(name="none", registered=_nothing, denies=False),
    # Shows how far apart two measurements of the same case are.
    Case(name="none-again", registered=_nothing, denies=False),
    # As shipped: the mutating webhook is registered only while the policy can rewrite images.
    Case(
        name="enforce",
        registered=partial(ours, overlay="enforce"),
        preapproved_reviews=1,
        other_reviews=1,
        unlisted_reviews=1,
    ),
    # Shows the cost of registering the mutating webhook even when no image can be rewritten.
    Case(
        name="enforce-two-calls",
        registered=_both,
        preapproved_reviews=2,
        other_reviews=2,
        unlisted_reviews=2,
    ),
    # As shipped, with an image to rewrite in every Pod.
    Case(
        name="mutate",
        registered=partial(ours, overlay="mutate"),
        preapproved_reviews=2,
        other_reviews=2,
        unlisted_reviews=2,
        shares=(0,),
        other="mirrored",
        holds=f'"image":"{MIRROR}/',
        warnings=1,
    ),
    Case(name="native", registered=_native, shares=(50, 100)),
    Case(
        name="fast-path",
        registered=partial(ours, overlay="fast-path"),
        other_reviews=1,
        unlisted_reviews=1,
        shares=(0, 10, 50, 100),
    ),
    Case(name="gatekeeper", registered=_gatekeeper),
)


def available(*, gatekeeper: bool) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that can run on this machine, and why the others cannot."""
    missing: dict[str, str] = {}
    if not (K8S / "overlays" / "fast-path").is_dir():
        missing["fast-path"] = "there is no overlay k8s/overlays/fast-path"
    if not gatekeeper:
        missing["gatekeeper"] = "no binary was given; see --gatekeeper and --build-gatekeeper"
    return [case for case in CASES if case.name not in missing], missing
