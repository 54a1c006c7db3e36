"""Make the fixtures of the end-to-end tests available to all of them."""

from __future__ import annotations

from e2e.fixtures import control_plane, namespace, oldest, product, site, static_policies, wide
from e2e.trial import newcomer, trial

__all__ = [
    "control_plane",
    "namespace",
    "newcomer",
    "oldest",
    "product",
    "site",
    "static_policies",
    "trial",
    "wide",
]
