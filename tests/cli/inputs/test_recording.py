"""``audit --merge``: the saved audits of several clusters as one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.cli.inputs.files import MAX_BYTES
from support.auditing import counts
from support.builders import policy_text
from support.commanding import Command, Write
from support.paging import lines, sections

USAGE: Final = {"kind": "Pod", "namespace": "shop", "name": "web", "path": "spec.containers[0].image"}

Saved = Callable[..., Path]


def image(name: str, verdict: str = "rejected", *, mode: str | None = "enforce") -> dict[str, Any]:
    return {
        "image": name,
        "canonical": f"docker.io/library/{name}",
        "verdict": verdict,
        "reason": "unlisted" if verdict == "rejected" else "allowed",
        "detail": "",
        "count": 1,
        "objects": [{**USAGE, "mode": mode}],
    }


def audit_of(
    cluster: str | None, *images: dict[str, Any], revision: str = "0123456789ab", **meta: str
) -> dict[str, Any]:
    return {
        "meta": {
            "time": "2026-03-01T12:00:00Z",
            "version": "0.0.9",
            "cluster": cluster,
            "policy": {"source": "policy.yaml", "revision": revision},
            **meta,
        },
        "counts": {"objects": 2, "images": len(images)},
        "images": list(images),
    }


@pytest.fixture
def saved(write: Write) -> Saved:
    def saved(name: str, *arguments: Any, **more: Any) -> Path:
        return write(json.dumps(audit_of(*arguments, **more)), name)

    return saved


def test_images_of_several_clusters_are_one_list(command: Command, saved: Saved) -> None:
    east = saved("east", "east", image("nginx"), image("web", "approved"))
    west = saved("west", "west", image("nginx", mode="warn"), image("redis", mode="warn"))
    done = command("audit", "--merge", east, west, "--format", "json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert found["counts"] == counts(objects=4, images=3, approved=1, rejected=2, warned=1)
    assert [(each["image"], each["count"]) for each in found["images"]] == [("nginx", 2), ("redis", 1)]
    assert found["images"][0]["objects"] == [
        {**USAGE, "mode": "enforce", "cluster": "east"},
        {**USAGE, "mode": "warn", "cluster": "west"},
    ]
    assert [each["cluster"] for each in found["meta"]["audits"]] == ["east", "west"]
    assert (found["meta"]["cluster"], found["meta"]["policy"]["revision"]) == (None, "0123456789ab")
    assert "warnings" not in found["meta"]


def test_a_clean_merge_is_exit_0(command: Command, saved: Saved) -> None:
    done = command("audit", "--merge", saved("a", "east", image("web", "approved")))
    assert (done.code, done.out.splitlines()[-1]) == (0, "2 objects, 1 image: 0 rejected, 1 approved")


def test_every_format_names_the_cluster_of_each_object(command: Command, saved: Saved) -> None:
    files = saved("east", "east", image("nginx")), saved("west", "west", image("nginx"))
    table = command("audit", "--merge", *files).out.splitlines()
    assert table[1].endswith("enforce      2  east: Pod shop/web, west: Pod shop/web")
    assert table[2].startswith(
        "cluster east, policy policy.yaml (revision 0123456789ab), 2026-03-01T12:00:00Z"
    )
    rows = list(csv.DictReader(io.StringIO(command("audit", "--merge", *files, "--format", "csv").out)))
    assert [(row["cluster"], row["time"], row["version"]) for row in rows] == [
        ("east", "2026-03-01T12:00:00Z", "0.0.9"),
        ("west", "2026-03-01T12:00:00Z", "0.0.9"),
    ]
    page = sections(command("audit", "--merge", *files, "--format", "html").out)
    assert "The policy would refuse 1 image in 2 places." in page["summary"]
    assert "east · Pod shop/web · spec.containers[0].image · enforce" in page["refused"]
    where = lines(page["where"])
    assert where[where.index("By cluster") + 3 :][:4] == ["east", "1", "west", "1"]
    assert {"east: shop", "west: shop"} <= set(where)


@pytest.mark.parametrize(
    ("second", "warning"),
    [
        pytest.param(
            {"cluster": "east", "revision": "0123456789ab"},
            "2 audits are about the cluster east, so its objects are counted 2 times",
            id="the-same-cluster-twice",
        ),
        pytest.param(
            {"cluster": "west", "revision": "ba9876543210"},
            "the audits have 2 different policy revisions",
            id="another-revision",
        ),
        pytest.param(
            {"cluster": "west", "revision": "0123456789ab", "namespace": "shop"},
            "the audit of the cluster west covers only the namespace shop",
            id="a-part-of-a-cluster",
        ),
    ],
)
def test_audits_that_should_not_be_added_up_are_reported_in_every_format(
    command: Command, saved: Saved, second: dict[str, str], warning: str
) -> None:
    more = {key: value for key, value in second.items() if key != "cluster"}
    files = (
        saved("a", "east", image("nginx")),
        saved("b", second["cluster"], image("nginx"), **more),
    )
    assert f"Warning: {warning}" in command("audit", "--merge", *files).out.splitlines()
    for style in ("json", "jsonl", "csv", "html"):
        done = command("audit", "--merge", *files, "--format", style)
        assert (done.code, done.err) == (1, f"Warning: {warning}\n")
        assert warning in done.out or style == "csv"
    rows = csv.DictReader(io.StringIO(command("audit", "--merge", *files, "--format", "csv").out))
    label = "east (2)" if second["cluster"] == "east" else "west"
    assert [(row["cluster"], row["revision"]) for row in rows] == [
        ("east", "0123456789ab"),
        (label, second["revision"]),
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({**audit_of("east"), "counts": {"images": 1}}, "it lists 0 of the 1 images", id="cut"),
        pytest.param(audit_of(None), "it does not name its cluster and policy; audit again", id="no-cluster"),
        pytest.param({"counts": {"images": 0}, "images": []}, "it does not name its cluster", id="no-meta"),
        pytest.param({**audit_of("east"), "meta": {"time": 1}}, "not a saved audit: ", id="bad-meta"),
        pytest.param(audit_of("east", {**image("a"), "verdict": "x"}), "not a saved audit: ", id="verdict"),
        pytest.param(audit_of("east", image("a", mode="off")), "not a saved audit: ", id="mode"),
        pytest.param([], "not a saved audit: ", id="list"),
    ],
)
def test_a_file_that_cannot_be_merged_is_one_line_and_exit_2(
    command: Command, write: Write, document: Any, message: str
) -> None:
    file = write(json.dumps(document), "a.json")
    done = command("audit", "--merge", file)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {file}: {message}")
    assert done.err.count("\n") == 1


def test_a_file_that_is_too_long_is_exit_2(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "long.json"
    with file.open("wb") as out:
        out.truncate(MAX_BYTES + 1)
    assert command("audit", "--merge", file).err == f"Error: {file}: longer than 64 MiB, the limit\n"


def test_a_merged_audit_can_be_the_images_in_use_of_a_diff(
    command: Command, saved: Saved, write: Write
) -> None:
    files = saved("east", "east", image("nginx")), saved("west", "west", image("nginx"))
    merged = write(command("audit", "--merge", *files, "--all", "--format", "json").out, "merged.json")
    policies = write(policy_text(), "old"), write(policy_text(allow="[docker.io/library/**]"), "new")
    done = command("diff", *policies, "--audit", merged)
    assert "approved  enforce      2  " in done.out
    assert "east: Pod shop/web, west: Pod shop/web" in done.out
