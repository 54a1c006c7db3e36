"""The servers that the benchmarks compare with. These tests build none of them."""

from __future__ import annotations

import http.client
import json
import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.contestant import Contestant, Launch
from benchmarks.load.bench import WrongAnswer
from benchmarks.load.scenarios import SCENARIOS
from benchmarks.peers import corpus, roster
from benchmarks.peers.roster import HERE, Peer, contestants, missing
from gatekeeper_py.core import CompiledPolicy, parse_policy
from support.calling import validate
from tools.gobuild import BuildError

ROOT = Path(__file__).parents[2]
CASES = corpus.cases()
CASE = CASES[0]
LAUNCH = Launch(
    port=18443,
    health_port=18080,
    certificate=Path("/certificates/tls.crt"),
    key=Path("/keys/tls.key"),
    policy=Path("/policy.yaml"),
)


@pytest.fixture(scope="module")
def policy() -> CompiledPolicy:
    return parse_policy(corpus.policy_text()).at(datetime(2026, 3, 1, tzinfo=UTC))


def answer(**response: Any) -> bytes:
    """Return an answer that allows ``CASE``, with these fields changed; ``None`` leaves a field out."""
    fields = {"uid": CASE.uid, "allowed": True, **response}
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {key: value for key, value in fields.items() if value is not None},
    }
    return json.dumps(review).encode()


class TestCorpus:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_our_own_decision_is_the_expected_one(self, case: corpus.Case, policy: CompiledPolicy) -> None:
        assert validate(json.loads(case.body), policy).allowed is case.allowed

    def test_a_server_that_allows_everything_gives_a_wrong_answer_to_each_denied_case(self) -> None:
        def allow(body: bytes) -> tuple[int, bytes]:
            return 200, answer(uid=json.loads(body)["request"]["uid"])

        denied = [case.name for case in CASES if not case.allowed]
        assert corpus.problems(allow) == [f"{name}: allowed is True" for name in denied]

    def test_no_two_cases_share_a_uid(self) -> None:
        assert len({case.uid for case in CASES}) == len(CASES)

    def test_both_verdicts_are_well_represented(self) -> None:
        allowed = sum(case.allowed for case in CASES)
        assert min(allowed, len(CASES) - allowed) >= 20

    def test_escaped_text_holds_no_unescaped_host(self) -> None:
        escaped = [case for case in CASES if "escaped" in case.name]
        assert len(escaped) == 2
        assert not any(b"shop/web" in case.body for case in escaped)


@dataclass
class Server:
    """A running server that gives the same answer to every review."""

    contestant: Contestant
    allows: bool

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("localhost")

    def ask(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
        return 200, answer(uid=json.loads(body)["request"]["uid"], allowed=self.allows)


@pytest.mark.parametrize(("name", "wrong"), [("other", True), ("gatekeeper-py", False)])
def test_a_peer_with_wrong_answers_is_not_measured(name: str, *, wrong: bool) -> None:
    server = Server(Contestant(name=name, version="1", argv=lambda _: []), allows=True)
    check = SCENARIOS["S11"].check
    if wrong:
        with pytest.raises(WrongAnswer, match="other: a host that is not approved"):
            check(cast("Any", server))
    else:
        check(cast("Any", server))  # the tests of its core compare it with the corpus


class TestProblem:
    """Good and bad answers to ``CASE``, which must be allowed."""

    def test_a_good_answer_has_no_problem(self) -> None:
        assert corpus.problem(CASE, 200, answer()) is None

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            pytest.param(500, answer(), id="status"),
            pytest.param(200, b"allowed", id="no-json"),
            pytest.param(200, b"[]", id="no-object"),
            pytest.param(200, b'{"apiVersion":"admission.k8s.io/v1"}', id="no-response"),
            pytest.param(200, answer().replace(b"io/v1", b"io/v1beta1"), id="version"),
            pytest.param(200, answer(uid="another"), id="uid"),
            pytest.param(200, answer(allowed=False), id="other-verdict"),
            pytest.param(200, answer(allowed=1), id="allowed-is-no-boolean"),
            pytest.param(200, answer(patch="W10=", patchType="JSONPatch"), id="patch"),
        ],
    )
    def test_another_answer_has_a_problem(self, status: int, body: bytes) -> None:
        assert corpus.problem(CASE, status, body)

    @pytest.mark.parametrize(
        ("status", "good"),
        [
            pytest.param({"code": 403, "reason": "Forbidden", "message": "no"}, True, id="forbidden"),
            pytest.param({"code": 400, "reason": "Forbidden", "message": "no"}, False, id="code"),
            pytest.param({"code": 403, "reason": "Invalid", "message": "no"}, False, id="reason"),
            pytest.param({"code": 403, "reason": "Forbidden"}, False, id="no-message"),
            pytest.param(None, False, id="no-status"),
        ],
    )
    def test_a_denial_states_its_reason(self, status: Any, good: bool) -> None:  # noqa: FBT001
        denied = next(case for case in CASES if not case.allowed)
        body = answer(uid=denied.uid, allowed=False, status=status)
        assert (corpus.problem(denied, 200, body) is None) is good


