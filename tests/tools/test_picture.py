"""The picture of the demo shows the current output of the demo."""

from __future__ import annotations

import pytest

from tools import picture


def test_the_committed_picture_is_what_the_demo_prints() -> None:
    drawn = picture.picture(picture.chosen(picture.recorded()))
    assert picture.PICTURE.read_text(encoding="utf-8") == drawn, "run make manifests"


def test_a_step_that_the_demo_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no step '\$ kubectl apply -f approved.yaml'"):
        picture.chosen("$ gatekeeper-py serve\n\n-- mode: enforce\n\nsomething else\n")


def test_text_is_escaped_and_long_lines_are_broken_between_words() -> None:
    drawn = picture.picture(["$ echo <a> & b\n" + "word " * 40])
    assert "$ echo &lt;a&gt; &amp; b" in drawn
    widths = [float(part.split('"')[0]) for part in drawn.split('textLength="')[1:]]
    assert len(widths) == 3
    assert max(widths) <= picture.COLUMNS * picture.CHARACTER
