"""A POLICY argument that holds no usable policy, in every command that needs one."""

from __future__ import annotations

from typing import Final

import pytest

from support.builders import policy_text
from support.commanding import READERS, Reading, Write

JUDGING: Final[dict[str, tuple[str, ...]]] = {
    **{
        name: READERS[name]
        for name in (
            "explain",
            "except-policy",
            "compile",
            "review-policy",
            "diff-old",
            "diff-new",
            "audit",
            "audit-base",
        )
    },
    "explain-fast-path": ("explain", "FILE", "x", "--fast-path"),
    "explain-rule": ("explain", "FILE", "--rule", "0"),
    "compile-native": ("compile", "FILE", "--to", "validating-admission-policy"),
}


@pytest.mark.parametrize("name", JUDGING)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a: [", id="not-yaml"),
        pytest.param("a: b", id="another-document"),
        pytest.param(policy_text(allow="[nginx]"), id="pattern"),
        pytest.param(policy_text("colour: red\n"), id="field"),
    ],
)
def test_a_bad_policy_exits_with_2_and_its_findings_on_stderr(
    reading: Reading, write: Write, name: str, text: str
) -> None:
    done = reading(JUDGING[name], write(text, "bad.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err
