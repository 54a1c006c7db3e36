"""Measurements as data: the server, the load, and the step that runs meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.contestant import Contestant
from benchmarks.load.certificates import KeyKind
from benchmarks.policies import FIRST, MIRRORED, UNLISTED

if TYPE_CHECKING:
    from benchmarks.load.bench import Bench
    from benchmarks.load.server import Server

CONNECTIONS = 16
"""Connections of a closed loop."""

IDLE_OF_ONE_CALLER = 25
"""Connections that an API server keeps."""

RATE_OF_ONE_CALLER = 2000
"""Reviews a second of one API server. Higher rates come from several, each with its own connections."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The expected answer; ``None`` is not checked."""

    status: int = 200
    allowed: bool | None = None
    patch: bool | None = None
    warnings: bool | None = None

    def expect(self) -> dict[str, Any]:
        """Return the expected answer in the form of the generator's plan."""
        every = {
            "status": self.status,
            "allowed": self.allowed,
            "patch": self.patch,
            "warnings": self.warnings,
        }
        return {name: value for name, value in every.items() if value is not None}


ALLOWED = Verdict(allowed=True, patch=False, warnings=False)
DENIED = Verdict(allowed=False, patch=False)
WARNED = Verdict(allowed=True, patch=False, warnings=True)
MUTATED = Verdict(allowed=True, patch=True)


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a body: ``count`` by Zipf popularity (0: all alike), and a share never seen before."""

    format: str = FIRST
    count: int = 10_000
    zipf: float = 1.1
    fresh_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """A body of the mix, by its name in ``bodyfiles``."""

    body: str
    verdict: Verdict = ALLOWED
    weight: float = 1.0
    label: str = ""
    """With one, the percentiles of this body alone are figures: ``p50_LABEL_ms`` and ``p99_LABEL_ms``."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load that the generator applies.

    A ``rate`` makes it an open loop; so does a ``share``, the rate as a share of what the same server
    answered in a closed loop just before. ``length`` multiplies the seconds of the run's scale.
    """

    parts: tuple[Part, ...]
    images: Images | None = Images()
    path: str | None = None
    rate: float = 0.0
    share: float = 0.0
    connections: int = CONNECTIONS
    max_idle: int = IDLE_OF_ONE_CALLER
    max_dials: int = 4
    max_in_flight: int = 2000
    timeout: float = 10.0
    fresh_connections: bool = False
    check_revisions: bool = False
    seconds: float | None = None
    warmup: float | None = None

    @property
    def is_open(self) -> bool:
        return self.rate > 0 or self.share > 0


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How the server is started; servers of equal specs are the same process within a scenario.

    ``verified`` is a service of ``registry`` whose images the policy looks up, and ``registry`` the fields of
    its entry in the policy.
    """

    rules: int = 1000
    mode: str = "enforce"
    options: tuple[str, ...] = ()
    key: KeyKind = "p256"
    plain: bool = False
    verified: str = ""
    registry: str = ""
    contestant: Contestant | None = field(default=None, compare=False)
    name: str = "gatekeeper-py"


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """The parts that a step may use. The step runs from the start of a measurement."""

    bench: Bench
    server: Server
    seconds: float
    ended: Callable[[], bool]


Step = Callable[[Meanwhile], dict[str, Any]]
"""Returns further figures."""


@dataclass(frozen=True, slots=True)
class Case:
    """One named measurement.

    With ``curve``, cases of the same curve with a higher rate are left out once one collapsed.
    ``after`` is a load right after the first, measured from its first second. With ``alone``, the server ends
    after each round, so that every round begins with a new one.
    """

    name: str
    load: Load
    server: ServerSpec = ServerSpec()
    rounds: int | None = None
    curve: str = ""
    meanwhile: Step | None = None
    after: Load | None = None
    alone: bool = False
    timeline: bool = False


Figures = dict[str, Any]
Derive = Callable[[Mapping[str, Figures]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that are measured in interleaved rounds, and figures derived from their medians."""

    key: str
    title: str
    cases: Callable[[bool], list[Case]]
    """Its argument is whether the run is a quick one."""
    derive: Derive = lambda _figures: {}
    extra: Callable[[Bench], dict[str, Any]] | None = None
    """Figures that need no generator."""


def one(body: str, verdict: Verdict = ALLOWED, **options: Any) -> Load:
    """A load of one body."""
    return Load(parts=(Part(body, verdict),), **options)


def median(figures: Mapping[str, Figures], case: str, name: str = "cpu_us") -> float | None:
    """A case's median, if the case was measured."""
    found = figures.get(case, {}).get("figures", {}).get(name)
    return None if found is None else found["median"]


Mode = Literal["allow", "deny", "warn", "mutate"]

MODES: dict[Mode, tuple[ServerSpec, Images, Verdict, str]] = {
    "allow": (ServerSpec(), Images(FIRST), ALLOWED, "/validate-image"),
    "deny": (ServerSpec(), Images(UNLISTED), DENIED, "/validate-image"),
    "warn": (ServerSpec(mode="warn"), Images(UNLISTED), WARNED, "/validate-image"),
    "mutate": (ServerSpec(mode="mutate"), Images(MIRRORED), MUTATED, "/mutate-image"),
}


def idle_for(rate: float) -> int:
    """Return the connections kept by as many API servers as send this many reviews a second."""
    callers = -(-int(rate) // RATE_OF_ONE_CALLER)
    return IDLE_OF_ONE_CALLER * max(callers, 1)
