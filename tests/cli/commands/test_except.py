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
from support.builders import policy_text
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
FAR: Final = "2999-01-01T00:00:00Z"


def document_in(text: str) -> ExceptionDocument:
    (obj,) = load_documents(text, Merges())
    return parse_exceptions(obj["data"]["exceptions.yaml"])


def end_in(text: str) -> datetime:
    return document_in(text).entries[-1].until


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
