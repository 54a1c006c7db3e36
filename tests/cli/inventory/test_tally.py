"""Grouping of images, independent of their source."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from gatekeeper_py.cli.inventory.recorded import InvalidRecord, SavedAudit
from gatekeeper_py.cli.inventory.tally import Tallied, Tally, Usage
from gatekeeper_py.core.admission.judge import Checked, Signature
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.policy.document import MODES
from support.auditing import counts, tallied

GOOD = tallied("registry.corp.io/web:1", "allowed", "it matches")
BAD = tallied("nginx", "unlisted", "it matches no rule")
DENIED = tallied("nginx", "denied", "it is denied by deny[0]")
NONE = tallied("", "invalid", "the image is missing")


def usage(name: str, *, kind: str = "Pod", namespace: str | None = "shop", index: int = 0) -> Usage:
    return Usage(kind, namespace, name, f"spec.containers[{index}].image")


def filled(*entries: tuple[Tallied, Usage], keep_approved: bool = False) -> Tally:
    tally = Tally(keep_approved=keep_approved)
    for image, where in entries:
        tally.objects += 1
        tally.add(image, where)
    return tally


def test_approved_images_are_counted_and_listed_only_if_they_are_kept() -> None:
    for keep in (False, True):
        tally = filled((GOOD, usage("b")), (BAD, usage("a")), keep_approved=keep)
        assert [image for image, _ in tally.listed()] == ([BAD, GOOD] if keep else [BAD])
        assert tally.counts == counts(objects=2, images=2, approved=1, rejected=1)


def test_everything_is_sorted_by_its_fields() -> None:
    usages = [
        usage("b", kind="Deployment"),
        usage("z", namespace=None),
        usage("y", namespace="bank"),
        usage("a"),
        usage("a", index=1),
    ]
    tally = filled(*((BAD, each) for each in reversed(usages)), (NONE, usage("n")))
    assert list(tally.listed()) == [(NONE, [usage("n")]), (BAD, usages)]


def test_merged_tallies_add_up() -> None:
    total = filled((BAD, usage("a")))
    total.merge(filled((BAD, usage("b")), (DENIED, usage("c")), (GOOD, usage("d"))))
    assert list(total.listed()) == [(DENIED, [usage("c")]), (BAD, [usage("a"), usage("b")])]
    assert total.counts == counts(objects=4, images=3, approved=1, rejected=2)


def test_an_image_is_only_warned_about_if_all_its_uses_are_in_mode_warn() -> None:
    warned, refused = usage("a")._replace(mode=MODES["warn"]), usage("b")._replace(mode=MODES["mutate"])
    assert filled((BAD, warned), (GOOD, warned)).counts["warned"] == 1
    assert filled((BAD, warned), (BAD, refused)).counts["warned"] == 0
    assert filled((BAD, usage("of-an-old-audit"))).counts["warned"] == 0
    effects = [BAD.effect(warned), BAD.effect(refused), GOOD.effect(warned)]
    assert effects == ["warned", "refused", "approved"]


ENTRY = Excepted(
    source="namespace",
    namespace="shop",
    index=2,
    image="docker.io/library/nginx",
    until=datetime(2026, 4, 1, 10, 30, tzinfo=UTC),
    reason="INC-1",
    owner=None,
    grant=0,
)
BOTH = dataclasses.replace(ENTRY, also=(dataclasses.replace(ENTRY, index=3, owner="web"),))
CHECKED = (
    Checked(0, met=True, signature=Signature("ci", "bundle")),
    Checked(1, None, "unverified", "the registry answered 500"),
    Checked(2, met=False, reason="unpinned", detail="is unpinned: it needs a digest", warns=True),
    Checked(3, met=False, reason="unsigned", detail="is not signed by ci", warns=True),
)


def required(image: Tallied) -> Tallied:
    return image._replace(verdict=image.verdict._replace(requirements=CHECKED))


EXCEPTED = tallied("nginx", "exception", "approved until", ENTRY)
LACKS = "is unpinned: it needs a digest; is not signed by ci"


@pytest.mark.parametrize(
    ("image", "reason", "note", "effects", "unmet"),
    [
        pytest.param(GOOD, "unpinned", LACKS, ["warned", "warned"], 1, id="approved"),
        pytest.param(EXCEPTED, "exception", LACKS, ["excepted", "excepted"], 1, id="excepted"),
        pytest.param(DENIED, "denied", "it is denied by deny[0]", ["refused", "warned"], 0, id="denied"),
        pytest.param(
            GOOD._replace(exempt=True), "allowed", "signed by ci (bundle)", ["exempt"] * 2, 0, id="exempt"
        ),
    ],
)
def test_an_image_that_lacks_what_a_requirement_only_warns_about(
    image: Tallied, reason: str, note: str, effects: list[str], unmet: int
) -> None:
    image = required(image)
    assert (image.reason, image.note) == (reason, note)
    places = [usage(mode)._replace(mode=MODES[mode]) for mode in ("enforce", "warn")]
    assert [image.effect(place) for place in places] == effects
    tally = filled(*((image, place) for place in places))
    assert (tally.counts["unmet"], len(list(tally.listed()))) == (unmet, int(not image.exempt))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(GOOD, id="approved"),
        pytest.param(DENIED, id="denied"),
        pytest.param(NONE, id="invalid"),
        pytest.param(GOOD._replace(exempt=True), id="exempt"),
        pytest.param(BAD._replace(exempt=True), id="exempt-and-unlisted"),
        pytest.param(tallied("nginx", "exception", "approved until", BOTH), id="two-exceptions"),
        pytest.param(required(GOOD), id="requirements"),
    ],
)
def test_a_verdict_is_read_back_from_a_saved_audit(image: Tallied) -> None:
    written = image.as_json()
    audit = {"counts": {"images": 1}, "images": [{**written, "objects": []}]}
    [(found, _)] = SavedAudit(json.dumps(audit).encode()).judged()
    assert found == image
    assert json.dumps(found.as_json()) == json.dumps(written)


@pytest.mark.parametrize(
    ("until", "problem"),
    [
        pytest.param("2026-04-01T10:30:00", "without a time zone", id="no-offset"),
        pytest.param("0001-01-01T00:00:00+14:00", "does not exist in UTC", id="before-the-first-year"),
        pytest.param("9999-12-31T23:59:59-14:00", "does not exist in UTC", id="after-the-last-year"),
    ],
)
def test_an_exception_in_a_saved_audit_needs_an_end_that_can_be_shown(until: str, problem: str) -> None:
    written = tallied("nginx", "exception", "approved until", ENTRY).as_json()
    written["exception"]["until"] = until
    audit = {"counts": {"images": 1}, "images": [{**written, "objects": []}]}
    with pytest.raises(InvalidRecord, match=problem):
        list(SavedAudit(json.dumps(audit).encode()).judged())
