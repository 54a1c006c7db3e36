"""A session with a fake API server, made without a kubeconfig."""

from __future__ import annotations

from gatekeeper_py.cluster.library import kubernetes_library
from gatekeeper_py.cluster.session import Session


def session_with(url: str, token: str | None = None) -> Session:
    """Return a session with the server at a URL, with an optional bearer token."""
    library = kubernetes_library(kubeconfig=True)
    configuration = library.configuration(host=url)
    if token is not None:
        configuration.api_key["BearerToken"] = f"Bearer {token}"
    return Session(configuration, {}, library.config_exception)
