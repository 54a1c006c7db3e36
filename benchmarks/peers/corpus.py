"""Reviews to which every peer must give the same answer as gatekeeper-py, and the policy for them.

``approved.txt`` names the hosts; a Pod is allowed when each of its images is from one of them.

The peers look only at the host, so these reviews are left out:

* images with the default port or another name of Docker Hub (``registry.corp.example:443``,
  ``index.docker.io``): gatekeeper-py normalizes them, and the peers refuse them;
* references that no runtime could pull but whose host looks right (upper case in a path, a malformed tag or
  digest, an empty image or first part, a bare image id, ``Upper/name``): gatekeeper-py refuses references
  that it cannot parse, but the peers do not parse the rest of a reference;
* updates of Pods admitted earlier, deletions, mirror pods: gatekeeper-py judges only new images, the peers
  judge all they see;
* other kinds than Pods, custom resources, values of the wrong type, ``spec: null``: the peers know only Pods,
  and refuse the rest in ways of their own (400, 404, 500);
* duplicate keys, keys in another case, invalid UTF-8, very deep values: decoders differ, and no API server
  sends them.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.bodies import IMAGES, pod_review
from benchmarks.peers.roster import APPROVED

GOOD: Final = "registry.corp.example/shop/web:1.4.2"
BAD: Final = "quay.io/shop/web:1.4.2"
SMALL: Final = 2_300

DATA: Final = yaml.safe_load(Path(__file__).with_name("corpus.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One review, and whether it is allowed. ``name`` describes it."""

    name: str
    uid: str
    body: bytes
    allowed: bool


def policy_text() -> str:
    """Return a policy that decides as the peers do: a rule for each host of ``approved.txt``."""
    hosts = APPROVED.read_text(encoding="utf-8").split()
    rules = "".join(f"  - {host}\n" for host in hosts)
    return f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n{rules}"


def problems(ask: Callable[[bytes], tuple[int, bytes]]) -> list[str]:
    """Send the corpus to a server, and return a line for each wrong answer.

    ``ask`` sends a body, and returns the status and the body of the answer.
    """
    found = ((case, problem(case, *ask(case.body))) for case in cases())
    return [f"{case.name}: {wrong}" for case, wrong in found if wrong is not None]


def problem(case: Case, status: int, body: bytes) -> str | None:
    """Return why an answer is wrong or an API server would not accept it; ``None`` if it is right."""
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    try:
        review = json.loads(body)
    except ValueError as error:
        return f"no JSON ({error}): {body[:200]!r}"
    if not isinstance(review, dict) or not isinstance(review.get("response"), dict):
        return f"no response: {body[:200]!r}"
    response = review["response"]
    if (review.get("apiVersion"), review.get("kind")) != ("admission.k8s.io/v1", "AdmissionReview"):
        return f"it is a {review.get('apiVersion')} {review.get('kind')}"
    if response.get("uid") != case.uid:
        return f"the uid is {response.get('uid')!r}"
    if response.get("allowed") is not case.allowed:
        return f"allowed is {response.get('allowed')!r}"
    if "patch" in response or "patchType" in response:
        return "a validating webhook must not patch"
    return None if case.allowed else _problem_of_denial(response.get("status"))


def _problem_of_denial(status: Any) -> str | None:
    if not isinstance(status, dict):
        return "a denial has no status"
    if (status.get("code"), status.get("reason")) != (403, "Forbidden"):
        return f"a denial is {status.get('code')!r} {status.get('reason')!r}"
    message = status.get("message")
    return None if isinstance(message, str) and message else "a denial has no message"


def cases() -> list[Case]:
    """Return the corpus. Every body has a uid of its own."""
    return [
        *(
            _case(f"{what}: {image}", _review(image), allowed=verdict == "allowed")
            for verdict in ("allowed", "denied")
            for what, image in DATA[verdict].items()
        ),
        *map(_edited_case, DATA["edits"]),
        _case("a Pod of 7 KB", json.loads(pod_review(size=7_000)), allowed=True),
        _case("a Pod of 33 KB", json.loads(pod_review(size=33_000)), allowed=True),
        _case(
            "a Pod of 33 KB whose init container is from elsewhere",
            json.loads(pod_review(size=33_000, images=(*IMAGES[:2], BAD))),
            allowed=False,
        ),
        _case("indented JSON", _review(GOOD), allowed=True, indent=2),
        _case("indented JSON, denied", _review(BAD), allowed=False, indent=2),
        _escaped(_case("an approved image, its text escaped", _review(GOOD), allowed=True), GOOD),
        _escaped(_case("an image from elsewhere, its text escaped", _review(BAD), allowed=False), BAD),
    ]


def _review(image: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pod_review(size=SMALL, images=(image,)))
    return document


def _edited_case(row: dict[str, Any]) -> Case:
    """Return the review of a good Pod after the changes in a row of ``edits``."""
    document = _review(GOOD)
    request = document["request"]
    pod = request["object"]
    for edited, fields in ((request, "request"), (pod["metadata"], "metadata"), (pod["spec"], "spec")):
        edited.update(row.get(fields, {}))
    if "without" in row:
        del request[row["without"]], pod["metadata"][row["without"]]
    if "debugger" in row:
        request["oldObject"] = copy.deepcopy(pod)
        request |= {"operation": "UPDATE", "subResource": "ephemeralcontainers"}
        pod["spec"]["ephemeralContainers"] = [{"name": "debug", "image": row["debugger"]}]
    return _case(row["name"], document, allowed=row["allowed"])


def _escaped(case: Case, image: str) -> Case:
    """Return the same body with every character of the image as a JSON escape."""
    escapes = "".join(f"\\u{ord(character):04x}" for character in image)
    return replace(case, body=case.body.replace(image.encode(), escapes.encode()))


def _case(name: str, document: dict[str, Any], *, allowed: bool, indent: int | None = None) -> Case:
    uid = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    document["request"]["uid"] = uid
    # Keep characters that are not ASCII: API servers write UTF-8.
    body = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    return Case(name=name, uid=uid, body=body, allowed=allowed)
