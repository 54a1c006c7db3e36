"""The page about a policy change in a real browser."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.cli.reporting.diff import DiffPage
from gatekeeper_py.cli.reporting.diffpage import changes_page, difference_page
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.difference import compare
from gatekeeper_py.core.compare.documents import compare_documents
from support.auditing import HOSTILE, META
from support.builders import INSTANT, policy_text
from support.screens import SCREENS, check_fits
from tools.browser import Page, Scheme

LONG = "registry.corp.io/a-very-long-name-of-a-team/" + "x" * 150
OLD = parse_policy(policy_text(f"deny: ['{LONG}/**']\n", allow="[registry.corp.io, quay.io]"))
NEW = parse_policy(policy_text("message: ask us\n", allow="[registry.corp.io, ghcr.io]", mode="warn"))


def page_of(kind: str) -> str:
    meta = msgspec.structs.replace(META, cluster="n" * 300, warnings=("w" * 300,))
    page = DiffPage(meta=meta, instant=INSTANT)
    documents = compare_documents(OLD, NEW)
    if kind == "exact":
        return difference_page(documents, compare(OLD.at(INSTANT), NEW.at(INSTANT)), page)
    changes = ImageChanges(OLD.at(INSTANT), NEW.at(INSTANT))
    images = (*(f"quay.io/{each}" for each in HOSTILE), "quay.io/a:1", "ghcr.io/b:1", f"{LONG}/c:1")
    for index, image in enumerate(images * 3):
        usage = Usage("Pod", f"team-{index % 20}", f"web-{index}", "spec.containers[0].image")
        changes.take_image(image, usage)
    return changes_page(documents, changes, page)


@pytest.mark.parametrize("kind", ["what-runs", "exact"])
@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
async def test_it_fits_and_the_browser_has_no_complaints(
    browser: Page, tmp_path: Path, kind: str, width: int, height: int, scheme: Scheme
) -> None:
    path = tmp_path / "diff.html"
    path.write_text(page_of(kind))
    await browser.open(path.as_uri(), width=width, height=height, scheme=scheme)
    await browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    await check_fits(browser)
    assert browser.complaints == []
    assert browser.requests == [path.as_uri()]
