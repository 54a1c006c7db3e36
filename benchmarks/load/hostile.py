"""Bodies that are expensive on purpose, and a client that sends one repeatedly and checks the answers.

Each is as heavy as the limits allow (docs/interface.md, "HTTP"), or just heavier. Anyone who can reach the
port can send all of them; anyone who can create an object can make an API server send those of up to 3 MB.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.load.bench import WrongAnswer
from benchmarks.load.cases import Meanwhile, Step

MAX_BODY: Final = 7 * 1024 * 1024
APPROVED: Final = "registry.corp.example/shop/web:1.4.2"
CONTAINER: Final = '{"image":"a"}'


@dataclass(frozen=True, slots=True)
class Attack:
    """A body and the answer that is documented for it.

    ``allowed`` is ``None`` for a body that is refused before it is judged. ``message`` is in the answer.
    """

    body: Callable[[], bytes]
    status: int = 200
    allowed: bool | None = None
    message: str = ""

    def problem(self, status: int, answer: bytes) -> str:
        """Return what is wrong with an answer; empty when it is the documented one."""
        if status != self.status:
            return f"status {status} instead of {self.status}: {answer[:300]!r}"
        response = json.loads(answer).get("response", {})
        if response.get("allowed") is not self.allowed:
            return f"allowed is {response.get('allowed')} instead of {self.allowed}: {answer[:300]!r}"
        return "" if self.message.encode() in answer else f"{self.message!r} is not in {answer[:300]!r}"


def review(
    obj: str, *, kind: str = "Pod", group: str = "", old: str = "null", user: str = "{}", more: str = ""
) -> bytes:
    """Return an AdmissionReview of an object given as JSON; ``more`` adds fields to the request."""
    operation = "CREATE" if old == "null" else "UPDATE"
    return (
        '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"hostile",'
        f'"kind":{{"group":"{group}","version":"v1","kind":"{kind}"}},"operation":"{operation}",'
        f'"namespace":"shop","userInfo":{user},"object":{obj},"oldObject":{old}{more}}}}}'
    ).encode()


def pod(containers: str = f'[{{"image":"{APPROVED}"}}]', *, metadata: str = "{}", volumes: str = "[]") -> str:
    return f'{{"metadata":{metadata},"spec":{{"containers":{containers},"volumes":{volumes}}}}}'


def listed(item: str, count: int) -> str:
    return f"[{','.join([item] * count)}]"


def numbered(form: str, count: int, ends: str = "[]") -> str:
    """Return a JSON list or mapping of ``count`` items, each with its number for the ``@`` in ``form``."""
    return ends[0] + ",".join(form.replace("@", f"{number:06}") for number in range(count)) + ends[1]


def padded(value: str) -> bytes:
    """Return the review of an approved Pod with one additional field that the webhook ignores."""
    return review(pod(), more=f',"padding":{value}')


def _annotated(annotations: str) -> bytes:
    return review(pod(metadata=f'{{"annotations":{annotations}}}'))


def custom(spec: str, *, old: str = "null") -> bytes:
    """Return the review of a custom resource, in which the webhook searches for images by shape."""
    return review(f'{{"spec":{spec}}}', kind="Widget", group="example.com", old=old)


def _long_images() -> bytes:
    """Return a review of 1,000 images of 4,000 characters on unknown hosts, each to be parsed and decided."""
    images = ("a." * 1900 + f"{number:04}.io/b" for number in range(1000))
    return review(pod("[" + ",".join(f'{{"image":"{image}"}}' for image in images) + "]"))


ATTACKS: Final[dict[str, Attack]] = {
    "300,000 containers": Attack(
        lambda: review(pod(listed(CONTAINER, 300_000))), allowed=False, message="too many images (300000;"
    ),
    "1,000,000 numbers for containers": Attack(
        lambda: review(pod(listed("1", 1_000_000))), allowed=False, message="too many images (1000000;"
    ),
    "150,000 image volumes": Attack(
        lambda: review(pod(volumes=listed('{"image":{"reference":"a"}}', 150_000))),
        allowed=False,
        message="too many images (150001;",
    ),
    "old object with 1,000,000 items": Attack(
        lambda: review(pod(), old=pod(listed("1", 1_000_000))), allowed=True
    ),
    "1,000 long images": Attack(_long_images, allowed=False, message="more images not approved"),
    "100,000 pod specs in a custom resource": Attack(
        lambda: custom(listed(f'{{"containers":[{CONTAINER}]}}', 100_000)),
        allowed=False,
        message="too many images (100000;",
    ),
    "190,000 empty pod specs": Attack(
        lambda: custom(listed('{"containers":[]}', 190_000)), allowed=True, message="no image found"
    ),
    "custom resource of 390,000 lists": Attack(
        lambda: custom(listed("[1]", 390_000)), allowed=True, message="no image found"
    ),
    "250,000 different keys": Attack(lambda: padded(numbered('"@":1', 250_000, "{}")), allowed=True),
    "250,000 annotations": Attack(lambda: _annotated(numbered('"@":""', 250_000, "{}")), allowed=True),
    "1,000,000 short texts": Attack(lambda: padded(listed('"a"', 1_000_000)), allowed=True),
    "300,000 small mappings": Attack(lambda: padded(numbered('{"@":1}', 300_000)), allowed=True),
    "1,000,000 user groups": Attack(
        lambda: review(pod(), user=f'{{"groups":{listed(chr(34) * 2, 1_000_000)}}}'), allowed=True
    ),
    "one text of 7 MiB": Attack(lambda: padded('"' + "x" * (MAX_BODY - 1000) + '"'), allowed=True),
    "7 MiB of empty lists": Attack(lambda: b"[" + b"[]," * (MAX_BODY // 3 - 1) + b"1]", status=413),
    "7 MiB of numbers": Attack(lambda: padded(listed("1", MAX_BODY // 2 - 1000)), status=413),
    "7 MiB of different keys": Attack(lambda: padded(numbered('"@":1', 650_000, "{}")), status=413),
    "3,000,000 nested lists": Attack(lambda: b"[" * 3_000_000, status=413),
    "1,100 levels": Attack(lambda: padded("[" * 1100 + "]" * 1100), status=400),
    "7 MiB that ends too early": Attack(
        lambda: padded('"' + "x" * (MAX_BODY - 1000) + '"')[:-1], status=400, message="not JSON"
    ),
}
"""Name -> an attack."""


def send(name: str) -> Step:
    """Return a step that sends one attack again and again while the probe is measured."""
    attack = ATTACKS[name]

    def step(meanwhile: Meanwhile) -> dict[str, Any]:
        body = attack.body()
        if len(body) > MAX_BODY:
            raise ValueError(f"{name} has {len(body)} bytes")
        worst, sent = 0.0, 0
        with contextlib.closing(meanwhile.server.connect()) as connection:
            while not meanwhile.ended() or not sent:
                begun = time.perf_counter()
                path = meanwhile.server.contestant.path
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                problem = attack.problem(response.status, response.read())
                if problem:
                    raise WrongAnswer(f"{name}: {problem}")
                worst = max(worst, time.perf_counter() - begun)
                sent += 1
        return {"hostile_sent": sent, "hostile_bytes": len(body), "hostile_worst_ms": worst * 1000}

    return step
