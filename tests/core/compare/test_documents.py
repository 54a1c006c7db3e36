"""The edited entries of two policies."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.documents import compare_documents
from support.builders import keys_text, policy_text


def changes(old: str, new: str, *, modes: tuple[str, str] = ("enforce", "enforce")) -> dict[str, Any]:
    head = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\n"
    documents = (f"{head}mode: {mode}\n{text}" for mode, text in zip(modes, (old, new), strict=True))
    found = compare_documents(*map(parse_policy, documents))
    answer = found.as_json()
    assert bool(found) == any(answer.values())
    return answer


NOTHING: dict[str, list[Any]] = {"added": [], "removed": [], "changed": []}
MIRROR = "{from: docker.io, to: a.io/hub"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("allow: [a.io, b.io]", "allow: [b.io, a.io]", id="moved"),
        pytest.param("allow: [a.io]", "allow:\n  - image: a.io/**\n", id="spelt-differently"),
        pytest.param("allow: [docker.io/nginx]", "allow: ['docker.io/library/nginx']", id="folded"),
        pytest.param("allow: [a.io, a.io]", "allow: [a.io, a.io]", id="twice"),
        pytest.param(
            f"allow: [a.io]\nmirrors: [{MIRROR}}}]", f"allow: [a.io]\nmirrors: [{MIRROR}}}]", id="m"
        ),
    ],
)
def test_equal_documents(old: str, new: str) -> None:
    assert changes(old, new) == NOTHING


def test_an_edited_requirement_is_shown() -> None:
    signed = "images: [a.io/**], signedBy: [ci-2025, ci-2026]"
    old = f"allow: [a.io]\nrequire: [{{images: [b.io], digest: true}}, {{{signed}}}]\n{keys_text()}"
    new = f"""allow: [a.io]\nrequire: [{{{signed}, except: [a.io/x], mode: warn}}]\n{keys_text()}"""
    found = changes(old, new)
    shown = {"images": ["a.io/**"], "signedBy": ["ci-2025", "ci-2026"], "onError": "deny"}
    assert found["removed"] == [{"list": "require", "images": ["b.io"], "digest": True}]
    (change,) = found["changed"]
    assert change["old"].items() >= shown.items()
    assert change["new"] == {
        **change["old"],
        "except": [{"list": "except", "index": 0, "image": "a.io/x"}],
        "mode": "warn",
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "allow: [a.io]",
            "allow: [b.io, a.io]\ndeny: ['*/**:latest']",
            {
                "added": [
                    {"list": "allow", "index": 0, "image": "b.io"},
                    {"list": "deny", "index": 0, "image": "*/**:latest"},
                ]
            },
            id="added",
        ),
        pytest.param(
            "allow: [b.io, a.io, b.io]",
            "allow: [b.io]",
            {
                "removed": [
                    {"list": "allow", "index": 1, "image": "a.io"},
                    {"list": "allow", "index": 2, "image": "b.io"},
                ]
            },
            id="removed",
        ),
        pytest.param(
            "allow: [{image: a.io, owner: x}]",
            "allow: [b.io, {image: a.io, owner: y, namespaces: [shop]}]",
            {
                "added": [{"list": "allow", "index": 0, "image": "b.io"}],
                "changed": [
                    {
                        "list": "allow",
                        "old": {"list": "allow", "index": 0, "image": "a.io", "owner": "x"},
                        "new": {
                            "list": "allow",
                            "index": 1,
                            "image": "a.io",
                            "namespaces": ["shop"],
                            "owner": "y",
                        },
                    }
                ],
            },
            id="changed",
        ),
        pytest.param(
            f"allow: [a.io]\nmirrors: [{MIRROR}}}]",
            f"allow: [a.io]\nmirrors: [{MIRROR}, except: [docker.io/x], pin: true}}]",
            {
                "changed": [
                    {
                        "list": "mirrors",
                        "old": {"list": "mirrors", "from": "docker.io", "to": ["a.io/hub"]},
                        "new": {
                            "list": "mirrors",
                            "from": "docker.io",
                            "to": ["a.io/hub"],
                            "except": ["docker.io/x"],
                            "verify": True,
                            "pin": True,
                        },
                    }
                ]
            },
            id="mirror",
        ),
        pytest.param(
            "allow: [a.io]\nnamespaces: [{names: [a], mode: warn}, {names: [b], mode: warn}]",
            "allow: [a.io]\n"
            "namespaces: [{names: [b], mode: warn}, {names: [c], mode: warn, until: 2026-05-01}]",
            {
                "changed": [
                    {
                        "list": "namespaces",
                        "old": {"list": "namespaces", "names": ["a"], "mode": "warn"},
                        "new": None,
                    },
                    {
                        "list": "namespaces",
                        "old": None,
                        "new": {
                            "list": "namespaces",
                            "names": ["c"],
                            "mode": "warn",
                            "until": "2026-05-01T00:00:00Z",
                        },
                    },
                ]
            },
            id="overrides-are-in-order",
        ),
        pytest.param(
            "allow: [a.io]\nregistries: [{host: a.io, plainHTTP: true}]",
            "allow: [a.io]\nmessage: ask us\nresources: [{group: e.io, kind: Widget, images: [spec.image]}]",
            {
                "added": [{"list": "resources", "group": "e.io", "kind": "Widget", "images": ["spec.image"]}],
                "changed": [{"list": "message", "old": "", "new": "ask us"}],
                "removed": [{"list": "registries", "host": "a.io", "plainHTTP": True}],
            },
            id="other-fields",
        ),
    ],
)
def test_differing_documents(old: str, new: str, expected: dict[str, Any]) -> None:
    assert changes(old, new) == NOTHING | expected


def test_a_changed_key_is_shown_by_its_fingerprint() -> None:
    rule = "allow: [a.io]\nrequire: [{images: [a.io], signedBy: [ci-2026, ci-2025]}]\n"
    (change,) = changes(rule + keys_text(), rule + keys_text(until="2026-06-01"))["changed"]
    shown = {
        "list": "keys",
        "name": "ci-2026",
        "kind": "P-256",
        "fingerprint": "7b93b0b901758bfade613b7494599741f7c01d3e135bade5b7ab52ae82d2cff8",
    }
    assert change == {"list": "keys", "old": shown, "new": {**shown, "until": "2026-06-01T00:00:00Z"}}


def test_the_mode_that_counts_is_the_effective_one() -> None:
    assert changes("allow: [a.io]", "allow: [a.io]", modes=("warn", "mutate"))["changed"] == [
        {"list": "mode", "old": "warn", "new": "mutate"}
    ]
    text = policy_text()
    found = compare_documents(parse_policy(text), parse_policy(text, "warn"))
    assert found.as_json()["changed"] == [{"list": "mode", "old": "enforce", "new": "warn"}]


def test_a_changed_grant_and_a_changed_except_are_shown_as_written() -> None:
    grant = "{source: namespace, images: [ghcr.io/**], longest"
    old = f"allow: [a.io]\ndeny: [{{image: b.io, except: [b.io/x]}}]\nexceptions: [{grant}: 14d}}]\n"
    new = f"allow: [a.io]\ndeny: [{{image: b.io, except: [b.io/y]}}]\nexceptions: [{grant}: 12h, most: 5}}]\n"
    found = changes(old, new)
    deny, exceptions = found["changed"]
    assert [each["except"] for each in (deny["old"], deny["new"])] == [
        [{"list": "except", "index": 0, "image": "b.io/x"}],
        [{"list": "except", "index": 0, "image": "b.io/y"}],
    ]
    shown = {"list": "exceptions", "source": "namespace", "images": ["ghcr.io/**"]}
    assert exceptions["old"] == {**shown, "longest": "14d"}
    assert exceptions["new"] == {**shown, "longest": "12h", "most": 5}
    assert changes(new, new.replace("ghcr.io/**", "ghcr.io")) == NOTHING
