"""The cases as data: what is registered with the API server, and the expected answers.

To add a case, add a row to ``CASES``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import yaml

from benchmarks.cluster.comparison import BASE
from benchmarks.cluster.gatekeeper import Gatekeeper
from benchmarks.cluster.pods import MIRROR, POLICY_FILE, Sidecar
from benchmarks.cluster.site import Site
from tools.installation.product import K8S, MUTATING, NAMESPACE, VALIDATING

OTHERS: Final = (NAMESPACE, "kube-system")
"""Exempt namespaces, as for our own webhook."""

_API: Final = "/apis/admissionregistration.k8s.io/v1"
NATIVE: Final = {
    "ValidatingAdmissionPolicy": f"{_API}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_API}/validatingadmissionpolicybindings",
}
"""The kinds of a native policy, in the order in which to create them, with their paths."""


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

    ``denies`` is whether an unlisted image is refused. Our replicas review each created Pod ``calls`` times.
    If the case ``skips`` Pods of pre-approved images, they do not review such a Pod. In a load, one image of
    each Pod is of the kind ``sidecar``. Every answer must contain the text ``holds`` and have ``warnings``
    warnings.
    """

    name: str
    registered: Registered
    denies: bool = True
    calls: int = 0
    skips: bool = False
    sidecar: Sidecar = "pre-approved"
    holds: str = ""
    warnings: int = 0

    @property
    def reviews(self) -> int:
        """The number of reviews for each create of the load."""
        return 0 if self.skips else self.calls


@contextmanager
def _nothing(_: Stage) -> Iterator[Sequence[str]]:
    yield ()


@contextmanager
def _ours(stage: Stage, *, overlay: str) -> Iterator[Sequence[str]]:
    """Apply an overlay, and yield the process names of our replicas."""
    stage.site.arm(overlay)
    try:
        yield stage.site.servers()
    finally:
        stage.site.disarm()


@contextmanager
def _both(stage: Stage) -> Iterator[Sequence[str]]:
    """Install the overlay ``enforce`` with the mutating webhook, without a controller."""
    with _ours(stage, overlay="enforce") as servers:
        stage.site.end_controller()
        validating = stage.site.product.get(VALIDATING)
        assert validating is not None
        bundle = validating["webhooks"][0]["clientConfig"]["caBundle"]
        document = yaml.safe_load((K8S / "base/webhooks/mutating.yaml").read_text(encoding="utf-8"))
        for webhook in document["webhooks"]:
            webhook["clientConfig"]["caBundle"] = bundle
        stage.site.plane.api("POST", MUTATING.rpartition("/")[0], document)
        yield servers


@contextmanager
def _native(stage: Stage) -> Iterator[Sequence[str]]:
    made: list[str] = []
    try:
        for document in native_documents():
            made.append(native_path(document))
            stage.site.plane.api("POST", NATIVE[document["kind"]], document)
        yield ()
    finally:
        for path in reversed(made):
            stage.site.delete(path)


def native_documents() -> list[dict[str, Any]]:
    """Return the ValidatingAdmissionPolicy that ``compile`` makes of the policy, and its binding.

    Raises ``CalledProcessError`` when the policy cannot be compiled exactly.
    """
    argv = [sys.executable, "-m", "gatekeeper_py", "compile", str(POLICY_FILE)]
    options = ["--to", "validating-admission-policy", "--format", "json"]
    compiled = subprocess.run([*argv, *options], check=True, stdout=subprocess.PIPE)
    items = json.loads(compiled.stdout)["items"]
    return sorted(items, key=lambda item: list(NATIVE).index(item["kind"]))


def native_path(document: dict[str, Any]) -> str:
    """Return the path of a part of a native policy on the API server."""
    return f"{NATIVE[document['kind']]}/{document['metadata']['name']}"


@contextmanager
def _gatekeeper(stage: Stage) -> Iterator[Sequence[str]]:
    assert stage.gatekeeper is not None
    with stage.gatekeeper.registered():
        yield (stage.gatekeeper.process,)


CASES: Final = (
    Case(name=BASE, registered=_nothing, denies=False),
    # Shows how far apart two measurements of the same case are.
    Case(name="none-again", registered=_nothing, denies=False),
    # As shipped: the mutating webhook is registered only while the policy can rewrite images.
    Case(name="enforce", registered=partial(_ours, overlay="enforce"), calls=1),
    # Shows the cost of registering the mutating webhook even when no image can be rewritten.
    Case(name="enforce-two-calls", registered=_both, calls=2),
    # As shipped, with an image to rewrite in every Pod.
    Case(
        name="mutate",
        registered=partial(_ours, overlay="mutate"),
        calls=2,
        sidecar="mirrored",
        holds=f'"image":"{MIRROR}/',
        warnings=1,
    ),
    Case(name="native", registered=_native),
    Case(name="fast-path", registered=partial(_ours, overlay="fast-path"), calls=1, skips=True),
    Case(name="gatekeeper", registered=_gatekeeper),
)
