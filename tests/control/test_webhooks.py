"""Desired configurations are read, compared with live ones, and put in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.world import INSTALLATION, b64
from gatekeeper_py.control import webhooks
from gatekeeper_py.control.webhooks import (
    FAST_PATH_CONDITION,
    NO_CONDITIONS,
    Conditions,
    InvalidManifests,
    Owner,
    bundles,
    carries,
    drifted,
    read_manifests,
    repaired,
    with_conditions,
)
from gatekeeper_py.core.names import FAST_PATH_REVISION

OWNER = Owner(api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole", name="gk", uid="1")
DESIRED = INSTALLATION.desired[0]
DOCUMENT = DESIRED.document(b"authority", OWNER)
BASE = Path(__file__).parents[2] / "k8s/base/webhooks"


def live() -> dict[str, Any]:
    """What the API server holds, with what others added."""
    document = DESIRED.document(b"authority", OWNER)
    document["metadata"] |= {
        "resourceVersion": "7",
        "uid": "u",
        "managedFields": [{}],
        "labels": {"part-of": "gk", "theirs": "kept"},
        "annotations": {"theirs": "kept"},
        "ownerReferences": [{"kind": "Other", "name": "other", "uid": "9"}, OWNER.reference()],
    }
    return document


def test_what_others_added_to_the_metadata_is_no_drift() -> None:
    assert not drifted(live(), DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda it: it["webhooks"].pop(), id="webhook-removed"),
        pytest.param(lambda it: it["webhooks"].append({"name": "foreign"}), id="webhook-added"),
        pytest.param(lambda it: it["webhooks"].reverse(), id="webhooks-in-another-order"),
        pytest.param(lambda it: it.pop("webhooks"), id="no-webhooks"),
        pytest.param(lambda it: it["webhooks"][0].update(failurePolicy="Ignore"), id="failure-policy"),
        pytest.param(lambda it: it["webhooks"][0]["clientConfig"].pop("caBundle"), id="no-bundle"),
        pytest.param(lambda it: it["metadata"]["labels"].pop("part-of"), id="label-removed"),
        pytest.param(lambda it: it["metadata"].pop("labels"), id="no-labels"),
        pytest.param(lambda it: it["metadata"].pop("ownerReferences"), id="no-owners"),
        pytest.param(lambda it: it["metadata"]["ownerReferences"][1].update(uid="0"), id="owner-made-anew"),
    ],
)
def test_drift_is_repaired_and_what_is_others_kept(change: Callable[[dict[str, Any]], object]) -> None:
    drifting = live()
    change(drifting)
    assert drifted(drifting, DOCUMENT)
    after = repaired(drifting, DOCUMENT)
    assert not drifted(after, DOCUMENT)
    assert after["webhooks"] == DOCUMENT["webhooks"]
    metadata, before = after["metadata"], drifting["metadata"]
    assert metadata["resourceVersion"] == "7"
    assert metadata["annotations"] == {"theirs": "kept"}
    assert before.get("labels", {}).items() <= metadata["labels"].items()
    owners = [owner["uid"] for owner in metadata["ownerReferences"]]
    assert owners == (["9", "1"] if "ownerReferences" in before else ["1"])


CONDITIONS = Conditions(expressions={"pods.gk": "false"}, revision="0123456789ab")


def test_a_condition_comes_after_the_manifests_own() -> None:
    own = {"name": "an-image-changed", "expression": "true"}
    added = CONDITIONS.added_to({"name": "pods.gk", "matchConditions": [own]})
    ours = {"name": FAST_PATH_CONDITION, "expression": "false"}
    assert added["matchConditions"] == [own, ours]
    assert CONDITIONS.added_to(added) == added
    assert CONDITIONS.added_to({"name": "policy.gk"}) == {"name": "policy.gk"}


def test_the_annotation_is_there_exactly_with_the_condition() -> None:
    with_condition = DESIRED.document(b"authority", OWNER, CONDITIONS)
    assert with_condition["metadata"]["annotations"] == {FAST_PATH_REVISION: "0123456789ab"}
    assert DOCUMENT["metadata"]["annotations"] == {}
    other = INSTALLATION.desired[1].document(b"authority", OWNER, CONDITIONS)
    assert other["metadata"]["annotations"] == {}


@pytest.mark.parametrize("wanted", [CONDITIONS, NO_CONDITIONS], ids=["with", "without"])
@pytest.mark.parametrize(
    "found",
    [
        pytest.param(CONDITIONS, id="found-with"),
        pytest.param(NO_CONDITIONS, id="found-without"),
        pytest.param(Conditions(expressions={"pods.gk": "true"}, revision="0123456789ab"), id="another"),
        pytest.param(Conditions(expressions={"pods.gk": "false"}, revision="b"), id="another-revision"),
        pytest.param(Conditions(expressions={"policy.gk": "false"}, revision="b"), id="another-webhook"),
    ],
)
def test_the_fast_paths_part_is_put_in_and_taken_out(found: Conditions, wanted: Conditions) -> None:
    before = live()
    before["webhooks"] = DESIRED.document(b"another", OWNER, found)["webhooks"]
    before["metadata"]["annotations"] |= found.annotations(DESIRED.webhooks)
    assert carries(before, DESIRED, wanted) is (found == wanted)
    assert webhooks.found_conditions(before, DESIRED) == found
    after = with_conditions(before, DESIRED, wanted)
    assert carries(after, DESIRED, wanted)
    assert after["metadata"]["annotations"]["theirs"] == "kept"
    assert bundles(after, DESIRED) == (b"another",) * 2
    assert not drifted(after, DESIRED.document(b"another", OWNER, wanted))
    again = repaired(before, DESIRED.document(b"authority", OWNER, wanted))
    assert carries(again, DESIRED, wanted)
    assert again["metadata"]["annotations"]["theirs"] == "kept"


def test_a_webhook_that_is_missing_carries_nothing() -> None:
    without = live()
    del without["webhooks"][0]
    assert carries(without, DESIRED, NO_CONDITIONS)
    assert not carries(without, DESIRED, CONDITIONS)
    assert not carries(with_conditions(without, DESIRED, CONDITIONS), DESIRED, CONDITIONS)


def test_webhooks_of_others_are_left_alone() -> None:
    foreign = {"name": "foreign", "matchConditions": [{"name": FAST_PATH_CONDITION, "expression": "true"}]}
    shared = live()
    shared["webhooks"].append(foreign)
    assert with_conditions(shared, DESIRED, CONDITIONS)["webhooks"][-1] == foreign
    assert webhooks.found_conditions(shared, DESIRED) == NO_CONDITIONS


@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        pytest.param(DOCUMENT["webhooks"], (b"authority",) * 2, id="as-it-should-be"),
        pytest.param(
            [{"name": "foreign", "clientConfig": {"caBundle": b64(b"theirs")}}, *DOCUMENT["webhooks"]],
            (b"authority",) * 2,
            id="foreign-webhooks-have-no-say",
        ),
        pytest.param(DOCUMENT["webhooks"][:1], (b"authority", b""), id="one-is-missing"),
        pytest.param([{"name": "pods.gk", "clientConfig": {"url": "https://x"}}], (b"", b""), id="no-bundle"),
        pytest.param(None, (b"", b""), id="none"),
    ],
)
def test_what_our_webhooks_trust(webhooks: Any, expected: tuple[bytes, ...]) -> None:
    assert bundles({"webhooks": webhooks}, DESIRED) == expected


def test_manifests_of_the_installation_are_read_and_the_kustomization_beside_them_is_not() -> None:
    assert (BASE / "kustomization.yaml").is_file()
    assert [each.path.rsplit("/", 2)[1:] for each in read_manifests(BASE)] == [
        ["mutatingwebhookconfigurations", "image-mutation-webhook"],
        ["validatingwebhookconfigurations", "image-validation-webhook"],
    ]


GOOD: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "validate"},
    "webhooks": [{"name": "pods.gk", "clientConfig": {}}],
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "no webhook configuration", id="no-file"),
        pytest.param("", "no webhook configuration", id="empty"),
        pytest.param("{", "while parsing", id="not-yaml"),
        pytest.param("[]", "not a webhook configuration", id="a-list"),
        pytest.param({"kind": "Pod"}, "not a webhook configuration", id="another-kind"),
        pytest.param({"apiVersion": "v1"}, "not a webhook configuration", id="another-version"),
        pytest.param({"metadata": {}}, "no name", id="no-name"),
        pytest.param(
            {"metadata": {"name": "validate", "labels": [1]}}, "not a mapping", id="labels-are-a-list"
        ),
        pytest.param({"webhooks": []}, "no webhooks", id="no-webhooks"),
        pytest.param({"webhooks": [{"name": "x"}]}, "no clientConfig", id="no-client-config"),
        pytest.param({"webhooks": [{"clientConfig": {}}]}, "has no name", id="webhook-without-name"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str | dict[str, Any] | None, message: str) -> None:
    if text is not None:
        content = text if isinstance(text, str) else yaml.safe_dump({**GOOD, **text})
        (tmp_path / "webhooks.yaml").write_text(content)
    with pytest.raises(InvalidManifests, match=message):
        read_manifests(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifests, match="nope: no such directory"):
        read_manifests(tmp_path / "nope")


def test_the_same_configuration_twice_is_refused(tmp_path: Path) -> None:
    """Or each pass would write both, one over the other."""
    (tmp_path / "webhooks.yaml").write_text(yaml.safe_dump_all([GOOD, GOOD]))
    with pytest.raises(InvalidManifests, match="twice"):
        read_manifests(tmp_path)
