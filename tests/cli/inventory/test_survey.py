"""Lists of a cluster, judged: paging, expiry, namespaces, modes, declared kinds."""

from __future__ import annotations

from typing import Any, Final

import pytest

from gatekeeper_py.cli.inventory.listing import collect
from gatekeeper_py.cli.inventory.resources import ClusterError, Resource
from gatekeeper_py.cli.inventory.survey import MAX_KEPT_IMAGES, MAX_OWNERS, ObjectReference, Survey, Warned
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.policy.policy import CompiledPolicy
from support.auditing import counts
from support.builders import HUB_TO_CORP, INSTANT, named, pod, policy, review, workload
from support.calling import validated
from support.fakecluster import LISTS, Answer, FakeCluster, status

PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
GOOD = "registry.corp.io/web:1"
WORKFLOWS = """
resources:
  - {group: argoproj.io, kind: Workflow, images: ["spec.steps[*].image"]}
"""


def pods(count: int, image: str = "nginx") -> list[dict[str, Any]]:
    return [named(pod(image), f"web-{number}") for number in range(count)]


NO: Final = status(403, "no")
OLD: Final = status(410, "old")
OLD_AT_3: Final = status(410, "old", token="3")


async def looked(
    api: ApiClient,
    judge: CompiledPolicy | None = None,
    *,
    namespace: str | None = None,
    keep_approved: bool = False,
    warned: Warned | None = None,
    **more: Any,
) -> Survey:
    judge = judge or policy()
    found = Survey(judge, keep_approved=keep_approved, warned=warned)
    await collect(api, judge.resources, found, namespace=namespace, **more)
    return found


def names(found: Survey) -> list[str]:
    return [usage.name for _, usages in found.tally.listed() for usage in usages]


async def test_every_kind_is_listed_in_pages(api: ApiClient, cluster: FakeCluster) -> None:
    await looked(api)
    assert [path for path, _ in cluster.requests] == list(LISTS)
    assert {query["limit"] for _, query in cluster.requests} == {"500"}
    assert not any("resourceVersion" in query for _, query in cluster.requests)


async def test_a_pod_has_no_recorded_warning_only_because_no_registry_was_queried(
    api: ApiClient, cluster: FakeCluster
) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}
    for image, name in ((GOOD, "verified"), ("nginx", "unlisted")):
        running = named(pod(image), name)
        running["metadata"]["ownerReferences"] = [owner]
        cluster.add(PODS, running)
    judge = policy("require: [{images: [registry.corp.io], exists: true, onError: deny}]\n", mode="warn")
    warned = Warned()
    found = await looked(api, judge, warned=warned)
    assert [images for _, images in warned] == [(("nginx", "unlisted"),)]
    assert names(found) == ["unlisted"]


async def test_images_are_found_wherever_pods_come_from(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("nginx", GOOD), "web-1"))
    cluster.add(DEPLOYMENTS, named(workload("Deployment", "nginx"), "web"))
    cluster.add("/apis/batch/v1/cronjobs", named(workload("CronJob", "nginx"), "nightly", "bank"))
    cluster.add("/api/v1/podtemplates", named(workload("PodTemplate", "nginx"), "spare"))
    found = await looked(api)
    [(image, usages)] = found.tally.listed()
    assert image.as_json() == {
        "image": "nginx",
        "canonical": "docker.io/library/nginx",
        "verdict": "rejected",
        "reason": "unlisted",
        "detail": "docker.io/library/nginx matches no rule",
    }
    assert [(*usage[:4], str(usage.mode)) for usage in usages] == [
        ("CronJob", "bank", "nightly", "spec.jobTemplate.spec.template.spec.containers[0].image", "enforce"),
        ("Deployment", "shop", "web", "spec.template.spec.containers[0].image", "enforce"),
        ("Pod", "shop", "web-1", "spec.containers[0].image", "enforce"),
        ("PodTemplate", "shop", "spare", "template.spec.containers[0].image", "enforce"),
    ]
    assert found.tally.counts == counts(objects=4, images=2, approved=1, rejected=1)


