"""The connection to the API server: its configuration, TLS, tokens and proxies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml

from cluster.following import Connect, Followed
from faults.following import following
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.controller import probe_pod
from gatekeeper_py.process.settings import SettingsError
from support.builders import policy_text
from support.fakeapi import TOKEN, FakeApi, until

LIMITS = aiohttp.ClientTimeout(total=5)


def secured(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return a server context with a certificate of a CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts API servers; they end with the test."""
    running: list[FakeApi] = []

    async def start(context: ssl.SSLContext | None = None) -> FakeApi:
        api = FakeApi(context)
        api.apply("first")
        await api.start()
        running.append(api)
        return api

    yield start
    for api in running:
        await api.stop()


class Pod:
    """A service account as the kubelet mounts it."""

    def __init__(self, directory: Path, api: FakeApi, authority: trustme.CA) -> None:
        self.directory = directory
        self.environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
        directory.mkdir()
        self.write_token(TOKEN)
        self.write_authority(authority)

    def write_token(self, token: str) -> None:
        (self.directory / "token").write_text(token)

    def write_authority(self, authority: trustme.CA) -> None:
        authority.cert_pem.write_to_path(self.directory / "ca.crt")

    def cluster(self) -> ClusterConfiguration:
        return ClusterConfiguration(environ=self.environ, service_account=self.directory)


