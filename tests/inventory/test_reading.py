"""One request: which answers are accepted, which are retried, and the messages of errors."""

from __future__ import annotations

import pytest

from fakecluster import Answer, FakeCluster, status
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.inventory.reading import ClusterError, Expired, NotFound, read

PATH = "/api/v1/pods"


async def test_an_object_is_returned(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents[PATH] = {"kind": "PodList"}
    assert await read(api, PATH, {"limit": "1"}, doing="list pods") == {"kind": "PodList"}
    assert cluster.queries(PATH) == [{"limit": "1"}]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        pytest.param(
            status(403, 'pods is forbidden: User "eve" cannot list resource "pods"'),
            ClusterError,
            'cannot list pods: 403 Forbidden: pods is forbidden: User "eve" cannot list resource "pods"',
            id="forbidden-names-the-user-and-the-verb",
        ),
        pytest.param(
            status(401, "Unauthorized"),
            ClusterError,
            "cannot list pods: 401 Unauthorized: the credentials are not accepted",
            id="unauthorized",
        ),
        pytest.param(status(404, "gone"), NotFound, "cannot list pods: 404 Not Found: gone", id="not-found"),
        pytest.param(status(410, "old"), Expired, "cannot list pods: 410 Gone: old", id="expired"),
        pytest.param(
            Answer(404, "404 page not found\n"), NotFound, "cannot list pods: 404 Not Found", id="no-status"
        ),
        pytest.param(
            status(500, "a\nb"),
            ClusterError,
            r"cannot list pods: 500 Internal Server Error: a\nb",
            id="one-line",
        ),
        pytest.param(Answer(599), ClusterError, "cannot list pods: 599", id="unheard-of"),
        pytest.param(
            Answer(302, "", {"Location": "/login"}),
            ClusterError,
            "cannot list pods: 302 Found",
            id="redirect",
        ),
        pytest.param(
            Answer(200, "<html>"),
            ClusterError,
            "cannot list pods: the answer is not a JSON object; is this an API server?",
            id="html",
        ),
        pytest.param(
            Answer(200, "[]"),
            ClusterError,
            "cannot list pods: the answer is not a JSON object; is this an API server?",
            id="a-list",
        ),
    ],
)
async def test_a_bad_answer_is_an_error_of_one_line(
    api: ApiClient, cluster: FakeCluster, answer: Answer, error: type[ClusterError], message: str
) -> None:
    cluster.script[PATH].append(answer)
    with pytest.raises(error) as raised:
        await read(api, PATH, {}, doing="list pods")
    assert str(raised.value) == message


async def test_an_expired_list_has_the_token_that_continues_it(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.script[PATH].append(status(410, "old", token="500"))
    with pytest.raises(Expired) as raised:
        await read(api, PATH, {}, doing="list pods")
    assert raised.value.token == "500"


async def test_an_overloaded_server_is_retried_after_the_time_that_it_states(
    api: ApiClient, cluster: FakeCluster, pauses: list[float]
) -> None:
    cluster.documents[PATH] = {"kind": "PodList"}
    cluster.script[PATH] += [
        Answer(429, "", {"Retry-After": "1"}),
        Answer(503, "", {"Retry-After": "3600"}),
    ]
    assert await read(api, PATH, {}, doing="list pods") == {"kind": "PodList"}
    assert pauses == [1.0, 30.0]


async def test_a_server_that_stays_overloaded_is_given_up(
    api: ApiClient, cluster: FakeCluster, pauses: list[float]
) -> None:
    cluster.script[PATH] += [Answer(429, "", {"Retry-After": "1"})] * 5
    with pytest.raises(ClusterError, match="429 Too Many Requests"):
        await read(api, PATH, {}, doing="list pods")
    assert pauses == [1.0] * 4


@pytest.mark.parametrize("retry_after", [None, "soon", "\u0661", "-1"])
async def test_a_failure_without_seconds_to_wait_is_final(
    api: ApiClient, cluster: FakeCluster, pauses: list[float], retry_after: str | None
) -> None:
    cluster.script[PATH].append(Answer(503, "", {} if retry_after is None else {"Retry-After": retry_after}))
    with pytest.raises(ClusterError, match="503"):
        await read(api, PATH, {}, doing="list pods")
    assert not pauses
