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

from benchmarks.cluster.comparison import BASE
from benchmarks.cluster.peers import GATEKEEPER, KYVERNO, WEBHOOKS, Peer, Release
from benchmarks.cluster.pods import POLICY_FILE
from benchmarks.cluster.site import Site

_API: Final = "/apis/admissionregistration.k8s.io/v1"
NATIVE: Final = {
    "ValidatingAdmissionPolicy": f"{_API}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_API}/validatingadmissionpolicybindings",
}
"""The kinds of a native policy, in the order in which to create them, with their paths."""

PEER_WEBHOOK: Final = f"{WEBHOOKS}/peer"

Registered = Callable[[Site], AbstractContextManager[Sequence[int]]]
"""A context manager that registers a case. It yields the ids of the processes that answer reviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to decide about images.

    ``denies`` states whether an unlisted image is refused. Our replicas review each created Pod ``calls``
    times. If the case ``skips`` Pods of pre-approved images, they do not review such a Pod. ``needs`` is the
    peer that decides.
    """

    name: str
    title: str
    registered: Registered
    denies: bool = True
    calls: int = 0
    skips: bool = False
    needs: Release | None = None

    @property
    def reviews(self) -> int:
        """The number of reviews for each create of the load."""
        return 0 if self.skips else self.calls

    @property
    def ours(self) -> bool:
        """Whether gatekeeper-py or its native policy decides."""
        return self.denies and self.needs is None


@contextmanager
def _nothing(_: Site) -> Iterator[Sequence[int]]:
    yield ()


@contextmanager
def _ours(site: Site, *, overlay: str) -> Iterator[Sequence[int]]:
    """Apply an overlay, and yield the process ids of our replicas."""
    site.arm(overlay)
    try:
        yield site.servers()
    finally:
        site.disarm()


@contextmanager
def _native(site: Site) -> Iterator[Sequence[int]]:
    made: list[str] = []
    try:
        for document in native_documents():
            made.append(native_path(document))
            site.plane.api("POST", NATIVE[document["kind"]], document)
        yield ()
    finally:
        for path in reversed(made):
            site.delete(path)


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
def _peer(site: Site, *, case: str) -> Iterator[Sequence[int]]:
    peer = peer_of(site, case)
    site.plane.api("POST", WEBHOOKS, peer.webhooks[case])
    assert peer.process is not None
    try:
        yield (peer.process.pid,)
    finally:
        site.delete(PEER_WEBHOOK)


def peer_of(site: Site, case: str) -> Peer:
    """Return the running peer of a case."""
    (peer,) = (each for each in site.peers if case in each.webhooks)
    return peer


def _peer_case(name: str, title: str, release: Release) -> Case:
    return Case(name=name, title=title, registered=partial(_peer, case=name), needs=release)


CASES: Final = (
    Case(name=BASE, title="no webhook", registered=_nothing, denies=False),
    # Shows how far apart two measurements of the same case are.
    Case(name="none-again", title="no webhook, again", registered=_nothing, denies=False),
    # As shipped: one call for each Pod.
    Case(name="enforce", title="gatekeeper-py", registered=partial(_ours, overlay="enforce"), calls=1),
    Case(
        name="fast-path",
        title="gatekeeper-py, fast path",
        registered=partial(_ours, overlay="fast-path"),
        calls=1,
        skips=True,
    ),
    Case(name="native", title="native policy, compiled", registered=_native),
    _peer_case("gatekeeper", f"Gatekeeper {GATEKEEPER.version[1:]}", GATEKEEPER),
    _peer_case("kyverno-clusterpolicy", f"Kyverno {KYVERNO.version[1:]}, ClusterPolicy", KYVERNO),
    _peer_case("kyverno-validatingpolicy", f"Kyverno {KYVERNO.version[1:]}, ValidatingPolicy", KYVERNO),
)
