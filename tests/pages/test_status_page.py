"""The status page of a real server in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.auditing import HOSTILE
from support.builders import pod, policy_text, review, workload
from support.screens import SCREENS, check_fits
from support.server import Server
from tools.browser import Page, Scheme

POLICY = policy_text(
    f'deny:\n  - image: registry.corp.io/{"long-" * 30}name/**\n    reason: <b>no</b>\n  - "*/**:latest"\n',
    allow="[registry.corp.io, registry.corp.io/team, partner.example.com]",
)
REFUSED = policy_text(f"colour: blue\nmessage: 7\nmirrors: [{{from: '{'x' * 300}', to: 1}}]\n")


class Served:
    """A server with some reviews behind it, and its policy file."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._policy = directory / "policy.yaml"
        self._policy.write_text(POLICY)
        ca = directory / "ca.crt"
        self.server = Server(
            "--policy", str(self._policy), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
            "--tls-ca-out", str(ca), "--drain-seconds", "0", *arguments, ca=ca,
        )  # fmt: skip
        self.server.wait(self.server.is_ready)
        self.url = "http://{}:{}/".format(*self.server.address("health"))

    def review(self, *documents: dict[str, Any]) -> None:
        for document in documents:
            assert self.server.post(document)[0] == 200

    def refuse(self) -> None:
        """Write a bad policy and wait until it was refused."""
        self._policy.write_text(REFUSED)
        self.server.wait(lambda: json.loads(self.server.get("/policy")[1])["refused"] is not None)


def reviews() -> list[dict[str, Any]]:
    return [
        *(review(pod("registry.corp.io/web:1")) for _ in range(30)),
        *(review(pod(image)) for image in HOSTILE if len(image) < 1000),
        review(workload("Deployment", "nginx", "quay.io/x:1", "registry.corp.io/a:latest")),
    ]


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    served = Served(tmp_path, *getattr(request, "param", ()))
    yield served
    served.server.end()


@pytest.mark.parametrize("served", [("--status-details",)], indirect=True)
@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
async def test_it_fits_and_the_browser_has_no_complaints(
    browser: Page, served: Served, width: int, height: int, scheme: Scheme
) -> None:
    served.review(*reviews())
    served.refuse()
    await browser.open(served.url, width=width, height=height, scheme=scheme)
    await browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    await check_fits(browser)
    assert browser.complaints == []
    assert set(browser.requests) <= {served.url, f"{served.url}favicon.ico"}
    shown = await browser.evaluate("document.body.innerText")
    assert "<script>alert(1)</script>" in shown
    assert "Ready, but a newer policy was refused" in shown
    assert await browser.evaluate("document.scripts.length") == 1


async def test_without_details_no_image_namespace_or_user_is_shown(browser: Page, served: Served) -> None:
    await browser.open(served.url, width=1280, height=900, scheme="light")
    assert "No review has arrived yet." in await browser.evaluate("document.body.innerText")
    secret = review(pod("quay.io/secret/tool:1"))
    served.review(*[secret] * 3)
    page = await _reloaded(browser, served, "3 in all")
    assert "1 unlisted" in page
    for hidden in ("secret", secret["request"]["namespace"] + "/", secret["request"]["userInfo"]["username"]):
        assert hidden not in page


@pytest.mark.parametrize("served", [("--status-details",)], indirect=True)
async def test_image_namespace_and_user_are_shown_with_details(browser: Page, served: Served) -> None:
    document = review(pod("quay.io/secret/tool:1"))
    served.review(document)
    page = await _reloaded(browser, served, "1 in all")
    for shown in ("quay.io/secret/tool:1", document["request"]["userInfo"]["username"]):
        assert shown in page


async def test_a_screen_reader_gets_the_values_of_the_charts(browser: Page, served: Served) -> None:
    served.review(*reviews())
    await browser.open(served.url, width=390, height=844, scheme="dark")
    found = await browser.accessible()
    images = [name for role, name in found if role in {"image", "img"}]
    assert any(name.startswith("Reviews: 30 allowed, ") for name in images)
    assert any(name.startswith("Validating reviews: half within ") for name in images)


async def _reloaded(browser: Page, served: Served, until: str) -> str:
    """Load the page until it shows a text. The server renders it once a second."""
    for _ in range(100):
        await browser.open(served.url, width=1280, height=900, scheme="light")
        page: str = await browser.evaluate("document.body.innerText")
        if until in page:
            return page
    raise AssertionError(page)
