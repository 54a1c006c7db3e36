"""Rules are pre-approved, or left to the webhook with a reason. A change of the policy may remove images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gatekeeper_py.core import InvalidReference, Policy, parse_policy, parse_reference
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.exclusions import SPELLING
from gatekeeper_py.core.compile.fastpath import (
    ENDPOINTS,
    EXCLUSIONS,
    GUARDS,
    FastPath,
    Moment,
    WebhookKind,
    _compile,
    compile_fastpath,
    not_pre_approved,
)
from gatekeeper_py.core.compile.preapproved import EVERYTHING, NOTHING
from gatekeeper_py.core.images.pattern import InvalidPattern, parse_pattern
from gatekeeper_py.core.images.reference import HUB_ALIASES, fold_registry
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.document import PolicyDocument, ResourceEntry
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule
from support.builders import HUB_TO_CORP, INSTANT, NAMESPACE, container, keys_text, pod, policy_text, review
from support.skipping import objection, skips

DIGEST: Final = "@sha256:" + "7c" * 32
VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "references.json").read_text()
)["vectors"]


def parsed(allow: str, more: str = "") -> Policy:
    return parse_policy(policy_text(more, allow=allow))


def fast(allow: str, more: str = "", **options: Any) -> FastPath:
    return compile_fastpath(parsed(allow, more), INSTANT, **options)


def law(
    policy: Policy, review_document: dict[str, Any], endpoint: WebhookKind, until: datetime | None = None
) -> str:
    return objection(yaml.safe_load(policy.text), review_document, endpoint, until)


def entries(fast_path: FastPath, endpoint: WebhookKind = "validating") -> tuple[list[str], list[str]]:
    """Return the included and the excluded entries."""
    approved = fast_path.approved[endpoint]
    return list(map(str, approved.included)), list(map(str, approved.excluded))


@pytest.mark.parametrize(
    ("rule", "included"),
    [
        pytest.param("a.io", "a.io/**", id="registry"),
        pytest.param("a.io:5000/team/**", "a.io:5000/team/**", id="subtree"),
        pytest.param("a.io/team/app", "a.io/team/app", id="repository"),
        pytest.param("a.io:443/x", "a.io/x", id="default-port"),
        pytest.param("'a.io@*'", "a.io/**@*", id="pinned"),
        pytest.param(f"'a.io/x{DIGEST}'", f"a.io/x{DIGEST}", id="digest"),
        pytest.param("a.io/x:v1", "a.io/x:v1", id="tag"),
        pytest.param("a.io/**:v*", "a.io/**:v*", id="tag-glob"),
        pytest.param("localhost", "localhost/**", id="localhost"),
        pytest.param("foo:5000/", "foo:5000/**", id="dotless-with-a-port"),
        pytest.param("localhost:443/", "localhost/**", id="localhost-with-the-default-port"),
        pytest.param("'*.corp.io'", "*.corp.io/**", id="host-wildcard"),
        pytest.param("'a.io/*/app'", "a.io/*/app", id="path-wildcard"),
        pytest.param("docker.io/library", "docker.io/library/library", id="a-hub-repository"),
        pytest.param("docker.io/library/**", "docker.io/library/**", id="official-images"),
        pytest.param("docker.io", "docker.io/*/**", id="all-of-hub"),
        *(pytest.param(f"{a}/x/**", "docker.io/x/**", id=a) for a in sorted(HUB_ALIASES)),
        pytest.param("docker.io:443/x/**", "docker.io/x/**", id="hub-with-its-port"),
        pytest.param("docker.io:5000/x", "docker.io:5000/x", id="another-registry-on-the-hubs-name"),
        pytest.param("{image: a.io, namespaces: ['*']}", "a.io/**", id="every-namespace"),
        pytest.param("{image: a.io, namespaces: [shop]}", "a.io/** in shop", id="namespaces"),
        pytest.param("{image: a.io, owner: ana, reason: ours}", "a.io/**", id="owner-and-reason"),
        pytest.param("{image: a.io, until: 2026-03-02}", "a.io/**", id="until"),
    ],
)
def test_a_rule_pre_approves_its_pattern(rule: str, included: str) -> None:
    found = fast(f"[{rule}]")
    assert entries(found) == ([included], [])
    assert [(verdict.validating, verdict.mutating) for verdict in found.rules] == [("", "")]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        pytest.param("foo:443/", "no image of it can be written in full", id="dotless-with-the-default-port"),
        pytest.param("foo:0443/x/**", "no image of it can be written in full", id="dotless-and-a-zero"),
        pytest.param("library:443/", "no image of it can be written in full", id="the-hubs-own-namespace"),
        pytest.param("f*o:443/", "no image of it can be written in full", id="dotless-wildcard"),
        pytest.param(f"a.io/{'b' * 254}/", "no image of it can be written in full", id="no-room-below"),
        pytest.param("'[::1]:5000/x'", "no image of it can be written in full", id="ipv6"),
        pytest.param(f"a.io/x@sha512:{'7c' * 64}", "no image of it can be written in full", id="sha512"),
        pytest.param("{image: a.io, until: 2026-03-01T12:00:00Z}", "it has expired", id="expired-now"),
        pytest.param("{image: a.io, until: 2000-01-01}", "it has expired", id="expired"),
    ],
)
def test_why_nothing_of_a_rule_is_pre_approved(rule: str, why: str) -> None:
    quoted = rule if rule.startswith(("{", "'")) else f"'{rule}'"
    found = fast(f"[{quoted}]")
    assert entries(found) == ([], [])
    assert [(verdict.validating, verdict.mutating) for verdict in found.rules] == [(why, why)]


@pytest.mark.parametrize(
    ("rule", "more", "excluded"),
    [
        pytest.param("a.io", "deny: [a.io/x]", ["a.io/x"], id="denied-repository"),
        pytest.param("a.io", "deny: ['a.io/old/**']", ["a.io/old/**"], id="denied-subtree"),
        pytest.param("a.io", "deny: ['*/**:latest']", ["*/**:latest"], id="denied-tag"),
        pytest.param("a.io", "deny: ['*/**:v*']", ["*/**:v*"], id="denied-tags"),
        pytest.param("a.io/x:v1", "deny: ['*/**:latest']", [], id="denied-tag-of-another-tag"),
        pytest.param("'a.io@*'", "deny: ['*/**:latest']", [], id="denied-tag-of-pinned-images"),
        pytest.param("a.io", "deny: ['*.io/x']", ["*.io/x"], id="denied-by-a-host-wildcard"),
        pytest.param("a.io", "deny: ['a.io:5000']", [], id="denied-on-another-port"),
        pytest.param("a.io/x/**", "deny: [a.io/y/**]", [], id="denied-beside-it"),
        pytest.param(
            "a.io", "deny: [{image: a.io/x, namespaces: [b]}]", ["a.io/x in b"], id="denied-in-a-namespace"
        ),
        pytest.param("a.io", "deny: [{image: a.io/x, until: 2000-01-01}]", [], id="denial-expired"),
        pytest.param("a.io", "deny: [{image: a.io/x, until: 2027-01-01}]", ["a.io/x"], id="denial-expires"),
        pytest.param(
            "a.io", "deny: [b.io/x]\nmirrors: [{from: b.io, to: a.io/b}]", ["a.io/b/x"], id="mirrored"
        ),
        pytest.param(
            "a.io",
            "deny: [docker.io/library/y]\nmirrors: [{from: docker.io, to: a.io/b}]",
            ["a.io/b/y", "a.io/b/library/y"],
            id="mirrored-official-image",
        ),
        pytest.param(
            "a.io",
            "deny: ['*/**:latest']\nmirrors: [{from: docker.io, to: a.io/b}]",
            ["*/**:latest"],
            id="mirrored-and-denied-everywhere",
        ),
        pytest.param(
            "a.io/c", "deny: [b.io/x]\nmirrors: [{from: b.io, to: a.io/b}]", [], id="mirrored-beside-it"
        ),
        pytest.param(
            "'*.docker.io'", "", ["index.docker.io/**", "registry-1.docker.io/**"], id="alias-of-hub"
        ),
        pytest.param("'docker.*'", "", ["docker.io/*"], id="short-names-of-hub"),
    ],
)
def test_a_rule_excludes_denied_and_ambiguous_images(rule: str, more: str, excluded: list[str]) -> None:
    found = fast(f"[{rule}]", more)
    assert entries(found)[1] == excluded
    assert found.rules[0].validating == ""


@pytest.mark.parametrize(
    ("allow", "more", "validating", "mutating"),
    [
        pytest.param("a.io/x", "deny: [a.io]", "deny[0] a.io covers all of it", "", id="denied"),
        pytest.param(
            "a.io/b/x",
            "deny: [b.io]\nmirrors: [{from: b.io, to: a.io/b}]",
            "deny[0] b.io, by way of mirrors[0] covers all of it",
            "",
            id="denied-at-its-origin",
        ),
        pytest.param(
            "a.io/x", "mirrors: [{from: a.io, to: b.io}]", "", "mirrors[0] rewrites all of it", id="rewritten"
        ),
        pytest.param("a.io", "mirrors: [{from: a.io/x, to: b.io}]", "", "", id="rewritten-in-part"),
        pytest.param("a.io/x", "mirrors: [{from: a.io, to: b.io, except: [a.io/x]}]", "", "", id="excepted"),
        pytest.param(
            "a.io/x/**",
            "mirrors: [{from: a.io, to: b.io, except: [a.io/y, 'a.io/**:v1']}]",
            "",
            "mirrors[0] rewrites all of it, apart from its exceptions",
            id="excepted-in-part",
        ),
        pytest.param(
            "a.io/x/y",
            "mirrors: [{from: a.io, to: b.io, except: [a.io/**]}, {from: a.io/x, to: c.io}]",
            "",
            "mirrors[1] rewrites all of it",
            id="a-longer-mirror-has-no-except",
        ),
        pytest.param(
            "a.io/x",
            "mirrors: [{from: a.io, to: b.io, verify: true, onMissing: deny, except: [a.io/x]}]",
            "",
            "",
            id="an-except-is-not-looked-up",
        ),
        pytest.param("registry.corp.io", HUB_TO_CORP, "", "", id="the-mirror-itself"),
        pytest.param(
            "a.io",
            "resources: [{group: '', kind: Pod, images: [spec.extra]}]",
            "resources declares further images of Pods",
            "resources declares further images of Pods",
            id="further-images-of-pods",
        ),
        pytest.param(
            "a.io", "resources: [{group: x.io, kind: Pod, images: [spec.extra]}]", "", "", id="of-other-kinds"
        ),
    ],
)
def test_a_rule_is_left_to_the_webhook_with_a_reason(
    allow: str, more: str, validating: str, mutating: str
) -> None:
    verdict = fast(f"[{allow}, z.io]", more).rules[0]
    assert verdict.validating == validating
    if "mirrors" not in more and "spec" not in more:
        assert verdict.mutating == ""  # the mutating webhook is never called
    else:
        assert verdict.mutating == mutating
    assert (verdict.why_not("validating"), verdict.why_not("mutating")) == (
        verdict.validating,
        verdict.mutating,
    )


def test_the_expression_for_mutation_ignores_namespaces_and_denials() -> None:
    more = "deny: [a.io/y]\nmirrors: [{from: a.io/x, to: b.io}]"
    found = fast("[{image: a.io, namespaces: [shop]}]", more)
    assert entries(found) == (["a.io/** in shop"], ["a.io/y"])
    assert entries(found, "mutating") == (["a.io/**"], ["a.io/x/**", "a.io/x"])


def test_a_policy_that_pre_approves_nothing_has_no_expression() -> None:
    found = fast("['[::1]:5000']", "mirrors: [{from: b.io, to: a.io/b}]")
    assert (found.validating, found.mutating, found.valid_until) == (None, None, None)
    assert set(found.approved.values()) == {NOTHING}
    for endpoint in ENDPOINTS:
        assert found.expression(endpoint) is None
        assert not found.approves(None, "a.io/x", endpoint)
        assert not skips(found.approved[endpoint], wire.parse(review(pod("a.io/x"))))


def test_the_endpoints_have_their_own_expression() -> None:
    found = fast("[a.io, b.io]", "mirrors: [{from: b.io, to: a.io/b}]")
    assert found.validating is not None
    assert found.mutating is not None
    assert "b[.]io/" in found.validating
    assert "b[.]io/" not in found.mutating
    assert (found.expression("validating"), found.expression("mutating")) == (
        found.validating,
        found.mutating,
    )


def test_without_a_mirror_the_mutating_webhook_is_never_called() -> None:
    """Without mirrors the mutating webhook changes nothing, in any mode and for any object."""
    policy = parsed("[a.io, {image: b.io, until: 2000-01-01}]")
    found = compile_fastpath(policy, INSTANT)
    assert found.mutating == "false"
    assert found.approved["mutating"] == EVERYTHING
    for document in (
        review(pod("evil.io/x")),
        review(pod("a.io/x", "")),
        review({"spec": None}, kind=("", "Pod")),
        review(pod("evil.io/x"), kind=("apps", "Deployment")),
    ):
        assert skips(found.approved["mutating"], wire.parse(document))
        assert not skips(found.approved["validating"], wire.parse(document))
        assert law(policy, document, "mutating") == ""
    assert found.approves(None, "nginx", "mutating")
    assert found.why(None, "nginx", "mutating") == "no image is ever rewritten"
    assert [(verdict.validating, verdict.mutating) for verdict in found.rules] == [
        ("", ""),
        ("it has expired", ""),
    ]


def test_the_expression_is_the_same_in_every_mode() -> None:
    text = policy_text("mirrors: [{from: b.io, to: a.io/b}]", allow="[a.io, b.io]")
    first, *others = (
        compile_fastpath(parse_policy(text, mode), INSTANT) for mode in ("enforce", "warn", "mutate")
    )
    assert all((each.validating, each.mutating) == (first.validating, first.mutating) for each in others)


SOON: Final = datetime(2026, 3, 2, tzinfo=UTC)
DATED: Final = "[a.io, {image: b.io, until: 2026-03-02}, {image: c.io, until: 2026-04-01}]"


def test_the_first_rule_to_expire_ends_the_expressions() -> None:
    found = fast(DATED)
    assert found.valid_until == SOON
    assert compile_fastpath(parsed(DATED), SOON).valid_until == datetime(2026, 4, 1, tzinfo=UTC)
    assert fast("[a.io]").valid_until is None


def test_rules_that_expire_soon_can_be_left_out() -> None:
    found = fast(DATED, lasting=timedelta(hours=12))
    assert found.rules[1].validating == "it expires soon"
    assert found.rules[1].rule.until == SOON
    assert found.valid_until == datetime(2026, 4, 1, tzinfo=UTC)
    assert fast(DATED, lasting=timedelta(hours=11, minutes=59)).valid_until == SOON


MIRROR: Final = "mirrors: [{from: a.io, to: b.io}]"
OTHER_MIRROR: Final = "mirrors: [{from: z.io, to: b.io}]"


@pytest.mark.parametrize(
    ("before", "after", "tightens"),
    [
        pytest.param(("[a.io, b.io]", ""), ("[a.io]", ""), True, id="one-less"),
        pytest.param(("[a.io]", ""), ("[a.io]", "deny: [a.io/x]"), True, id="denied"),
        pytest.param(("[a.io]", ""), ("[{image: a.io, until: 2027-01-01}]", ""), False, id="it-will-expire"),
        pytest.param(("[a.io]", OTHER_MIRROR), ("[a.io]", MIRROR), True, id="rewritten-is-enough"),
        pytest.param(("[a.io]", ""), ("[a.io]", OTHER_MIRROR), True, id="the-first-mirror"),
        pytest.param(("[a.io]", OTHER_MIRROR), ("[a.io]", ""), False, id="the-last-mirror"),
    ],
)
def test_removals_tighten(before: tuple[str, str], after: tuple[str, str], tightens: bool) -> None:  # noqa: FBT001
    assert fast(*after).tightens(fast(*before)) is tightens


def test_any_policy_tightens_an_unknown_one() -> None:
    assert fast("[a.io]").tightens(None)


@pytest.mark.parametrize(
    ("image", "namespace", "why"),
    [
        ("a.io/x", None, "allow[0] a.io approves it"),
        ("a.io/old/x:1", None, "it is excluded: deny[0] a.io/old/**"),
        ("b.io/x", None, "no allow rule matches it"),
        ("b.io/x", "shop", "no allow rule matches it in shop"),
        ("c.io/x", None, "allow[2] c.io matches it, but it has expired"),
        ("a.io:443/x", None, "it is not written in full: a.io/x, then :tag"),
        ("nginx", None, "it is not written in full: docker.io/library/nginx, then :tag"),
        ("a.io/" + "x" * 300, None, "it is longer than 255 characters"),
        ("a_b.io/x", None, "it is never approved: its first part is neither"),
        ("a.io:99999/x", None, "it is never approved: the port"),
        ("a..io/x", None, "it is never approved: "),
    ],
)
def test_the_reason_for_a_call_is_stated(image: str, namespace: str | None, why: str) -> None:
    allow = "[a.io, 'b.io@*', {image: c.io, until: 2000-01-01}]"
    found = fast(allow, "deny: [a.io/old/**]").why(namespace, image, "validating")
    assert found.startswith(why)
    assert found.isascii()


def test_findings_name_what_is_left_to_the_webhook_and_what_ends_the_conditions() -> None:
    policy = parsed("\n  - a.io\n  - {image: b.io, until: 2000-01-01}\n  - {image: c.io, until: 2999-01-01}")
    found = not_pre_approved(policy, INSTANT)
    assert [(f.severity, f.code, f.path, f.line) for f in found] == [
        ("information", "not-pre-approved", "allow[1]", 6),
        ("information", "conditions-expire", "allow[2].until", 7),
    ]
    assert found[0].message == "the fast path leaves allow[1] b.io to the webhook: it has expired"
    assert found[1].message.endswith("must be replaced before 2999-01-01T00:00:00Z")


def test_the_ecosystems_vectors_are_pre_approved_only_where_they_are_approved() -> None:
    """All their registries are allowed. A skipped image is then in canonical form."""
    rules = set()
    for vector in VECTORS:
        registry = vector["registry"] if vector["ok"] else ""
        with suppress(InvalidReference, InvalidPattern):
            # The pattern needs the slash. Without it, a host with a port and no dot would read as an image.
            rules.add(parse_pattern(f"{fold_registry(registry)}/").text)
    policy = parsed(json.dumps(sorted(rules)))
    found = compile_fastpath(policy, INSTANT)
    skipped = [v["input"] for v in VECTORS if found.approves(NAMESPACE, v["input"], "validating")]
    assert len(skipped) > 10
    for image in skipped:
        assert parse_reference(image).canonical == image
        assert law(policy, review(pod(image)), "validating") == ""


MIRROR_OF_X: Final = "mirrors: [{from: a.io/x, to: b.io}]"
TAKEN_OUT: Final[tuple[tuple[str, WebhookKind, str, str, dict[str, Any]], ...]] = (
    ("until", "validating", "[{image: a.io, until: 2000-01-01}]", "", pod("a.io/x")),
    (
        "declared",
        "validating",
        "[a.io]",
        "resources: [{group: '', kind: Pod, images: ['spec.extra']}]",
        pod("a.io/x", extra="evil.io/x"),
    ),
    ("denied", "validating", "[a.io]", "deny: ['*/x']", pod("a.io/x")),
    (
        "denied",
        "validating",
        "[a.io]",
        "deny: [b.io/x]\nmirrors: [{from: b.io, to: [c.io, a.io/b]}]",
        pod("a.io/b/x"),
    ),
    (
        "required",
        "validating",
        "[a.io]",
        "require: [{images: [a.io/x], exists: true, mode: warn}]",
        pod(f"a.io/x{DIGEST}"),
    ),
    ("required", "validating", "[a.io]", "require: [{images: ['*/**'], digest: true}]", pod("a.io/x:1")),
    (
        "required",
        "validating",
        "[a.io]",
        "require: [{images: [b.io/x], digest: true}]\nmirrors: [{from: b.io, to: [c.io, a.io/b]}]",
        pod("a.io/b/x"),
    ),
    (
        "looked-up",
        "validating",
        "[a.io, b.io]",
        "mirrors: [{from: a.io/x, to: b.io, verify: true, onMissing: deny}]",
        pod("a.io/x/y"),
    ),
    (
        "looked-up",
        "validating",
        "[a.io, b.io]",
        f"deny: ['b.io/**@sha256:{'0' * 64}']\nrequire: [{{images: [b.io], digest: true}}]\n{MIRROR_OF_X}",
        pod("a.io/x/y"),
    ),
    ("rewritten", "mutating", "[a.io]", "mirrors: [{from: a.io/x, to: b.io}]", pod("a.io/x/y")),
    (
        "pinned",
        "mutating",
        "[a.io]",
        "require: [{images: [a.io/x], digest: true, mode: warn}]",
        pod("a.io/x:1"),
    ),
    (
        "pinned",
        "mutating",
        "[a.io]",
        "require: [{images: [b.io/x], digest: true}]\nmirrors: [{from: b.io, to: [c.io, a.io/b]}]",
        pod("a.io/b/x"),
    ),
)
"""Guards and exclusions, each with a policy and a Pod that would be wrongly skipped without it.

