"""Verdicts about images, one expression after the other.

One expression may hold few rules, because an API server bounds what it costs. So the rules are in several
variables of a policy: each gives its verdict to the images that have none yet.
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

    ``source`` is a list of ``[image, name, ...]``, with ``more`` texts after the first two. The last variable
    has the verdict after these: empty when no condition, each given with its verdict, holds for the name. An
    image without a name is rejected.
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
