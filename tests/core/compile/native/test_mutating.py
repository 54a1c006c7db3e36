"""A native MutatingAdmissionPolicy: its objects, and its Pods compared with those of the mutating webhook.

The tests with the evaluator need Go (`make go-test`).
"""

from __future__ import annotations

import json
from typing import Any, Final

import jsonpatch
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from budget import budget
from builders import HUB_TO_CORP, INSTANT, container, pod, policy_text, review
from evaluating import Evaluator
from gatekeeper_py.core import Policy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.mutation import MAX_ANNOTATIONS_BYTES
from gatekeeper_py.core.admission.workload import slots
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.compile.native.decision import MAX_NEW_IMAGES
from gatekeeper_py.core.compile.native.mutating import MAX_RECORD_LENGTH, mutating_policy
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.selection import CannotExpress
from gatekeeper_py.core.names import ORIGINAL_IMAGES
from natively import specs, undated, without_error
from property.fastpath_strategies import accepted, images_near, namespaces, policies
from property.strategies import Document, images

pytestmark = pytest.mark.timeout(
    900
)  # the first run compiles packages that the control plane's build has not compiled

SECRETS: Final = """
mirrors:
  - {from: docker.io, to: a.io/hub, imagePullSecret: hub, except: [docker.io/library/busybox, '*/**:dev']}
  - {from: quay.io/org, to: a.io/org, imagePullSecret: org}
  - {from: ghcr.io, to: a.io/ghcr, imagePullSecret: hub}
  - {from: gcr.io/one/app, to: b.io}
"""
DENIED: Final = "deny: [quay.io/org/bad, {image: quay.io/org/here, namespaces: [shop]}, '*/**:latest']\n"


def parsed(more: str = SECRETS, *, mode: str = "mutate", allow: str = "[a.io]") -> Policy:
    return parse_policy(policy_text(more, mode=mode, allow=allow))


def compiled(policy: Policy, **options: Any) -> tuple[Document, ...]:
    return mutating_policy(policy, INSTANT, Options(**{"exempt": ("kube-system",)} | options))


Stored = tuple[list[Any], dict[str, str], list[str]]
"""Images, annotations and the names of pull secrets."""


def stored(obj: Document) -> Stored:
    secrets = obj["spec"].get("imagePullSecrets") or []
    return (
        [slot.value or "" for slot in slots(POD, obj, {})],  # a missing image is decoded as an empty one
        obj["metadata"].get("annotations") or {},
        [secret["name"] for secret in secrets],
    )


def by_the_webhook(policy: Policy, review_document: Document) -> Stored:
    patch = admission.mutate(wire.parse(review_document), policy.at(INSTANT)).response.patch
    return stored(jsonpatch.apply_patch(review_document["request"]["object"], list(patch or ())))


def by_the_native_policy(evaluator: Evaluator, policy: Policy, review_document: Document) -> Stored:
    for spec, _ in specs(compiled(policy), "MutatingAdmissionPolicy"):
        judged = without_error(evaluator.judge(spec, review_document))
        if not judged.skipped:
            return stored(judged.patched)
    return stored(review_document["request"]["object"])


def assert_same(evaluator: Evaluator, policy: Policy, review_document: Document) -> bool:
    """Check that both results are equal; return whether something was rewritten."""
    expected = by_the_webhook(policy, review_document)
    assert by_the_native_policy(evaluator, policy, review_document) == expected
    return expected != stored(review_document["request"]["object"])


def test_a_policy_and_its_binding() -> None:
    policy, binding = compiled(parsed(HUB_TO_CORP), static=True)
    name = "gatekeeper-py-mirrors.static.k8s.io"
    assert (policy["kind"], binding["kind"]) == ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
    assert policy["metadata"]["name"] == binding["metadata"]["name"] == name
    assert binding["spec"] == {"policyName": name}
    assert policy["metadata"]["annotations"] == {
        "gatekeeper-py/policy-revision": parsed(HUB_TO_CORP).revision
    }
    spec = policy["spec"]
    assert (spec["failurePolicy"], spec["reinvocationPolicy"]) == ("Ignore", "IfNeeded")
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["pods", "pods/ephemeralcontainers"]
    assert [each["name"] for each in spec["matchConditions"]] == ["not-being-deleted", "not-a-mirror-pod"]


