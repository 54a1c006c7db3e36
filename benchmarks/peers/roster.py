"""The peers: what each one needs, and how it is built and started.

Each is one process on one core, without an access log. It keeps idle connections for longer than the 90
seconds for which an API server keeps them. All other settings are each project's defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import goprogram
from benchmarks.contestant import Contestant, Launch
from benchmarks.peers import building
from benchmarks.peers.building import APPROVED, HERE

ONE_CORE: Final = {"GOMAXPROCS": "1"}
KEEP_ALIVE_SECONDS: Final = "120"
FLASK_THREADS: Final = "4"
"""With eight or sixteen threads, the CPU cost on one core is the same, and p99 is higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another server that makes the same decision.

    ``lacking`` returns the missing tool, if any; ``build`` returns the path of the result (and raises
    ``BuildError``); ``argv`` makes the command from that path.
    """

    name: str
    version: Callable[[], str]
    lacking: Callable[[], str | None]
    build: Callable[[], Path]
    argv: Callable[[Path, Launch], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/validate-image"

    def contestant(self, built: Path) -> Contestant:
        """Return the peer in the form that benchmarks start."""
        return Contestant(
            name=self.name,
            version=self.version(),
            argv=lambda launch: self.argv(built, launch),
            environment=dict(self.environment),
            path=self.path,
        )


def _own_go_program(program: Path, launch: Launch) -> list[str]:
    return [
        str(program),
        f"-port={launch.port}",
        f"-certificate={launch.certificate.resolve()}",
        f"-key={launch.key.resolve()}",
        f"-approved={APPROVED}",
    ]


def _opa(program: Path, launch: Launch) -> list[str]:
    return [
        str(program),
        "run",
        "--server",
        f"--addr=https://127.0.0.1:{launch.port}",
        f"--tls-cert-file={launch.certificate.resolve()}",
        f"--tls-private-key-file={launch.key.resolve()}",
        "--log-level=error",
        "--skip-version-check",
        str(HERE / "opa" / "policy.rego"),
        str(building.approved_data()),
    ]


def _fastapi(programs: Path, launch: Launch) -> list[str]:
    return [
        str(programs / "uvicorn"),
        f"--app-dir={HERE}",
        "--host=127.0.0.1",
        f"--port={launch.port}",
        f"--ssl-certfile={launch.certificate.resolve()}",
        f"--ssl-keyfile={launch.key.resolve()}",
        "--workers=1",
        "--loop=uvloop",
        "--http=httptools",
        "--no-access-log",
        f"--timeout-keep-alive={KEEP_ALIVE_SECONDS}",
        "--log-level=warning",
        "fastapi_app:app",
    ]


def _flask(programs: Path, launch: Launch) -> list[str]:
    return [
        str(programs / "gunicorn"),
        f"--chdir={HERE}",
        f"--bind=127.0.0.1:{launch.port}",
        f"--certfile={launch.certificate.resolve()}",
        f"--keyfile={launch.key.resolve()}",
        "--workers=1",
        "--worker-class=gthread",
        f"--threads={FLASK_THREADS}",
        f"--keep-alive={KEEP_ALIVE_SECONDS}",
        "--no-control-socket",  # its path is the same for every gunicorn of a user
        "--log-level=warning",
        "flask_app:app",
    ]


def _pinned(*packages: str) -> Callable[[], str]:
    def version() -> str:
        pins = building.pins()
        return ", ".join(f"{package} {pins[package]}" for package in packages)

    return version


PEERS: Final = (
    Peer(
        name="controller-runtime",
        version=lambda: building.required("controller_runtime", "sigs.k8s.io/controller-runtime"),
        lacking=goprogram.lacking,
        build=lambda: goprogram.compiled("controller_runtime", HERE / "controller_runtime"),
        argv=_own_go_program,
        environment=ONE_CORE,
    ),
    Peer(
        name="net/http",
        version=lambda: goprogram.version(HERE / "nethttp"),
        lacking=goprogram.lacking,
        build=lambda: goprogram.compiled("nethttp", HERE / "nethttp"),
        argv=_own_go_program,
        environment=ONE_CORE,
    ),
    Peer(
        name="FastAPI",
        version=_pinned("fastapi", "uvicorn", "orjson"),
        lacking=building.lacking_python,
        build=building.python_environment,
        argv=_fastapi,
    ),
    Peer(
        name="Flask",
        version=_pinned("flask", "gunicorn"),
        lacking=building.lacking_python,
        build=building.python_environment,
        argv=_flask,
    ),
    Peer(
        name="OPA",
        version=lambda: building.required("opa", "github.com/open-policy-agent/opa"),
        lacking=goprogram.lacking,
        build=lambda: goprogram.compiled("opa", HERE / "opa", package="github.com/open-policy-agent/opa"),
        argv=_opa,
        environment=ONE_CORE,
        path="/",  # its answer is data.system.main itself; the data API would wrap it
    ),
)
