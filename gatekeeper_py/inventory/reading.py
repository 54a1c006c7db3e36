"""Read lists from the API server; errors name the request that failed."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError


class ClusterError(Exception):
    """The cluster cannot be read. The message is one line and names the request."""


class NotFound(ClusterError):
    """There is no such object, kind or group."""


class Forbidden(ClusterError):
    """The caller may not read this."""


class Expired(ClusterError):
    """A list's continue token is too old. ``token``, if any, resumes in the current state of the list."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


async def read(api: ApiClient, path: str, query: Mapping[str, str], *, doing: str) -> dict[str, Any]:
    """Return the object or list at a path; ``doing`` names the request in errors, e.g. ``list pods``.

    Raises ``ClusterError``.
    """
    try:
        return await api.read(path, query)
    except ApiError as problem:
        message = f"cannot {doing}: {problem.explanation}"
        if problem.status == HTTPStatus.NOT_FOUND:
            raise NotFound(message) from None
        if problem.status == HTTPStatus.FORBIDDEN:
            raise Forbidden(message) from None
        if problem.status == HTTPStatus.GONE:
            raise Expired(message, problem.continue_token) from None
        raise ClusterError(message) from None
