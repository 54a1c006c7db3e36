"""Platforms where anyone can open an account and publish images, for lint and for ``audit --suggest``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import Pattern, host_matches
from gatekeeper_py.core.images.reference import DOCKER_HUB

OPEN_REGISTRIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        DOCKER_HUB: "Docker Hub",
        "mirror.gcr.io": "Docker Hub",
        "ghcr.io": "GitHub",
        "docker.pkg.github.com": "GitHub",
        "registry.gitlab.com": "GitLab",
        "codeberg.org": "Codeberg",
        "gitea.com": "Gitea",
        "quay.io": "Quay",
        "gcr.io": "Google Container Registry",
        "*.gcr.io": "Google Container Registry",
        "*.pkg.dev": "Google Artifact Registry",
        "public.ecr.aws": "Amazon ECR Public",
        "icr.io": "IBM Cloud",
        "*.icr.io": "IBM Cloud",
        "*.ocir.io": "Oracle Cloud",
        "registry.*.aliyuncs.com": "Alibaba Cloud",
        "swr.*.myhuaweicloud.com": "Huawei Cloud",
        "ccr.ccs.tencentyun.com": "Tencent Cloud",
        "cr.yandex": "Yandex Cloud",
        "rg.*.scw.cloud": "Scaleway",
        "registry.digitalocean.com": "DigitalOcean",
        "registry.fly.io": "Fly.io",
        "registry.heroku.com": "Heroku",
        "docker.cloudsmith.io": "Cloudsmith",
        "xpkg.upbound.io": "Upbound",
        "ttl.sh": "ttl.sh",
    }
)
"""Registries that all accounts of a platform share, with the name of the platform. The first segment of a
path names the account."""

ONE_OWNER: Final = frozenset({"k8s.gcr.io"})
"""Hosts of a single owner that a wildcard of ``OPEN_REGISTRIES`` matches."""

PUBLIC_PLATFORMS: Final = (
    "azurecr.io",
    "amazonaws.com",
    "amazonaws.com.cn",
    "ecr.aws",
    "pkg.dev",
    "gcr.io",
    "jfrog.io",
    "cloudsmith.io",
    "ocir.io",
    "aliyuncs.com",
    "myhuaweicloud.com",
    "tencentcloudcr.com",
    "scw.cloud",
    "icr.io",
    "digitalocean.com",
    "gitlab.com",
    "github.com",
    "quay.io",
    "docker.io",
    "docker.com",
    "googleusercontent.com",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "herokuapp.com",
    "ngrok.io",
    "ngrok.app",
)
"""Suffixes under which anyone can open an account and so get a host name."""

_ECR_ACCOUNT: Final = re.compile(r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.[^.]+\.amazonaws\.com(?:\.cn)?")
"""A host of Amazon ECR with a literal account. Its region may be a wildcard."""


def _by_ending() -> dict[str, list[str]]:
    """Return the hosts of the table by their last two labels, because a policy may have 200,000 rules."""
    hosts = defaultdict(list)
    for host in OPEN_REGISTRIES:
        hosts[_ending(host)].append(host)
    return dict(hosts)


def _ending(host: str) -> str:
    return ".".join(host.rsplit(".", 2)[-2:])


_HOSTS: Final = _by_ending()


def open_registry(host: str) -> str | None:
    """Return the platform whose accounts all publish in a registry, ``None`` if it is not that open.

    ``host`` may have wildcards.
    """
    if host in ONE_OWNER:
        return None
    found = next((each for each in _HOSTS.get(_ending(host), ()) if host_matches(each, host)), None)
    return None if found is None else OPEN_REGISTRIES[found]


def every_account(pattern: Pattern) -> bool:
    """Return whether a pattern in an open registry matches the images of more than one account."""
    return not pattern.segments or is_glob(pattern.segments[0])


def one_account(pattern: Pattern) -> bool:
    """Return whether a pattern with a wildcard in its host names one account of a platform."""
    in_path = open_registry(pattern.host) is not None and not every_account(pattern)
    return in_path or _ECR_ACCOUNT.fullmatch(pattern.host) is not None
