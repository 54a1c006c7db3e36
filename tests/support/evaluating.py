"""Match conditions and policies as an API server evaluates them: its own code, called over a pipe.

``celoracle`` is compiled against the module files of the end-to-end tests' Kubernetes, so the
release is named in one place. The binary is kept in ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/celoracle``.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tools.gobuild import Product, Programs

TESTS: Final = Path(__file__).resolve().parents[1]
ORACLE: Final = Programs(
    name="celoracle",
    products=(
        Product(
            folder=TESTS.parent / "tools" / "controlplane" / "kubernetes",
            packages={"celoracle": ""},
            files=(TESTS / "celoracle" / "oracle.go", TESTS / "celoracle" / "policy.go"),
        ),
    ),
    title="the evaluator",
    target="make go-test",
)

COST_LIMIT: Final = 1_000_000
"""Maximum cost of one expression. Source: apiserver, pkg/apis/cel/config.go."""


class RefusedError(ValueError):
    """The API server would refuse the condition, or could not decode the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of one condition. ``matches`` is ``None`` when there was an error.

    ``sent`` is the object as a webhook would get it, after decoding and encoding. Times are in nanoseconds;
    ``compile`` is close to zero for an expression that was evaluated before.
    """

    matches: bool | None
    error: str
    sent: Any
    cost: int
    compile: int
    elapsed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The result of an admission policy for a request.

    It is ``skipped`` when a match condition is false. ``message`` is that of the validations that failed.
    """

    skipped: bool
    allowed: bool
    message: str
    error: str
    cost: int
    elapsed: int


class Evaluator:
    """A running oracle; a context manager."""

    def __init__(self, binary: Path) -> None:
        self._process = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the process ends at the end of its input
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def evaluate(self, expression: str, review: dict[str, Any], *, typed: bool = True) -> Evaluation:
        """Evaluate one condition for the request of a review.

        A ``typed`` object is decoded as an API server decodes its own kinds. Raises ``RefusedError``.
        """
        answer = self._ask({"conditions": [expression], "typed": typed}, review)
        error = answer.get("error", "")
        return Evaluation(
            matches=None if error else answer["results"][0],
            error=error,
            sent=answer["sent"],
            cost=answer["cost"],
            compile=answer["compile"],
            elapsed=answer["elapsed"],
        )

    def judge(self, spec: dict[str, Any], review: dict[str, Any]) -> Judgement:
        """Evaluate the spec of an admission policy for the request of a review. Raises ``RefusedError``."""
        answer = self._ask({"policy": spec, "typed": True}, review)
        results = answer["results"]
        return Judgement(
            skipped=answer["skipped"],
            allowed=all(results),
            message="; ".join(
                message or validation.get("message", "")
                for allowed, message, validation in zip(
                    results, answer["messages"] or [], spec.get("validations", ()), strict=False
                )
                if not allowed
            ),
            error=answer.get("error", ""),
            cost=answer["cost"],
            elapsed=answer["elapsed"],
        )

    def _ask(self, question: dict[str, Any], review: dict[str, Any]) -> dict[str, Any]:
        request = review["request"]
        request_line = {
            **question,
            "group": request["kind"]["group"],
            "kind": request["kind"]["kind"],
            "resource": request["resource"]["resource"],
            "subResource": request.get("subResource", ""),
            "operation": request["operation"],
            "namespace": request.get("namespace", ""),
            "groups": request["userInfo"].get("groups", []),
            "object": request["object"],
            "oldObject": request["oldObject"],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request_line) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if answer.get("problem"):
            raise RefusedError(answer["problem"])
        return answer


def build() -> Path:
    """Return the oracle's binary; compile it when it is not in the cache.

    Go fetches missing modules, with the checksums in go.sum. Raises ``BuildError``.
    """
    return ORACLE.build() / "celoracle"
