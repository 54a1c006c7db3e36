"""The image, built from the Dockerfile and run as a cluster runs it: ``make image-test``."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatekeeper_py.cli.commands.serve import serve
from gatekeeper_py.process.settings import Address
from image.build import PROJECT, Builder, Image, project
from image.sandbox import START_SECONDS, Process, Sandbox
from support.builders import pod, policy_text, review
from support.contract import check_response

pytestmark = pytest.mark.timeout(900)  # the first test of a base makes the base and builds the image

SERVER_NAME = "gatekeeper-py.gatekeeper-py.svc"
NOBODY = 65532
READY_CPU_SECONDS = 2.0
PYTHON = "/opt/gatekeeper-py/bin/python"

WRITE_EVERYWHERE = """
import os, pathlib
written = []
for folder, _, names in os.walk("/"):
    for path in (pathlib.Path(folder, "new"), *(pathlib.Path(folder, name) for name in names)):
        if path.parts[1:2] in (("proc",), ("dev",)) and path.name != "new":
            continue  # the kernel's
        try:
            path.open("ab").close()
        except OSError:
            continue
        written.append(str(path))
print("\\n".join(written))
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """``gatekeeper-py serve`` in the sandbox."""

    sandbox: Sandbox
    process: Process
    webhook: str
    health: str
    trust: ssl.SSLContext
    ready_cpu_seconds: float

    def ask(self, document: dict[str, Any]) -> bytes:
        """Send a review as the API server does: to an address, for the Service's name."""
        host, _, port = self.webhook.rpartition(":")
        connection = NamedHTTPSConnection(host, int(port), context=self.trust, timeout=10)
        try:
            connection.request(
                "POST",
                "/validate-image?timeout=5s",
                json.dumps(document),
                {"Content-Type": "application/json", "Connection": "close"},
            )
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == http.client.OK, body
        finally:
            connection.close()
        return body


class NamedHTTPSConnection(http.client.HTTPSConnection):
    """Verifies the certificate for the Service's name, regardless of the address."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = context.wrap_socket(self.sock, server_hostname=SERVER_NAME)


@pytest.fixture
def sandbox(image: Image, tmp_path: Path) -> Sandbox:
    """Return the image with a policy mounted, as from a ConfigMap."""
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.yaml").write_text(policy_text())
    return Sandbox(image=image, volumes={"/etc/gatekeeper-py/policy": folder})


@pytest.fixture
def server(sandbox: Sandbox, tmp_path: Path) -> Iterator[Server]:
    """Start the image's server with a certificate mounted as from a Secret; wait until it is ready."""
    authority = trustme.CA()
    certificate = authority.issue_cert(SERVER_NAME)
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (folder / "tls.key").write_bytes(certificate.private_key_pem.bytes())
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    mounted = replace(sandbox, volumes={**sandbox.volumes, "/etc/gatekeeper-py/tls": folder})
    with mounted.started(
        *sandbox.image.config["Entrypoint"],
        *("serve", "--policy", "/etc/gatekeeper-py/policy/policy.yaml"),
        *("--tls-cert", "/etc/gatekeeper-py/tls/tls.crt", "--tls-key", "/etc/gatekeeper-py/tls/tls.key"),
        *("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain-seconds", "0"),
    ) as process:
        listening = addresses(process)
        wait_until_ready(listening["health"])
        yield Server(
            sandbox=mounted,
            process=process,
            webhook=listening["webhook"],
            health=listening["health"],
            trust=trust,
            ready_cpu_seconds=process.cpu_seconds,
        )


def addresses(process: Process) -> dict[str, str]:
    """Return the server's addresses from its log. Keep reading, so that the pipe never fills."""
    killer = threading.Timer(START_SECONDS, process.kill)
    killer.start()
    found: dict[str, str] = {}
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "listening":
            found[event["listener"]] = event["address"]
        if len(found) == len(("webhook", "health")):
            break
    else:
        raise AssertionError("the server ended before it listened")
    killer.cancel()
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return found


