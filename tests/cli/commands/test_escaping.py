"""No name or value controls a terminal, a CI job or a spreadsheet, in any format of any command."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from gatekeeper_py.cli.inventory.provenance import PolicySource, Provenance
from gatekeeper_py.cli.inventory.tally import Tally, Usage
from gatekeeper_py.cli.reporting.audit import FORMATS
from gatekeeper_py.cli.reporting.auditpage import AuditPage
from support.auditing import tallied
from support.builders import policy_text
from support.commanding import Command, Write

HOSTILE: Final = (
    "\x1b[2J", "\x07", "\r", "\n", "\t", "\x7f", "\x9b31m", "\x85", "\u061c", "\u200e", "\u2028", "\u2029",
    "\u202e", "\u2066", "\ufeff", "::error::", "\n::add-mask::", "##[error]", "##vso[task.setvariable]",
    "<script>", "%0A", "-", "a", "é",
)  # fmt: skip
WORDS: Final = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=8).map("".join)
FILE_NAMES: Final = st.lists(st.sampled_from([*HOSTILE, "\udcff"]), min_size=1, max_size=8).map(
    lambda parts: "".join(parts).replace("/", "") + ".yaml"
)
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

NO_SHRINKING: Final = (Phase.explicit, Phase.generate)

checked = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=10,
    deadline=None,
    phases=NO_SHRINKING,
)


def assert_harmless(output: str, *, commands: bool = False) -> None:
    """Check an output. ``commands`` are allowed in a format that consists of them, and in one for files."""
    for line in output.split("\n"):
        wrong = [c for c in line if not c.isprintable() or c in BIDI_CONTROLS]
        assert not wrong, ascii(line)
        assert commands or not line.lstrip().startswith("::"), line
        assert commands or no_logging_command(line), line


def no_logging_command(text: str) -> bool:
    return "##[" not in text and "##vso[" not in text


def obj(word: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": word, "namespace": word, "annotations": {word: f"a\n{word}"}},
        "spec": {"containers": [{"name": word, "image": word}, {"name": "b", "image": f"a/{word}"}]},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes a new directory, because each example needs its own."""
    made: list[Path] = []

    def folder() -> Path:
        path = tmp_path / str(len(made))
        made.append(path)
        path.mkdir()
        return path

    return folder


@checked
@given(FILE_NAMES, WORDS)
@example("a.yaml", "###[error]")
def test_a_review_is_harmless(
    command: Command, write: Write, folder: Callable[[], Path], name: str, word: str
) -> None:
    policy = write(policy_text())
    path = folder() / name
    custom = {**obj(word), "apiVersion": "a.io/v1", "kind": word or "A"}
    path.write_text("---\n".join(json.dumps(each) + "\n" for each in (obj(word), custom)))
    for options in (
        (),
        ("--mode", "warn"),
        ("--format", "json"),
        ("--format", "sarif"),
        ("--format", "junit"),
        ("--mutate", "--format", "json"),
    ):
        for file in (path, path.parent):
            done = command("review", policy, file, *options)
            assert done.code in {0, 1}, done.err
            assert_harmless(done.out)
            assert_harmless(done.err)


@checked
@given(WORDS)
@example("###vso[task.setvariable]")
def test_stored_objects_are_harmless_and_keep_their_values(command: Command, write: Write, word: str) -> None:
    given_object = obj(word)
    given_object["metadata"]["namespace"] = "exempt"
    given_object["metadata"]["annotations"]["long"] = f"{'a ' * 50}{word} {word}"
    options = ("--mutate", "--exempt-namespace", "exempt")
    done = command("review", write(policy_text()), "-", *options, stdin=json.dumps(given_object))
    assert done.code == 0
    for line in done.out.split("\n"):
        assert all(c.isprintable() for c in line)
        assert not line.lstrip().startswith("::")
        assert no_logging_command(line)
    assert list(yaml.safe_load_all(done.out)) == [given_object]


@checked
@given(FILE_NAMES, WORDS)
@example("a.yaml", "###[error]")
def test_a_check_is_harmless(command: Command, folder: Callable[[], Path], name: str, word: str) -> None:
    path = folder() / name
    path.write_text(policy_text(f"{json.dumps(word)}: 1\n", allow=json.dumps([word, "nginx"])))
    os.chdir(path.parent)
    for style in ("text", "json", "concise", "github", "sarif"):
        for file in (path, f"./{name}" if name.startswith("-") else name):
            done = command("check", file, "--format", style)
            assert done.code == 1
            assert_harmless(done.out, commands=style == "github")
            assert_harmless(done.err)
            if style == "github":
                assert all(line.startswith(("::error ", "::warning ")) for line in done.out.splitlines())
                assert no_logging_command(done.out)


