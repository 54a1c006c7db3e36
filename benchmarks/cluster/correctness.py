"""The images in ``images.yaml``, and which of them a case admits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.cluster.pods import pod
from benchmarks.cluster.site import Administrator, Spoiled

ADMITTED: Final = frozenset({200, 201})
REFUSED: Final = frozenset({400, 403, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An image, the part of a Pod in which it is, and the right answer with its reason."""

    image: str
    admit: bool
    why: str
    place: str = "containers"

    def pod(self) -> dict[str, Any]:
        """Return a Pod with the image. Its other images are approved."""
        found = pod()
        spec = found["spec"]
        if self.place == "volumes":
            spec["volumes"].append({"name": "tested", "image": {"reference": self.image}})
        elif self.place == "initContainers":
            spec[self.place] = [self.container()]
        else:
            spec["containers"][1]["image"] = self.image
        return found

    def container(self) -> dict[str, Any]:
        return {"name": "tested", "image": self.image}


ROWS: Final = tuple(
    Row(**row) for row in yaml.safe_load(Path(__file__).with_name("images.yaml").read_text(encoding="utf-8"))
)


def answers(administrator: Administrator) -> list[bool]:
    """Return, for each row, whether the API server admits it. Raises Spoiled for any other answer."""
    return [_answer(administrator, row) for row in ROWS]


def _answer(administrator: Administrator, row: Row) -> bool:
    if row.place == "ephemeralContainers":
        status = administrator.debug([row.container()])
    else:
        status = administrator.create(row.pod())
    if status not in ADMITTED | REFUSED:
        raise Spoiled(
            f"the API server answered {status} for the Pod with {row.image}: {administrator.answer}"
        )
    return status in ADMITTED


def mistakes(found: list[bool]) -> tuple[list[Row], list[Row]]:
    """Return the rows that were admitted wrongly, and those that were refused wrongly."""
    wrong = [row for row, admitted in zip(ROWS, found, strict=True) if admitted != row.admit]
    return [row for row in wrong if not row.admit], [row for row in wrong if row.admit]
