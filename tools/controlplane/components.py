"""The components of the control plane: their addresses, their credentials and their flags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from tools.controlplane.authority import Authority, KeyPair
from tools.controlplane.network import POD_RANGE

ETCD, APISERVER = "etcd", "kube-apiserver"
CONTROLLER_MANAGER, SCHEDULER, KWOK = "kube-controller-manager", "kube-scheduler", "kwok"
COMPONENTS = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK)

# The ports are fixed, because nothing else listens in the network namespace.
HOST = "127.0.0.1"
ETCD_ADDRESS, ETCD_PEER_ADDRESS, API_ADDRESS = (HOST, 2379), (HOST, 2380), (HOST, 6443)
API_URL = f"https://{HOST}:{API_ADDRESS[1]}"

_SERVICE_RANGE = "10.96.0.0/16"
_API_NAMES = (HOST, "localhost", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_FRONT_PROXY = "front-proxy-client"
_STAGES = Path(__file__).parent / "kwok" / "stages.yaml"

AuditLevel = Literal["Metadata", "Request", "RequestResponse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The certificates and keys of the components, and the CAs that they trust.

    ``authority`` issues the certificates of the API server and of every user. ``front_proxy`` is a separate
    CA, because a client with a certificate of it can act as any user.
    """

    authority: Authority
    serving: KeyPair
    front_proxy: Authority
    front_proxy_client: KeyPair
    service_account_key: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """Create new credentials as files in an existing directory."""
        authority = Authority(directory, "ca")
        front_proxy = Authority(directory, "front-proxy-ca")
        return cls(
            authority=authority,
            serving=authority.server(_API_NAMES, file=APISERVER),
            front_proxy=front_proxy,
            front_proxy_client=front_proxy.client(_FRONT_PROXY, file=_FRONT_PROXY),
            service_account_key=authority.server(["service-accounts"], file="service-account").key,
        )


def etcd_flags(data: Path) -> list[str]:
    client, peer = _url(ETCD_ADDRESS), _url(ETCD_PEER_ADDRESS)
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the data need not survive a power failure
    ]


def apiserver_flags(credentials: Credentials) -> list[str]:
    return [
        f"--etcd-servers={_url(ETCD_ADDRESS)}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",  # without a default route, the API server cannot find an address
        f"--secure-port={API_ADDRESS[1]}",
        f"--tls-cert-file={credentials.serving.certificate}",
        f"--tls-private-key-file={credentials.serving.key}",
        f"--client-ca-file={credentials.authority.certificate}",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={_SERVICE_RANGE}",
        # A loopback address is not a valid endpoint of the Service ``kubernetes``.
        "--endpoint-reconciler-type=none",
        # There is no kube-proxy, so the API server itself connects to an endpoint of a webhook's Service.
        "--enable-aggregator-routing=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={credentials.service_account_key}",
        f"--service-account-signing-key-file={credentials.service_account_key}",
        f"--requestheader-client-ca-file={credentials.front_proxy.certificate}",
        f"--requestheader-allowed-names={_FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={credentials.front_proxy_client.certificate}",
        f"--proxy-client-key-file={credentials.front_proxy_client.key}",
    ]


def audit_flags(level: AuditLevel, log: Path, policy: Path) -> list[str]:
    """Write the audit policy and return the flags that make the API server record every request."""
    document = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],  # the later event of a request has all its data
        "rules": [{"level": level}],
    }
    policy.write_text(json.dumps(document), encoding="utf-8")
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        # Megabytes. Without this flag, the API server moves the log away at 100 MB, and its events with it.
        "--audit-log-maxsize=100000",
    ]


def admission_flags(folder: Path, configuration: Path, webhook_users: Path) -> list[str]:
    """Return the flags for static admission policies and for the API server's credentials at webhooks.

    The function creates the folder ``validating`` for the policies below ``folder``, and writes the file that
    the flags name to ``configuration``. ``webhook_users`` is a kubeconfig whose users are named after the
    hosts of webhooks.
    """
    webhooks = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": str(webhook_users),
    }
    policies = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyConfiguration",
        "staticManifestsDir": str(folder / "validating"),
    }
    (folder / "validating").mkdir()
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [
            {"name": "ValidatingAdmissionWebhook", "configuration": webhooks},
            {"name": "ValidatingAdmissionPolicy", "configuration": policies},
        ],
    }
    configuration.write_text(json.dumps(document), encoding="utf-8")
    return [f"--admission-control-config-file={configuration}"]


def controller_manager_flags(credentials: Credentials, kubeconfig: Path) -> list[str]:
    return [
        *_controller_flags(kubeconfig),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={credentials.service_account_key}",
        f"--root-ca-file={credentials.authority.certificate}",
        # The default of 20 requests/s makes the first service account wait for six seconds.
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        # No heartbeat arrives while a test stops the API server. The nodes must stay ready nevertheless.
        "--node-monitor-grace-period=10m",
    ]


def scheduler_flags(kubeconfig: Path) -> list[str]:
    return _controller_flags(kubeconfig)


def kwok_flags(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--config={_STAGES}",
        "--manage-all-nodes=true",
        f"--cidr={POD_RANGE}",
    ]


def _controller_flags(kubeconfig: Path) -> list[str]:
    # Each controller runs once, so a leader election would only delay its start.
    return [f"--kubeconfig={kubeconfig}", f"--bind-address={HOST}", "--leader-elect=false"]


def _url(address: Sequence[str | int]) -> str:
    host, port = address
    return f"http://{host}:{port}"
