"""The typed decoder against orjson: for any bytes it returns the same review, or nothing."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.bodies import (
    deployment_review,
    ephemeral_review,
    image_update,
    pod_delete,
    pod_review,
    pod_update,
)
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission.review import InvalidReview, parse
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.images.manifest import MISSING, Resolution
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.webhook import decode
from gatekeeper_py.webhook.decode import USUAL_LEVELS, _has_many_levels, parse_pod_review, updates_template
from support.budget import budget
from support.builders import WORKLOADS, container, pod, policy, review, workload

KEYS = (
    "apiVersion", "kind", "request", "uid", "operation", "subResource", "namespace", "name", "userInfo",
    "username", "groups", "group", "object", "oldObject", "metadata", "annotations", "deletionTimestamp",
    "generateName", "spec", "containers", "initContainers", "ephemeralContainers", "volumes", "image",
    "reference", "other", "template", "jobTemplate", "imagePullPolicy", "pullPolicy", "dryRun",
)  # fmt: skip
NUMBERS = (
    b"0", b"-0", b"1", b"-1", b"1.5", b"1e5", b"1E+400", b"1e999", b"-1e999", b"1e308", b"1.8e308", b"1e-999",
    b"0.1e400", b"1e0999", b"12345678901234567890123", b"1" * 200 + b"e200", b"9" * 400, b"1." + b"0" * 400,
    b"0." + b"0" * 200 + b"1e99", b"01", b"1.", b"-", b"+1", b"NaN", b"Infinity", b"1e", b"1" * 154 + b"e99",
    b"1" * 210 + b"e99", b"0e999", b"0" * 3,
)  # fmt: skip
STRINGS = (
    b'"x"', b'""', b'"\\u00e9"', '"é"'.encode(), b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\\ud800"',
    b'"\\ud83d\\ude00"', b'"\\x"', b'"\x01"', b'"\\u12"', b'"sha256:12e345"', b'"4e999"', b'"a, 4e999"',
    b'"[{"', b'"\\"1e999"', b'"registry.corp.io/web:1"', b'"nginx"', b'"Pod"', b'"CREATE"', b'"UPDATE"',
    b'"\xf4\x90\x80\x80"',
)  # fmt: skip
ODD = (b"null", b"true", b"false", b"nul", b"[1,]", b"{,}", b"[", b"}", b"", b"\x00", b"\xef\xbb\xbf1", b"//")
WHITE = (b"", b"", b"", b" ", b"\n\t\r ", b"\x0c", b"\xa0")


def _joined(parts: list[bytes], ends: bytes, white: bytes) -> bytes:
    return ends[:1] + white + (b"," + white).join(parts) + white + ends[1:]


values = st.recursive(
    st.sampled_from((*NUMBERS, *STRINGS, *ODD)),
    lambda inner: st.one_of(
        st.builds(_joined, st.lists(inner, max_size=3), st.just(b"[]"), st.sampled_from(WHITE)),
        st.builds(
            _joined,
            st.lists(
                st.builds(
                    lambda key, white, value: b'"' + key.encode() + b'":' + white + value,
                    st.sampled_from(KEYS),
                    st.sampled_from(WHITE),
                    inner,
                ),
                max_size=4,
            ),
            st.just(b"{}"),
            st.sampled_from(WHITE),
        ),
        st.builds(lambda depth, value: b"[" * depth + value + b"]" * depth, st.integers(900, 1100), inner),
    ),
    max_leaves=10,
)

LISTS = {
    "initContainers": [container("registry.corp.io/init:2")],
    "volumes": [{"name": "v", "image": {"reference": "evil.io/x"}}],
}
POD = pod(
    "registry.corp.io/web:1",
    "nginx",
    initContainers=[container("registry.corp.io/init@sha256:" + "0" * 64, imagePullPolicy="Never")],
    ephemeralContainers=[container("quay.io/x/y")],
    volumes=[{"name": "v", "image": {"reference": "evil.io/x"}}, {"name": "w", "emptyDir": {}}],
    metadata={
        "name": "web",
        "generateName": "web-",
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"kubernetes.io/config.mirror": "x", "a": "b"},
        "labels": {"a": "b"},
    },
)
REVIEWS = [
    review(POD),
    review(POD, operation="UPDATE", old=pod("nginx"), sub_resource="ephemeralcontainers"),
    review(pod("nginx"), groups=("system:nodes",)),
    review(pod("nginx"), namespace=None),
    review(None, operation="DELETE", kind=("", "Pod"), old=POD),
    *(review(workload(kind, "registry.corp.io/web:1", "nginx", "auto", **LISTS)) for kind in WORKLOADS),
    review(workload("Deployment", "nginx:2"), operation="UPDATE", old=workload("Deployment", "nginx")),
    review(workload("Deployment", "nginx") | {"metadata": POD["metadata"]}, operation="UPDATE"),
    *(
        review(workload(kind, "nginx:2", "auto", **LISTS), operation="UPDATE", old=workload(kind, "nginx"))
        for kind in WORKLOADS
    ),
    review(POD, operation="UPDATE", old=POD, sub_resource="ephemeralcontainers", groups=("system:nodes",)),
    review(None, operation="DELETE", kind=("apps", "Deployment"), old=workload("Deployment", "nginx")),
]
RECORDED = [
    make(size=4000)
    for make in (
        pod_review,
        pod_update,
        deployment_review,
        pod_delete,
        partial(image_update, old="nginx"),
        partial(ephemeral_review, debugger="nginx"),
    )
]
"""Reviews as an API server sends them, with ``managedFields``."""
BODIES = [*(json.dumps(each, separators=(",", ":")).encode() for each in REVIEWS), *RECORDED]
POLICIES = [
    policy(mode=mode, more="mirrors: [{from: docker.io, to: registry.corp.io/hub}]\ndeny: ['*/**:2']\n")
    for mode in ("enforce", "warn", "mutate")
]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a good review in which some values are replaced by, or joined by, arbitrary values."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        marks = [place for place in range(len(body)) if body[place : place + 2] == b'":']
        place = draw(st.sampled_from(marks)) + 2
        value = draw(values)
        if draw(st.booleans()):
            key = draw(st.sampled_from(KEYS)).encode()
            body = (
                body[:place] + value + b',"' + key + b'":' + body[place:]
            )  # an additional key, or a duplicate
        else:
            end = min((i for i in (body.find(c, place) for c in b",}]") if i >= 0), default=len(body))
            body = body[:place] + value + body[end:]
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(body)))
        body = body[:cut] + draw(st.binary(max_size=3)) + body[cut + draw(st.integers(0, 3)) :]
    return body


REQUIRED = """
require:
  - {images: [registry.corp.io], exists: true, digest: true}
  - {images: [evil.io/**], exists: true}
"""
LOOKUP_POLICIES = [
    policy(
        mode=mode,
        allow="[registry.corp.io, evil.io/**]",
        more=f"{REQUIRED}mirrors: [{{from: docker.io, to: registry.corp.io/hub, {more}}}]",
    )
    for mode, more in (("enforce", "verify: false"), ("mutate", "verify: true, onMissing: deny, pin: true"))
]


def _outcomes(document: Any, policies: list[CompiledPolicy]) -> list[admission.Outcome] | str:
    """Return the answers of both endpoints if no registry has any image: only never-pulled images pass.

    Without look-ups, it does not matter whether an image is pulled, and the typed decoder drops that field.
    """
    try:
        request = parse(document)
    except InvalidReview as problem:
        return str(problem)
    outcomes = [
        judge(request, each, Answers(lambda _lookup: Resolution(MISSING)))
        for each in policies
        for judge in (admission.validate, admission.mutate)
    ]
    if any(each.looks_up for each in policies):
        return outcomes
    return [each._replace(images=_as_pulled(each.images), kept=_as_pulled(each.kept)) for each in outcomes]


def _as_pulled(images: tuple[admission.Verdict, ...]) -> tuple[admission.Verdict, ...]:
    return tuple(each._replace(slot=each.slot._replace(pulled=True)) for each in images)


def check_same(body: bytes) -> bool:
    """Return whether the typed decoder accepts a body; check the result against orjson.

    Of an update of a workload, the typed decoder does not decode the whole template. So only an approval by
    the hot path must be the same.
    """
    document, with_pull_policies = parse_pod_review(body), parse_pod_review(body, pull_policies=True)
    if document is not None and updates_template(document):
        assert updates_template(orjson.loads(body))
        _check_approvals(document, orjson.loads(body))
    elif document is not None:
        assert _outcomes(document, POLICIES) == _outcomes(orjson.loads(body), POLICIES)
    if with_pull_policies is not None:
        whole = orjson.loads(body)
        if not updates_template(with_pull_policies):
            assert _outcomes(with_pull_policies, LOOKUP_POLICIES) == _outcomes(whole, LOOKUP_POLICIES)
        assert document is not None, "it takes no more than without pull policies"
    return document is not None


def _check_approvals(document: Any, whole: Any) -> None:
    """Check that the whole review is answered without a warning if the hot path approves the typed one."""
    try:
        request, known = parse(document), parse(whole)
    except InvalidReview as problem:
        with pytest.raises(InvalidReview, match=f"^{re.escape(str(problem))}$"):
            parse(whole)
        return
    for each in POLICIES:
        images = admission.certainly_approved(request, each)
        assert images == admission.certainly_approved(known, each)
        if images is not None:
            outcome = admission.validate(known, each)
            assert (outcome.verdict, outcome.response.warnings) == ("allowed", ())
            assert [verdict.decision.image for verdict in outcome.images] == images


@settings(max_examples=budget(1500))
@given(bodies())
@example(b"")
@example(b"null")
def test_orjson_decodes_accepted_bodies_to_the_same_result(body: bytes) -> None:
    check_same(body)


@settings(max_examples=budget(500))
@given(st.sampled_from(REVIEWS), values)
def test_skipped_fields_do_not_hide_errors_from_orjson(document: dict[str, Any], value: bytes) -> None:
    body = json.dumps({**document, "other": "@"}).encode().replace(b'"@"', value)
    check_same(body)


@pytest.mark.parametrize("document", REVIEWS)
def test_good_reviews_of_pods_are_decoded(document: dict[str, Any]) -> None:
    assert check_same(json.dumps(document).encode())
    assert check_same(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("body", RECORDED)
def test_recorded_reviews_are_decoded(body: bytes) -> None:
    assert check_same(body)


@pytest.mark.parametrize("kind", ["Pod", "Deployment", "CronJob"])
@pytest.mark.parametrize(("count", "taken"), [(1000, True), (1001, False)])
def test_an_update_of_more_images_than_an_object_may_have_is_left_to_orjson(
    kind: str, count: int, *, taken: bool
) -> None:
    """In that case everything except the metadata is compared, not only the fields of a decision."""
    images = ["nginx"] * count
    new = pod(*images) if kind == "Pod" else workload(kind, *images)
    old = pod(*images, nodeName="x") if kind == "Pod" else workload(kind, *images, nodeName="x")
    assert check_same(json.dumps(review(new, operation="UPDATE", old=old)).encode()) is taken


def test_other_kinds_are_left_to_orjson() -> None:
    for kind in (("apps", "Pod"), ("", "Deployment"), ("example.com", "Widget")):
        assert not check_same(json.dumps(review(POD, kind=kind)).encode())


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    "place", [b'{"other":%s,', b'{"other":[0, %s],', b'{"other":{"x": %s\n},', b'{"other":[-%s],']
)
def test_numbers_that_orjson_refuses_are_never_passed_over(value: bytes, place: bytes) -> None:
    body = json.dumps(REVIEWS[0]).encode().replace(b"{", place % value, 1)
    check_same(body)


number_texts = st.from_regex(
    r"-?(0|[1-9][0-9]{0,20})(0{0,3}|0{100,400})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,5})?", fullmatch=True
)


@settings(max_examples=budget(500))
@given(
    number_texts,
    st.sampled_from(WHITE[:5]),
    st.sampled_from(WHITE[:5]),
    st.sampled_from([b"%s", b"[true,%s,false]", b"[%s]"]),
)
def test_no_number_that_orjson_refuses_is_passed_over(
    number: str, before: bytes, behind: bytes, place: bytes
) -> None:
    value = place % (before + number.encode() + behind)
    check_same(json.dumps(REVIEWS[0]).encode().replace(b"{", b'{"other":' + value + b",", 1))


def test_hexadecimal_text_is_not_mistaken_for_numbers() -> None:
    document = review(pod(*(f"registry.corp.io/web@sha256:{digit}4e999e111{'e' * 54}" for digit in "abcdef")))
    assert check_same(json.dumps(document).encode())


@pytest.mark.parametrize("depth", [1, 400, 990, 1000, 1010, 1022, 1023, 1024, 1030, 5000, 100_000])
@pytest.mark.parametrize("ends", [(b"[", b"]"), (b'{"x":', b"}"), (b'[{"x":', b"}]"), (b"[[],", b"]")])
def test_deep_bodies_are_left_to_orjson(depth: int, ends: tuple[bytes, bytes]) -> None:
    inner = ends[0] * depth + b"1" + ends[1] * depth
    body = json.dumps(REVIEWS[0]).encode().replace(b"{", b'{"other":' + inner + b",", 1)
    assert check_same(body) == (depth <= 400)


def test_brackets_are_counted_if_the_interpreter_allows_more_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "_HAS_OWN_STACK_LIMIT", True)
    body = json.dumps(REVIEWS[0]).encode()
    assert check_same(body.replace(b"{", b'{"other":' + b"[" * 900 + b"]" * 900 + b",", 1))
    assert parse_pod_review(body.replace(b"{", b'{"other":' + b"[" * 990 + b"]" * 990 + b",", 1)) is None
    assert check_same(body.replace(b"{", b'{"other":[' + b",".join([b"{}"] * 5000) + b"],", 1))


class Key(str):
    """A key that records when it is read. Its mapping stays a plain ``dict``, as the core requires."""

    __slots__ = ("read_keys",)

    read_keys: set[str]
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        equal = str.__eq__(self, other) is True
        if equal:
            self.read_keys.add(str(self))
        return equal


def recorded(value: Any, read_keys: set[str]) -> Any:
    if isinstance(value, dict):
        keys = {name: Key(name) for name in value}
        for key in keys.values():
            key.read_keys = read_keys
        return {keys[name]: recorded(each, read_keys) for name, each in value.items()}
    return [recorded(item, read_keys) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("policies", [POLICIES, LOOKUP_POLICIES], ids=["names", "look-ups"])
def test_every_field_that_the_core_asks_for_is_decoded(policies: list[CompiledPolicy]) -> None:
    read_keys: set[str] = set()
    for document in (*REVIEWS, orjson.loads(pod_review(size=7000))):
        _outcomes(recorded(document, read_keys), policies)
    assert {"containers", "image", "reference", "imagePullPolicy"} <= read_keys
    assert read_keys <= {*KEYS, "kubernetes.io/config.mirror", "gatekeeper-py/original-images"}


def never_pulled(**spec: Any) -> dict[str, Any]:
    return review(pod(**{"containers": [], **spec}))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            never_pulled(containers=[container("evil.io/x", imagePullPolicy="Never")]), id="container"
        ),
        pytest.param(
            never_pulled(initContainers=[container("evil.io/x", imagePullPolicy="Never")]),
            id="init-container",
        ),
        pytest.param(
            never_pulled(volumes=[{"name": "v", "image": {"reference": "evil.io/x", "pullPolicy": "Never"}}]),
            id="image-volume",
        ),
    ],
)
def test_pull_policies_are_decoded_for_policies_that_look_up_images(document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    for content, allowed in ((body, True), (body.replace(b'"Never"', b'"Always"'), False)):
        decoded = parse_pod_review(content, pull_policies=True)
        outcomes = _outcomes(decoded, LOOKUP_POLICIES[:1])
        assert [
            outcome.response.allowed for outcome in outcomes if isinstance(outcome, admission.Outcome)
        ] == [
            allowed,
            True,
        ]


def _levels(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    return 1 + max(map(_levels, value), default=0) if isinstance(value, list) else 0


TRICKY = st.text('[]{}"\\a\n', max_size=6)
NESTED = st.recursive(
    st.integers(0, 9) | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=budget(1500))
@given(value=NESTED, around=st.integers(0, 80), compact=st.booleans())
def test_levels_are_counted_independently_of_the_content_of_strings(
    value: object, around: int, *, compact: bool
) -> None:
    for number in range(around):
        value = [']"', value] if number % 2 else {'"}\\': value}
    body = json.dumps(value, separators=(",", ":") if compact else None).encode()
    assert _has_many_levels(body) is (_levels(value) > USUAL_LEVELS)


def test_too_many_strings_to_count_levels_are_left_to_orjson() -> None:
    assert _has_many_levels(json.dumps([""] * 100_001).encode())
    assert not _has_many_levels(json.dumps([""] * 100_000).encode())
