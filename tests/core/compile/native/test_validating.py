"""The objects of a native ValidatingAdmissionPolicy, and policies that do not fit into its expressions."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission.fields import WORKLOAD_KINDS
from gatekeeper_py.core.compile.native import validating
from gatekeeper_py.core.compile.native.decision import MAX_EXPRESSIONS
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.selection import MAX_SHOWN, TOO_LARGE, CannotExpress
from gatekeeper_py.core.compile.native.validating import validating_policy
from support.builders import INSTANT, policy_text

Document = dict[str, Any]
MIRROR = "mirrors: [{from: b.io, to: a.io/b}]\n"


def compiled(
    more: str = "", *, allow: str = "[a.io]", mode: str = "enforce", **options: Any
) -> list[Document]:
    policy = parse_policy(policy_text(more, allow=allow, mode=mode))
    return list(validating_policy(policy, INSTANT, Options(**{"exempt": ("kube-system",)} | options)))


def variables(document: Document) -> dict[str, str]:
    return {variable["name"]: variable["expression"] for variable in document["spec"]["variables"]}


def test_a_policy_and_its_binding() -> None:
    policy, binding = compiled("message: ask us\n")
    revision = parse_policy(policy_text("message: ask us\n", allow="[a.io]")).revision
    for document in (policy, binding):
        assert document["apiVersion"] == "admissionregistration.k8s.io/v1"
        assert document["metadata"]["name"] == "gatekeeper-py-images"
        assert document["metadata"]["annotations"] == {"gatekeeper-py/policy-revision": revision}
    assert (policy["kind"], binding["kind"]) == (
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
    assert binding["spec"] == {"policyName": "gatekeeper-py-images", "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert [each["name"] for each in policy["spec"]["matchConditions"]] == [
        "not-being-deleted",
        "not-a-mirror-pod",
    ]
    for validation in policy["spec"]["validations"]:
        assert validation["reason"] == "Forbidden"
        assert validation["message"].endswith("; ask us")
    assert policy["spec"]["validations"][1]["messageExpression"].endswith(" + '; ask us'")


def test_it_applies_to_every_kind_of_the_table() -> None:
    (policy, _) = compiled()
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    resources = {(*rule["apiGroups"], each) for rule in rules for each in rule["resources"]}
    assert resources == {(kind.group, kind.plural) for kind in WORKLOAD_KINDS} | {
        ("", "pods/ephemeralcontainers")
    }
    assert all(rule["operations"] == ["CREATE", "UPDATE"] for rule in rules)


@pytest.mark.parametrize(
    ("exempt", "values"),
    [
        pytest.param(("kube-system", "a", "a"), ["a", "kube-system"], id="sorted-once"),
        pytest.param(("",), None, id="none"),
        pytest.param((), None, id="empty"),
    ],
)
def test_exempt_namespaces(exempt: tuple[str, ...], values: list[str] | None) -> None:
    policy, _ = compiled(exempt=exempt)
    selector = policy["spec"]["matchConstraints"].get("namespaceSelector")
    found = None if selector is None else selector["matchExpressions"][0]
    assert found == (
        None
        if values is None
        else {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": values}
    )


def test_static_names() -> None:
    policy, binding = compiled(static=True)
    assert policy["metadata"]["name"] == binding["metadata"]["name"] == "gatekeeper-py-images.static.k8s.io"
    assert binding["spec"]["policyName"] == "gatekeeper-py-images.static.k8s.io"


@pytest.mark.parametrize(
    ("mode", "overrides", "expected"),
    [
        pytest.param("enforce", "", [("gatekeeper-py-images", ["Deny"], None)], id="enforce"),
        pytest.param("mutate", "", [("gatekeeper-py-images", ["Deny"], None)], id="mutate"),
        pytest.param("warn", "", [("gatekeeper-py-images-warn", ["Warn", "Audit"], None)], id="warn"),
        pytest.param(
            "enforce",
            "[{names: [x], mode: warn}]",
            [
                ("gatekeeper-py-images", ["Deny"], "!(request.namespace == 'x' ? true : false)"),
                (
                    "gatekeeper-py-images-warn",
                    ["Warn", "Audit"],
                    "(request.namespace == 'x' ? true : false)",
                ),
            ],
            id="both",
        ),
        pytest.param(
            "enforce",
            "[{names: [x], mode: mutate}]",
            [("gatekeeper-py-images", ["Deny"], None)],
            id="same-verdict",
        ),
    ],
)
def test_modes_are_validation_actions(
    mode: str, overrides: str, expected: list[tuple[str, list[str], str | None]]
) -> None:
    documents = compiled(f"namespaces: {overrides}\n" if overrides else "", mode=mode)
    found = []
    for policy, binding in zip(documents[::2], documents[1::2], strict=True):
        assert binding["spec"]["policyName"] == policy["metadata"]["name"]
        selecting = {each["name"]: each["expression"] for each in policy["spec"]["matchConditions"]}
        found.append(
            (
                policy["metadata"]["name"],
                binding["spec"]["validationActions"],
                selecting.get("mode-of-the-namespace"),
            )
        )
    assert found == expected


def test_requirements_of_a_digest_are_validations_and_warnings() -> None:
    more = "require: [{images: ['*/**'], digest: true}, {images: [a.io/x], digest: true, mode: warn}]\n"
    policy, _, warning, binding = compiled(more)
    assert variables(policy)["verdict1"] == (
        "variables.verdict0.map(p, [p[0], p[1], p[2] == '' && !(p[1].contains('@')) ? 'unpinned' : p[2]])"
    )
    assert warning["metadata"]["name"] == "gatekeeper-py-images-unmet"
    assert binding["spec"]["validationActions"] == ["Warn", "Audit"]
    assert "in ['a.io/x']" in variables(warning)["verdict1"]
    assert [each["message"] for each in warning["spec"]["validations"]] == ["an image has no digest"]


def test_requirements_without_room_are_refused_by_name() -> None:
    requirements = "require: [{{images: [{}], digest: true{}}}]\n"
    for mode in ("", ", mode: warn"):
        more = requirements.format(many("*.d{}.io/x*", 500), mode)
        with pytest.raises(CannotExpress, match=r"require\[0\] .*the expression would become too long"):
            compiled(more)
        assert len(compiled(more, backstop=True)) == (4 if mode else 2)


def test_images_on_the_fast_path_are_not_evaluated_again() -> None:
    assert "a[.]io/" in variables(compiled()[0])["unclear"]
    # No image of "foo:443/" can be written in full, so nothing is pre-approved.
    assert variables(compiled(allow="['foo:443/']")[0])["unclear"] == (
        "variables.changed.filter(i, variables.few).map(i, [i, i])"
    )


@pytest.mark.parametrize(
    ("mode", "more", "names"),
    [
        pytest.param("mutate", MIRROR, ["rewrites", "denied0", "mirrored", "judged"], id="mutate"),
        pytest.param("enforce", MIRROR, [], id="enforce"),
        pytest.param("mutate", "", [], id="no-mirrors"),
    ],
)
def test_templates_are_judged_by_the_names_on_mirrors(mode: str, more: str, names: list[str]) -> None:
    found = variables(compiled(more, mode=mode)[0])
    assert [name for name in found if name in {"rewrites", "denied0", "mirrored", "judged"}] == names
    if names:
        assert found["rewrites"] == "object.kind != 'Pod'"


def test_templates_are_rewritten_in_some_namespaces() -> None:
    found = variables(compiled(f"{MIRROR}namespaces: [{{names: [x], mode: mutate}}]\n")[0])
    assert found["rewrites"] == "object.kind != 'Pod' && (request.namespace == 'x' ? true : false)"


def many(pattern: str, count: int) -> str:
    return ", ".join(f"'{pattern.format(number)}'" for number in range(count))


@pytest.mark.bulk
def test_rules_without_room_are_refused_by_name() -> None:
    count = 500
    with pytest.raises(CannotExpress) as refused:
        compiled(f"deny: [{many('*.d{}.io/x*', count)}]\n")
    first, *_, last = refused.value.obstacles
    assert len(refused.value.obstacles) == MAX_SHOWN + 1
    assert first.why == TOO_LARGE
    # The first rule in the message is the first one that does not fit.
    number = int(first.part.split("[")[1].split("]")[0])
    assert 10 < number < count
    compiled(f"deny: [{many('*.d{}.io/x*', number)}]\n")
    with pytest.raises(CannotExpress):
        compiled(f"deny: [{many('*.d{}.io/x*', number + 1)}]\n")
    assert last.part == "policy"
    assert last.why == f"{count - number - MAX_SHOWN:,} more rules do not fit"


def test_rules_that_do_not_fit_into_one_expression_are_in_several() -> None:
    more = f"deny: [{many('*.d{}.io/x*', 100)}]\n"
    found = variables(compiled(more, allow=f"[{many('*.r{}.io/team-*/**:v*', 60)}, a.io]")[0])
    verdicts = [name for name in found if name.startswith("verdict")]
    assert 4 < len(verdicts) <= 1 + MAX_EXPRESSIONS
    denying = [name for name in verdicts if "? 'rejected' : p[2]" in found[name]]
    approving = [name for name in verdicts if "? 'approved' : p[2]" in found[name]]
    assert verdicts == ["verdict0", *denying, *approving]


def test_nothing_is_approved_when_every_rule_has_expired() -> None:
    found = variables(compiled(allow="[{image: a.io, until: 2026-01-01}]")[0])
    assert found["rejected"] == "variables.verdict0.filter(p, p[2] != 'approved')"


def test_few_rules_without_room_are_all_named() -> None:
    with pytest.raises(CannotExpress) as refused:
        compiled(allow=f"[{many('a.io/' + 'x' * 200 + '*{}', 150)}]")
    assert refused.value.obstacles[-1].part.startswith("allow[149] ")


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("allow", "more", "expected"),
    [
        pytest.param("[a.io]", f"deny: [{many('*.d{}.io/x*', 500)}]\n", "startsWith('a.io/')", id="no-deny"),
        pytest.param(f"[{many('a.io/x{}/*:v*', 600)}]", "", "startsWith('a.io/')", id="whole-registries"),
        pytest.param(
            f"[{many('a.io/x{}:v*', 1200)}]", "", "in ['a.io/x0', 'a.io/x1', 'a.io/x10'", id="every-tag"
        ),
    ],
)
def test_a_backstop_approves_more_when_not_all_rules_fit(allow: str, more: str, expected: str) -> None:
    with pytest.raises(CannotExpress):
        compiled(more, allow=allow)
    policy, _ = compiled(more, allow=allow, backstop=True)
    assert expected in variables(policy)["verdict1"]
    assert len(policy["spec"]["validations"]) == 1


@pytest.mark.bulk
def test_a_backstop_is_refused_when_not_even_its_registries_fit() -> None:
    allow = f"[{many('*r{}.io', 1200)}]"
    with pytest.raises(CannotExpress, match="more rules do not fit"):
        compiled(allow=allow, backstop=True)


def test_mirrors_that_do_not_fit() -> None:
    mirrors = ", ".join(f"{{from: m{number}.io, to: a.io/m{number}}}" for number in range(51))
    more = f"mirrors: [{mirrors}]\n"
    with pytest.raises(CannotExpress, match="mirrors: the expression for all of them would become too long"):
        compiled(more, mode="mutate")
    found = variables(compiled(more, mode="mutate", backstop=True)[0])
    assert found["judged"] == "variables.rewrites ? [] : variables.canonical"


def test_a_backstop_that_cannot_know_the_images_of_templates_judges_pods_only() -> None:
    more = "mirrors: [{from: b.io, to: a.io/b, verify: true}]\n"
    found = variables(compiled(more, mode="mutate", backstop=True)[0])
    assert "object.kind == 'Pod'" in found["unclear"]
    assert "judged" not in found


def test_the_message_fits_into_what_an_api_server_takes() -> None:
    policy, _ = compiled(f"""message: "it's {"x" * 195}"\n""")
    assert policy["spec"]["validations"][1]["messageExpression"].endswith(rf" + '; it\'s {'x' * 195}'")
    longest = validating.MAX_IMAGES_SHOWN * (2 * validating.MAX_IMAGE_SHOWN + len(" (), ")) + 200
    assert longest < 5 * 1024 - 200


def test_the_message_ends_with_the_images_without_one_of_the_policy() -> None:
    assert compiled()[0]["spec"]["validations"][1]["messageExpression"].endswith("' more')")