class TestServiceAccount:
    """A Pod mounts the token and the CA. Both are rotated while the process runs."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    async def api(self, start: Callable[..., Any], authority: trustme.CA) -> FakeApi:
        api = await start(secured(authority))
        assert isinstance(api, FakeApi)
        return api

    @pytest.fixture
    def pod(self, tmp_path: Path, api: FakeApi, authority: trustme.CA) -> Pod:
        return Pod(tmp_path / "serviceaccount", api, authority)

    async def test_delivers(self, api: FakeApi, pod: Pod) -> None:
        async with Followed(pod.cluster().connect) as following:
            await until(lambda: api.watching)

        assert following.texts == ["first"]

    async def test_a_rotated_token_is_read_at_once(self, api: FakeApi, pod: Pod) -> None:
        async with Followed(pod.cluster().connect) as following:
            await until(lambda: api.watching)
            pod.write_token("rotated\n")
            api.token = "rotated"
            api.apply("second")
            api.end_watches()
            await until(lambda: api.last("list").headers["Authorization"] == "Bearer rotated")
            await until(lambda: api.watching)

        assert following.texts == ["first", "second"]
        assert "the API server answered 401 Unauthorized" in following.problems
        assert TOKEN not in str(following.problems)
        assert "rotated" not in str(following.problems)

    async def test_a_missing_token_is_read_again(self, api: FakeApi, pod: Pod) -> None:
        async with Followed(pod.cluster().connect) as following:
            await until(lambda: api.watching)
            (pod.directory / "token").unlink()
            api.token = "rotated"
            api.end_watches()
            await until(lambda: following.pauses[3:])
            pod.write_token("rotated")
            await until(lambda: api.watching)

        assert any("token" in problem for problem in following.problems[1:])

    async def test_a_rotated_ca_is_read_again(
        self, api: FakeApi, pod: Pod, start: Callable[..., Any]
    ) -> None:
        async with Followed(pod.cluster().connect) as following:
            await until(lambda: api.watching)
            rotated = trustme.CA()
            await api.stop()
            api.context = secured(rotated)
            api.apply("second")
            await api.start()
            await until(lambda: any("certificate" in problem for problem in following.problems))
            assert following.texts == ["first"]
            pod.write_authority(rotated)
            await until(lambda: following.texts == ["first", "second"])

    async def test_a_certificate_for_another_name_is_refused(
        self, pod: Pod, api: FakeApi, authority: trustme.CA
    ) -> None:
        await api.stop()
        api.context = secured(authority, "elsewhere.test")
        await api.start()

        async with Followed(pod.cluster().connect) as following:
            await until(lambda: following.pauses[1:])

        assert following.problems[0].startswith(f"certificate of 127.0.0.1:{api.port}: IP address mismatch")
        assert not api.requests

    async def test_a_client_certificate_that_is_refused_is_read_again(
        self, api: FakeApi, authority: trustme.CA, tmp_path: Path
    ) -> None:
        accepted, expired = trustme.CA(), trustme.CA()
        await api.stop()
        api.context = secured(authority)
        accepted.configure_trust(api.context)
        api.context.verify_mode = ssl.CERT_REQUIRED
        await api.start()
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        amend(kubeconfig, **{"certificate-authority": "ca.crt"})
        amend(kubeconfig, "user", **{"client-certificate": "client.crt", "client-key": "client.key"})

        def write(issuer: trustme.CA) -> None:
            issued = issuer.issue_cert("client@test")
            issued.cert_chain_pems[0].write_to_path(tmp_path / "client.crt")
            issued.private_key_pem.write_to_path(tmp_path / "client.key")

        write(expired)
        async with Followed(through(kubeconfig)) as following:
            await until(lambda: following.pauses[1:])
            assert not api.requests
            write(accepted)
            await until(lambda: api.watching)


def through(kubeconfig: Path, **environ: str) -> Connect:
    """Return the function that connects by a kubeconfig, with the proxies of an environment."""
    return ClusterConfiguration(kubeconfig=kubeconfig, environ=environ).connect


class TestProxies:
    """Proxies from the environment, with the rules of Go's HTTP client."""

    @pytest.fixture
    async def proxy(self) -> AsyncIterator[Proxy]:
        proxy = Proxy()
        await proxy.start()
        yield proxy
        await proxy.stop()

    @pytest.fixture
    async def kubeconfig(self, start: Callable[..., Any], tmp_path: Path, proxy: Proxy) -> Path:
        """Write a kubeconfig for an API server that only the proxy can resolve."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.crt")
        api = await start(secured(authority, "api.cluster.test"))
        proxy.port_behind = api.port
        server = f"https://api.cluster.test:{api.port}"
        path: Path = api.write_kubeconfig(tmp_path / "kubeconfig")
        amend(path, server=server, **{"certificate-authority": "ca.crt"})
        return path

    @pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
    async def test_https_goes_through_a_tunnel(self, kubeconfig: Path, proxy: Proxy, name: str) -> None:
        environ = {name: f"http://user:pass@127.0.0.1:{proxy.port}", "HTTP_PROXY": "http://127.0.0.1:1"}

        async with Followed(through(kubeconfig, **environ)) as following:
            await until(lambda: following.texts == ["first"])

        assert proxy.requests[0].startswith("CONNECT api.cluster.test:")
        assert "Proxy-Authorization: Basic dXNlcjpwYXNz" in proxy.requests[0]
        assert TOKEN not in "".join(proxy.requests)

    async def test_no_proxy_connects_directly(self, kubeconfig: Path, proxy: Proxy) -> None:
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": ".cluster.test"}

        async with Followed(through(kubeconfig, **environ)) as following:
            await until(lambda: following.pauses)

        assert following.problems[0].startswith("cannot connect to api.cluster.test:")
        assert not proxy.requests

    async def test_the_kubeconfigs_proxy_wins(self, kubeconfig: Path, proxy: Proxy) -> None:
        amend(kubeconfig, **{"proxy-url": f"http://127.0.0.1:{proxy.port}"})
        environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}

        async with Followed(through(kubeconfig, **environ)) as following:
            await until(lambda: following.texts == ["first"])

    async def test_a_refusing_proxy_is_reported_without_its_password(
        self, kubeconfig: Path, proxy: Proxy
    ) -> None:
        proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        environ = {"HTTPS_PROXY": f"http://user:s3cret@127.0.0.1:{proxy.port}"}

        async with Followed(through(kubeconfig, **environ)) as following:
            await until(lambda: following.pauses)

        assert following.problems[0] == "the proxy answered 407"
        assert "s3cret" not in str(following.problems)

    async def test_a_proxy_of_another_kind_is_refused(self, kubeconfig: Path) -> None:
        cluster = ClusterConfiguration(
            kubeconfig=kubeconfig, environ={"HTTPS_PROXY": "socks5://127.0.0.1:1080"}
        )

        with pytest.raises(SettingsError, match="socks5"):
            await cluster.connect()


class Proxy:
    """A proxy that tunnels everything to one port of this host."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.port = 0
        self.port_behind = 0
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._tunnel(reader, writer))
        self._tasks.add(task)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            if b" 200 " not in self.answer:
                return
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self.port_behind)
            try:
                await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
            finally:
                behind_writer.close()
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def write(path: Path, server: str, context: str = "one", **more: Any) -> Path:
    """Write a kubeconfig with one context, its cluster's server and no user."""
    document = {
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "clusters": [{"name": context, "cluster": {"server": server}}],
        "users": [{"name": context, "user": {"token": "t"}}],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def amend(path: Path, part: str = "cluster", **fields: Any) -> None:
    """Set fields of the only cluster or user of a kubeconfig."""
    document = json.loads(path.read_text())
    document[f"{part}s"][0][part].update(fields)
    path.write_text(json.dumps(document))


class TestFinding:
    """The search order of docs/interface.md, and the error that lists the searched files."""

    @pytest.fixture
    def account(self, tmp_path: Path) -> Path:
        directory = tmp_path / "serviceaccount"
        directory.mkdir()
        (directory / "token").write_text("t")
        trustme.CA().cert_pem.write_to_path(directory / "ca.crt")
        return directory

    async def test_one_api_server_of_several_by_its_address(
        self, account: Path, start: Callable[..., Any]
    ) -> None:
        """Its certificate has the requested name, and not the address."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(account / "ca.crt")
        api = await start(secured(authority, "kubernetes.default.svc"))
        environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        cluster = ClusterConfiguration(environ=environ, service_account=account)
        assert cluster.in_cluster
        session = await cluster.connect(f"127.0.0.1:{api.port}", "kubernetes.default.svc")
        try:
            response = await session.request("GET", "/version", {}, LIMITS)
            response.release()
        finally:
            await session.close()

    async def test_an_api_server_with_the_certificate_of_another_name_is_refused(
        self, account: Path, start: Callable[..., Any]
    ) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(account / "ca.crt")
        api = await start(secured(authority, "other.example"))
        environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        cluster = ClusterConfiguration(environ=environ, service_account=account)
        answer = await probe_pod.send(
            lambda: cluster.connect(f"127.0.0.1:{api.port}", "kubernetes.default.svc"), "probe", "a.io/x"
        )
        assert answer.status == 0
        assert "certificate" in answer.problem

    @pytest.mark.parametrize(
        ("in_pod", "missing", "variable", "options", "server"),
        [
            pytest.param(True, "", "", {}, "https://[::1]", id="service-account"),
            pytest.param(True, "token", "", {}, "http://home", id="service-account-without-a-token"),
            pytest.param(True, "ca.crt", "", {}, "http://home", id="service-account-without-a-ca"),
            pytest.param(True, "", "", {"context": "one"}, "http://home", id="context-means-a-kubeconfig"),
            pytest.param(True, "", "", {"kubeconfig": "first"}, "http://first", id="option-before-all"),
            pytest.param(False, "", "", {}, "http://home", id="empty-variable"),
            pytest.param(False, "", "absent:first:second", {}, "http://first", id="variable-before-home"),
            pytest.param(
                False, "", "absent:first:second", {"context": "second"}, "http://second", id="by-context"
            ),
        ],
    )
    async def test_the_order_of_the_search(
        self,
        tmp_path: Path,
        account: Path,
        in_pod: bool,  # noqa: FBT001
        missing: str,
        variable: str,
        options: dict[str, Any],
        server: str,
    ) -> None:
        """Of several files, the first current context counts."""
        write(tmp_path / "home/.kube/config", "http://home")
        for name in ("first", "second"):
            write(tmp_path / name, f"http://{name}", name)
        if missing:
            (account / missing).unlink()
        environ = {
            "HOME": str(tmp_path / "home"),
            "KUBECONFIG": os.pathsep.join(str(tmp_path / each) for each in variable.split(":") if each),
            **({"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "443"} if in_pod else {}),
        }
        if "kubeconfig" in options:
            options = {"kubeconfig": tmp_path / options["kubeconfig"]}
        cluster = ClusterConfiguration(environ=environ, service_account=account, **options)
        connection = await cluster.connect()
        await connection.close()
        assert connection.server == server

    async def test_a_context_that_is_in_none_of_the_files_is_an_error_that_names_it(
        self, tmp_path: Path
    ) -> None:
        given = write(tmp_path / "given", "http://given")

        with pytest.raises(SettingsError, match=rf"^{given}: no context 'two'$"):
            await ClusterConfiguration(kubeconfig=given, context="two", environ={}).connect()

    async def test_the_context_of_the_first_connection_stays(self, tmp_path: Path) -> None:
        """Another shell may change the current context while an audit runs."""
        kubeconfig = write(tmp_path / "kubeconfig", "http://one")
        text = kubeconfig.read_text("utf-8")
        cluster = ClusterConfiguration(kubeconfig=kubeconfig, environ={})
        assert cluster.context is None
        for current in ("one", "two"):
            document = yaml.safe_load(text)
            contexts = [{**document["contexts"][0], "name": name} for name in ("one", "two")]
            document |= {"contexts": contexts, "current-context": current}
            kubeconfig.write_text(yaml.safe_dump(document), "utf-8")
            await (await cluster.connect()).close()
            assert cluster.context == "one"

    async def test_a_server_below_a_path(self, start: Callable[..., Any], tmp_path: Path) -> None:
        api = await start()
        kubeconfig = write(tmp_path / "kubeconfig", f"{api.url}/k8s/clusters/c-1/")
        api.token = "t"

        connection = await ClusterConfiguration(kubeconfig=kubeconfig, environ={}).connect()
        (await connection.request("GET", "/api/v1/x", {}, LIMITS)).close()
        await connection.close()

        assert api.requests[0].path == "/k8s/clusters/c-1/api/v1/x"

    def test_a_missing_configuration_is_an_error_that_lists_the_searched_files(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"no cluster configuration.*not in a Pod.*--kubeconfig"):
            ClusterConfiguration(environ={"HOME": str(tmp_path)}, service_account=tmp_path)
        # The second is what ~/config is to a user without $HOME and account.
        for name in ("/nowhere", "~no-such-user/config"):
            with pytest.raises(SettingsError, match=rf"\$KUBECONFIG \({name}\)"):
                ClusterConfiguration(environ={"KUBECONFIG": name}, service_account=tmp_path)
        with pytest.raises(SettingsError, match="--kubeconfig /nowhere: no such file"):
            ClusterConfiguration(kubeconfig=Path("/nowhere"), environ={})

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            pytest.param("", "not a usable kubeconfig", id="empty"),
            pytest.param("[]", "not a usable kubeconfig", id="a-list"),
            pytest.param("clusters: 5", "not a usable kubeconfig", id="clusters-a-number"),
            pytest.param("a: b\nsecret: [\n", "not YAML at line 3", id="not-yaml"),
            pytest.param("kind: Config", "Expected key current-context", id="no-context"),
            pytest.param(
                '{"current-context": "x", "contexts": []}', "object with name x", id="dangling-context"
            ),
        ],
    )
    async def test_an_unusable_kubeconfig(self, tmp_path: Path, content: str, problem: str) -> None:
        path = tmp_path / "kubeconfig"
        path.write_text(content)

        with pytest.raises(SettingsError, match=problem) as caught:
            await ClusterConfiguration(kubeconfig=path, environ={}).connect()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("server", ["", "api.example.com:6443", "ftp://x", "https://"])
    async def test_an_unusable_server(self, tmp_path: Path, server: str) -> None:
        path = write(tmp_path / "kubeconfig", server)

        with pytest.raises(
            SettingsError, match=r"kubeconfig: the configuration names no server|not a usable"
        ):
            await ClusterConfiguration(kubeconfig=path, environ={}).connect()

    async def test_a_ca_that_is_not_a_certificate_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "ca.crt").write_text("no PEM")
        cluster = {"server": "https://x", "certificate-authority": "ca.crt"}
        path = write(tmp_path / "kubeconfig", "", clusters=[{"name": "one", "cluster": cluster}])

        with pytest.raises(SettingsError, match="kubeconfig: "):
            await ClusterConfiguration(kubeconfig=path, environ={}).connect()

    async def test_a_program_gives_the_token(self, start: Callable[..., Any], tmp_path: Path) -> None:
        api = await start()
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": TOKEN},
        }
        program = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "echo",
            "args": [json.dumps(credential)],
        }
        path = write(tmp_path / "kubeconfig", api.url, users=[{"name": "one", "user": {"exec": program}}])

        async with Followed(through(path)) as following:
            await until(lambda: following.texts == ["first"])


@pytest.mark.parametrize(
    ("kubeconfig", "later"),
    [
        pytest.param(True, "", id="kubeconfig"),
        pytest.param(False, "", id="service-account"),
        pytest.param(
            False,
            "from kubernetes_asyncio.client import ApiClient, V1Pod",
            id="service-account-and-a-later-import",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_library_is_imported_without_its_models(kubeconfig: bool, later: str) -> None:  # noqa: FBT001
    """The unused modules would take 64 MiB. A later import of the library loads all of it."""
    program = f"""
import sys
from gatekeeper_py.cluster.library import kubernetes_library
library = kubernetes_library(kubeconfig={kubeconfig})
assert "yaml" in sys.modules or not {kubeconfig}
assert library.configuration(host="x").host == "x"
assert not [name for name in sys.modules if name.startswith("kubernetes_asyncio")]
{later}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def resident_mebibytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_a_server_with_a_configmap_needs_little_memory(tmp_path: Path) -> None:
    async with following(tmp_path, policy_text()) as source:
        await until(lambda: source.api.watching)
        resident = resident_mebibytes(source.server.process.pid)
        source.server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(source.server.code) == 0
        await until(lambda: source.api.watching == 0)

    assert resident < 120
    assert source.server.errors == ""
