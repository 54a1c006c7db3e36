"""The page of an audit in a real browser, with the widths of a phone and a desktop."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import pytest

from gatekeeper_py.cli.reporting.auditpage import audit_page
from gatekeeper_py.core import parse_policy
from support.auditing import HOSTILE, page_of, tally_of
from support.screens import LUMINANCE, SCREENS, check_fits
from tools.browser import Page, Scheme

POLICY: Final = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
allow:
  - registry.corp.example
  - image: partner.example.com/a-repository-with-a-very-long-name-that-no-phone-can-show-on-one-line/**
    until: 2026-01-01
    owner: sales
deny:
  - "*/**:latest"
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a page with hostile images, many namespaces, and a digest wider than a phone."""
    policy = parse_policy(POLICY)
    runs = [("shop", "Pod", f"hostile-{i}", image) for i, image in enumerate(HOSTILE)]
    runs += [(f"team-{i}", "Pod", f"web-{i:04d}", f"quay.io/acme/web-{i % 9}:v1") for i in range(200)]
    runs += [("shop", "Pod", "pinned", f"quay.io/acme/tool@sha256:{'ab' * 32}")]
    runs += [("kube-system", "Deployment", "n" * 253, "registry.corp.example/web:latest")]
    runs += [("bank", "Pod", f"ok-{i}", "registry.corp.example/web:1") for i in range(50)]
    page = dataclasses.replace(page_of(policy), lists_approved=True, missing=["Workflow.argoproj.io"])
    path = tmp_path / "audit.html"
    path.write_text(audit_page(tally_of(policy, runs), page))
    return path.as_uri()


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
async def test_it_fits_and_the_browser_has_no_complaints(
    browser: Page, url: str, width: int, height: int, scheme: Scheme
) -> None:
    await browser.open(url, width=width, height=height, scheme=scheme)
    await check_fits(browser)
    await browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    await check_fits(browser)
    assert browser.complaints == []
    assert browser.requests == [url]
    background = await browser.evaluate(LUMINANCE)
    assert background > 0.8 if scheme == "light" else background < 0.1


async def test_hostile_images_are_shown_as_text(browser: Page, url: str) -> None:
    await browser.open(url, width=1280, height=900, scheme="light")
    shown = await browser.evaluate("document.body.innerText")
    for image in (
        "<script>alert(1)</script>",
        "'\"><svg onload=alert(1)>",
        "\\u202egpj.exe\\u202c",
        "&lt;b&gt;",
    ):
        assert image in shown
    assert await browser.evaluate("document.scripts.length") == 1
    assert await browser.evaluate("document.querySelectorAll('img, [onload], [onerror], style').length") == 1
    assert browser.complaints == []


async def test_a_script_that_came_in_anyway_does_not_run(browser: Page, url: str) -> None:
    await browser.open(url, width=1280, height=900, scheme="light")
    await browser.evaluate(
        "(script => { script.textContent = 'window.ran = 1'; document.body.append(script); })"
        "(document.createElement('script'))"
    )
    assert await browser.evaluate("window.ran") is None
    assert any("Content Security Policy" in each for each in browser.complaints)


async def test_the_filter_hides_what_does_not_match(browser: Page, url: str) -> None:
    await browser.open(url, width=1280, height=900, scheme="light")
    visible = "[...document.querySelectorAll('#refused .list>li')].filter(each => each.offsetParent).length"
    before = await browser.evaluate(visible)
    await browser.evaluate(
        "(field => { field.value = 'web-3'; field.dispatchEvent(new Event('input')); })"
        "(document.querySelector('#refused input'))"
    )
    assert 0 < await browser.evaluate(visible) < before
    status = await browser.evaluate("document.querySelector('#refused [role=status]').textContent")
    assert status == f"1 of {before}"


async def test_it_is_whole_without_script(browser: Page, url: str) -> None:
    await browser.open(url, width=390, height=844, scheme="light", script=False)
    roles = await browser.accessible()
    assert not any(role == "searchbox" for role, _ in roles)
    assert any("quay.io/acme/web-3:v1" in name for _, name in roles)
    assert browser.complaints == []


async def test_keys_reach_the_content_and_open_an_image(browser: Page, url: str) -> None:
    await browser.open(url, width=1280, height=900, scheme="light")
    focused = "document.activeElement.textContent"
    await browser.press("Tab", 9)
    assert await browser.evaluate(focused) == "Skip to the content"
    await browser.press("Tab", 9)
    assert await browser.evaluate(focused) == "Summary"
    for _ in range(40):
        await browser.press("Tab", 9)
        if await browser.evaluate("document.activeElement.matches('#refused summary')"):
            break
    await browser.press(" ", 32)
    assert await browser.evaluate("document.activeElement.parentElement.open") is True


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_screen_reader_finds_headings_tables_and_what_a_chart_shows(
    browser: Page, url: str, width: int
) -> None:
    await browser.open(url, width=width, height=900, scheme="light")
    found = await browser.accessible()
    headings = [name for role, name in found if role == "heading"]
    assert headings[0] == "Image audit"
    assert {"Summary", "Where", "Refused images", "What the rules do", "Unused rules"} <= set(headings)
    assert any(role in {"image", "img"} and name.startswith("Places: ") for role, name in found)
    assert any(role == "rowheader" and "quay.io" in name for role, name in found)
    assert any(role == "searchbox" and "Filter images" in name for role, name in found)
    assert any(role == "navigation" and name == "Sections" for role, name in found)