class TestRoster:
    # A peer that is built with Go has the version of the compiler.
    @pytest.fixture(
        params=[
            pytest.param(peer, marks=[pytest.mark.go] if peer.go else [], id=peer.name)
            for peer in roster.PEERS
        ]
    )
    def peer(self, request: pytest.FixtureRequest) -> roster.Peer:
        peer: roster.Peer = request.param
        return peer

    def test_a_peer_gets_its_port_and_its_certificate_as_arguments(self, peer: roster.Peer) -> None:
        argv = peer.contestant(Path("/built")).argv(LAUNCH)
        assert argv[0].startswith("/built")
        assert sum("18443" in each for each in argv) == 1
        assert sum("/certificates/tls.crt" in each for each in argv) == 1
        assert sum("/keys/tls.key" in each for each in argv) == 1

    def test_every_file_that_a_peer_is_given_exists(self, peer: roster.Peer) -> None:
        argv = peer.contestant(Path("/built")).argv(LAUNCH)
        given = [each.partition("=")[2] or each for each in argv[1:]]
        ours = [Path(each) for each in given if each.startswith(str(HERE))]
        assert ours
        assert all(path.exists() for path in ours)

    def test_the_version_of_a_peer_is_exact(self, peer: roster.Peer) -> None:
        contestant: Contestant = peer.contestant(Path("/built"))
        assert re.search(r"\d+\.\d+\.\d+", contestant.version)
        assert contestant.path in {"/", "/validate-image"}

    def test_a_go_program_runs_on_one_core(self, peer: roster.Peer) -> None:
        contestant = peer.contestant(Path("/built"))
        assert (contestant.environment.get("GOMAXPROCS") == "1") is bool(peer.go)

    def test_names_are_unique(self) -> None:
        assert len({peer.name for peer in roster.PEERS}) == len(roster.PEERS) == 5


class TestPins:
    def test_every_requirement_is_exact(self) -> None:
        for line in roster.REQUIREMENTS.read_text(encoding="utf-8").splitlines():
            assert re.match(r"#|[a-z0-9-]+==\d[\d.]*$", line), line

    @pytest.mark.parametrize("package", ["orjson", "uvloop"])
    def test_peers_use_the_version_of_a_package_that_the_server_uses(self, package: str) -> None:
        lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
        ours = {each["name"]: each["version"] for each in lock["package"]}
        assert roster.pins()[package] == ours[package]

    def test_opa_gets_the_same_hosts_as_the_other_peers(self) -> None:
        data = json.loads((HERE / "opa" / "approved.json").read_text(encoding="utf-8"))
        hosts = roster.APPROVED.read_text(encoding="utf-8").split()
        assert data == {"approved": {"hosts": dict.fromkeys(hosts, True)}}


class _Here(Peer):
    """A peer that can be built."""

    def lacking(self) -> str | None:
        return None

    def build(self) -> Path:
        return Path("/built")


class _Absent(_Here):
    def lacking(self) -> str | None:
        return "there is no compiler"


class _Broken(_Here):
    def build(self) -> Path:
        raise BuildError("`go build …` ended with status 1")


class TestLeftOut:
    def test_a_peer_without_its_tool_is_named_with_the_reason(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        here = _Here(name="here", python="here", arguments=())
        absent = _Absent(name="absent", python="absent", arguments=())
        assert missing((here, absent)) == {"absent": "there is no compiler"}
        assert [each.name for each in contestants((here, absent))] == ["here"]
        assert capsys.readouterr().err == "absent is left out: there is no compiler\n"

    def test_a_build_that_fails_names_the_peer(self) -> None:
        broken = _Broken(name="broken", python="broken", arguments=())
        with pytest.raises(BuildError, match=r"^broken cannot be built: `go build …` ended with status 1"):
            contestants((broken,))
