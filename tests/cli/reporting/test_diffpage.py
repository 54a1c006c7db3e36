"""The page about a policy change."""

from __future__ import annotations

import msgspec

from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.provenance import PolicySource
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.diff import DiffPage
from gatekeeper_py.cli.reporting.diffpage import changes_page
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.documents import compare_documents
from support.auditing import HOSTILE, META
from support.builders import INSTANT, policy_text

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


def test_hostile_names_stay_text() -> None:
    page = changes_page(compare_documents(OLD, NEW), changes_of(*(f"quay.io/{i}" for i in HOSTILE)), PAGE)
    assert "<new>" not in page
    assert "<img" not in page
    assert page.count("<script") == 1
