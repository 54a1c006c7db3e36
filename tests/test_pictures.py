"""The pictures in docs/images: pages show them, and the drawings state the values of the code."""

from __future__ import annotations

import re
from typing import Final

import pytest

from gatekeeper_py.controller.webhooks.settings import MUTATION, PODS, WORKLOADS
from gatekeeper_py.core.admission.radius import LEAST_KNOWN
from gatekeeper_py.core.admission.slot import MAX_IMAGES
from gatekeeper_py.core.policy.decision import OVERRIDDEN
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.http.limits import HANDSHAKE_SECONDS
from gatekeeper_py.webhook.body import BODY_SECONDS
from support.screens import DRAWINGS, PICTURES

HOST: Final = Registry(host="registry.corp.example")
STATED: Final = {
    "review": (
        f"over {MAX_IMAGES:,}",
        f"within {BODY_SECONDS:.0f} s",
        f"TLS within {HANDSHAKE_SECONDS:.0f} s",
        f"failurePolicy {MUTATION.failure_policy}, {MUTATION.timeout_seconds} s",
        f"failurePolicy: Pods {PODS.failure_policy},",
        f"workloads {WORKLOADS.failure_policy}; {PODS.timeout_seconds} s",
    ),
    "policy-change": (f"of {LEAST_KNOWN} or more",),
    "look-ups": (
        f"ttlFound ({HOST.ttl_found:.0f} s",
        f"ttlMissing ({HOST.ttl_missing:.0f} s)",
        f"timeout ({HOST.timeout:.0f} s)",
    ),
    "exceptions": tuple(f">{reason}<" for reason in OVERRIDDEN),
    "failures": (f"over {MAX_IMAGES:,} images",),
}


def test_drawings_have_one_style_a_title_and_a_description() -> None:
    styles = set()
    for path in DRAWINGS:
        text = path.read_text(encoding="utf-8")
        found = re.search(
            r'<title id="t">.+</title>\n<desc id="d">.+</desc>\n(<style>.+</marker>)', text, re.DOTALL
        )
        assert found is not None, path
        assert len(text) <= 12_000, path
        styles.add(found[1])
    assert len(styles) == 1


@pytest.mark.parametrize("name", STATED)
def test_a_drawing_states_the_values_of_the_code(name: str) -> None:
    text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert [each for each in STATED[name] if each not in text] == []


def test_every_picture_is_on_a_page_with_words_for_those_who_cannot_see_it() -> None:
    root = PICTURES.parents[1]
    pages = "".join(
        path.read_text(encoding="utf-8") for path in [root / "README.md", *root.glob("docs/*.md")]
    )
    shown = {name for words, name in re.findall(r"!\[([^\]]{20,})\]\((?:docs/)?images/([^)]+)\)", pages)}
    assert shown == {path.name for path in PICTURES.iterdir()}