def test_only_pull_secrets_of_mirrors_are_added() -> None:
    assert "imagePullSecrets" not in json.dumps(compiled(parsed(HUB_TO_CORP)))
    policy, _ = compiled(parsed())
    (mutation,) = policy["spec"]["mutations"]
    missing = (
        "['hub', 'org'].filter(n, variables.planned.exists(p, p[4] == n)"
        " && !(has(object.spec.imagePullSecrets)"
        " && object.spec.imagePullSecrets.exists(s, s.?name.orValue('') == n)))"
    )
    assert mutation["jsonPatch"]["expression"].endswith(
        f"\n+ (request.operation != 'CREATE' || {missing}.size() == 0 ? []\n"
        f"  : has(object.spec.imagePullSecrets) ? {missing}.map(n,"
        " JSONPatch{op: 'add', path: '/spec/imagePullSecrets/-', value: {'name': n}})\n"
        "  : [JSONPatch{op: 'add', path: '/spec/imagePullSecrets',"
        f" value: {missing}.map(n, {{'name': n}})}}])"
    )


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        pytest.param("", "mutate", id="no-mirrors"),
        pytest.param(HUB_TO_CORP, "enforce", id="no-mutate"),
        pytest.param(f"{HUB_TO_CORP}namespaces: [{{names: [x], mode: warn}}]\n", "enforce", id="nowhere"),
    ],
)
def test_a_policy_that_rewrites_nothing_has_none(more: str, mode: str) -> None:
    assert compiled(parsed(more, mode=mode)) == ()


def test_namespaces_in_mutate_mode_are_selected() -> None:
    policy, _ = compiled(parsed(f"{HUB_TO_CORP}namespaces: [{{names: [x], mode: mutate}}]\n", mode="warn"))
    assert policy["spec"]["matchConditions"][2] == {
        "name": "mode-of-the-namespace",
        "expression": "(request.namespace == 'x' ? true : false)",
    }


@pytest.mark.parametrize(
    ("allow", "more", "parts"),
    [
        pytest.param("[a.io]", "mirrors: [{from: b.io, to: a.io, pin: true}]\n", "mirrors[0]", id="pin"),
        pytest.param("[{image: a.io, pin: true}]", HUB_TO_CORP, "allow[0] a.io", id="pin-of-a-rule"),
        pytest.param(
            "[a.io]", f"{HUB_TO_CORP}deny: [{{image: b.io, until: 2027-01-01}}]\n", "deny[0] b.io", id="until"
        ),
        pytest.param(
            "[a.io]",
            "mirrors: [" + ", ".join(f"{{from: m{n}.io, to: a.io/m{n}}}" for n in range(51)) + "]\n",
            "mirrors",
            id="too-many",
        ),
        pytest.param(
            "[a.io]",
            HUB_TO_CORP + "deny: [" + ", ".join(f"'*.d{n}.io/x-*'" for n in range(1000)) + "]\n",
            None,
            id="too-many-denials",
        ),
    ],
)
def test_a_mirror_that_cannot_be_expressed_exactly_is_refused(
    allow: str, more: str, parts: str | None
) -> None:
    with pytest.raises(CannotExpress) as refused:
        compiled(parsed(more, allow=allow))
    (obstacle,) = refused.value.obstacles
    assert obstacle.part == parts if parts else obstacle.part.startswith("deny[")


def test_a_policy_that_approves_nothing_is_compiled_without_the_fast_path() -> None:
    policy, _ = compiled(parsed(HUB_TO_CORP, allow="['foo:443/']"))
    unclear = next(each for each in policy["spec"]["variables"] if each["name"] == "unclear")
    assert ".matches(" not in unclear["expression"]


