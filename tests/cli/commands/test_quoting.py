"""A file is never quoted unless it is a policy, webhook settings or a test file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.budget import budget
from support.builders import policy_text
from support.commanding import READERS, Done, Reading, Write

SECRET: Final = "hunter2"
"""The word that no output may contain."""

FILES: Final = {
    "environment": f"HOME=/root\0TOKEN={SECRET}\0",
    "environment-with-a-policy": f"A=x\n---\napiVersion: gatekeeper-py/v1\nkind: ImagePolicy\0B={SECRET}\0",
    "passwd": f"root:x:0:0:{SECRET}:/root:/bin/bash\n{SECRET}:x:1:1::/:/bin/sh\n",
    "key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----\n",
    "docker-config": json.dumps({"auths": {f"{SECRET}.io": {"auth": SECRET}}}),
    "settings-of-a-shell": f"export TOKEN='{SECRET}'\n",
    "yaml": f"database:\n  password: {SECRET}\n{SECRET}: 1\n",
    "kind-only": f"kind: {SECRET}\npassword: x\n",
    "kind-and-version": f"apiVersion: {SECRET}\nkind: {SECRET}\n",
    "secret": f"apiVersion: v1\nkind: Secret\nstringData: {{{SECRET}: {SECRET}}}\n",
    "configmap": f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{{SECRET}: {SECRET}}}\n",
    "configmap-mode": f"apiVersion: v1\nkind: ConfigMap\ndata: {{mode: {SECRET}}}\n",
    "configmap-broken": f"apiVersion: v1\nkind: ConfigMap\ndata: [{SECRET}\n",
    "list": f"- {SECRET}\n",
    "text": SECRET,
    "anchor": f"a: &{SECRET} b\n",
    "alias": f"a: *{SECRET}\n",
    "tag": f"a: !{SECRET} b\n",
    "directive": f"%TAG !{SECRET}! tag:{SECRET},2000:\n---\na: b\n",
    "quote": f"a: @{SECRET}\n",
    "escape": f'a: "{SECRET}\\q{SECRET}"\n',
    "twice": f"{SECRET}: a\n{SECRET}: b\n",
    "twice-in-json": f'{{"{SECRET}": 1, "{SECRET}": 2}}',
    "key-that-is-no-text": f"? [{SECRET}]\n: 1\n",
    "merge": f"<<: {SECRET}\n",
    "stream": f"a: {SECRET}\n---\nb: {SECRET}\n",
    "tab": f"{SECRET} x\t{SECRET}\n",
    "controls": f"a: \x1b{SECRET}\u202e{SECRET}\n",
    "latin-1": f"a: {SECRET} \udce9\n",
}

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    **{name: arguments for name, arguments in READERS.items() if name != "review"},
    **{f"check-{style}": ("check", "FILE", "-o", style) for style in ("json", "sarif", "concise", "github")},
    "test-policy": ("test", "TESTS"),
    "test-manifest": ("test", "TESTS_OF_MANIFEST"),
}
"""``review`` is left out, because a report about manifests names their objects."""


@pytest.fixture
def on_file(reading: Reading, write: Write) -> Callable[[str, bytes], Done]:
    """Return a function that runs a command on a file with the given content."""
    head = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicyTest\n"
    tests = {
        "TESTS": write(f"{head}policy: given\ncases: [{{image: a, expect: approved}}]\n", "tests.yaml"),
        "TESTS_OF_MANIFEST": write(
            f"{head}policy: policy.yaml\ncases: [{{manifest: given, expect: admitted}}]\n", "manifest.yaml"
        ),
    }
    return lambda name, content: reading(COMMANDS[name], write(content, "given"), **tests)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_output_quotes_a_file_of_another_kind(on_file: Callable[[str, bytes], Done], name: str) -> None:
    for kind, text in FILES.items():
        done = on_file(name, text.encode(errors="surrogateescape"))
        assert SECRET not in done.out + done.err, kind
        # Every line is an image, and every object is one to judge.
        assert done.code in {1, 2} or name in {"diff-images", "test-manifest"}, kind


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=budget(400))
@given(st.lists(st.sampled_from([SECRET, *"\n -:#[]{}&*!|>'\"%@`,?\t\\=.", "a", "1", "---\n", ": "])))
def test_no_check_quotes_any_text(on_file: Callable[[str, bytes], Done], parts: list[str]) -> None:
    content = "".join(parts).encode()
    for name in ("check", "check-json", "review-settings", "test", "test-manifest"):
        done = on_file(name, content)
        assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("check", policy_text(f"{SECRET}: 1\n"), id="policy"),
        pytest.param("check", f"{policy_text()}x: [{SECRET}\n", id="policy-that-is-not-yaml"),
        pytest.param("review-policy", f"kind: ImagePolicy\n{SECRET}: 1\n", id="only-the-kind"),
        pytest.param("review-settings", f"pods: {{{SECRET}: 1}}\n", id="settings"),
        pytest.param("test", f"kind: ImagePolicyTest\n{SECRET}: 1\n", id="tests"),
        pytest.param("check", f"kind: ConfigMap\ndata: {{policy.yaml: a, {SECRET}: b}}\n", id="configmap"),
    ],
)
def test_a_policy_settings_and_a_test_file_are_quoted(
    on_file: Callable[[str, bytes], Done], name: str, text: str
) -> None:
    done = on_file(name, text.encode())
    assert done.code in {1, 2}
    assert f" | {text.splitlines()[-1]}" in done.out + done.err
