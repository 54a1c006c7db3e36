"""The built wheel works after each documented way of installation and with each supported Python."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from package.outside import PROJECT, ROOT, UV, run
from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import start_server
from tools import pythons

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
POLICY = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]


def check_commands(command: tuple[str | Path, ...], directory: Path) -> None:
    """Run the commands that need no cluster."""
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    manifest = directory / "deployment.yaml"
    manifest.write_text(json.dumps(pod("registry.corp.example/web:1.2")))
    shown = f"gatekeeper-py {PROJECT['version']} ({PROJECT['name']})\n"
    assert run(*command, "--version").stdout == shown
    assert json.loads(run(*command, "check", policy, "--format", "json").stdout)["ok"] is True
    (shown,) = json.loads(
        run(*command, "explain", policy, "registry.corp.example/web:1.2", "--format", "json").stdout
    )
    assert shown["verdict"] == "approved"
    (reviewed,) = json.loads(run(*command, "review", policy, manifest, "--format", "json").stdout)
    assert reviewed["verdict"] == "admitted"
    assert json.loads(run(*command, "schema").stdout)["properties"]["mode"]
    for name in ("serve", "control", "audit"):
        assert "Usage" in run(*command, name, "--help").stdout


def interpreter(version: str) -> Path:
    found = pythons.find(version)
    if found is None and version == pythons.SUPPORTED[-1]:
        pytest.skip(f"no interpreter found for Python {version}; the image tests install the wheel with it")
    if found is None:
        pytest.fail(f"no interpreter found for Python {version}")
    return found


@pytest.fixture(scope="module", params=pythons.SUPPORTED)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheel: Path
) -> Path:
    """Return the folder of the programs of a new virtual environment into which pip installed the wheel."""
    directory = tmp_path_factory.mktemp("environment")
    run(interpreter(request.param), "-m", "venv", directory)
    programs = directory / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    run(programs / "python", "-m", "pip", "check")
    return programs


def test_pip_installs_it_for_each_python(environment: Path, tmp_path: Path) -> None:
    check_commands((environment / "gatekeeper-py",), tmp_path)
    check_commands((environment / "python", "-m", "gatekeeper_py"), tmp_path)
    # The program imports the installed package and not the checkout.
    where = "import gatekeeper_py; print(gatekeeper_py.__file__)"
    assert str(environment.parent) in run(environment / "python", "-c", where).stdout


def test_the_installed_server_answers(environment: Path, tmp_path: Path) -> None:
    command = (str(environment / "gatekeeper-py"),)
    server = start_server(tmp_path, policy=policy_text(), command=command)
    try:
        server.wait(server.is_ready)
        for image, approved in (("registry.corp.io/web:1", True), ("nginx:1.25", False)):
            document = review(pod(image))
            status, body = server.post(document)
            assert status == 200
            assert check_response(body, document, "validate").allowed is approved
    finally:
        server.end()


@pytest.fixture(params=["wheel", "checkout"])
def source(request: pytest.FixtureRequest, wheel: Path) -> Path:
    """Return what the commands install: the wheel, or the checkout from which they build one."""
    return {"wheel": wheel, "checkout": ROOT}[request.param]


def test_pip_installs_the_checkout(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path)
    run(tmp_path / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT)
    check_commands((tmp_path / "bin" / "gatekeeper-py",), tmp_path)


def test_pipx_installs_it(tmp_path: Path, source: Path) -> None:
    pipx = (UV, "tool", "run", "pipx")
    homes = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run(*pipx, "install", "--python", sys.executable, source, **homes)
    check_commands((tmp_path / "bin" / "gatekeeper-py",), tmp_path)


def test_uv_installs_it(tmp_path: Path, source: Path) -> None:
    homes = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    run(UV, "tool", "install", "--quiet", source, **homes)
    check_commands((tmp_path / "bin" / "gatekeeper-py",), tmp_path)


def test_uvx_runs_it(tmp_path: Path, source: Path) -> None:
    check_commands((UV, "tool", "run", "--from", source, "gatekeeper-py"), tmp_path)