@settings(max_examples=budget(300), suppress_health_check=[HealthCheck.too_slow])
@given(
    policies.filter(lambda policy: policy["mirrors"]),
    namespaces,
    st.sampled_from(["mutate", "warn"]),
    st.data(),
)
def test_the_native_policy_rewrites_a_pod_as_the_webhook_does(
    evaluator: Evaluator, a_document: Document, namespace: str, mode: str, data: st.DataObject
) -> None:
    mirrors = [
        {**mirror, **data.draw(st.sampled_from([{}, {"imagePullSecret": "s1"}, {"except": ["*/**:v1"]}]))}
        for mirror in a_document["mirrors"]
    ]
    overridden = [{"names": ["team-*"], "mode": "mutate"}]
    policy = accepted({**undated(a_document), "mirrors": mirrors, "mode": mode, "namespaces": overridden})
    near = images_near(compile_fastpath(policy, INSTANT), data) + data.draw(st.lists(images, max_size=2))
    origins = data.draw(st.lists(st.sampled_from([mirror["from"] for mirror in mirrors]), max_size=2))
    ends = st.sampled_from(["/app", "/a/b:v1", "/library/nginx", ":v2", "/x@sha256:" + "7c" * 32])
    shown = [image for image in near if image.isascii()] + [origin + data.draw(ends) for origin in origins]
    spec: Document = {}
    if data.draw(st.booleans()):
        spec = {
            "initContainers": [container(shown[-1] if shown else "nginx", "i")],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "v", "image": {"reference": "nginx"}}],
            "imagePullSecrets": data.draw(st.sampled_from([[], [{"name": "s1"}], [{"name": "s2"}]])),
        }
    if data.draw(st.booleans(), label="update"):
        old = pod(*data.draw(st.lists(st.sampled_from([*shown, "nginx"]), max_size=2)))
        review_document = review(pod(*shown, **spec), operation="UPDATE", old=old, namespace=namespace)
    else:
        review_document = review(pod(*shown, **spec), namespace=namespace)
    event("rewritten" if assert_same(evaluator, policy, review_document) else "unchanged")


def annotated(value: str | None, **more: str) -> Document:
    own = {} if value is None else {ORIGINAL_IMAGES: value}
    return {"name": "web", "annotations": {**own, **more}}


