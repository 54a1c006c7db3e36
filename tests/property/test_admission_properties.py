"""Sentences of docs/policy.md, "Images that are judged" and "Modes", that hold for every object."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy
from gatekeeper_py.core.admission import certainly_approved
from gatekeeper_py.core.admission.review import allowed, parse
from support.budget import budget
from support.builders import WORKLOADS, policy, review, workload
from support.calling import mutate, validate, validated

MORE = """
deny: [docker.io/evil/**, registry.corp.io/old/**, registry.corp.io/hub/library/bad]
mirrors:
  - {from: docker.io, to: registry.corp.io/hub, except: [docker.io/keep/**]}
  - {from: quay.io, to: other.corp.io/quay}
  - {from: docker.io/library/bare, to: bare.io}
resources:
  - {group: example.com, kind: Widget, images: ['spec.image', 'spec{*}.image', 'spec.containers[*].image']}
  - {group: '', kind: Pod, images: ['spec.extra{*}']}
namespaces: [{names: [dev], mode: warn}]
"""
MODES = ("enforce", "warn", "mutate")
KINDS = [("", "Pod"), ("apps", "Deployment"), ("batch", "CronJob"), ("example.com", "Widget")]
KEYS = [
    "metadata", "annotations", "deletionTimestamp", "kubernetes.io/config.mirror",
    "gatekeeper-py/original-images", "spec", "template", "jobTemplate", "containers", "initContainers",
    "ephemeralContainers", "volumes", "image", "reference", "name", "extra", "a/b~c",
]  # fmt: skip
IMAGES = [
    "nginx", "nginx:1.25", "registry.corp.io/web:1", "registry.corp.io/old/web", "quay.io/x/y", "evil/x",
    "keep/x", "bad", "bare", "docker.io/library/nginx", "index.docker.io/x/y:2", "ghcr.io/x", "auto", " ", "",
    "a b", "a\nb", "é", "sha256:0", f"{'a' * 250}/x", f"x/y:1@sha256:{'0' * 64}", "x" * 5000, "Nginx",
    "docker.io:443/x", "registry.hub.docker.com/x",
]  # fmt: skip

texts = st.sampled_from(IMAGES) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, width=16) | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def or_odd(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw mostly from the strategy, and sometimes any JSON value."""
    return st.integers(0, 9).flatmap(lambda roll: values if roll == 0 else strategy)


containers = or_odd(
    st.lists(or_odd(st.fixed_dictionaries({}, optional={"name": texts, "image": or_odd(texts)})), max_size=3)
)
volumes = or_odd(
    st.lists(or_odd(st.fixed_dictionaries({"image": or_odd(st.fixed_dictionaries({"reference": texts}))})))
)
specs = or_odd(
    st.fixed_dictionaries(
        {"containers": containers},
        optional={
            "initContainers": containers,
            "ephemeralContainers": containers,
            "volumes": volumes,
            "extra": or_odd(st.dictionaries(texts, texts, max_size=2)),
        },
    )
)
annotation_maps = or_odd(
    st.dictionaries(st.sampled_from(KEYS), or_odd(texts | st.just('{"spec.containers[0].image":"x"}')))
)
metadata = or_odd(st.fixed_dictionaries({}, optional={"annotations": annotation_maps}))
pods = st.fixed_dictionaries({"spec": specs}, optional={"metadata": metadata})
templates = specs.map(lambda spec: {"spec": {"template": {"spec": spec}}})
cron_jobs = templates.map(lambda template: {"spec": {"jobTemplate": template}})
widgets = specs.map(lambda spec: {"spec": {"image": "nginx", "worker": spec}})
objects = or_odd(pods | templates | cron_jobs | widgets)
clean_specs = st.fixed_dictionaries(
    {
        "containers": st.lists(
            st.fixed_dictionaries(
                {"image": texts.filter(lambda image: image not in {"", " ", "auto"}), "name": texts}
            ),
            min_size=1,
            max_size=4,
        )
    }
)
kinds = st.sampled_from(KINDS)
policies = st.sampled_from(MODES).map(lambda mode: policy(MORE, mode=mode))
mutating = policy(MORE, mode="mutate")
requests = st.fixed_dictionaries(
    {"operation": st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", "other"])},
    optional={
        "namespace": st.sampled_from(["dev", "shop", None]),
        "sub_resource": st.sampled_from(["status", "ephemeralcontainers"]),
        "groups": st.just(("system:nodes",)),
    },
)
examples = settings(max_examples=budget(150))


@examples
@given(obj=pods)
def test_mutation_is_idempotent(obj: Any) -> None:
    """``It is idempotent``."""
    document = review(obj, kind=("", "Pod"))
    once = mutate(document, mutating).object
    assert mutate(review(once, kind=("", "Pod")), mutating).patch == ()


@examples
@given(obj=values | objects, kind=kinds, compiled=policies, label=scalars)
def test_an_update_that_changes_no_image_is_allowed(
    obj: Any, kind: tuple[str, str], compiled: CompiledPolicy, label: Any
) -> None:
    """A finalizer, label, status or scale change is never blocked, and nothing is rewritten."""
    old = obj if isinstance(obj, dict) else {"spec": obj}
    new = {**old, "status": label}
    document = review(new, old=old, kind=kind, operation="UPDATE")
    answer = validate(document, compiled)
    assert answer.allowed
    assert "rejected" not in answer.audit
    assert mutate(document, compiled).patch == ()


@examples
@given(obj=values | objects, kind=kinds, operation=st.sampled_from(["CREATE", "UPDATE"]))
def test_warn_mode_never_denies(obj: Any, kind: tuple[str, str], operation: str) -> None:
    """Warn mode warns about exactly the images that enforce mode denies."""
    document = review(obj, kind=kind, operation=operation)
    warned = validate(document, policy(MORE, mode="warn"))
    denied = not validate(document, policy(MORE, mode="enforce")).allowed
    assert warned.allowed
    assert ("rejected" in warned.audit) is denied
    assert bool(warned.warnings) or not denied


@examples
@given(spec=clean_specs)
def test_after_mutation_every_verdict_is_the_decision_on_the_stored_image(spec: Any) -> None:
    """``In mutate mode every other object is judged as its pods will be``."""
    template = {"spec": {"template": {"spec": spec}}}
    of_template = validate(review(template, kind=("apps", "Deployment")), mutating)
    stored = mutate(review({"spec": spec}, kind=("", "Pod")), mutating).object
    of_pod = validate(review(stored, kind=("", "Pod")), mutating)
    images = [container["image"] for container in stored["spec"]["containers"]]
    approved = all(mutating.decide("shop", image).approved for image in images)
    assert of_pod.allowed is of_template.allowed is approved


def check_short_cut(document: dict[str, Any], a_policy: CompiledPolicy) -> bool:
    """Check that the general path agrees if the short cut approves; return whether it does."""
    request = parse(document)
    images = certainly_approved(request, a_policy)
    if images is None:
        return False
    outcome = validated(document, a_policy)
    result = (outcome.verdict, outcome.exemption, outcome.response.warnings)
    assert result == ("allowed", "" if images else "no-images", ())
    decisions = [verdict.decision for verdict in outcome.images]
    assert [(decision.image, decision.reason) for decision in decisions] == [
        (image, "allowed") for image in images
    ]
    assert outcome.response == allowed(request.uid, audit_annotations=outcome.response.audit_annotations)
    return True


@settings(max_examples=budget(400))
@given(policies, st.one_of(objects, clean_specs.map(lambda spec: {"spec": spec})), kinds, requests)
def test_the_short_cut_for_any_object_agrees_with_validate(
    a_policy: CompiledPolicy, obj: Any, kind: tuple[str, str], request: dict[str, Any]
) -> None:
    check_short_cut(review(obj, kind=kind, **request), a_policy)


@settings(max_examples=budget(400))
@given(
    policies | st.just(policy(allow="[docker.io, registry.corp.io]")),
    st.sampled_from(["Pod", *WORKLOADS]),
    clean_specs,
    st.none() | clean_specs,
)
def test_the_short_cut_for_workloads_and_updates_agrees_with_validate(
    a_policy: CompiledPolicy, kind: str, spec: dict[str, Any], before: dict[str, Any] | None
) -> None:
    def made(pod_spec: dict[str, Any]) -> Any:
        return (
            {"kind": kind, "apiVersion": "v1", "spec": pod_spec} if kind == "Pod" else within(kind, pod_spec)
        )

    more: dict[str, Any] = {} if before is None else {"operation": "UPDATE", "old": made(before)}
    if check_short_cut(review(made(spec), namespace="shop", **more), a_policy):
        event("taken")


def within(kind: str, pod_spec: dict[str, Any]) -> Any:
    """Return an object of a template kind with a pod spec."""
    obj = workload(kind)
    place: Any = obj
    *steps, last = WORKLOADS[kind][1]
    for step in steps:
        place = place[step]
    place[last] = pod_spec
    return obj


@given(clean_specs.map(lambda spec: {"spec": spec}))
def test_the_short_cut_approves_every_pod_that_is_allowed(obj: dict[str, Any]) -> None:
    a_policy = policy(allow="[docker.io, registry.corp.io]")
    outcome = validated(review(obj, kind=("", "Pod")), a_policy)
    images = certainly_approved(parse(review(obj, kind=("", "Pod"))), a_policy)
    assert (images is not None) == (outcome.verdict == "allowed")
