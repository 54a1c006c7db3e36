"""The objects that make up one installation."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from gatekeeper_py.controller.store import Watched, named
from gatekeeper_py.controller.webhooks.desired import OwnerReference
from gatekeeper_py.controller.webhooks.settings import SETTINGS_CONFIGMAP
from gatekeeper_py.controller.webhooks.templates import MUTATING_PATH, VALIDATING_PATH, Target
from gatekeeper_py.process.settings import ConfigMapName


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The names of the objects, and their paths."""

    namespace: str
    service: str
    deployment: str
    secret: str
    owner: str
    """The ClusterRole that owns the webhook configurations."""
    policy: ConfigMapName
    controller: str = "gatekeeper-py-controller"
    """The Deployment of the controller."""
    settings: str = SETTINGS_CONFIGMAP
    """The ConfigMap with the settings of the webhook configurations."""
    exceptions: bool = False
    """Whether servers and controller read exceptions, and the webhooks guard them
    (``control --guard-exceptions``)."""

    def owner_of(self, uid: str) -> OwnerReference:
        """Return the owner of the webhook configurations, whose object has this UID."""
        api_version = "rbac.authorization.k8s.io/v1"
        return OwnerReference(api_version=api_version, kind="ClusterRole", name=self.owner, uid=uid)

    @property
    def target(self) -> Target:
        """The Service that the webhooks call, and the ConfigMaps that they guard."""
        return Target(
            namespace=self.namespace,
            service=self.service,
            policy=self.policy.name,
            exceptions=self.exceptions,
        )

    @property
    def server_name(self) -> str:
        """The DNS name under which API servers call the Service."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def namespace_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def owner_path(self) -> str:
        return f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{self.owner}"

    @property
    def secret_path(self) -> str:
        return f"{self.namespace_path}/secrets/{self.secret}"

    @property
    def service_path(self) -> str:
        return f"{self.namespace_path}/services/{self.service}"

    @property
    def policy_path(self) -> str:
        return f"/api/v1/namespaces/{self.policy.namespace}/configmaps/{self.policy.name}"

    @property
    def settings_path(self) -> str:
        return f"{self.namespace_path}/configmaps/{self.settings}"

    @property
    def controller_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.controller}"

    @property
    def deployment_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.deployment}"

    @property
    def slices_path(self) -> str:
        return self._slices.path

    @property
    def _slices(self) -> Watched:
        collection = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        query = {"labelSelector": f"kubernetes.io/service-name={self.service}"}
        return Watched(f"{collection}?{urlencode(query, safe='/')}", collection, query, is_list=True)

    def watched(self) -> list[Watched]:
        """Return the watches of the objects whose changes start a pass."""
        paths = (
            self.namespace_path,
            self.owner_path,
            self.secret_path,
            self.service_path,
            self.deployment_path,
            VALIDATING_PATH,
            MUTATING_PATH,
        )
        return [*map(named, paths), self._slices]