@checked
@given(FILE_NAMES, WORDS)
@example("a.yaml", "###[error]")
def test_policy_tests_are_harmless(
    command: Command, folder: Callable[[], Path], name: str, word: str
) -> None:
    path = folder() / name
    (path.parent / "p.yml").write_text(policy_text())
    (path.parent / "m.yml").write_text(json.dumps(obj(word)))
    cases = [
        {"name": word, "image": word, "expect": "approved", "rewritten": word},
        {"name": word, "manifest": "m.yml", "expect": "admitted", "images": [word]},
    ]
    head = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicyTest", "policy": "p.yml"}
    path.write_text(json.dumps({**head, "cases": cases}))
    for style in ("text", "json", "junit"):
        done = command("test", path, "--format", style)
        assert done.code == 1, done.err
        assert_harmless(done.out)
        assert_harmless(done.err)


@checked
@given(WORDS)
def test_errors_are_harmless(command: Command, write: Write, word: str) -> None:
    policy = write(policy_text())
    for arguments in (
        (word,),
        ("check", f"--{word}"),
        ("check", policy, "--format", word),
        ("check", f"/nonexistent/{word}"),
        ("review", policy, f"/nonexistent/{word}"),
        ("diff", policy, f"/nonexistent/{word}"),
        ("test", f"/nonexistent/{word}"),
        ("explain", policy, "a", "-n", f"{word}_"),
        ("review", policy, "a", "--registry-config", word, "--look-up"),
    ):
        done = command(*arguments)
        assert done.code == 2, arguments
        assert done.out == ""
        assert_harmless(done.err)


@checked
@given(WORDS)
def test_explanations_and_differences_are_harmless(command: Command, write: Write, word: str) -> None:
    policy = write(policy_text())
    usage = {"kind": word, "namespace": word, "name": word, "path": word}
    images = [{"image": image, "objects": [usage]} for image in (word, "quay.io/a:1")]
    audit = write(json.dumps({"counts": {"images": 2}, "images": images}), "audit")
    other = write(policy_text(allow="[quay.io]"), "other.yaml")
    for arguments in (
        *(("explain", policy, "--format", style, "--", word) for style in ("text", "json")),
        ("explain", policy, "--fast-path", "--", word),
        *(
            ("diff", policy, other, "--audit", audit, "--format", style)
            for style in ("table", "json", "html")
        ),
    ):
        done = command(*arguments)
        assert done.code in {0, 1}, done.err
        assert_harmless(done.out, commands="html" in arguments)
        assert_harmless(done.err)


@checked
@given(WORDS, WORDS)
def test_an_audit_is_harmless(capsys: pytest.CaptureFixture[str], word: str, other: str) -> None:
    for style in ("table", "json", "jsonl", "csv"):
        FORMATS[style].write(_audit(word, other), _page(other))
        assert_harmless(capsys.readouterr().out, commands=style == "csv")


def _page(word: str) -> AuditPage:
    policy = PolicySource(word, word)
    audits = (Provenance(time=word, version=word, cluster=f"{word}2", policy=policy),)
    meta = Provenance(
        time=word, version=word, cluster=word, policy=policy, audits=audits, warnings=(word, word)
    )
    return AuditPage(meta=meta, policy=None, namespace=None, instant=datetime.now(UTC))


def _audit(word: str, other: str) -> Tally:
    tally = Tally(keep_approved=True)
    tally.add(tallied(word, "invalid", other), Usage(other, other, other, other))
    return tally


@pytest.mark.parametrize(
    "before", ["", " ", "\ufeff", "\u200b", "\n", "\r", "\t", "\u00a0", "\x1b", "\ufeff \t", "\u2028"]
)
@pytest.mark.parametrize("sign", "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\u207a\u208b")
def test_no_cell_is_a_formula(capsys: pytest.CaptureFixture[str], before: str, sign: str) -> None:
    """A cell is text if it begins with a quote, a letter, a digit or a backslash."""
    formula = f"{before}{sign}HYPERLINK(1)"
    FORMATS["csv"].write(_audit(formula, formula), _page(formula))
    _, row = csv.reader(io.StringIO(capsys.readouterr().out))
    for cell in row:
        assert not cell or cell[0] in "'\\" or (cell[0].isascii() and cell[0].isalnum()), ascii(cell)
