"""Verdicts about images, one expression after the other.

An API server limits the cost of an expression, so the rules are split over several variables of a policy.
Each variable decides the images that the earlier ones left undecided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gatekeeper_py.core.compile.cost import Part
from gatekeeper_py.core.compile.native.objects import Variable

APPROVED: Final = "approved"
REJECTED: Final = "rejected"


def verdicts(
    prefix: str, source: str, conditions: Iterable[tuple[str, Part]], *, more: int = 0
) -> Iterator[Variable]:
    """Yield variables named ``prefix0``, ``prefix1`` and so on, each with the verdicts so far.

    ``source`` is a list of ``[image, name, ...]``; each item has ``more`` further texts. The last variable
    adds the verdict at the end of each item. ``conditions`` holds pairs of a verdict and its condition. The
    verdict is empty when no condition matched. An image without a name is rejected.
    """
    carried = "".join(f", p[{index}]" for index in range(2, 2 + more))
    verdict = f"p[{2 + more}]"
    variable = Variable(
        f"{prefix}0", f"{source}.map(p, [p[0], p[1]{carried}, p[1] == '' ? '{REJECTED}' : ''])"
    )
    yield variable
    for number, (given, part) in enumerate(conditions):
        mapping = f"[p[0], p[1]{carried}, {verdict} == '' && {part.text} ? '{given}' : {verdict}]"
        variable = Variable(f"{prefix}{number + 1}", f"{variable.reference}.map(p, {mapping})")
        yield variable
