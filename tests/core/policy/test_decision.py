"""The decision for one image in one namespace (docs/policy.md, "How an image is judged")."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.policy.decision import Decision
from support.builders import policy, policy_text

SHA256: Final = "sha256:" + "7c" * 32
MIRRORS: Final = """
mirrors:
  - {from: docker.io, to: r.io/hub}
  - {from: quay.io/org, to: r.io/org}
  - {from: gcr.io/a, to: r.io/two}
  - {from: gcr.io/b, to: r.io/two}
"""


def decide(image: str, allow: str, deny: str = "[]", *, namespace: str | None = "shop") -> Decision:
    return policy(f"deny: {deny}\n{MIRRORS}", allow=allow).decide(namespace, image)


@pytest.mark.parametrize(
    ("image", "allow", "deny", "reason"),
    [
        pytest.param("a.io/x", "[a.io]", "[]", "allowed", id="allowed"),
        pytest.param("b.io/x", "[a.io]", "[]", "unlisted", id="unlisted"),
        pytest.param("a.io/x", "[a.io]", "[a.io/x]", "denied", id="deny-wins-over-allow"),
        pytest.param("a.io/x", "[a.io/x]", "['*']", "denied", id="the-widest-deny-wins-too"),
        pytest.param("b.io/x", "[a.io]", "[b.io]", "denied", id="denied-and-unlisted-is-denied"),
        pytest.param("nginx", "[docker.io/nginx]", "[]", "allowed", id="short-name"),
        pytest.param("nginx", "[a.io]", "['*/**:latest']", "denied", id="no-tag-is-latest"),
        pytest.param(f"nginx@{SHA256}", "[docker.io]", "['*/**:latest']", "allowed", id="pinned-has-no-tag"),
        pytest.param("a.io/x", "[a.io@*]", "[]", "unlisted", id="not-pinned"),
        pytest.param("", "[a.io]", "['*']", "invalid", id="invalid-before-denied"),
        pytest.param("a.io/X", "[a.io]", "[]", "invalid", id="no-reference"),
        pytest.param("foo_bar.com/x", "[docker.io]", "[]", "invalid", id="empty-registry"),
        pytest.param("sha256:abc", "[docker.io]", "[]", "invalid", id="local-image-id"),
        pytest.param("sha512:ABC", "[docker.io]", "[]", "invalid", id="local-image-id-in-upper-case"),
        pytest.param("a.io:0/x", "['a.io:1']", "['*']", "invalid", id="port"),
        pytest.param("a.io/x@sha384:" + "a" * 96, "[a.io]", "[]", "invalid", id="digest-algorithm"),
        pytest.param("a.io/" + "x" * 4092, "[a.io]", "[]", "invalid", id="too-long"),
        pytest.param("a.io/x\n", "[a.io]", "[]", "invalid", id="final-newline"),
    ],
)
def test_reasons(image: str, allow: str, deny: str, reason: str) -> None:
    decision = decide(image, allow, deny)
    assert decision.reason == reason
    assert decision.approved is (reason == "allowed")
    assert decision.image == image
    assert (decision.rule is not None) is (reason in {"allowed", "denied"})


@pytest.mark.parametrize(
    ("image", "deny", "origin"),
    [
        pytest.param("r.io/hub/library/nginx", "[docker.io/nginx]", "docker.io/library/nginx", id="hub"),
        pytest.param(
            "r.io/hub/nginx",
            "[docker.io/nginx]",
            "docker.io/library/nginx",
            id="the-origin-is-normalised-again",
        ),
        pytest.param("r.io/hub/team/app", "[docker.io/team/**]", "docker.io/team/app", id="hub-user"),
        pytest.param("r.io/org/app", "[quay.io]", "quay.io/org/app", id="wider-than-the-mirror"),
        pytest.param("R.io:443/org/app", "[quay.io]", "quay.io/org/app", id="compared-after-folding"),
        pytest.param("r.io/org", "[quay.io/org]", "quay.io/org", id="equality"),
        pytest.param("r.io/org/app:v1", "['quay.io/org/app:v1']", "quay.io/org/app", id="same-tag"),
        pytest.param("r.io/org/app:v2", "['quay.io/org/app:v1']", None, id="another-tag"),
        pytest.param("r.io/org/app", "['quay.io/**:latest']", "quay.io/org/app", id="no-tag-is-latest"),
        pytest.param(f"r.io/org/app@{SHA256}", "['quay.io@*']", "quay.io/org/app", id="same-digest"),
        pytest.param(f"r.io/org/app:v1@{SHA256}", "['quay.io/**:v1']", None, id="pinned-has-no-tag"),
        pytest.param("r.io/organic/app", "[quay.io]", None, id="segment-boundary"),
        pytest.param("r.io/two/app", "[gcr.io/b]", None, id="the-root-of-the-origin-only"),
        pytest.param("r.io/two/app", "[gcr.io/b/**]", "gcr.io/b/app", id="every-mirror-of-a-place"),
        pytest.param("r.io/hub", "[docker.io/library/hub]", None, id="a-bare-registry-is-no-origin"),
        pytest.param("r.io/hub/" + "a/" * 120 + "b", "[b.io]", None, id="long"),
    ],
)
def test_denials_follow_mirrors(image: str, deny: str, origin: str | None) -> None:
    decision = decide(image, "[r.io]", deny)
    assert decision.reason == ("allowed" if origin is None else "denied")
    assert decision.origin == origin


def test_an_origin_too_long_to_be_an_image_is_none() -> None:
    more = f"deny: [quay.io]\nmirrors: [{{from: quay.io/{'o' * 100}, to: r.io}}]"
    assert policy(more, allow="[r.io]").decide(None, "r.io/" + "x" * 200).approved


def test_an_image_denied_by_itself_has_no_origin() -> None:
    assert decide("r.io/org/app", "[r.io]", "['*/**']").origin is None


@pytest.mark.parametrize(
    ("names", "namespace", "matches"),
    [
        pytest.param("[shop]", "shop", True, id="name"),
        pytest.param("['sh*']", "shop", True, id="glob"),
        pytest.param("[pay]", "shop", False, id="another"),
        pytest.param("['*']", None, True, id="star-is-for-none"),
        pytest.param("[pay, '*']", None, True, id="star-among-others"),
        pytest.param("['**']", None, False, id="two-stars-are-not-the-name-star"),
        pytest.param("['sh*']", None, False, id="no-namespace"),
    ],
)
def test_namespaces(names: str, namespace: str | None, *, matches: bool) -> None:
    entry = f"[{{image: a.io, namespaces: {names}}}]"
    assert decide("a.io/x", entry, namespace=namespace).approved is matches
    denied = decide("a.io/x", "[a.io]", entry, namespace=namespace)
    assert (denied.reason == "denied") is matches


def test_the_first_rule_that_matches_is_kept() -> None:
    decision = decide("a.io/x", "[b.io, 'a.io/*', a.io/x]")
    assert decision.rule is not None
    assert str(decision.rule) == "allow[1] a.io/*"


@pytest.mark.parametrize(
    ("image", "allow", "deny", "detail"),
    [
        pytest.param(
            "nginx", "[docker.io]", "[]", "docker.io/library/nginx matches allow[0] docker.io", id="allowed"
        ),
        pytest.param("nginx", "[a.io]", "[]", "docker.io/library/nginx matches no rule", id="unlisted"),
        pytest.param("a b", "[a.io]", "[]", "not an image reference: it holds whitespace", id="no-reference"),
        pytest.param(
            "a.io:0/x", "[a.io]", "[]", "never approved: the port must be between 1 and 65535", id="never"
        ),
        pytest.param("b.io/x:1", "[a.io]", "[b.io]", "b.io/x:1 is denied by deny[0] b.io", id="denied"),
        pytest.param(
            "r.io/org/app:1",
            "[r.io]",
            "[{image: quay.io, reason: \xe9, owner: me}]",
            "r.io/org/app:1, which mirrors quay.io/org/app:1, is denied by deny[0] quay.io (\\xe9, owner me)",
            id="denied-through-a-mirror",
        ),
        pytest.param(
            "b.io/x",
            "[a.io]",
            "[{image: b.io, owner: sec}]",
            "b.io/x is denied by deny[0] b.io (owner sec)",
            id="owner",
        ),
    ],
)
def test_details(image: str, allow: str, deny: str, detail: str) -> None:
    assert decide(image, allow, deny).detail == detail


@pytest.mark.parametrize(
    ("image", "canonical"),
    [
        pytest.param("nginx", "docker.io/library/nginx", id="short"),
        pytest.param("registry-1.docker.io/x:1", "registry-1.docker.io/x:1", id="not-folded"),
        pytest.param("a b", None, id="no-reference"),
        pytest.param("a.io:0/x", None, id="never-approved"),
    ],
)
def test_canonical_is_none_when_invalid(image: str, canonical: str | None) -> None:
    assert decide(image, "[a.io]").canonical == canonical


@pytest.mark.parametrize(
    ("allow", "more", "detail"),
    [
        pytest.param(
            "[a.io, {image: r.io/acme/**, until: 2026-02-20, owner: build t\xe9am}]",
            "",
            "; allow[1] r.io/acme/** expired 2026-02-20 (owner: build t\\xe9am)",
            id="date",
        ),
        pytest.param(
            "[{image: r.io/acme/tool, until: '2026-02-20T18:30:00+01:00', reason: because}]",
            "",
            "; allow[0] r.io/acme/tool expired 2026-02-20T17:30:00Z",
            id="time",
        ),
        pytest.param(
            "[{image: r.io, until: 2026-02-20}, {image: r.io/**, until: 2026-02-25}]",
            "",
            "; allow[0] r.io expired 2026-02-20",
            id="the-first-of-several",
        ),
        pytest.param(
            "[{image: r.io, until: 2025-12-01T12:00:00Z}]",
            "",
            "; allow[0] r.io expired 2025-12-01T12:00:00Z",
            id="90-days-ago",
        ),
        pytest.param("[{image: r.io, until: 2025-12-01T11:59:59Z}]", "", "", id="more-than-90-days-ago"),
        pytest.param("[{image: r.io/other/**, until: 2026-02-20}]", "", "", id="another-image"),
        pytest.param("[{image: 'r.io/acme/**:2', until: 2026-02-20}]", "", "", id="another-tag"),
        pytest.param("[{image: r.io, until: 2026-02-20, namespaces: [pay]}]", "", "", id="another-namespace"),
        pytest.param(
            "[{image: r.io, until: 2026-02-20, namespaces: [shop]}]",
            "",
            "; allow[0] r.io expired 2026-02-20",
            id="namespace",
        ),
        pytest.param("[a.io]", "deny: [{image: r.io, until: 2026-02-20}]", "", id="a-deny-rule"),
    ],
)
def test_a_rule_that_expired_lately_is_named(allow: str, more: str, detail: str) -> None:
    decision = policy(more, allow=allow).decide("shop", "r.io/acme/tool:1")
    assert (decision.reason, decision.rule) == ("unlisted", None)
    assert decision.detail == f"r.io/acme/tool matches no rule{detail}"


def test_an_expired_rule_would_not_have_approved_a_denied_image() -> None:
    decision = policy("deny: [r.io]", allow="[{image: r.io, until: 2026-02-20}]").decide(None, "r.io/x:1")
    assert decision.detail == "r.io/x:1 is denied by deny[0] r.io"


def test_the_decision_reads_no_clock() -> None:
    text = policy_text("deny: [{image: a.io, until: 1970-01-01}]", allow="[a.io]")
    compiled = parse_policy(text)
    assert compiled.at(datetime(1969, 1, 1, tzinfo=UTC)).decide(None, "a.io/x").reason == "denied"
