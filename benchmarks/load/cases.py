"""Measurements as data: the server, the load, and the step that runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.contestant import Contestant
from benchmarks.load.certificates import KeyKind
from benchmarks.policies import FIRST, MIRRORED, UNLISTED

if TYPE_CHECKING:
    from benchmarks.load.server import Server

GATEKEEPER_PY = "gatekeeper-py"
"""The name of our own server."""

CONNECTIONS = 16
"""Connections of a closed loop."""

IDLE_OF_ONE_CALLER = 25
"""Connections that an API server keeps."""

RATE_OF_ONE_CALLER = 2000
"""Reviews a second of one API server. Higher rates come from several, each with its own connections."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The expected answer; a field that is ``None`` is not checked."""

    status: int = 200
    allowed: bool | None = None
    patch: bool | None = None
    warnings: bool | None = None

    def expect(self) -> dict[str, Any]:
        """Return the expected answer in the form of the generator's plan."""
        return {name: value for name, value in asdict(self).items() if value is not None}


ALLOWED = Verdict(allowed=True, patch=False, warnings=False)
DENIED = Verdict(allowed=False, patch=False)
WARNED = Verdict(allowed=True, patch=False, warnings=True)
MUTATED = Verdict(allowed=True, patch=True)


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a body: ``count`` with a Zipf popularity (0: equal), and a share never seen before."""

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
    """If set, the percentiles of this body alone are figures too: ``p50_LABEL_ms`` and ``p99_LABEL_ms``."""


@dataclass(frozen=True, slots=True)
class Load:
    """The load that the generator applies.

    A ``rate`` or a ``share`` makes the load an open loop. A ``share`` is a rate as a share of the server's
    own rate in a closed loop, which is measured first. ``seconds`` and ``warmup`` replace those of the run's
    scale.
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

    The policy looks up the images of ``verified``, one of ``registry.SERVICES``, or their signatures if they
    must be ``signed``. The field ``registry`` holds the fields of this registry's entry in the policy. With
    ``announced``, the server first reviews a Deployment with the signed image.
    """

    rules: int = 1000
    mode: str = "enforce"
    options: tuple[str, ...] = ()
    key: KeyKind = "p256"
    plain: bool = False
    verified: str = ""
    registry: str = ""
    signed: bool = False
    announced: bool = False
    contestant: Contestant | None = field(default=None, compare=False)
    name: str = GATEKEEPER_PY


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What a step may use. The step runs from the start of a measurement.

    ``run`` runs a second load with a lower priority, and returns the generator's figures.
    """

    run: Callable[[Load], dict[str, Any]]
    server: Server
    seconds: float
    ended: Callable[[], bool]


Step = Callable[[Meanwhile], dict[str, Any]]
"""A function that runs during a measurement and returns additional figures."""


@dataclass(frozen=True, slots=True)
class Case:
    """One named measurement.

    Once a case of a ``curve`` has collapsed, cases of the same curve with a higher rate are left out.
    ``after`` is a second load, right after the first one; its ``share`` refers to the same closed loop. With
    ``alone``, the server ends after each round, so every round begins with a new server.
    """

    name: str
    load: Load
    server: ServerSpec = ServerSpec()
    rounds: int | None = None
    curve: str = ""
    meanwhile: Step | None = None
    after: Load | None = None
    alone: bool = False


Figures = dict[str, Any]
Derive = Callable[[Mapping[str, Figures]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that are measured in interleaved rounds, and figures derived from their medians."""

    key: str
    title: str
    cases: Callable[[bool], list[Case]]
    """The argument is whether the run is a quick one."""
    derive: Derive = lambda _figures: {}
    extra: Callable[[Callable[[ServerSpec], Server]], dict[str, Any]] | None = None
    """Measures figures that need no generator, with a function that starts a server."""
    check: Callable[[Server], None] = lambda _server: None
    """Checks each server once it has started. Raises ``WrongAnswer``."""


def one(body: str, verdict: Verdict = ALLOWED, **options: Any) -> Load:
    """Return a load of one body."""
    return Load(parts=(Part(body, verdict),), **options)


def median(figures: Mapping[str, Figures], case: str, name: str = "cpu_us") -> float | None:
    """Return the median of a case's figure, or ``None`` if it was not measured."""
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
    """Return the idle connections of the number of API servers that this many reviews a second need."""
    callers = -(-int(rate) // RATE_OF_ONE_CALLER)
    return IDLE_OF_ONE_CALLER * max(callers, 1)
