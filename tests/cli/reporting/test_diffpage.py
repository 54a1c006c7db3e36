"""The page about a policy change."""

from __future__ import annotations

import msgspec

from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.provenance import PolicySource
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.diff import DiffPage
from gatekeeper_py.cli.reporting.diffpage import changes_page, difference_page
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.difference import compare
from gatekeeper_py.core.compare.documents import compare_documents
from support.auditing import HOSTILE, META
from support.builders import INSTANT, policy_text
from support.paging import lines, sections

PAGE = DiffPage(
    meta=msgspec.structs.replace(META, policy=PolicySource("<new>.yaml", "0123456789ab")), instant=INSTANT
)
OLD = parse_policy(policy_text(allow="[registry.corp.io, quay.io]"))
NEW = parse_policy(policy_text(allow="[registry.corp.io, ghcr.io]"))


def changes_of(*images: str) -> ImageChanges:
    changes = ImageChanges(OLD.at(INSTANT), NEW.at(INSTANT))
    for index, image in enumerate(images):
        changes.take_image(image, Usage("Pod", "shop", f"web-{index}", "spec.containers[0].image"))
    return changes


def test_images_are_listed_by_their_change() -> None:
    changes = changes_of("quay.io/a:1", "quay.io/a:1", "ghcr.io/b:1", "registry.corp.io/c:1")
    page = sections(changes_page(compare_documents(OLD, NEW), changes, PAGE))
    assert "The change affects 2 images of 3." in page["summary"]
    assert lines(page["edited"])[1:] == ["added allow[1] ghcr.io", "removed allow[1] quay.io"]
    assert "quay.io/a:1" in page["rejected"]
    assert "2 places in 1 namespace" in page["rejected"]
    assert "ghcr.io/b:1" in page["approved"]
    assert lines(page["rewritten"])[1:] == ["None."]
    where = lines(page["where"])
    assert where[where.index("shop") + 1 :][:2] == ["2", "1"]


def test_lines_of_a_list_of_images_have_no_object() -> None:
    changes = ImageChanges(OLD.at(INSTANT), NEW.at(INSTANT))
    changes.take_image("quay.io/a:1", Usage("", "shop", "", "line 2"))
    changes.take_image("quay.io/b:1", Usage("", None, "", "line 3"))
    rejected = lines(sections(changes_page(compare_documents(OLD, NEW), changes, PAGE))["rejected"])
    assert "shop · line 2 · enforce" in rejected
    assert "line 3 · enforce" in rejected


def test_no_change() -> None:
    page = sections(
        changes_page(compare_documents(OLD, OLD), ImageChanges(OLD.at(INSTANT), OLD.at(INSTANT)), PAGE)
    )
    assert "The change affects no image that runs." in page["summary"]
    assert "The documents are identical." in page["edited"]


def test_the_exact_difference_has_answers_and_examples() -> None:
    page = sections(
        difference_page(compare_documents(OLD, NEW), compare(OLD.at(INSTANT), NEW.at(INSTANT)), PAGE)
    )
    assert lines(page["summary"])[2:] == [
        "Some images become approved.",
        "Some images become rejected.",
        "No image is rewritten differently.",
    ]
    assert "allow[1] ghcr.io" in page["examples"]
    same = compare(OLD.at(INSTANT), OLD.at(INSTANT))
    page = sections(difference_page(compare_documents(OLD, OLD), same, PAGE))
    assert lines(page["summary"])[2] == "No image becomes approved."
    ending = parse_policy(policy_text(allow="[{image: a.io, until: 2099-01-01}]")).at(INSTANT)
    page = sections(difference_page(compare_documents(OLD, OLD), compare(ending, ending), PAGE))
    assert "These answers hold until 2099-01-01T00:00:00Z" in page["summary"]


def test_hostile_names_stay_text() -> None:
    page = changes_page(compare_documents(OLD, NEW), changes_of(*(f"quay.io/{i}" for i in HOSTILE)), PAGE)
    assert "<new>" not in page
    assert "<img" not in page
    assert page.count("<script") == 1
