"""The requests that write and delete reports, and their failures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from gatekeeper_py.cli.inventory.provenance import PolicySource
from gatekeeper_py.cli.inventory.survey import ObjectReference
from gatekeeper_py.cli.inventory.tally import Tallied, Tally, Usage
from gatekeeper_py.cli.reporting.policyreports.apis import OPENREPORTS, POLICYREPORT, ReportApi
from gatekeeper_py.cli.reporting.policyreports.events import (
    INTERVAL,
    MAX_EVENTS,
    RETRY,
    Images,
    WarningEvents,
)
from gatekeeper_py.cli.reporting.policyreports.results import Findings, findings_by_namespace
from gatekeeper_py.cli.reporting.policyreports.writer import Published, ReportError, Written, publish
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.policy.document import ENFORCE
from support.auditing import META, tallied, tally_of
from support.builders import INSTANT, policy_text
from support.golden import golden, recorded

POLICY = parse_policy(policy_text("namespaces: [{names: [sandbox], mode: warn}]\n"))


class FakeApi(ApiClient):
    """An API server with objects by path. Writes to the paths in ``broken`` fail."""

    def __init__(self, *kinds: ReportApi) -> None:
        self.kinds = kinds
        self.objects: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, ApiError] = {}
        self.writes: list[str] = []
        self._version = 0

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        if query is None:
            for kind in self.kinds:
                if path == kind.root:
                    return {"resources": [{"name": kind.plural}, {"name": f"cluster{kind.plural}"}]}
            raise ApiError("GET", path, 404, "not found")
        if path in self.broken:
            raise self.broken[path]
        assert query["labelSelector"] == "app.kubernetes.io/managed-by=gatekeeper-py"
        root, _, plural = path.rpartition("/")
        found = [
            each
            for at, each in sorted(self.objects.items())
            if at.startswith(f"{root}/") and at.split("/")[-2] == plural
        ]
        start = int(query.get("continue", "0"))
        page = found[start : start + 3]
        token = str(start + 3) if start + 3 < len(found) else ""
        return {"items": page, "metadata": {"continue": token}}

    async def post(self, path: str, document: dict[str, Any]) -> None:
        at = f"{path}/{document['metadata']['name']}"
        self._check(path)
        assert at not in self.objects
        self._store(at, document)
        self.writes.append(f"create {at}")

    async def replace(self, path: str, document: dict[str, Any]) -> None:
        self._check(path)
        assert document["metadata"]["resourceVersion"] == self.objects[path]["metadata"]["resourceVersion"]
        self._store(path, document)
        self.writes.append(f"replace {path}")

    async def delete(self, path: str) -> None:
        self._check(path)
        del self.objects[path]
        self.writes.append(f"delete {path}")

    def _check(self, path: str) -> None:
        if path in self.broken:
            raise self.broken[path]

    def _store(self, at: str, document: dict[str, Any]) -> None:
        self._version += 1
        self.objects[at] = {
            **document,
            "metadata": {**document["metadata"], "resourceVersion": str(self._version)},
        }


RUNS = (
    ("shop", "Pod", "web-1", "nginx:1"),
    ("shop", "Pod", "web-2", "registry.corp.io/a:1"),
    ("sandbox", "Deployment", "tool", "quay.io/<b>\u202e"),
    ("kube-system", "Pod", "dns", "registry.k8s.io/dns:1"),
)


def found(runs: Any = RUNS) -> dict[str | None, Findings]:
    return findings_by_namespace(tally_of(POLICY, runs), "a/b")


async def published(api: FakeApi, findings: Any = None, **options: Any) -> Published:
    given = {"choice": "auto", "namespace": None, "meta": META, **options}
    choice, meta, namespace = (given[key] for key in ("choice", "meta", "namespace"))
    return await publish(api, choice, found() if findings is None else findings, meta, namespace=namespace)


EXCEPTION: Final = Excepted(
    source="namespace",
    namespace="shop",
    index=2,
    image="docker.io/library/nginx",
    until=datetime(2026, 4, 1, tzinfo=UTC),
    reason="INC-1\u202e",
    owner=None,
    grant=0,
)


def one(image: Tallied, usage: Usage) -> Tally:
    tally = Tally(keep_approved=True)
    tally.add(image, usage)
    return tally


def required(image: str) -> Tally:
    """Return an image in the judgement of a policy that only warns about a.io without a digest."""
    entries = "{images: [a.io], digest: true, mode: warn}, {images: [b.io], digest: true}"
    policy = parse_policy(policy_text(f"require: [{entries}]\n", allow="[a.io, b.io]"))
    return tally_of(policy, [("shop", "Pod", "web", image)])


FLEET: Final = Usage("Fleet", None, "all", "spec.image")
REPORTED: Final[dict[str, tuple[ReportApi, Tally]]] = {
    "results-name-image-object-and-reason": (OPENREPORTS, tally_of(POLICY, RUNS)),
    "a-requirement-that-only-warns": (OPENREPORTS, required("a.io/x:1")),
    "a-requirement-that-refuses": (OPENREPORTS, required("b.io/x:1")),
    "a-requirement-that-is-met": (OPENREPORTS, required("b.io/x:1@sha256:" + "ab" * 32)),
    "an-exception-passes-and-fails-without-it": (
        OPENREPORTS,
        one(
            tallied("nginx", "exception", "approved until", EXCEPTION),
            Usage("Pod", "shop", "web", "spec.containers[0].image", ENFORCE),
        ),
    ),
    "cluster-scoped-objects-have-reports-of-their-own": (
        POLICYREPORT,
        one(next(image for image, _ in tally_of(POLICY, RUNS[:1]).listed()), FLEET),
    ),
}


def test_every_case_is_recorded() -> None:
    assert golden("reporting/reports").keys() == REPORTED.keys()


@pytest.mark.parametrize("name", REPORTED)
async def test_reports_are_as_recorded_and_a_second_run_writes_nothing(
    name: str,
    update_golden: bool,  # noqa: FBT001
) -> None:
    kind, tally = REPORTED[name]
    api, findings = FakeApi(kind), findings_by_namespace(tally, "a/b")
    written = await published(api, findings)
    assert (written.api, written.written) == (kind.name, Written(created=len(api.objects)))
    table = "reporting/reports"
    assert api.objects == recorded(table, golden(table), name, api.objects, update=update_golden)
    assert (await published(api, findings)).written == Written(unchanged=len(api.objects))


@pytest.mark.parametrize("kind", [OPENREPORTS, POLICYREPORT], ids=lambda kind: kind.name)
async def test_a_second_run_writes_nothing_and_stale_reports_are_deleted(kind: ReportApi) -> None:
    api = FakeApi(kind)
    assert (await published(api)).written == Written(created=3)
    assert (await published(api)).written == Written(unchanged=3)
    assert (await published(api, found(RUNS[:1]))).written == Written(replaced=1, deleted=2)
    assert len(api.objects) == 1


async def test_reports_are_written_again_for_another_policy_but_not_for_another_time() -> None:
    api = FakeApi(OPENREPORTS)
    await published(api)
    later = msgspec.structs.replace(META, time="2026-03-02T12:00:00Z")
    assert (await published(api, meta=later)).written == Written(unchanged=3)
    changed = msgspec.structs.replace(later, policy=PolicySource("policy.yaml", "ba9876543210"))
    assert (await published(api, meta=changed)).written == Written(replaced=3)


async def test_auto_prefers_openreports_and_removes_ours_from_the_other() -> None:
    api = FakeApi(POLICYREPORT)
    await published(api)
    api.kinds = (POLICYREPORT, OPENREPORTS)
    moved = await published(api)
    assert (moved.api, moved.written.created, moved.written.deleted) == ("openreports", 3, 3)
    back = await published(api, choice="policyreport")
    assert (back.api, back.written.created, back.written.deleted) == ("policyreport", 3, 3)


async def test_a_forbidden_second_api_is_ignored_and_a_failing_one_is_an_error() -> None:
    api = FakeApi(OPENREPORTS, POLICYREPORT)
    path = f"{POLICYREPORT.root}/clusterpolicyreports"
    api.broken[path] = ApiError("GET", path, 403, "no")
    assert (await published(api)).written.failed == 0
    api.broken[path] = ApiError("GET", path, 500, "no")
    with pytest.raises(ReportError, match="500"):
        await published(api)


async def test_a_missing_api_writes_nothing_and_an_unserved_choice_is_an_error() -> None:
    assert (await published(FakeApi())).api is None
    api = FakeApi(OPENREPORTS)
    await published(api)
    before = list(api.writes)
    assert (await published(api, choice="none")).api is None
    assert api.writes == before
    with pytest.raises(ReportError, match=r"does not serve policyreports of wgpolicyk8s\.io/v1alpha2"):
        await published(api, choice="policyreport")


async def test_publishing_one_namespace_does_not_change_other_namespaces() -> None:
    api = FakeApi(OPENREPORTS)
    await published(api)
    only = (await published(api, {"shop": Findings()}, namespace="shop")).written
    assert only == Written(deleted=1)
    assert len(api.objects) == 2


async def test_a_failed_write_does_not_prevent_other_writes() -> None:
    api = FakeApi(OPENREPORTS)
    shop = "/apis/openreports.io/v1alpha1/namespaces/shop/reports"
    api.broken[shop] = ApiError("POST", shop, 500, "etcd is full")
    written = (await published(api)).written
    assert (written.created, written.failed) == (2, 1)
    assert "etcd is full" in written.problems[0]
    api.broken[shop] = ApiError("POST", shop, 403, "namespace shop is being terminated")
    assert (await published(api)).written.failed == 0
    api.broken[shop] = ApiError("POST", shop, 404, 'namespaces "shop" not found')
    assert (await published(api)).written.failed == 0
    api.broken[shop] = ApiError("POST", shop, 404, "the server could not find the requested resource")
    assert (await published(api)).written.failed == 1
    del api.broken[shop]
    assert (await published(api)).written.created == 1


class TestEvents:
    """Events about controllers whose Pods would get warnings."""

    @staticmethod
    def owner(number: int) -> ObjectReference:
        return ObjectReference("apps/v1", "ReplicaSet", "shop", f"web-{number}", f"uid-{number}")

    @classmethod
    def warned(cls, number: int, *images: str) -> tuple[ObjectReference, Images]:
        return cls.owner(number), tuple((image, "unlisted") for image in images)

    async def test_an_owner_gets_one_event_a_day(self) -> None:
        clock, api = [INSTANT], FakeApi()
        events = WarningEvents(now=lambda: clock[0])
        warned = [self.warned(1, "a", "", "c", "d", "\u202e")]
        assert await events.record(api, warned) == (1, [])
        assert await events.record(api, warned) == (0, [])
        clock[0] += INTERVAL
        assert await events.record(api, warned) == (1, [])
        event = next(iter(api.objects.values()))
        assert event["involvedObject"]["uid"] == "uid-1"
        assert event["message"] == (
            "Pods use images that cause warnings: a (unlisted), (none) (unlisted), c (unlisted) and 2 more"
        )
        assert (event["type"], event["reason"]) == ("Warning", "ImageNotApproved")

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("web", id="short"),
            pytest.param("a" * 199 + "-b", id="cut-after-a-dash"),
            pytest.param("a" * 198 + ".-.b", id="cut-after-dots-and-dashes"),
            pytest.param("a" * 253, id="longest"),
        ],
    )
    async def test_the_name_of_an_event_is_a_dns_subdomain(self, name: str) -> None:
        api, events = FakeApi(), WarningEvents(now=lambda: INSTANT)
        owner = ObjectReference("apps/v1", "ReplicaSet", "shop", name, "uid-1")
        assert await events.record(api, [(owner, self.warned(1, "nginx")[1])]) == (1, [])
        (event,) = api.objects.values()
        named = event["metadata"]["name"]
        assert len(named) <= 253
        label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
        assert re.fullmatch(rf"{label}(\.{label})*", named)
        assert event["involvedObject"]["name"] == name

    async def test_events_beyond_the_limit_are_recorded_in_the_next_run(self) -> None:
        api, events = FakeApi(), WarningEvents(now=lambda: INSTANT)
        warned = [self.warned(number, "nginx") for number in range(MAX_EVENTS + 5)]
        assert (await events.record(api, warned))[0] == MAX_EVENTS
        assert (await events.record(api, warned))[0] == 5
        assert (await events.record(api, warned))[0] == 0

    async def test_refused_events_do_not_block_other_events(self) -> None:
        clock, api = [INSTANT], FakeApi()
        path = "/api/v1/namespaces/shop/events"
        api.broken[path] = ApiError("POST", path, 403, "no")
        events = WarningEvents(now=lambda: clock[0])
        warned = [self.warned(number, *["nginx" * 1000] * 9) for number in range(MAX_EVENTS + 5)]
        done, problems = await events.record(api, warned)
        assert (done, len(problems)) == (0, MAX_EVENTS)
        del api.broken[path]
        assert (await events.record(api, warned))[0] == 5
        clock[0] += RETRY
        assert (await events.record(api, warned))[0] == MAX_EVENTS
        assert all(len(event["message"]) <= 1000 for event in api.objects.values())
