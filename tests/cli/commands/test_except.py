"""``except``: write an exception for an image, and show which grant covers it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekeeper_py.cli.inputs.yaml12 import Merges, load_documents
from gatekeeper_py.core.exceptions.document import ExceptionDocument
from gatekeeper_py.core.policy.instant import format_instant, parse_instant
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from property.strategies import any_text, images, varied_images
from support.budget import budget
from support.builders import keys_text, policy_text
from support.commanding import Command, Write

POLICY: Final = policy_text(
    """
deny: ["*/**:latest", quay.io/bad/**]
exceptions:
  - {source: namespace, namespaces: [team-*], images: [ghcr.io/**, quay.io/**], longest: 14d, most: 2}
  - {source: installation, images: [docker.io/**], longest: 30d}
  - {source: break-glass, images: [quay.io/bad/x], longest: 12h, overrides: [deny]}
""",
    allow="[registry.corp.io, ghcr.io/ok/**]",
)
DIGEST: Final = f"sha256:{'7c' * 32}"
FAR: Final = "2999-01-01T00:00:00Z"
OLD: Final = f"image: ghcr.io/old, until: {FAR}, reason: r"


def document_in(text: str) -> ExceptionDocument:
    (obj,) = load_documents(text, Merges())
    return parse_exceptions(obj["data"]["exceptions.yaml"])


def end_in(text: str) -> datetime:
    return document_in(text).entries[-1].until


@pytest.mark.parametrize(
    ("image", "options", "code", "said"),
    [
        pytest.param(
            "ghcr.io/x:1", [], 0, "by the grant exceptions[0] (source: namespace, longest: 14d)", id="covered"
        ),
        pytest.param("ghcr.io/x/**", [], 0, ": approved until", id="pattern"),
        pytest.param("*.io/x", [], 0, ": in part, approved until", id="pattern-in-part"),
        pytest.param("registry.corp.io/x:1", [], 1, "approves it anyway", id="superfluous"),
        pytest.param("ghcr.io/ok/x:1", [], 0, "approves it anyway: ", id="superfluous-and-covered"),
        pytest.param("nginx:1", [], 1, "exceptions[0]: its images do not include this one\n", id="image"),
        pytest.param("nginx:1", [], 1, "exceptions[1]: it is for documents with source", id="source"),
        pytest.param("ghcr.io/x:1", ["-n", "shop"], 1, "[0]: it does not apply to shop\n", id="namespace"),
        pytest.param("ghcr.io/x", [], 1, "[0]: it does not override deny rules\n", id="denied-by-tag"),
        pytest.param("quay.io/bad/*", [], 1, "denied by deny[1] quay.io/bad/**\n", id="denied-pattern"),
        pytest.param("ghcr.io/x:1", ["--for", "15d"], 1, "exceptions[0] allows 14d", id="too-long"),
        pytest.param("ghcr.io/x/*", ["--for", "15d"], 1, "exceptions[0] allows 14d", id="too-long-pattern"),
    ],
)
def test_it_shows_which_grant_covers_an_image_or_why_each_does_not(
    command: Command, write: Write, image: str, options: list[str], code: int, said: str
) -> None:
    policy = write(POLICY)
    end = format_instant(datetime.now(UTC) + timedelta(days=15 if "15d" in options else 7))
    options = [each for each in options if each not in {"--for", "15d"}]
    arguments = ["-n", "team-a", "--until", end, "--reason", "r", "--policy", policy, *options]
    done = command("except", image, *arguments)
    assert done.code == code
    assert done.err.startswith(f"{image}: ")
    assert said in done.err
    unjudged = command("except", image, *[each for each in arguments if each not in {"--policy", policy}])
    assert done.out == ("" if code else unjudged.out)
    found = write(unjudged.out, "exception.yaml")
    assert len(document_in(unjudged.out).entries) == 1
    assert command("check", found, "--policy", policy).code == (0 if "den" in done.err else code)


@pytest.mark.parametrize(
    ("image", "code", "said"),
    [
        pytest.param("a.io/x:1", 1, "exceptions[0]: it does not override requirements\n", id="approved"),
        pytest.param("a.io/x:1", 1, "exceptions[1]: it is for documents with source: break", id="glass"),
        pytest.param(f"a.io/x@{DIGEST}", 1, "and it must meet require[1]\n", id="look-up"),
        pytest.param(f"a.io/pinned/x@{DIGEST}", 0, "approves it anyway: ", id="approved-and-met"),
        pytest.param("a.io/warned/x:1", 0, "approves it anyway: ", id="only-warns"),
        pytest.param("b.io/x:1", 0, "longest: 12h), if it meets require[0]\n", id="unlisted"),
        pytest.param("b.io/x/*", 0, "longest: 12h), if it meets require[0]\n", id="pattern"),
        pytest.param("b.io/x/*@*", 0, "longest: 12h)\n", id="pattern-that-meets-it"),
        pytest.param("b.io/elsewhere/*", 0, "longest: 12h)\n", id="other-namespace"),
        pytest.param("b.io/denied:1", 1, "exceptions[0]: it does not override deny rules", id="denied"),
    ],
)
def test_it_shows_whether_an_excepted_image_must_meet_a_requirement(
    command: Command, write: Write, image: str, code: int, said: str
) -> None:
    grants = ", ".join(
        f"{{source: {source}, images: [a.io, b.io], longest: 12h}}"
        for source in ("namespace", "break-glass, overrides: [deny, require]")
    )
    required = """deny: [b.io/denied]
require:
  - {images: [a.io/pinned/**, a.io/x, b.io/x, b.io/x/**, b.io/denied], digest: true}
  - {images: [a.io/x], signedBy: [ci-2025, ci-2026]}
  - {images: [a.io/warned/**], digest: true, mode: warn}
  - {images: [b.io/elsewhere/**], digest: true, namespaces: [shop]}
"""
    policy = write(policy_text(f"{keys_text()}{required}exceptions: [{grants}]\n", allow="[a.io]"))
    done = command("except", image, "-n", "team-a", "--for", "2h", "--reason", "r", "--policy", policy)
    assert said in done.err
    assert done.code == code


def test_the_end_that_it_proposes_for_a_long_exception_is_good(command: Command, write: Write) -> None:
    policy = write(POLICY)
    arguments = ["except", "ghcr.io/x:1", "-n", "team-a", "--reason", "r", "--policy", policy]
    too_long = command(*arguments, "--until", FAR)
    assert too_long.code == 1
    latest = too_long.err.rpartition(" ")[2].strip()
    assert command(*arguments, "--until", latest).code == 0
    later = format_instant(parse_instant(latest) + timedelta(hours=1))
    assert command(*arguments, "--until", later).code == 1


def test_a_duration_counts_from_now(command: Command) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    done = command("except", "a.io/x", "-n", "a", "--for", "36h", "--reason", "r")
    assert timedelta() <= end_in(done.out) - before - timedelta(hours=36) <= timedelta(minutes=5)
    assert "only the form of the exception was checked" in done.err


@pytest.mark.parametrize(
    ("namespace", "image", "code"),
    [
        pytest.param("team-a", "ghcr.io/x:1", 0, id="namespace"),
        pytest.param("gatekeeper-py", "nginx:1", 0, id="installation"),
        pytest.param("gatekeeper-py", "ghcr.io/x:1", 1, id="other-source"),
    ],
)
def test_an_entry_in_the_document_of_the_installation_names_its_namespace(
    command: Command, write: Write, namespace: str, image: str, code: int
) -> None:
    arguments = ["-n", namespace, "--for", "12h", "--reason", "r"]
    assert command("except", image, *arguments, "--policy", write(POLICY)).code == code
    done = command("except", image, *arguments)
    (entry,) = document_in(done.out).entries
    assert entry.namespaces == (None if namespace == "team-a" else (namespace,))
    judged = ["explain", write(POLICY), image, "-n", namespace, "--exceptions", write(done.out, "new.yaml")]
    assert command(*judged).code == code


@pytest.mark.parametrize("namespace", ["team-a", "gatekeeper-py"])
def test_entries_alone_can_be_pasted_below_those_of_the_manifest(command: Command, namespace: str) -> None:
    arguments = ["-n", namespace, "--until", FAR, "--reason", "INC: 1", "--owner", "o"]
    manifest = command("except", "ghcr.io/x:1", *arguments).out
    done = command("except", "ghcr.io/y:2", "*.io/z", *arguments, "--entry")
    assert done.code == 0
    assert done.out.startswith("      - image: ghcr.io/y:2\n")
    pasted = document_in(manifest + done.out)
    assert [entry.pattern.text for entry in pasted.entries] == ["ghcr.io/x:1", "ghcr.io/y:2", "*.io/z"]
    assert {(entry.reason, entry.owner, entry.namespaces) for entry in pasted.entries} == {
        ("INC: 1", "o", None if namespace == "team-a" else (namespace,))
    }


def test_more_images_than_a_document_can_hold_are_refused(command: Command) -> None:
    images = [f"a.io/x{number}:1" for number in range(1001)]
    done = command("except", *images, "-n", "team-a", "--for", "1d", "--reason", "r")
    assert (done.code, done.out) == (2, "")
    assert "the exception cannot be written: " in done.err


def test_live_entries_before_it_count(command: Command, write: Write) -> None:
    policy = write(POLICY)
    arguments = ["-n", "team-a", "--for", "1d", "--reason", "r", "--policy", policy]
    images = ["ghcr.io/a:1", "ghcr.io/b:1", "ghcr.io/c:1", "ghcr.io/d/**"]
    done = command("except", *images, *arguments)
    refused = [line.partition(": ")[0] for line in done.err.splitlines() if "as many precede it" in line]
    assert (done.code, refused) == (1, images[2:])


PRINTABLE: Final = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=200)
QUOTES: Final = st.text("'\"\\:#-?[]{}&*!|>%@` \u00e9\U0001f600", min_size=1, max_size=30)


@settings(max_examples=budget(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(images, varied_images, any_text),
    st.one_of(PRINTABLE, QUOTES, any_text),
    st.none() | PRINTABLE | QUOTES,
    st.sampled_from(["true", "123", "1e5", "team-a", "gatekeeper-py"]),
)
def test_the_printed_manifest_has_the_values_of_the_options(
    command: Command, write: Write, image: str, reason: str, owner: str | None, namespace: str
) -> None:
    """The strict parser and ``check`` accept it, quoting included; other input prints nothing."""
    options = [f"--reason={reason}", *([] if owner is None else [f"--owner={owner}"])]
    done = command("except", "-n", namespace, "--until", FAR, *options, "--", image)
    assert done.code in {0, 2}
    assert bool(done.out) == (done.code == 0)
    if done.code == 0:
        entry = document_in(done.out).entries[0]
        lines = reason if "\n" not in reason else " ".join(filter(None, map(str.strip, reason.split("\n"))))
        assert (entry.reason, entry.owner, format_instant(entry.until)) == (lines, owner, FAR)
        assert command("check", "-n", namespace, write(done.out, "new.yaml")).code == 0
        anywhere = policy_text(
            f"exceptions: [{{source: installation, images: [{entry.pattern.text!r}], longest: 400d}},"
            f" {{source: namespace, images: [{entry.pattern.text!r}], longest: 400d}}]"
        )
        near = format_instant(entry.until - timedelta(days=1))
        judged = ["-n", namespace, "--at", near, "--exceptions", write(done.out, "new.yaml"), "--", image]
        if "*" not in image:
            assert command("explain", write(anywhere), *judged).code == 0