async def test_a_list_is_followed_to_its_end(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.page_size = 2
    cluster.add(PODS, *pods(5))
    pages: list[tuple[Resource, int, int | None]] = []
    await looked(api, on_page=lambda *page: pages.append(page))
    seen = [(seen, left) for resource, seen, left in pages if str(resource) == "pods"]
    assert seen == [(2, 3), (4, 1), (5, None)]


@pytest.mark.parametrize(
    ("script", "tokens", "found"),
    [
        pytest.param([], [None, "2", "4"], [0, 1, 2, 3, 4], id="to-its-end"),
        pytest.param([None, OLD_AT_3], [None, "2", "3"], [0, 1, 3, 4], id="token-of-the-answer"),
        pytest.param([None, OLD], [None, "2", None, "2", "4"], [0, 1, 2, 3, 4], id="again-without-a-token"),
        pytest.param(
            [None, OLD_AT_3, OLD_AT_3],
            [None, "2", "3", None, "2", "4"],
            [0, 1, 2, 3, 4],
            id="again-if-the-token-of-the-answer-has-expired-too",
        ),
    ],
)
async def test_an_expired_list_is_resumed_or_starts_again_and_counts_nothing_twice(
    api: ApiClient, cluster: FakeCluster, script: list[Any], tokens: list[Any], found: list[int]
) -> None:
    cluster.page_size = 2
    cluster.add(PODS, *pods(5))
    cluster.script[PODS] += script
    survey = await looked(api)
    assert [query.get("continue") for query in cluster.queries(PODS)] == tokens
    assert names(survey) == [f"web-{number}" for number in found]
    assert survey.tally.counts["objects"] == len(found)


async def test_one_namespace_only(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.add(PODS, named(pod("nginx"), "ours"), named(pod("nginx"), "theirs", "bank"))
    assert names(await looked(api, namespace="shop")) == ["ours"]
    assert {path for path, _ in cluster.requests} == {
        f"{path.rpartition('/')[0]}/namespaces/shop/{path.rpartition('/')[2]}" for path in LISTS
    }


async def test_a_namespace_that_does_not_exist_is_an_error(api: ApiClient, cluster: FakeCluster) -> None:
    with pytest.raises(ClusterError, match="there is no namespace shpo"):
        await looked(api, namespace="shpo")


@pytest.mark.parametrize("answer", [Answer(200, {"kind": "Namespace"}), status(403, "no")])
async def test_an_empty_namespace_that_may_not_be_read_is_clean(
    api: ApiClient, cluster: FakeCluster, answer: Answer
) -> None:
    cluster.script["/api/v1/namespaces/shop"].append(answer)
    assert not (await looked(api, namespace="shop")).tally.objects


async def test_kinds_that_are_not_served_are_returned(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.add(PODS, *pods(1))
    del cluster.lists["/apis/batch/v1/cronjobs"]
    judge = policy(WORKFLOWS)
    found = Survey(judge, keep_approved=False)
    missing = await collect(api, judge.resources, found, namespace=None)
    assert missing == (("argoproj.io", "Workflow"), ("batch", "CronJob"))
    assert names(found) == ["web-0"]


@pytest.mark.parametrize("items", [None, []])
async def test_an_empty_page_is_the_end(api: ApiClient, cluster: FakeCluster, items: Any) -> None:
    cluster.documents[PODS] = {"items": items}
    assert not (await looked(api)).tally.objects


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        pytest.param([NO], "403 Forbidden: no", id="forbidden"),
        pytest.param([OLD] * 4, "410 Gone: old", id="always-expired"),
        pytest.param([status(404, "gone")], "404 Not Found: gone", id="no-pods"),
        pytest.param([Answer(200, {"items": {}})], "the answer is not a list", id="a-mapping"),
        pytest.param([Answer(200, {"items": [None]})], "an item without metadata", id="null"),
        pytest.param([Answer(200, {"items": [{"metadata": "web"}]})], "an item without metadata", id="text"),
    ],
)
async def test_a_list_that_cannot_be_read_completely_is_an_error(
    api: ApiClient, cluster: FakeCluster, answers: list[Answer], problem: str
) -> None:
    for namespace, path, where in (
        (None, PODS, "in all namespaces"),
        ("shop", "/api/v1/namespaces/shop/pods", "in the namespace shop"),
    ):
        cluster.script[path] += answers
        with pytest.raises(ClusterError, match=f"cannot list pods {where}: {problem}"):
            await looked(api, namespace=namespace)
        assert len(cluster.queries(path)) == len(answers)


async def test_odd_counts_and_names_do_no_harm(api: ApiClient, cluster: FakeCluster) -> None:
    item = {"metadata": {"name": 1, "namespace": None}, "spec": {"containers": [{"image": "nginx"}]}}
    cluster.documents[PODS] = {"metadata": {"remainingItemCount": "many", "continue": 7}, "items": [item]}
    [(_, usages)] = (await looked(api)).tally.listed()
    assert [usage[:4] for usage in usages] == [("Pod", None, "", "spec.containers[0].image")]


async def test_cluster_scoped_kinds_are_in_no_namespace(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.documents["/apis/argoproj.io"] = {"versions": [{"version": "v1"}]}
    cluster.documents["/apis/argoproj.io/v1"] = {
        "resources": [{"name": "workflows", "kind": "Workflow", "namespaced": False, "verbs": ["list"]}]
    }
    path = "/apis/argoproj.io/v1/workflows"
    cluster.add(path, named({"spec": {"steps": [{"image": "nginx"}]}}, "shared", None))
    cluster.add(PODS, *pods(1))
    judge = policy(WORKFLOWS)
    assert names(await looked(api, judge, namespace="shop")) == ["web-0"]
    assert not cluster.queries(path)
    [(_, usages)] = (await looked(api, judge)).tally.listed()
    assert [(usage.kind, usage.namespace) for usage in usages] == [("Pod", "shop"), ("Workflow", None)]


async def test_in_mutate_mode_templates_are_judged_after_their_mirror_and_pods_as_they_run(
    api: ApiClient, cluster: FakeCluster
) -> None:
    cluster.add(PODS, *pods(1))
    cluster.add(DEPLOYMENTS, named(workload("Deployment", "nginx"), "web"))
    judge = policy(HUB_TO_CORP, mode="mutate")
    found = await looked(api, judge, keep_approved=True)
    assert [
        (image.verdict.image, image.verdict.canonical, image.in_words, [usage.kind for usage in usages])
        for image, usages in found.tally.listed()
    ] == [
        ("nginx", "docker.io/library/nginx", "approved", ["Deployment"]),
        ("nginx", "docker.io/library/nginx", "rejected", ["Pod"]),
    ]


async def test_an_invalid_image_is_listed_with_its_problem(api: ApiClient, cluster: FakeCluster) -> None:
    cluster.add(PODS, named({"spec": {"containers": [{"image": 7}, {}, {"image": "UPPER"}]}}, "odd"))
    assert [
        (image.verdict.image, image.verdict.canonical, image.reason, image.verdict.decision.detail)
        for image, _ in (await looked(api)).tally.listed()
    ] == [
        ("", None, "invalid", "the image is a number, not text"),
        ("", None, "invalid", "the image is missing"),
        ("UPPER", None, "invalid", "not an image reference: the repository must be in lower case"),
    ]


@pytest.mark.parametrize("mode", ["enforce", "mutate"])
@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
async def test_decisions_equal_those_of_the_webhook(
    api: ApiClient, cluster: FakeCluster, mode: Any, kind: str
) -> None:
    more = f"""{HUB_TO_CORP}deny: [registry.corp.io/dockerhub/evil/**, quay.io]
require:
  - {{images: [docker.io/pinned/**, registry.corp.io/soon], digest: true}}
  - {{images: ["*/**"], digest: true, mode: warn}}
"""
    judge = policy(more, mode=mode)
    pinned = f"registry.corp.io/soon@sha256:{'ab' * 32}"
    images = [
        GOOD,
        pinned,
        "pinned/x",
        "registry.corp.io/soon",
        "nginx",
        "evil/x",
        "quay.io/a/b",
        "ghcr.io/a/b",
        "sha256:" + "0" * 64,
    ]
    obj = pod(*images) if kind == "Pod" else workload(kind, *images)
    cluster.add(PODS if kind == "Pod" else DEPLOYMENTS, named(obj, "web"))
    found = await looked(api, judge, keep_approved=True)
    expected = {
        each.slot.path: (each.approved, each.decision.detail, each.requirements)
        for each in validated(review(obj), judge).images
    }
    assert {
        usage.path: (image.verdict.approved, image.verdict.decision.detail, image.verdict.requirements)
        for image, usages in found.tally.listed()
        for usage in usages
    } == expected


async def test_a_mirror_pod_is_judged_because_it_runs(api: ApiClient, cluster: FakeCluster) -> None:
    static = named(pod("nginx"), "etcd-node-1")
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    leaving = named(pod("nginx"), "leaving")
    leaving["metadata"]["deletionTimestamp"] = INSTANT.isoformat()
    cluster.add(PODS, static, leaving)
    assert names(await looked(api)) == ["etcd-node-1", "leaving"]


CONTROLLER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}


def recorded(
    *images: str,
    owners: Any = (CONTROLLER,),
    mode: Any = "warn",
    kind: str = "Pod",
    into: Warned | None = None,
    more: str = "",
) -> list[tuple[ObjectReference, tuple[tuple[str, str], ...]]]:
    warned = Warned() if into is None else into
    references = list(owners) if isinstance(owners, tuple) else owners
    request = AdmissionRequest(
        uid="a", group="", kind=kind, operation="CREATE", namespace="shop", name="web-1",
        object=pod(*images, metadata={"ownerReferences": references}),
    )  # fmt: skip
    Survey(policy(more, mode=mode), keep_approved=False, warned=warned).take(request)
    return list(warned)


def test_the_controller_of_a_pod_with_a_rejected_image_is_kept() -> None:
    assert recorded("nginx", "registry.corp.io/a", "quay.io/b", owners=[{"kind": "Node"}, CONTROLLER]) == [
        (
            ObjectReference("apps/v1", "ReplicaSet", "shop", "web", "1"),
            (("nginx", "unlisted"), ("quay.io/b", "unlisted")),
        )
    ]


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_the_controller_of_a_pod_that_a_requirement_warns_about_is_kept_in_every_mode(mode: str) -> None:
    more = "require: [{images: ['*/**'], digest: true, mode: warn}]\n"
    ((_, images),) = recorded("registry.corp.io/a", mode=mode, more=more)
    assert images == (("registry.corp.io/a", "unpinned"),)


@pytest.mark.parametrize(
    ("images", "options"),
    [
        pytest.param(("registry.corp.io/a",), {}, id="approved"),
        pytest.param(("nginx",), {"mode": "enforce"}, id="denied-anyway"),
        pytest.param(("nginx",), {"owners": []}, id="created-by-a-person"),
        pytest.param(("nginx",), {"owners": None}, id="null"),
        pytest.param(("nginx",), {"owners": ["x"]}, id="not-a-mapping"),
        pytest.param(("nginx",), {"owners": [{**CONTROLLER, "controller": False}]}, id="not-the-controller"),
        pytest.param(("nginx",), {"owners": [{**CONTROLLER, "uid": 7}]}, id="uid-is-a-number"),
        pytest.param(("nginx",), {"kind": "PodTemplate"}, id="not-a-pod"),
    ],
)
def test_other_pods_are_not_kept(images: tuple[str, ...], options: dict[str, Any]) -> None:
    assert recorded(*images, **options) == []


def test_memory_is_bounded() -> None:
    warned = Warned()
    for number in range(MAX_OWNERS + 3):
        owner = {**CONTROLLER, "uid": str(number)}
        images = range(1 if number else MAX_KEPT_IMAGES + 5)
        recorded(*(f"quay.io/x{i}" for i in images), owners=[owner], into=warned)
    kept = list(warned)
    assert len(kept) == MAX_OWNERS
    assert warned.left_out == 3
    assert [len(images) for _, images in kept[:2]] == [MAX_KEPT_IMAGES, 1]
