"""``test``: policy tests, their expectations, and the reasons for failures."""

from __future__ import annotations

import json
from typing import Final

import jsonschema
import pytest

from gatekeeper_py.cli.inputs.testfile import read_tests
from support.commanding import Command, Write
from support.findings import check_findings
from support.golden import golden

HEAD: Final = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicyTest"}


@pytest.mark.parametrize("name", golden("findings/test"))
def test_the_problems_of_a_file_are_as_recorded(
    command: Command,
    write: Write,
    name: str,
    update_golden: bool,  # noqa: FBT001
) -> None:
    file = write(golden("findings/test")[name]["text"], "tests.yaml")
    check_findings("test", name, read_tests(str(file)).errors, update=update_golden)
    done = command("test", file)
    assert (done.code, done.out) == (2, "")
    assert f"{file}:" in done.err


def test_the_schema_accepts_what_the_command_accepts(command: Command) -> None:
    schema = json.loads(command("schema", "--for", "test").out)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    head = HEAD | {"policy": "policy.yaml", "exceptions": ["exceptions.yaml"]}
    good = [
        {"image": "a", "expect": "rejected", "reason": "invalid", "rewritten": None, "mode": "warn"},
        {"manifest": "b", "expect": "warned", "images": ["x"], "namespace": "shop", "at": "2026-01-01"},
    ]
    assert valid({**head, "cases": good})
    for bad in (
        {"image": "a", "expect": "admitted"},
        {"expect": "rejected"},
        {"image": "a", "manifest": "b"},
    ):
        assert not valid({**head, "cases": [bad]})
