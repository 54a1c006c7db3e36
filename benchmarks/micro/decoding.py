"""``python -m benchmarks.micro.decoding``: CPU time of the typed decode, by size and by shape of the body.

Prints the least and the median of several repeats in this process. Other programs on the machine increase
the median, but hardly the least. Fails when a target is missed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from benchmarks.bodies import (
    IMAGES,
    deployment_review,
    ephemeral_review,
    image_update,
    pod_review,
    pod_update,
)
from gatekeeper_py.serving.decode import parse_pod_review

KB: Final = 1000
SIZES: Final = (7 * KB, 33 * KB, 250 * KB, 1000 * KB)
REPEATS: Final = 15
REPEAT_SECONDS: Final = 0.05

MAX_US_PER_KB: Final = 3.5
"""The limit for a Pod of the largest size."""

MAX_OVER_POD: Final = 1.3
"""The limit for the cost of any other shape, divided by that of a Pod of the same size."""

POD: Final = "Pod"

SHAPES: Final[dict[str, Callable[..., bytes]]] = {
    POD: pod_review,
    "Deployment": deployment_review,
    "UPDATE of a label": pod_update,
    "UPDATE of all images": partial(image_update, old=IMAGES[0]),
    "ephemeral container": partial(ephemeral_review, debugger=IMAGES[1]),
}


class Cost(NamedTuple):
    """Microseconds of CPU for one body, which has ``bytes`` bytes; ``size`` is the intended number."""

    shape: str
    size: int
    bytes: int
    least: float
    median: float

    @property
    def us_per_kb(self) -> float:
        return self.least / self.bytes * KB


def measure(shape: str, size: int) -> Cost:
    """Return the cost of decoding a body.

    Raises ``ValueError`` for a body that the typed decode leaves to orjson.
    """
    body = SHAPES[shape](size=size)
    if parse_pod_review(body) is None:
        raise ValueError(f"{shape} of {len(body)} bytes is left to orjson")
    found = _repeats(lambda: parse_pod_review(body))
    return Cost(shape, size, len(body), min(found), statistics.median(found))


def _repeats(step: Callable[[], object]) -> list[float]:
    """Return the microseconds of CPU per call, one value for each repeat."""
    start = time.process_time()
    step()
    count = max(int(REPEAT_SECONDS / max(time.process_time() - start, 1e-6)), 1)
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(count):
            step()
        found.append((time.process_time() - start) / count * 1e6)
    return found


def over_pod(costs: Sequence[Cost]) -> dict[str, float]:
    """Return for each other shape the highest cost per byte, divided by that of a Pod of the same size."""
    pods = {cost.size: cost.us_per_kb for cost in costs if cost.shape == POD}
    return {
        shape: max(cost.us_per_kb / pods[cost.size] for cost in costs if cost.shape == shape)
        for shape in {cost.shape for cost in costs} - {POD}
    }


def missed(costs: Sequence[Cost]) -> list[str]:
    """Return a line for each target that is missed."""
    lines = [
        f"{shape}: {ratio:.2f} times a Pod of the same size, not {MAX_OVER_POD:g}"
        for shape, ratio in sorted(over_pod(costs).items())
        if ratio > MAX_OVER_POD
    ]
    largest = max((cost for cost in costs if cost.shape == POD), key=lambda cost: cost.size)
    if largest.us_per_kb > MAX_US_PER_KB:
        lines.append(
            f"{largest.bytes:,} bytes: {largest.us_per_kb:.2f} µs for each KB, not {MAX_US_PER_KB:g}"
        )
    return lines


def main() -> int:
    """Measure, print a table of Markdown, and return the exit status."""
    costs = [measure(shape, size) for size in SIZES for shape in SHAPES]
    print("| body | bytes | least µs | median µs | µs for each KB |\n|---|---|---|---|---|")
    for cost in costs:
        print(
            f"| {cost.shape} | {cost.bytes:,} | {cost.least:.1f} | {cost.median:.1f} | {cost.us_per_kb:.2f} |"
        )
    problems = missed(costs)
    print("\n".join(problems) or "all targets are met")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
