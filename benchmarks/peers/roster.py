"""The peers: what each one needs, and how it is built and started.

Each is one process on one core, without an access log. It keeps idle connections for longer than the 90
seconds for which an API server keeps them. All other settings are each project's defaults.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.contestant import Contestant, Launch
from tools import gobuild
from tools.gobuild import BuildError

HERE: Final = Path(__file__).resolve().parent
APPROVED: Final = HERE / "approved.txt"
REQUIREMENTS: Final = HERE / "requirements.txt"
OWN_UV: Final = HERE.parents[1] / ".uv" / "bin" / "uv"

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
        str(HERE / "opa" / "approved.json"),
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


def lacking_go() -> str | None:
    """Return why no Go program can be built on this machine, or ``None``."""
    try:
        gobuild.find_go()
    except BuildError as problem:
        return str(problem)
    return None


def lacking_python() -> str | None:
    """Return why no environment can be created on this machine, or ``None``."""
    if _find_uv() is None and find_spec("ensurepip") is None:
        return "its environment needs uv (`make setup` installs it) or Python's own venv with ensurepip"
    return None


def python_environment() -> Path:
    """Return the ``bin`` directory of an environment of the running Python with exactly ``requirements.txt``.

    It is kept below ``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/peers``, named by a hash of what decides its
    content. It is used only if it holds the file ``complete``, which is written last, under a lock. Raises
    ``BuildError``.
    """
    python = (sys.version, platform.machine(), sys.platform)
    digest = hashlib.sha256(repr(python).encode() + REQUIREMENTS.read_bytes()).hexdigest()[:16]
    environment = gobuild.cache() / "peers" / digest
    environment.parent.mkdir(parents=True, exist_ok=True)
    with gobuild.locked(environment.with_suffix(".lock")):
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)  # left by a build that was interrupted
            _install(environment)
            (environment / "complete").touch()
    return environment / "bin"


def _install(environment: Path) -> None:
    uv, inside = _find_uv(), str(environment / "bin" / "python")
    if uv is not None:
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
        install: tuple[str, ...] = (uv, "pip", "install", "--quiet", "--python", inside)
    else:
        _run(sys.executable, "-m", "venv", str(environment))
        install = (inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # Only pinned packages are installed; if a dependency is not pinned, the peer fails to start.
    _run(*install, "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS))


def _run(*command: str) -> None:
    """Run a command, with its output on standard error."""
    done = subprocess.run(command, cwd=HERE, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        shown = f"{Path(command[0]).name} {' '.join(command[1:3])}"
        raise BuildError(f"`{shown} …` ended with status {done.returncode}; its output is above")


def _find_uv() -> str | None:
    return str(OWN_UV) if os.access(OWN_UV, os.X_OK) else shutil.which("uv")


def pins() -> dict[str, str]:
    """Return the versions that ``requirements.txt`` pins, by package."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    requirements = [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]
    return dict(line.split("==") for line in requirements)


def _pinned(*packages: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{package} {pins()[package]}" for package in packages)


def _required(folder: str, module: str) -> Callable[[], str]:
    """Return a function that returns the version of a module that ``folder``'s go.mod pins."""
    return lambda: gobuild.required_version(HERE / folder / "go.mod", module).removeprefix("v")


PEERS: Final = (
    Peer(
        name="controller-runtime",
        version=_required("controller_runtime", "sigs.k8s.io/controller-runtime"),
        lacking=lacking_go,
        build=lambda: gobuild.program("controller_runtime", HERE / "controller_runtime"),
        argv=_own_go_program,
        environment=ONE_CORE,
    ),
    Peer(
        name="net/http",
        version=lambda: gobuild.run_go(HERE / "nethttp", "env", "GOVERSION").strip(),
        lacking=lacking_go,
        build=lambda: gobuild.program("nethttp", HERE / "nethttp"),
        argv=_own_go_program,
        environment=ONE_CORE,
    ),
    Peer(
        name="FastAPI",
        version=_pinned("fastapi", "uvicorn", "orjson"),
        lacking=lacking_python,
        build=python_environment,
        argv=_fastapi,
    ),
    Peer(
        name="Flask",
        version=_pinned("flask", "gunicorn"),
        lacking=lacking_python,
        build=python_environment,
        argv=_flask,
    ),
    Peer(
        name="OPA",
        version=_required("opa", "github.com/open-policy-agent/opa"),
        lacking=lacking_go,
        build=lambda: gobuild.program("opa", HERE / "opa", package="github.com/open-policy-agent/opa"),
        argv=_opa,
        environment=ONE_CORE,
        path="/",  # its answer is data.system.main itself; the data API would wrap it
    ),
)


def missing(peers: Sequence[Peer] = PEERS) -> dict[str, str]:
    """Return the peers that cannot be built on this machine: name -> missing tool."""
    reasons = {peer.name: peer.lacking() for peer in peers}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def contestants(peers: Sequence[Peer] = PEERS) -> list[Contestant]:
    """Build all peers that can be built, and return them. Names those left out on standard error.

    Raises ``BuildError``, naming the peer, when a build fails.
    """
    left_out = missing(peers)
    for name, reason in left_out.items():
        sys.stderr.write(f"{name} is left out: {reason}\n")
    built = []
    for peer in peers:
        if peer.name in left_out:
            continue
        try:
            built.append(peer.contestant(peer.build()))
        except BuildError as error:
            raise BuildError(f"{peer.name} cannot be built: {error}") from error
    return built
