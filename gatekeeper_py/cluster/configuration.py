"""Find the cluster's configuration, read it with kubernetes-asyncio, and make sessions from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from gatekeeper_py.cluster.library import Library, kubernetes_library
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.process.settings import SettingsError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Directory in which the kubelet mounts the token and the CA certificate of a Pod's service account."""

LOAD_SECONDS: Final = 30.0
"""Time limit for loading a configuration. A kubeconfig may name a program that fetches a token, and this
program may hang."""


class ClusterConfiguration:
    """The location of a cluster's configuration. Source: docs/interface.md.

    If ``kubeconfig`` is given, it is used. Otherwise the service account of a Pod is used, unless ``context``
    is given or the process does not run in a Pod. The last choice is ``$KUBECONFIG`` or, if that is not set,
    ``~/.kube/config``. Raises ``SettingsError`` when there is no such file.
    """

    def __init__(
        self,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        environ: Mapping[str, str],
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self._environ = environ
        self._service_account = service_account
        self._context = context
        self._paths: tuple[Path, ...] = ()
        if kubeconfig is not None:
            if not kubeconfig.is_file():
                raise SettingsError(f"--kubeconfig {kubeconfig}: no such file")
            self._paths = (kubeconfig,)
        elif context is not None or not self._in_cluster():
            self._paths = _default_paths(environ)

    def __str__(self) -> str:
        return ", ".join(map(str, self._paths)) or "the service account"

    @property
    def context(self) -> str | None:
        """The context of the kubeconfig; ``None`` before the first connection, and for a service account."""
        return self._context

    @property
    def in_cluster(self) -> bool:
        """Whether this is the service account of a Pod, and not a kubeconfig."""
        return not self._paths

    async def connect(self, address: str = "", server_name: str = "") -> Session:
        """Read the configuration now, with its tokens and certificates, and return a session.

        ``address`` (HOST:PORT) is an API server to use in place of the configured one; its certificate must
        have the name ``server_name``. Raises ``SettingsError`` for a configuration that cannot be used.
        """
        library = kubernetes_library(kubeconfig=bool(self._paths))
        # Without a host, the library would silently use http://localhost.
        configuration = library.configuration(host="")
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._load(library, configuration)
            if address:
                configuration.host, configuration.tls_server_name = f"https://{address}", server_name
            return Session(configuration, self._environ, library.config_exception)
        except TimeoutError:
            raise SettingsError(f"{self}: not loaded in {LOAD_SECONDS:.0f} s") from None
        except (SettingsError, library.config_exception, aiohttp.ClientError, OSError) as problem:
            raise SettingsError(f"{self}: {_reason(problem)}") from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as problem:
            # The library raises these for a document that is not a kubeconfig.
            raise SettingsError(
                f"{self}: not a usable kubeconfig; it needs clusters, users, contexts and a current-context"
            ) from problem

    def _in_cluster(self) -> bool:
        # The variables are those of client-go's rest.InClusterConfig. In addition, the files must exist.
        variables = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
        return all(self._environ.get(name) for name in variables) and all(
            (self._service_account / name).is_file() for name in ("token", "ca.crt")
        )

    async def _load(self, library: Library, configuration: Configuration) -> None:
        if self._paths:
            # Imported only here, because it imports the YAML library. A Pod does not need it to connect, and
            # memory counts there.
            from gatekeeper_py.cluster.kubeconfig import load  # noqa: PLC0415

            # Later connections use the same context, even if somebody changes the current one meanwhile.
            self._context = await load(library, self._paths, self._context, configuration)
        else:
            library.load(
                client_configuration=configuration,
                token_filename=str(self._service_account / "token"),
                cert_filename=str(self._service_account / "ca.crt"),
                environ=self._environ,
            )


def _default_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    named = environ.get("KUBECONFIG", "")
    # Unlike Path.expanduser, this leaves ~ as it is for a user without $HOME and account.
    candidates = [Path(os.path.expanduser(part)) for part in named.split(os.pathsep) if part]  # noqa: PTH111
    if not candidates:
        candidates = [Path(environ.get("HOME", "/")) / ".kube/config"]
    # Like kubectl, skip files of $KUBECONFIG that do not exist.
    paths = tuple(path for path in candidates if path.is_file())
    if not paths:
        looked = f"$KUBECONFIG ({named})" if named else f"{candidates[0]} ($KUBECONFIG is not set)"
        raise SettingsError(
            f"no cluster configuration: not in a Pod with a service account, and no file at {looked}; "
            "give --kubeconfig FILE"
        )
    return paths


def _reason(problem: Exception) -> str:
    """Describe a problem briefly, without a file's content, which may be secret."""
    if isinstance(problem, OSError):
        reason = problem.strerror or type(problem).__name__
        return f"{problem.filename}: {reason}" if problem.filename else reason
    if isinstance(problem, aiohttp.ClientError):
        return type(problem).__name__
    return str(problem)[:300]
