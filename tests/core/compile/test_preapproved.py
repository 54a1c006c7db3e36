"""Which rules are plain, which are left out, and what a change takes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from builders import HUB_TO_CORP, container, pod, policy_text, review
from gatekeeper_py.core import InvalidReference, Policy, parse_policy, parse_reference
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.preapproved import (
    ENDPOINTS,
    GUARDS,
    MUTATING_GUARDS,
    TOO_MANY,
    Endpoint,
    FastPath,
    _compile,
    compile_fastpath,
    not_plain,
)
from gatekeeper_py.core.images.pattern import InvalidPattern, parse_pattern
from gatekeeper_py.core.images.reference import HUB_ALIASES, fold_registry
from plainness import heard

DIGEST: Final = "@sha256:" + "7c" * 32
OTHER_DIGEST: Final = "@sha256:" + "8d" * 32
VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "references.json").read_text()
)["vectors"]


def parsed(allow: str, more: str = "") -> Policy:
    return parse_policy(policy_text(more, allow=allow))


def fast(allow: str, more: str = "") -> FastPath:
    return compile_fastpath(parsed(allow, more))


@pytest.mark.parametrize(
    ("rule", "more", "validating", "mutating"),
    [
        pytest.param("a.io", "", "", "", id="registry"),
        pytest.param("a.io:5000/team/**", "", "", "", id="subtree"),
        pytest.param("a.io/team/app", "", "", "", id="repository"),
        pytest.param("a.io:443/x", "", "", "", id="default-port"),
        pytest.param("'a.io@*'", "", "", "", id="pinned"),
        pytest.param("localhost", "", "", "", id="localhost"),
        pytest.param("foo:5000/", "", "", "", id="dotless-with-a-port"),
        pytest.param("localhost:443/", "", "", "", id="localhost-with-the-default-port"),
        pytest.param("foo:443/", "", "its name without the port", "", id="dotless-with-the-default-port"),
        pytest.param("foo:0443/x/**", "", "its name without the port", "", id="dotless-and-a-zero"),
        pytest.param("library:443/", "", "its name without the port", "", id="the-hubs-own-namespace"),
        pytest.param("foo:443/x", "", "its name without the port", "", id="dotless-repository"),
        pytest.param("'foo:443/x@*'", "", "its name without the port", "", id="dotless-pinned"),
        pytest.param(f"a.io/{'b' * 254}/", "", "no image can have such a name", "", id="no-room-below"),
        pytest.param("{image: a.io, namespaces: ['*']}", "", "", "", id="every-namespace"),
        pytest.param("{image: a.io, owner: ana, reason: ours}", "", "", "", id="owner-and-reason"),
        pytest.param(
            "{image: a.io, namespaces: [shop]}", "", "it is for some namespaces", "", id="namespaces"
        ),
        pytest.param("{image: a.io, until: 2999-01-01}", "", "it lapses", "", id="until"),
        pytest.param("'*.corp.io'", "", "its host has a wildcard", "", id="host-wildcard"),
        pytest.param("'[::1]:5000/x'", "", "its host is no DNS name", "", id="ipv6"),
        pytest.param("docker.io/library", "", "Docker Hub's", "", id="hub"),
        *(pytest.param(f"{a}/x/**", "", "Docker Hub's", "", id=a) for a in sorted(HUB_ALIASES)),
        pytest.param("docker.io:443/x/**", "", "Docker Hub's", "", id="hub-with-its-port"),
        pytest.param("docker.io:5000/x", "", "", "", id="another-registry-on-the-hubs-name"),
        pytest.param("'a.io/*/app'", "", "its path has a wildcard", "", id="path-wildcard"),
        pytest.param("a.io/x:v1", "", "it wants a tag", "", id="tag"),
        pytest.param(f"'a.io/x{DIGEST}'", "", "it wants one digest", "", id="digest"),
        pytest.param("a.io", "deny: [a.io/x]", "deny[0] a.io/x may refuse", "", id="denied"),
        pytest.param("a.io/x", "deny: [a.io]", "deny[0] a.io may refuse", "", id="denied-by-a-wider-rule"),
        pytest.param("a.io", "deny: ['*/**:latest']", "deny[0] */**:latest may refuse", "", id="denied-tag"),
        pytest.param("a.io", "deny: ['*.io']", "deny[0]", "", id="denied-by-a-host-wildcard"),
        pytest.param("a.io", "deny: ['a.io:5000']", "", "", id="denied-on-another-port"),
        pytest.param("a.io/x/**", "deny: [a.io/y/**]", "", "", id="denied-beside-it"),
        pytest.param(
            "a.io", "deny: [{image: a.io/x, namespaces: [shop]}]", "deny[0]", "", id="denied-in-a-namespace"
        ),
        pytest.param("a.io", "deny: [{image: a.io/x, until: 2000-01-01}]", "deny[0]", "", id="denial-lapsed"),
        pytest.param(
            "a.io",
            "deny: [b.io/x]\nmirrors: [{from: b.io, to: a.io/b}]",
            "mirrors[0] leads",
            "",
            id="mirrored",
        ),
        pytest.param(
            "a.io/b/y",
            "deny: [docker.io/library/y]\nmirrors: [{from: docker.io, to: a.io/b}]",
            "mirrors[0] leads to it from what deny[0] docker.io/library/y may refuse",
            "",
            id="mirrored-official-image",
        ),
        pytest.param(
            "a.io/c", "deny: [b.io/x]\nmirrors: [{from: b.io, to: a.io/b}]", "", "", id="mirrored-beside-it"
        ),
        pytest.param(
            "a.io", "deny: [b.io/x]\nmirrors: [{from: b.io/y, to: a.io/b}]", "", "", id="mirrored-not-denied"
        ),
        pytest.param(
            "a.io",
            "deny: [b.io/x]\nmirrors: [{from: b.io/x, to: a.io/b}]",
            "mirrors[0]",
            "",
            id="mirrored-one",
        ),
        pytest.param(
            "a.io", "mirrors: [{from: a.io/x, to: b.io}]", "", "mirrors[0] rewrites", id="rewritten"
        ),
        pytest.param(
            "a.io/x/y",
            "mirrors: [{from: a.io/x, to: b.io, except: [a.io/x/y]}]",
            "",
            "mirrors[0] rewrites",
            id="rewritten-but-for-an-exception",
        ),
        pytest.param("a.io/y", "mirrors: [{from: a.io/x, to: b.io}]", "", "", id="rewritten-beside-it"),
        pytest.param("registry.corp.io", HUB_TO_CORP, "", "", id="the-mirror-itself"),
        pytest.param(
            "a.io",
            "resources: [{group: '', kind: Pod, images: [spec.extra]}]",
            "resources declares",
            "",
            id="further-images-of-pods",
        ),
        pytest.param(
            "a.io", "resources: [{group: x.io, kind: Pod, images: [spec.extra]}]", "", "", id="of-other-kinds"
        ),
    ],
)
def test_which_rules_are_plain(rule: str, more: str, validating: str, mutating: str) -> None:
    (verdict,) = fast(f"[{rule}]", more).rules
    assert verdict.validating.startswith(validating)
    assert bool(verdict.validating) is bool(validating)
    assert verdict.mutating.startswith(validating or mutating)
    assert bool(verdict.mutating) is bool(validating or mutating)


def test_with_nothing_plain_there_is_no_expression() -> None:
    fastpath = fast("[docker.io/library]")
    assert (fastpath.validating, fastpath.mutating) == (None, None)
    for endpoint in ENDPOINTS:
        assert fastpath.expression(endpoint) is None
        assert not fastpath.approves("docker.io/library/nginx", endpoint)
        assert not fastpath.skips(wire.parse(review(pod("docker.io/library/nginx"))), endpoint)


def test_the_endpoints_have_their_own_expression() -> None:
    fastpath = fast("[a.io, b.io]", "mirrors: [{from: b.io, to: a.io/b}]")
    assert fastpath.validating is not None
    assert fastpath.mutating is not None
    assert "b[.]io/" in fastpath.validating
    assert "b[.]io/" not in fastpath.mutating
    assert (fastpath.expression("validating"), fastpath.expression("mutating")) == (
        fastpath.validating,
        fastpath.mutating,
    )


def test_without_a_mirror_the_mutating_webhook_is_never_asked() -> None:
    """It does nothing then, in whatever mode; what is no Pod, or not approved, is no matter."""
    text = policy_text(allow="[a.io, {image: b.io, until: 2999-01-01}]")
    fastpath = compile_fastpath(parse_policy(text))
    assert fastpath.mutating == "false"
    for document in (
        review(pod("evil.io/x")),
        review(pod("a.io/x", "")),
        review({"spec": None}, kind=("", "Pod")),
        review(pod("evil.io/x"), kind=("apps", "Deployment")),
    ):
        assert fastpath.skips(wire.parse(document), "mutating")
        assert not fastpath.skips(wire.parse(document), "validating")
        assert heard(text, document, "mutating") == ""
    assert fastpath.approves("nginx", "mutating")
    assert fastpath.why("nginx", "mutating") == "no mirror rewrites anything"
    assert [(verdict.validating, verdict.mutating) for verdict in fastpath.rules] == [
        ("", ""),
        ("it lapses", ""),
    ]


def test_with_nothing_plain_it_is_asked_all_the_same() -> None:
    fastpath = fast("['*.corp.io']")
    assert fastpath.mutating is None
    assert not fastpath.skips(wire.parse(review(pod("evil.io/x"))), "mutating")


def test_it_is_the_same_in_every_mode() -> None:
    text = policy_text("mirrors: [{from: b.io, to: a.io/b}]", allow="[a.io, b.io]")
    first, *others = (compile_fastpath(parse_policy(text, mode)) for mode in ("enforce", "warn", "mutate"))
    assert all((each.validating, each.mutating) == (first.validating, first.mutating) for each in others)


def test_the_widest_rules_are_kept_when_there_is_no_room_for_all() -> None:
    """``over the bound`` registries come first, then subtrees by depth, then repositories."""
    narrow = [f"registry-{number}.corp.io/team/{'x' * 60}/app" for number in range(1000)]
    middle = [f"other-{number}.corp.io/team/**" for number in range(300)]
    fastpath = fast(json.dumps([*narrow, *middle, "a.io"]), "mirrors: [{from: z.io, to: a.io/z}]")
    left_out = [verdict for verdict in fastpath.rules if verdict.validating]
    assert {verdict.validating for verdict in left_out} == {TOO_MANY}
    assert {verdict.mutating for verdict in left_out} == {TOO_MANY}
    assert {verdict.rule.pattern.subtree for verdict in left_out} == {False}
    assert 0 < len(left_out) < len(narrow)
    assert fastpath.validating is not None
    assert len(fastpath.validating) <= cel.MAX_EXPRESSION_LENGTH
    assert not cel.fits(fastpath.places["validating"] | {cel.Place("z.io/" + "x" * 200)})
    image = "/".join((left_out[0].rule.pattern.host, *left_out[0].rule.pattern.segments))
    assert not fastpath.approves(image, "validating")
    assert fastpath.why(image, "validating").endswith(TOO_MANY)


MIRROR = "mirrors: [{from: a.io, to: b.io}]"
OTHER_MIRROR = "mirrors: [{from: z.io, to: b.io}]"


@pytest.mark.parametrize(
    ("before", "after", "tightens"),
    [
        pytest.param(("[a.io]", ""), ("[a.io]", ""), False, id="nothing"),
        pytest.param(("[a.io]", ""), ("[a.io, b.io]", ""), False, id="one-more-rule"),
        pytest.param(("[a.io, b.io]", ""), ("[a.io]", ""), True, id="one-less"),
        pytest.param(("[a.io/x]", ""), ("[a.io]", ""), False, id="wider"),
        pytest.param(("[a.io]", ""), ("[a.io/x]", ""), True, id="narrower"),
        pytest.param(("['a.io@*']", ""), ("[a.io]", ""), False, id="no-digest-wanted-any-more"),
        pytest.param(("[a.io]", ""), ("['a.io@*']", ""), True, id="digest-wanted"),
        pytest.param(("[a.io]", ""), ("[a.io]", "deny: [a.io/x]"), True, id="denied"),
        pytest.param(("[a.io]", "deny: [a.io/x]"), ("[a.io]", ""), False, id="denied-no-more"),
        pytest.param(("[a.io]", OTHER_MIRROR), ("[a.io]", MIRROR), True, id="rewritten-is-enough"),
        pytest.param(("[a.io]", ""), ("[a.io]", OTHER_MIRROR), True, id="the-first-mirror"),
        pytest.param(("[a.io]", OTHER_MIRROR), ("[a.io]", ""), False, id="the-last-mirror"),
    ],
)
def test_what_tightens(before: tuple[str, str], after: tuple[str, str], tightens: bool) -> None:  # noqa: FBT001
    assert fast(*after).tightens(fast(*before)) is tightens


def test_what_was_before_may_be_unknown() -> None:
    assert fast("[a.io]").tightens(None)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("a.io/x", "it lies under allow[0] a.io"),
        ("c.io/x", "allow[2] c.io has it, but deny[0] c.io/old may refuse some of it"),
        ("a.io:443/x", "allow[0] a.io has it, but that is plain only when written as a.io/x"),
        ("nginx", "it is not written in full"),
        ("a.io/" + "x" * 300, "it is longer than 255 characters"),
        ("b.io/x", "no allow rule has it"),
        ("a_b.io/x", "it is never approved: its first part is neither"),
        ("a.io:99999/x", "it is never approved: the port"),
        ("a..io/x", "it is never approved: "),
    ],
)
def test_why(image: str, why: str) -> None:
    assert fast("[a.io, 'b.io@*', c.io]", "deny: [c.io/old]").why(image, "validating").startswith(why)


def test_findings_name_what_is_not_plain_and_where() -> None:
    policy = parsed("\n  - a.io\n  - docker.io/library\n  - {image: b.io, until: 2999-01-01}")
    found = not_plain(policy)
    assert [(f.severity, f.code, f.path, f.line) for f in found] == [
        ("information", "not-plain", "allow[1]", 6),
        ("information", "not-plain", "allow[2]", 7),
    ]
    assert found[1].message == "the fast path leaves allow[2] b.io to the webhook: it lapses"


def test_the_ecosystems_vectors_are_plain_only_where_they_are_approved() -> None:
    """Every registry among them is allowed; what is plain is then canonical, whatever was written."""
    rules = set()
    for vector in VECTORS:
        registry = vector["registry"] if vector["ok"] else ""
        with suppress(InvalidReference, InvalidPattern):
            # With the slash, because a host with a port and no dot would read as an image.
            rules.add(parse_pattern(f"{fold_registry(registry)}/").text)
    rules = {rule for rule in rules if not rule.startswith(("docker.io/", "["))}
    allow = json.dumps(sorted(rules))
    text = policy_text(allow=allow)
    fastpath = compile_fastpath(parse_policy(text))
    assert not any(verdict.validating for verdict in fastpath.rules)
    plain = [v["input"] for v in VECTORS if fastpath.approves(v["input"], "validating")]
    assert plain
    for image in plain:
        assert parse_reference(image).canonical == image
        assert heard(text, review(pod(image)), "validating") == ""


LAPSE = datetime(2026, 3, 2, tzinfo=UTC)

TAKEN_OUT: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "namespaces": ("[{image: a.io, namespaces: [team-*]}]", "", pod("a.io/x")),
    "until": (f"[{{image: a.io, until: {LAPSE:%Y-%m-%d}}}]", "", pod("a.io/x")),
    "host": ("['*.corp.io']", "", pod("*.corp.io/x")),
    "tag": ("[a.io/x:v1]", "", pod("a.io/x:v2")),
    "digest": (f"['a.io/x{DIGEST}']", "", pod(f"a.io/x{OTHER_DIGEST}")),
    "denied": ("[a.io]", "deny: ['*/x']", pod("a.io/x")),
    "mirrored": ("[a.io]", "deny: [b.io/x]\nmirrors: [{from: b.io, to: a.io/b}]", pod("a.io/b/x")),
    "declared": (
        "[a.io]",
        "resources: [{group: '', kind: Pod, images: ['spec.extra']}]",
        pod("a.io/x", extra="evil.io/x"),
    ),
    "looked-up": ("[{image: a.io/x, verify: true, onError: deny}, a.io]", "", pod("a.io/x")),
    "rewritten": ("[a.io]", "mirrors: [{from: a.io/x, to: b.io}]", pod("a.io/x/y")),
}
"""Guard -> a policy and a Pod that would be skipped without it, wrongly."""

BY_DEFINITION: Final[dict[str, tuple[str, Callable[[str], bool]]]] = {
    "hub": ("[docker.io/library]", lambda place: place.startswith("docker.io/")),
    "path": ("['a.io/*/app']", lambda place: "*" in place),
    "spelling": ("['foo:443/']", lambda place: place.startswith("foo/")),
}
"""Guards whose lack approves nothing wrongly, as far as we know: what they are for all the same.