The spelling of images is not covered here, because the model checks itself which images are written in
full. ``test_expression_evaluated`` removes those exclusions from the text.
"""


def test_every_guard_and_exclusion_is_removed_by_a_case() -> None:
    names = {*GUARDS, *EXCLUSIONS["validating"], *EXCLUSIONS["mutating"]}
    assert names == {*(name for name, *_ in TAKEN_OUT), "spelling", *SPELLING}


@pytest.mark.parametrize(
    ("name", "endpoint", "allow", "more", "obj"),
    TAKEN_OUT,
    ids=[f"{each[0]}-{number}" for number, each in enumerate(TAKEN_OUT)],
)
def test_each_guard_and_exclusion_is_needed(
    name: str, endpoint: WebhookKind, allow: str, more: str, obj: dict[str, Any]
) -> None:
    """API servers call the webhook with all guards and exclusions. Without this one, they skip the Pod."""
    review_document = review(obj, kind=("", "Pod"))
    policy = parsed(allow, more)
    assert not skips(compile_fastpath(policy, INSTANT).approved[endpoint], wire.parse(review_document))
    assert skips(without(policy, name).approved[endpoint], wire.parse(review_document))
    assert law(policy, review_document, endpoint) != ""


@pytest.mark.parametrize(
    ("require", "more", "validating", "mutating"),
    [
        pytest.param("images: ['*/**'], digest: true", "", ["*/**:*"], ["*/**:*"], id="digest"),
        pytest.param(
            "images: [a.io/x, 'a.io/y:v1', 'a.io/z@*'], digest: true, mode: warn, namespaces: [shop]",
            "",
            ["a.io/x:* in shop", "a.io/y:v1 in shop"],
            ["a.io/x:* in shop", "a.io/y:v1 in shop"],
            id="qualifiers-and-namespaces",
        ),
        pytest.param(
            "images: [a.io/x/**], digest: true, except: [a.io/x/y]",
            "",
            ["a.io/x/**:*"],
            ["a.io/x/**:*"],
            id="an-except-stays-excluded",
        ),
        pytest.param("images: [a.io/x], exists: true, mode: warn", "", ["a.io/x"], None, id="exists"),
        pytest.param(
            "images: [a.io/x], signedBy: [ci-2026]", keys_text(), ["a.io/x"], ["a.io/x:*"], id="signature"
        ),
        pytest.param("images: [b.io], digest: true", "", [], [], id="of-other-images"),
        pytest.param(
            "images: [b.io/x], digest: true",
            "mirrors: [{from: b.io, to: a.io/b}]",
            ["a.io/b/x:*"],
            ["a.io/b/x:*"],
            id="at-its-origin",
        ),
    ],
)
def test_requirements_exclude_what_may_not_meet_them_and_what_is_pinned(
    require: str, more: str, validating: list[str], mutating: list[str] | None
) -> None:
    found = fast("[a.io]", f"require: [{{{require}}}]\n{more}")
    assert entries(found) == (["a.io/**"], validating)
    if mutating is None:
        assert found.approved["mutating"] == EVERYTHING
    else:
        assert entries(found, "mutating") == (["a.io/**"], mutating)


def test_requirements_are_named() -> None:
    found = fast(
        "[a.io, b.io]",
        "require: [{images: [a.io/x], exists: true}, {images: [a.io/x/**, b.io], exists: true}]",
    )
    assert [verdict.validating for verdict in found.rules] == [
        "",
        "require[1] b.io (needs a look-up) covers all of it",
    ]
    assert (
        found.why("shop", "a.io/x:1", "validating") == "it is excluded: require[0] a.io/x (needs a look-up)"
    )


def test_a_rule_without_images_in_full_form_is_left_out() -> None:
    policy = parsed("['foo:443/']")
    assert entries(compile_fastpath(policy, INSTANT)) == ([], [])
    assert entries(without(policy, "spelling")) == (["foo/**"], [])


def without(policy: Policy, name: str) -> FastPath:
    def left(named: Mapping[str, Any]) -> dict[str, Any]:
        return {key: each for key, each in named.items() if key != name}

    exclusions = {endpoint: left(EXCLUSIONS[endpoint]) for endpoint in ENDPOINTS}
    return _compile(policy, Moment(now=INSTANT, until=INSTANT), left(GUARDS), exclusions)


KNOWN_FIELDS: Final[dict[type[Any], str]] = {
    # Part of an entry: pattern, namespaces. Guard: until. No influence: the others.
    # What an except spares counts as denied: excepts.
    Rule: "list index pattern namespaces until owner reason excepts",
    # Part of an entry: images, namespaces. With exists or signed_by, every image is excluded, with digest
    # those that have none. What an except spares stays excluded. No influence: the others.
    Requirement: "index images namespaces excepts digest exists signed_by signatures on_error warns"
    " owner reason",
    # Excluded whatever the length of the repository: longest. Left out of an exclusion: but.
    Scope: "images namespaces longest but because",
    # Both ends of a mirror are excluded, but not for rules that its excepts cover.
    # A look-up that can reject is an exclusion: on_missing, on_error.
    Mirror: "index source targets excepts verify on_missing on_error pin image_pull_secret",
    # Mode: the same result in every mode. Guard: resources. No influence: registries, keys, message.
    # Approves more than the rules do: exceptions.
    PolicyDocument: "mode allow deny require namespaces mirrors resources registries keys message exceptions",
    ResourceEntry: "group kind images",
}


@pytest.mark.parametrize("kind", KNOWN_FIELDS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_policy_has_a_position(kind: type[Any]) -> None:
    """A new field fails here until the fast path and the native policies take a position on it."""
    assert {each.name for each in dataclasses.fields(kind)} == set(KNOWN_FIELDS[kind].split())


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("sub_resource", [None, "ephemeralcontainers", "status", "resize"])
def test_every_operation_on_a_pod_is_treated_alike(operation: str, sub_resource: str | None) -> None:
    policy = parsed("[a.io]")
    obj = pod("a.io/x", ephemeralContainers=[container("a.io/debug")])
    review_document = review(obj, old=pod("old.io/x"), operation=operation, sub_resource=sub_resource)
    found = compile_fastpath(policy, INSTANT)
    for endpoint in ENDPOINTS:
        assert skips(found.approved[endpoint], wire.parse(review_document))
        assert law(policy, review_document, endpoint) == ""