def wait_until_ready(address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while status(address, "/readyz") != http.client.OK:
        assert time.monotonic() < end, "the server did not become ready"
        time.sleep(0.02)


def status(address: str, path: str) -> int:
    """Return the answer of the health listener."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_metadata_describes_the_image_and_its_entrypoint(image: Image) -> None:
    config = image.config
    assert config["Entrypoint"] == ["gatekeeper-py"]
    assert config["Cmd"] == ["serve"]
    assert config["User"] == f"{NOBODY}:{NOBODY}"
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert set(config["ExposedPorts"]) == {"8443/tcp", "8080/tcp"}
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == f"gatekeeper-py ({project()['name']})"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == project()["version"]
    assert labels["revision"] == image.revision
    assert labels["base.name"].startswith("localhost/")


def test_version(sandbox: Sandbox) -> None:
    done = sandbox.run(*sandbox.image.config["Entrypoint"], "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{project()['version']}\n", "")


def test_programs_are_python_and_gatekeeper_py_only(image: Image) -> None:
    """The image has no shell, no package manager, no compiler and no linker."""
    folders = [folder for folder in image.root.rglob("*bin") if folder.name in {"bin", "sbin"}]
    programs = {path.name for folder in folders for path in folder.iterdir() if not path.is_dir()}
    assert {name for name in programs if not re.fullmatch(r"python3?(\.\d+)?", name)} == {"gatekeeper-py"}


@pytest.mark.parametrize("module", ["pip", "uv", "ensurepip", "venv", "setuptools", "wheel", "hatchling"])
def test_nothing_can_install_or_build(sandbox: Sandbox, module: str) -> None:
    done = sandbox.run(PYTHON, "-c", f"import {module}")
    assert done.returncode == 1
    assert f"No module named '{module}'" in done.stderr


def test_development_dependencies_are_left_out(sandbox: Sandbox) -> None:
    done = sandbox.run(PYTHON, "-c", "import pytest")
    assert "No module named 'pytest'" in done.stderr


def test_the_installed_package_does_not_link_to_sources(sandbox: Sandbox) -> None:
    done = sandbox.run(PYTHON, "-c", "import gatekeeper_py; print(gatekeeper_py.__file__)")
    assert re.fullmatch(
        r"/opt/gatekeeper-py/lib/python3\.\d+/site-packages/gatekeeper_py/__init__\.py\n", done.stdout
    )


@pytest.mark.parametrize("read_only", [True, False], ids=["read-only-root", "writable-root"])
def test_the_user_can_write_no_file(sandbox: Sandbox, *, read_only: bool) -> None:
    """No file belongs to the user, so an attacker cannot persist files even with a writable root."""
    done = replace(sandbox, read_only=read_only).run(PYTHON, "-c", WRITE_EVERYWHERE)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_no_program_gives_privileges(image: Image) -> None:
    set_id = 0o6000
    assert not [path for path in image.root.rglob("*") if path.lstat().st_mode & set_id]


def test_all_code_is_compiled(sandbox: Sandbox) -> None:
    """Other code would be compiled at every start, and code with time stamps may become stale in a copy."""
    unchecked_hash = 1
    sources = [path for path in sandbox.image.root.rglob("*.py") if path.parent.name != "bin"]
    assert sources
    for source in sources:
        compiled = list((source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"))
        assert len(compiled) == 1, source
        assert int.from_bytes(compiled[0].read_bytes()[4:8], "little") == unchecked_hash, source


def test_scanners_see_the_debian_packages_in_it(image: Image) -> None:
    records = image.root / "var/lib/dpkg/status.d"
    found = {record.name: record.read_text() for record in records.iterdir()}
    for name, text in found.items():
        assert f"Package: {name}\n" in text
        assert re.search(r"^Version: \S+$", text, re.MULTILINE)
        assert (image.root / "usr/share/doc" / name / "copyright").is_file()
    assert "libc6" in found
    assert any(name.startswith("libssl3") for name in found)


def test_the_server_is_ready_after_little_work(server: Server, base: str, measured: list[str]) -> None:
    """This takes half a second of CPU time. Wall-clock time depends on the load of the machine."""
    measured.append(f"{base}: ready after {server.ready_cpu_seconds:.2f} s of CPU time")
    assert server.ready_cpu_seconds < READY_CPU_SECONDS


def test_server_has_no_privileges(server: Server) -> None:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    fields = {name: text.split() for name, text in re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE)}
    assert fields["Uid"] == [str(NOBODY)] * 4
    assert fields["Gid"] == [str(NOBODY)] * 4
    assert fields["Groups"] == []
    assert [int(fields[name][0], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [0] * 4
    assert fields["NSpid"][-1] == "1"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        pytest.param("registry.corp.io/web:1", True, id="approved"),
        pytest.param("registry.corp.io.evil.io/web:1", False, id="lookalike"),
    ],
)
def test_review_over_verified_tls(server: Server, name: str, *, allowed: bool) -> None:
    document = review(pod(name))
    answer = check_response(server.ask(document), document, "validate")
    assert answer.allowed is allowed


def test_certificate_in_memory_needs_no_writable_path(sandbox: Sandbox) -> None:
    with sandbox.started(
        *sandbox.image.config["Entrypoint"],
        *("serve", "--policy", "/etc/gatekeeper-py/policy/policy.yaml", "--tls-self-signed"),
        *("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"),
    ) as process:
        listening = addresses(process)
        host, _, port = listening["webhook"].rpartition(":")
        certificate = ssl.get_server_certificate((host, int(port)), timeout=10)
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")


def test_health_check_passes_while_the_server_lives(server: Server) -> None:
    done = server.sandbox.run(
        *health_check(server.sandbox.image), environment={"GATEKEEPER_PY_HEALTH_LISTEN": server.health}
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_health_check_fails_without_a_server(sandbox: Sandbox) -> None:
    # Port 1 of the loopback interface: nothing listens there without being root.
    done = sandbox.run(
        *health_check(sandbox.image), environment={"GATEKEEPER_PY_HEALTH_LISTEN": "127.0.0.1:1"}
    )
    assert done.returncode == 1


def test_health_check_asks_the_default_port(image: Image) -> None:
    default = next(option.default for option in serve.params if option.name == "health_listen")
    assert isinstance(default, Address)
    assert f"'GATEKEEPER_PY_HEALTH_LISTEN', ':{default.port}'" in health_check(image)[-1]


def test_sigterm_ends_process_1_cleanly(server: Server) -> None:
    document = review(pod("registry.corp.io/web:1"))
    server.ask(document)
    server.process.terminate()
    assert server.process.wait(40) == 0


def test_context_is_the_package_and_what_builds_it(builds: Builder) -> None:
    files = builds.context()
    assert {file for file in files if not file.startswith("gatekeeper_py/")} == {
        *("pyproject.toml", "uv.lock", "LICENSE", "docs/command-line.md"),
        *("tools/rootfs.py", "tools/build-constraints.txt", "tools/uv-requirements.txt"),
    }
    assert "gatekeeper_py/webhook/app.py" in files
    assert not [file for file in files if file.endswith(".pyc")]


def test_pip_installs_nothing_but_the_uv_that_is_locked_by_hash() -> None:
    text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    commands = re.findall(r"(?<!uv )pip install (.+)", text)
    assert len(commands) == 1
    assert re.search(r"--require-hashes -r \S*/uv-requirements\.txt$", commands[0])


def health_check(image: Image) -> list[str]:
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"  # CMD-SHELL would need a shell
    return [str(argument) for argument in command]
