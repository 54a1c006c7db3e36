"""Make the fixtures of the end-to-end tests available to all of them."""

from __future__ import annotations

from e2e.faultcheck import extra_replica, fault_check
from e2e.fixtures import control_plane, namespace, oldest, product, site, static_policies, wide

__all__ = [
    "control_plane",
    "extra_replica",
    "fault_check",
    "namespace",
    "oldest",
    "product",
    "site",
    "static_policies",
    "wide",
]