What ``spelling`` keeps out does not have the expression's form, either.
"""

CAUGHT_TWICE: Final = {"host", "path"}
"""Guards that say it better than ``spelling``, which would see the same; it is taken out with them."""


def test_every_guard_is_taken_out_below() -> None:
    assert {*TAKEN_OUT, *BY_DEFINITION} == {*GUARDS, *MUTATING_GUARDS}


@pytest.mark.parametrize("name", TAKEN_OUT)
def test_each_guard_is_needed(name: str) -> None:
    """With all of them the Pod is asked about; without the one it is skipped, and that breaks the law."""
    allow, more, obj = TAKEN_OUT[name]
    endpoint: Endpoint = "mutating" if name in MUTATING_GUARDS else "validating"
    asked = review(obj, kind=("", "Pod"))
    policy = parsed(allow, more)
    assert not compile_fastpath(policy).skips(wire.parse(asked), endpoint)
    without = _without(policy, name)
    assert without.skips(wire.parse(asked), endpoint)
    assert heard(policy.text, asked, endpoint) != ""


@pytest.mark.parametrize("name", BY_DEFINITION)
def test_guards_by_definition(name: str) -> None:
    allow, unwanted = BY_DEFINITION[name]
    policy = parsed(allow)
    assert compile_fastpath(policy).places["validating"] == frozenset()
    assert any(unwanted(place.text) for place in _without(policy, name).places["validating"])


def _without(policy: Policy, name: str) -> FastPath:
    removed = {name, "spelling"} if name in CAUGHT_TWICE else {name}

    def left(guards: Any) -> Any:
        return {key: guard for key, guard in guards.items() if key not in removed}

    return _compile(policy, left(GUARDS), left(MUTATING_GUARDS))


def test_a_lists_order_does_not_matter() -> None:
    """The same rules give the same text, so that nothing is written anew for nothing."""
    assert fast("[a.io, b.io, c.io/x]").validating == fast("[c.io/x, b.io, a.io, a.io:443]").validating


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("sub_resource", [None, "ephemeralcontainers", "status", "resize"])
def test_every_way_to_change_a_pod_is_alike(operation: str, sub_resource: str | None) -> None:
    text = policy_text(allow="[a.io]")
    obj = pod("a.io/x", ephemeralContainers=[container("a.io/debug")])
    asked = review(obj, old=pod("old.io/x"), operation=operation, sub_resource=sub_resource)
    fastpath = compile_fastpath(parse_policy(text))
    for endpoint in ENDPOINTS:
        assert fastpath.skips(wire.parse(asked), endpoint)
        assert heard(text, asked, endpoint) == ""