@pytest.mark.parametrize(
    "review_document",
    [
        pytest.param(review(pod("nginx", "ghcr.io/x", "quay.io/org/app:1")), id="three"),
        pytest.param(review(pod("nginx", imagePullSecrets=[{"name": "hub"}])), id="secret-is-there"),
        pytest.param(review(pod("nginx", imagePullSecrets=[{"name": "other"}])), id="another-secret"),
        pytest.param(
            review(pod("gcr.io/one/app", "gcr.io/one/app/x:1", "gcr.io/one/app:1")), id="whole-name"
        ),
        pytest.param(review(pod("busybox", "x/y:dev", "x/y:dev-1", "x/y")), id="exceptions"),
        pytest.param(review(pod("quay.io/" + "x" * 250, "ghcr.io/" + "x" * 247)), id="too-long-afterwards"),
        pytest.param(
            review(
                pod("nginx", ephemeralContainers=[container("nginx:2", "e")]),
                operation="UPDATE",
                old=pod("nginx"),
                sub_resource="ephemeralcontainers",
            ),
            id="ephemeral",
        ),
        pytest.param(
            review(pod("nginx:2"), operation="UPDATE", old=pod("nginx:1")), id="no-secret-on-update"
        ),
        pytest.param(review(pod("nginx", metadata=annotated(None, x="y"))), id="other-annotations"),
        pytest.param(review(pod("nginx", metadata=annotated(""))), id="empty-record"),
        pytest.param(review(pod("nginx", metadata=annotated("{}"))), id="record-of-nothing"),
        pytest.param(
            review(pod("a.io/x", "nginx", metadata=annotated('{"spec.containers[0].image":"x"}'))),
            id="added-to",
        ),
        pytest.param(
            review(
                pod("nginx", metadata=annotated('{"a":"b","spec.containers[0].image":"x","$(c)":"[d]~ "}'))
            ),
            id="replaced-in-its-place",
        ),
        pytest.param(review(pod("nginx", metadata=annotated("null"))), id="not-an-object"),
        pytest.param(review(pod("nginx", metadata=annotated("[1]"))), id="a-list"),
        pytest.param(review(pod("nginx", metadata=annotated("\u00e4\n"))), id="garbage"),
        pytest.param(
            review(pod("nginx", metadata=annotated(None, x="\u00e4" * (MAX_ANNOTATIONS_BYTES // 2 - 40)))),
            id="as-much-as-fits",
        ),
        pytest.param(
            review(pod("nginx", metadata=annotated(None, x="y" * MAX_ANNOTATIONS_BYTES))), id="too-large"
        ),
        pytest.param(
            review(pod("nginx", metadata=annotated(None, **{f"k{n}": "v" for n in range(5000)}))),
            id="many-annotations",
        ),
        pytest.param(
            review(pod("nginx", metadata={"name": "x", "deletionTimestamp": "2026-03-01T00:00:00Z"})),
            id="forged-deletion",
        ),
    ],
)
def test_pods_that_are_special(evaluator: Evaluator, review_document: Document) -> None:
    assert_same(evaluator, parsed(), review_document)


def test_an_image_that_becomes_one_of_docker_hub(evaluator: Evaluator) -> None:
    policy = parsed("mirrors: [{from: gcr.io, to: docker.io}, {from: quay.io, to: index.docker.io/x}]\n")
    assert assert_same(evaluator, policy, review(pod("gcr.io/a", "gcr.io/a/b", "quay.io/a", "quay.io/a/b")))


def test_denied_images_are_not_rewritten(evaluator: Evaluator) -> None:
    review_document = review(
        pod("quay.io/org/bad:1", "quay.io/org/here:1", "quay.io/org/app", "quay.io/org/app:1")
    )
    assert assert_same(evaluator, parsed(f"{SECRETS}{DENIED}"), review_document)


@pytest.mark.parametrize("room", [0, 1])
def test_the_annotations_may_be_as_large_as_an_api_server_takes(evaluator: Evaluator, room: int) -> None:
    record = '{"spec.containers[0].image":"nginx"}'
    other = MAX_ANNOTATIONS_BYTES - len(ORIGINAL_IMAGES) - len(record) - 1 + (1 - room)
    review_document = review(pod("nginx", metadata=annotated(None, x="y" * other)))
    assert assert_same(evaluator, parsed(), review_document) is bool(room)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('{ "spec.containers[0].image": "x" }', id="with-blanks"),
        pytest.param('{"a":"\\u00e4"}', id="with-an-escape"),
        pytest.param('{"a":"b","a":"c"}', id="twice"),
        pytest.param('{"a":1}', id="a-number"),
        pytest.param('{"' + "a" * MAX_RECORD_LENGTH + '":"b"}', id="long"),
        pytest.param("x" * (MAX_RECORD_LENGTH + 1), id="long-garbage"),
    ],
)
def test_with_a_record_in_another_form_nothing_is_rewritten(evaluator: Evaluator, value: str) -> None:
    """The webhook would rewrite it. The Pod is then judged as written."""
    review_document = review(pod("nginx", metadata=annotated(value)))
    assert by_the_native_policy(evaluator, parsed(), review_document) == stored(
        review_document["request"]["object"]
    )


def test_an_object_with_too_many_images_is_left_alone(evaluator: Evaluator) -> None:
    exact = review(pod(*(f"quay.io/org/a{number}:1" for number in range(MAX_NEW_IMAGES))))
    assert assert_same(evaluator, parsed(f"{SECRETS}{DENIED}"), exact)
    review_document = review(pod(*(f"quay.io/org/a{number}:1" for number in range(MAX_NEW_IMAGES + 1))))
    assert by_the_native_policy(evaluator, parsed(), review_document) == stored(
        review_document["request"]["object"]
    )
