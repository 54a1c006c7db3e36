"""A document is sent to another process unchanged, in small frames."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission.radius import Admitted, Radius, Ratio
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.live.parser.messages import (
    ITEMS_BYTES,
    MAX_JOB_BYTES,
    MAX_REPLY_BYTES,
    Accepted,
    Assembly,
    Complete,
    Failed,
    Items,
    Job,
    Linted,
    Refused,
    Reply,
    document_messages,
    encode,
    parse_job,
    parse_reply,
)
from gatekeeper_py.webhook.recent import LEAST_BYTES, MAX_BYTES, MAX_IMAGES
from support.builders import policy_text

FULL = policy_text(
    """
deny:
  - image: "*/**:latest"
    reason: it floats
    until: 2026-03-05
namespaces:
  - {names: [dev-*, "*"], mode: warn, until: "2026-04-01T00:00:00Z", reason: soon}
mirrors:
  - {from: docker.io, to: registry.corp.io/hub, except: [docker.io/library/secret, "docker.io/x/**"]}
resources:
  - {group: example.com, kind: Widget, images: ["spec.steps[*].image", "spec.sidecars{*}.image"]}
message: ask us
""",
    mode="mutate",
    allow="[registry.corp.io, {image: 'a.io/x:v*', namespaces: [shop], owner: me}, 'b.io@*', '[::1]:5000/x']",
)


def sent(reply: Reply) -> Reply:
    """Return the message as the receiving process decodes it."""
    return parse_reply(encode(reply))


def assembled(replies: list[Reply]) -> Assembly:
    first, *others, last = map(sent, replies)
    assert isinstance(first, Accepted)
    assert isinstance(last, Complete)
    assembly = Assembly(first)
    for reply in others:
        assert isinstance(reply, Items)
        assembly.add(reply)
    return assembly


def test_a_document_is_unchanged_after_decoding() -> None:
    document = parse_policy(FULL).document
    assert assembled(list(document_messages(document))).document() == document


@pytest.mark.parametrize("number", [1, 99, 5000])
def test_many_rules_are_sent_in_small_frames_in_order(number: int) -> None:
    rules = "".join(f"\n  - {{image: r{i}.corp.io/team/**, reason: because}}" for i in range(number))
    document = parse_policy(policy_text(allow=rules)).document
    replies = list(document_messages(document))
    assert max(len(encode(reply)) for reply in replies) < 2 * ITEMS_BYTES
    assert assembled(replies).document() == document


def test_one_large_entry_fits_into_a_frame() -> None:
    names = ", ".join(f"docker.io/{'x' * 200}{number:03}" for number in range(1000))
    text = policy_text(f"mirrors: [{{from: docker.io, to: registry.corp.io/hub, except: [{names}]}}]\n")
    document = parse_policy(text).document
    replies = list(document_messages(document))
    assert max(len(encode(reply)) for reply in replies) < MAX_REPLY_BYTES
    assert assembled(replies).document() == document


@pytest.mark.parametrize(
    "reply",
    [
        Refused((Finding(severity="error", code="x", path="allow[0]", line=3, column=5, message="é"),)),
        Failed("memory", ""),
        Failed("bug", "Traceback"),
        Complete(),
        Linted(()),
        Linted((), None, Radius(2, 20, ("a", "b"), Ratio(2, 12), complete=False)),
    ],
)
def test_every_other_reply_is_unchanged_after_decoding(reply: Reply) -> None:
    assert sent(reply) == reply


def test_every_kind_of_reply_has_its_own_tag() -> None:
    tags = {kind.__struct_config__.tag for kind in get_args(Reply)}
    assert len(tags) == len(get_args(Reply))


def test_a_job_is_unchanged_after_decoding() -> None:
    job = Job(
        text="é\ud800".encode("utf-8", "surrogatepass"),
        mode="warn",
        instant=datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC),
        send_document=True,
        memory_bytes=2**30,
        cpu_seconds=20,
        admitted=((Admitted(None, "a", 0), Admitted("shop", "b", 2)), ()),
    )
    assert parse_job(encode(job)) == job


def test_a_job_with_the_most_admitted_images_fits_into_a_frame() -> None:
    usual = Admitted("n" * 63, "x" * (LEAST_BYTES - 63), 2)
    job = Job(
        text=b"x" * MAX_CONFIGMAP_BYTES,
        mode="enforce",
        instant=datetime(2026, 3, 1, tzinfo=UTC),
        send_document=False,
        memory_bytes=2**30,
        cpu_seconds=20,
        admitted=((usual,) * MAX_IMAGES,),
    )
    assert len(encode(job)) < MAX_CONFIGMAP_BYTES + 2 * MAX_BYTES < MAX_JOB_BYTES


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode(["Linted", 3])])
def test_an_invalid_reply_is_an_error(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_reply(payload)
