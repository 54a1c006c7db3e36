"""Search for an accepted policy under which one image takes long."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from fuzz.climbing import climb
from fuzz.conftest import CALLS, SECONDS
from fuzz.loops import SLICE_SECONDS
from gatekeeper_py.core import PolicyError, parse_policy
from support.builders import policy_document

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMAGES_IN_A_STEP: Final = 32
"""Number of images that the server judges in one turn of the event loop."""

REFUSED: Final = {"too-many-wildcards", "too-many-copies"}

MAX_LITERAL: Final = 63
"""Maximum number of characters of a glob in a host, without the stars."""

CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "place": ("segment", "segments", "host", "tag", "namespace", "override"),
    "section": ("allow", "deny"),
    "number": (30, 100, 200, 400, 600, 800, 1_000, 3_000),
    "letters": (1, 2, 4, 8, 26),
    "length": (1, 2, 3, 5, 9),
    "varied": (False, True),
    "pieces": (1, 2, 3, 6, 20),
    "before": ("", "*", "a", "s"),
    "after": ("", "*", "a", "s"),
    "mirrors": (0, 0, 1, 4, 20, 90),
    "seed": tuple(range(8)),
}


@dataclass(frozen=True)
class Shape:
    """Globs of random pieces. ``s`` before or after them stands for a run of ``a`` of any length."""

    place: str
    section: str
    number: int
    letters: int
    length: int
    varied: bool
    pieces: int
    before: str
    after: str
    mirrors: int
    seed: int

    def glob(self, chance: random.Random) -> str:
        pieces = "*".join(self.piece(chance) for _ in range(self.pieces))
        before, after = (
            end if end in {"", "*"} else "a" * (1 if end == "a" else chance.randint(1, 40))
            for end in (self.before, self.after)
        )
        return f"{before}{'*' * before.isalpha()}{pieces}{'*' * after.isalpha()}{after}"

    def piece(self, chance: random.Random) -> str:
        length = chance.randint(1, self.length) if self.varied else self.length
        return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz"[: self.letters], k=length))

    def written(self) -> tuple[str, str | None, str]:
        """Return a policy, and the namespace and image that contain as many pieces as possible."""
        chance = random.Random(self.seed)
        made = dict.fromkeys(self.glob(chance) for _ in range(self.number))
        counted = (lambda glob: glob) if self.place in {"namespace", "override"} else literal
        globs = [glob for glob in made if len(counted(glob)) <= MAX_LITERAL] or ["a*"]
        room = {"segment": 240, "segments": 60, "tag": 128, "host": 3_500}.get(self.place, 253)
        text = "a" * (40 if "s" in (self.before, self.after) else 0)
        while len(text) < room:
            text += self.piece(chance)
        text = text[:room]
        below = "t/" * (self.mirrors if self.place == "tag" or self.mirrors < 10 else min(self.mirrors, 5))
        host = "*" if self.section == "deny" else "r.io"
        rules: list[Any] = []
        image, namespace = f"r.io/{below}{text}", None
        if self.place == "segment":
            rules = [f"{host}/{glob}" for glob in globs]
        elif self.place == "segments":
            rules = [f"{host}/{glob}/{other}" for glob, other in zip(globs, reversed(globs), strict=True)]
            image = f"r.io/{below}{text}/{text}"
        elif self.place == "host":
            rules = [f"{glob}.io" for glob in globs]
            image = f"{text}.io/x"
        elif self.place == "tag":
            rules = [f"{host}/**:{glob}" for glob in globs]
            image = f"r.io/{below}x:{text}"
        else:
            rules = [{"image": f"{host}/**", "namespaces": [glob]} for glob in globs]
            image, namespace = f"r.io/{below}x", text
        overrides = [{"mode": "warn", "names": globs[:1_000]}] if self.place == "override" else []
        mirrors = [{"from": f"m{i}.io", "to": "r.io" + "/t" * i} for i in range(self.mirrors)]
        document = policy_document(["z.io"], mirrors=mirrors, mode="enforce", namespaces=overrides)
        document[self.section] = rules
        return json.dumps(document), namespace, image


def literal(glob: str) -> str:
    return glob.replace("*", "")


class Shapes:
    """Makes and changes shapes at random."""

    def any(self, chance: random.Random) -> Shape:
        return Shape(**{name: chance.choice(values) for name, values in CHOICES.items()})

    def changed(self, recipe: Shape, chance: random.Random) -> Shape:
        name = chance.choice(fields(Shape)).name
        return replace(recipe, **{name: chance.choice(CHOICES[name])})


def share_of_a_step(shape: Shape) -> float:
    """Return the share of its time in a turn of the loop that one image takes. 0 for a refused policy."""
    text, namespace, image = shape.written()
    try:
        policy = parse_policy(text).at(NOON)
    except PolicyError as refused:
        if any(finding.code not in REFUSED for finding in refused.findings):
            raise
        return 0.0
    seconds = []
    for _ in range(3):  # on a busy machine the minimum counts
        started = time.thread_time()
        policy.decide(namespace, image)
        policy.mode(namespace)
        seconds.append(time.thread_time() - started)
    return min(seconds) * IMAGES_IN_A_STEP / SLICE_SECONDS


@pytest.mark.long
def test_no_accepted_policy_makes_an_image_slow() -> None:
    worst, shape = climb(Shapes(), share_of_a_step, seconds=SECONDS, least_calls=CALLS)
    print(f"the slowest found takes {worst:.0%} of what it may: {shape}")  # noqa: T201 - pytest -s shows it
    assert worst <= 1.0, f"{worst:.1f} times what it may take: {shape}"
