"""Denials, warnings and audit annotations (docs/interface.md, "HTTP")."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission import Verdict
from gatekeeper_py.core.admission.messages import (
    audit_list,
    denial_message,
    image_line,
    rewrite_warnings,
    rollout_warnings,
    undeclared_warning,
    warnings_for,
)
from gatekeeper_py.core.admission.slot import MappingKey, Slot
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import (
    HUB_TO_CORP,
    INSTANT,
    NAMESPACE,
    container,
    exceptions_text,
    pod,
    policy,
    policy_text,
    review,
    workload,
)
from support.calling import mutate, validate
from support.contract import Answer

NO_RULE = "matches no rule"
LONG_NAME = "a" * 200


def lines(obj: Any, more: str = "", **options: Any) -> list[str]:
    """Return the lines of the denial for creating an object."""
    return validate(review(obj), policy(more, **options)).message.split("\n")


def rejected(image: str, *, path: tuple[str | int, ...] = ("image",), detail: str = "no") -> Verdict:
    decision = Decision(image=image, approved=False, reason="unlisted", detail=detail)
    return Verdict(Slot(path, "image", image), decision)


def rewritten(image: str, to: str | None, *, path: str = "image", problem: str = "") -> Verdict:
    decision = Decision(image=image, approved=True, reason="allowed", detail="yes")
    return Verdict(Slot((path,), "image", image), decision, rewritten=to, problem=problem)


class TestDenial:
    """Every rejected image on its line, then the approved patterns and the policy's message."""

    def test_the_shape_of_the_whole_message(self) -> None:
        """The message equals the example of the interface page."""
        spec = {"containers": [container("nginx:1.25", "web")]}
        first, *rest = lines({**pod(), "spec": spec}, HUB_TO_CORP + "message: 'ask #platform'\n")
        assert first == (
            'container "web" (spec.containers[0].image): nginx:1.25 is not approved: '
            "docker.io/library/nginx matches no rule; use registry.corp.io/dockerhub/library/nginx:1.25"
        )
        assert rest == ["approved: registry.corp.io", "ask #platform"]

    @pytest.mark.parametrize(
        ("slot", "line"),
        [
            (
                Slot(("spec", 0), "init container", "a", "web"),
                'init container "web" (spec[0]): a is not approved: no',
            ),
            (Slot(("spec", MappingKey("b")), "image", "a"), "image (spec{b}): a is not approved: no"),
            (Slot((), "image", "a"), "image: a is not approved: no"),
            (Slot((), "image", None, problem="there is no Pod"), "image: not approved: there is no Pod"),
            (Slot(("spec",), "container", 7, problem="it is"), "container (spec): not approved: it is"),
        ],
    )
    def test_a_line_has_the_noun_the_name_and_the_path_of_the_image(self, slot: Slot, line: str) -> None:
        decision = Decision(image="a", approved=False, reason="unlisted", detail="no")
        assert image_line(Verdict(slot, decision)) == line

    @pytest.mark.parametrize(
        ("image", "why"),
        [
            pytest.param("quay.io/x:1", f"quay.io/x {NO_RULE}", id="unlisted"),
            pytest.param(
                "registry.corp.io/old/app:1",
                "registry.corp.io/old/app:1 is denied by deny[0] registry.corp.io/old/** (gone, owner me)",
                id="denied-with-its-reason-and-owner",
            ),
            pytest.param("a/B", "not an image reference: the repository must be in", id="invalid"),
            pytest.param("foo_bar.com/baz", "never approved: its first part is neither", id="never-approved"),
        ],
    )
    def test_the_line_states_the_reason(self, image: str, why: str) -> None:
        deny = "deny: [{image: registry.corp.io/old/**, reason: gone, owner: me}]\n"
        assert lines(pod(image), deny)[0].startswith(
            f'container "c0" (spec.containers[0].image): {image} is not approved: {why}'
        )

    def test_an_image_judged_on_its_mirror_is_listed_as_written(self) -> None:
        """This applies to objects other than Pods in mutate mode."""
        mirrors = "mirrors: [{from: quay.io, to: other.corp.io/quay}]\n"
        line = lines(workload("Deployment", "quay.io/x:1"), mirrors, mode="mutate")[0]
        assert line.endswith(f": quay.io/x:1 is not approved: on its mirror, other.corp.io/quay/x {NO_RULE}")

    def test_the_first_five_images_are_listed_and_the_rest_is_counted(self) -> None:
        assert lines(pod(*"abcdef"))[4:] == [
            f'container "c4" (spec.containers[4].image): e is not approved: docker.io/library/e {NO_RULE}',
            "and 1 more image not approved",
            "approved: registry.corp.io",
        ]
        assert lines(pod(*"abcdefg"))[5] == "and 2 more images not approved"
        assert not any(line.startswith("and ") for line in lines(pod(*"abcde")))

    @pytest.mark.parametrize(
        ("allow", "shown"),
        [
            pytest.param("[a.io, b.io]", "approved: a.io, b.io", id="all"),
            pytest.param(
                "[a.io, b.io, c.io, d.io, e.io]", "approved: a.io, b.io, c.io, d.io, e.io", id="five"
            ),
            pytest.param(
                "[a.io, b.io, c.io, d.io, e.io, f.io]",
                "approved: a.io, b.io, c.io, d.io, e.io, ...",
                id="the-first-five-of-six",
            ),
            pytest.param(
                "[a.io, b.io, c.io, d.io, e.io, f.io, g.io]",
                "approved: a.io, b.io, c.io, d.io, e.io, ...",
                id="the-first-five-of-seven",
            ),
            pytest.param("[{image: a.io, namespaces: [sh*]}, b.io]", "approved: a.io, b.io", id="here"),
            pytest.param(
                "[{image: a.io, namespaces: [bank]}, {image: b.io, until: 2020-01-01}, 'c.io/**:v*']",
                "approved: c.io/**:v*",
                id="not-elsewhere-nor-expired",
            ),
        ],
    )
    def test_the_approved_patterns_of_the_namespace_follow(self, allow: str, shown: str) -> None:
        assert lines(pod("x"), allow=allow)[-1] == shown

    def test_no_approved_pattern_makes_no_line(self) -> None:
        assert len(lines(pod("x"), allow="[{image: a.io, namespaces: [bank]}]")) == 1

    @pytest.mark.parametrize(
        ("name", "image", "shown"),
        [
            pytest.param("a\nb", "x", r'container "a\nb" (spec', id="newline-in-a-name"),
            pytest.param("n", "x\ny: 1", r"x\ny: 1 is not", id="newline-in-an-image"),
            pytest.param("n", "x\r\x1b[2K", r"x\r\x1b[2K is not", id="terminal-sequences"),
            pytest.param("n", "ünï/\u2028\u202e", r"\xfcn\xef/\u2028\u202e is not", id="beyond-ascii"),
            pytest.param("n", "\U0001f433", r"\U0001f433 is not", id="astral"),
            pytest.param("n", "x" * 201, "x" * 197 + "... is not", id="image-cut-at-200"),
            pytest.param("n" * 64, "x", f'"{"n" * 60}..." (', id="name-cut-at-63"),
        ],
    )
    def test_one_image_stays_one_line(self, name: str, image: str, shown: str) -> None:
        spec = {"containers": [container(image, name)]}
        found = lines({**pod(), "spec": spec})
        assert len(found) == 2
        assert shown in found[0]

    def test_patterns_go_first_then_lines_but_count_and_message_stay(self) -> None:
        """The whole message has at most 1 KiB."""
        more, allow = f"message: {'m' * 200}\n", f"[registry.corp.io/{'p' * 100}]"
        images = [f"quay.io/{LONG_NAME}{i}" for i in range(7)]
        assert lines(pod(images[0]), more, allow=allow)[1:] == [
            f"approved: registry.corp.io/{'p' * 100}",
            "m" * 200,
        ]
        for count in (2, 7):
            *shown, counted, message = lines(pod(*images[:count]), more, allow=allow)
            hidden = count - len(shown)
            assert 0 < hidden < count
            assert all(line.endswith(NO_RULE) for line in shown)
            assert counted == f"and {hidden} more image{'s' if hidden > 1 else ''} not approved"
            assert message == "m" * 200

    def test_patterns_go_before_any_line_does(self) -> None:
        """Two lines fit with the message, but not with the patterns."""
        images = [f"quay.io/{'a' * 100}{i}" for i in range(2)]
        allow = f"[{', '.join(f'registry.corp.io/{n * 180}' for n in 'pqrst')}]"
        found = lines(pod(*images), "message: ask\n", allow=allow)
        assert [line.endswith(NO_RULE) for line in found] == [True, True, False]
        assert found[-1] == "ask"

    @pytest.mark.parametrize("message", ["", "m", "m" * 200, "é" * 200, "\U0001f433" * 200])
    @pytest.mark.parametrize("count", [1, 2, 10_000])
    def test_one_line_that_is_too_long_is_cut_to_the_byte(self, count: int, message: str) -> None:
        """The count and the message stay, and the message has the maximum length."""
        images = [rejected("x", detail="d" * 4000) for _ in range(count)]
        text = denial_message(images, policy().allow, None, message)
        assert len(text.encode()) == 1024
        first, *rest = text.split("\n")
        assert first.startswith("image (image): x is not approved: ddd")
        assert first.endswith("d...")
        counted = f"and {count - 1} more image{'s' if count > 2 else ''} not approved"
        assert rest == [part for part in (counted if count > 1 else "", message) if part]

    def test_the_longest_name_that_parses_is_cut(self) -> None:
        host = ".".join(["h" * 60] * 60)
        assert len(lines(pod(f"{host}/a", "b"), "message: ask\n")) == 3

    @pytest.mark.bulk
    def test_only_the_first_thousand_rules_are_looked_at(self) -> None:
        """A denial stays cheap even if the policy has very many rules for other namespaces."""
        rules = [f"{{image: r{i}.io, namespaces: [other]}}" for i in range(1000)]
        assert len(lines(pod("x"), allow=f"[{', '.join(rules)}, last.io]")) == 1
        assert lines(pod("x"), allow=f"[{', '.join(rules[1:])}, last.io]")[-1] == "approved: last.io"

    def test_only_the_first_thousand_names_of_namespaces_are_looked_at(self) -> None:
        names = ", ".join(f"n{number}" for number in range(500))
        rules = [f"{{image: r{number}.io, namespaces: [{names}]}}" for number in range(2)]
        more = "{image: more.io, namespaces: [shop]}"
        assert lines(pod("x"), allow=f"[{', '.join(rules)}, last.io]")[-1] == "approved: last.io"
        assert len(lines(pod("x"), allow=f"[{', '.join(rules)}, {more}, last.io]")) == 1


class TestExceptions:
    """A denial names a missed exception and how to ask for one; an admitted image shows until when."""

    GRANT = "exceptions: [{source: namespace, images: [ghcr.io/**, m.io/**], longest: 14d}]\n"
    SHORT = "exceptions: [{source: namespace, images: [ghcr.io/**], longest: 12h}]\n"

    def judged(self, obj: Any, more: str = GRANT, *entries: str, **options: Any) -> Answer:
        documents = {DocumentKey("namespace", NAMESPACE): parse_exceptions(exceptions_text(*entries))}
        compiled = parse_policy(policy_text(more, **options)).at(INSTANT, Exceptions(documents))
        return validate(review(obj), compiled)

    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            (
                "until: 2026-03-01T10:00:30Z, reason: 'INC-1: café', owner: team-a",
                "an exception for it ended 2026-03-01T10:00Z (team-a: INC-1: caf\\xe9)",
            ),
            (
                "until: 2026-03-20, reason: hotfix",
                "an exception for it begins 2026-03-06T00:00Z (shop: hotfix)",
            ),
        ],
    )
    def test_a_missed_exception_has_one_more_line(self, entry: str, line: str) -> None:
        found = self.judged(pod("ghcr.io/x:1"), self.GRANT, f"image: ghcr.io/x, {entry}").message
        assert found.split("\n") == [
            (
                'container "c0" (spec.containers[0].image): ghcr.io/x:1 is not approved:'
                " ghcr.io/x matches no rule"
            ),
            line,
            "approved: registry.corp.io",
            (
                "ask for an exception: gatekeeper-py except ghcr.io/x:1 -n shop --for 7d"
                " --reason \N{HORIZONTAL ELLIPSIS}"
            ),
        ]

    @pytest.mark.parametrize(
        ("image", "more", "asking"),
        [
            ("ghcr.io/x", GRANT, "ghcr.io/x -n shop --for 7d"),
            ("ghcr.io/x", SHORT, "ghcr.io/x -n shop --for 12h"),
            # The image that Pods will have in mutate mode needs the exception.
            ("quay.io/x", GRANT + "mirrors: [{from: quay.io, to: m.io/q}]\n", "m.io/q/x -n shop --for 7d"),
            ("quay.io/x", GRANT, ""),
            ("ghcr.io/x", GRANT + "deny: [ghcr.io]\n", ""),
            (f"ghcr.io/{LONG_NAME}", GRANT, ""),
        ],
    )
    def test_the_command_that_asks_is_shown_once_where_a_grant_covers_an_image(
        self, image: str, more: str, asking: str
    ) -> None:
        response = self.judged(workload("Deployment", image, image), more, mode="mutate")
        found = [line for line in response.message.split("\n") if line.startswith("ask for")]
        assert len(found) == bool(asking)
        assert all(f"gatekeeper-py except {asking} " in line for line in found)

    def test_a_long_denial_drops_the_command_before_the_patterns(self) -> None:
        images = [f"ghcr.io/{'a' * 170}{i}" for i in range(2)]
        found = self.judged(pod(*images), self.GRANT, allow="[registry.corp.io]").message.split("\n")
        assert found[-1] == "approved: registry.corp.io"
        assert len(found) == 3

    def test_an_admitted_image_has_a_warning_and_an_audit_annotation(self) -> None:
        entry = "image: ghcr.io/x, until: 2026-03-05T18:00:00Z, reason: r"
        response = self.judged(pod("ghcr.io/x:1", "registry.corp.io/a"), self.GRANT, entry)
        assert response.allowed
        assert response.warnings == (
            "spec.containers[0].image: ghcr.io/x:1 is approved until 2026-03-05T18:00Z by an exception",
        )
        assert response.audit["exceptions"] == "ghcr.io/x:1 (namespace shop exceptions[0])"

    @pytest.mark.parametrize("zeros", [0, 500, 3000])
    def test_no_image_is_so_long_that_the_audit_annotation_does_not_name_it(self, zeros: int) -> None:
        entry = "image: ghcr.io/x, until: 2026-03-05T18:00:00Z, reason: r"
        host = f"ghcr.io:{'0' * zeros}443" if zeros else "ghcr.io"
        annotation = self.judged(pod(f"{host}/x:1"), self.GRANT, entry).audit["exceptions"]
        assert annotation.startswith("ghcr.io")
        assert annotation.endswith("/x:1 (namespace shop exceptions[0])")

    def test_warnings_about_rejected_images_go_before_those_about_exceptions(self) -> None:
        entry = "image: ghcr.io/**, until: 2026-03-05T18:00:00Z, reason: r"
        excepted = [f"ghcr.io/x{i}" for i in range(5)]
        for rejected, shown in ((0, 5), (6, 4), (9, 1), (12, 0)):
            others = [f"quay.io/x{i}" for i in range(rejected)]
            response = self.judged(pod(*excepted, *others), self.GRANT, entry, mode="warn")
            found = [warning for warning in response.warnings if "exception" in warning]
            assert len(found) == shown
            assert len(response.warnings) <= 10
        assert response.audit["exceptions"].count("ghcr.io/") == 5

    def test_an_admitted_image_has_a_warning_beside_a_rejected_one_in_warn_mode(self) -> None:
        entry = "image: ghcr.io/x, until: 2026-03-05T18:00:00Z, reason: r"
        response = self.judged(pod("ghcr.io/x:1", "quay.io/a"), self.GRANT, entry, mode="warn")
        assert [warning.rpartition(" ")[0] for warning in response.warnings] == [
            "spec.containers[1].image: quay.io/a is not",
            "spec.containers[0].image: ghcr.io/x:1 is approved until 2026-03-05T18:00Z by an",
        ]


class TestWarnings:
    """There is one warning per rejected image, at most 10, each of at most 120 printable ASCII characters."""

    @pytest.mark.parametrize(
        ("image", "warning"),
        [
            pytest.param("nginx", "spec.containers[0].image: nginx is not approved", id="unlisted"),
            pytest.param("quay.io/bad", "spec.containers[0].image: quay.io/bad is denied", id="denied"),
            pytest.param("a/B", "spec.containers[0].image: a/B is invalid", id="invalid"),
            pytest.param("a\nb", r"spec.containers[0].image: a\nb is invalid", id="escaped"),
            pytest.param("", "spec.containers[0].image: the image is empty", id="empty"),
            pytest.param(7, "spec.containers[0].image: the image is a number, not text", id="type"),
            pytest.param("x" * 300, f"spec.containers[0].image: {'x' * 80}... is invalid", id="long-image"),
        ],
    )
    def test_a_warning_names_path_image_and_why(self, image: Any, warning: str) -> None:
        """Warnings have no prefix, because kubectl writes its own."""
        found = validate(review(pod(image)), policy("deny: [quay.io/bad]\n", mode="warn")).warnings
        assert found == (warning,)

    @pytest.mark.parametrize(
        ("count", "last"),
        [
            pytest.param(1, "spec.containers[0].image: x is not approved", id="one"),
            pytest.param(10, "spec.containers[9].image: x is not approved", id="ten"),
            pytest.param(11, "2 more images are not approved", id="eleven"),
            pytest.param(1000, "991 more images are not approved", id="a-thousand"),
        ],
    )
    def test_the_tenth_warning_counts_the_rest(self, count: int, last: str) -> None:
        found = validate(review(pod(*["x"] * count)), policy(mode="warn")).warnings
        assert len(found) == min(count, 10)
        assert found[-1] == last

    @given(
        path=st.integers(1, 140), image=st.integers(1, 300), reason=st.sampled_from(["unlisted", "denied"])
    )
    def test_the_path_stays_whole_and_the_image_is_cut(self, path: int, image: int, reason: Any) -> None:
        """The warning has at most 120 characters for any lengths."""
        decision = Decision(image="i" * image, approved=False, reason=reason, detail="")
        verdict = Verdict(Slot(("p" * path,), "image", "i" * image), decision)
        (warning,) = warnings_for([verdict])
        assert len(warning) <= 120
        assert warning.startswith(("p" * path)[:120])
        words = " is denied" if reason == "denied" else " is not approved"
        if path + 2 + image + len(words) <= 120:
            assert warning == f"{'p' * path}: {'i' * image}{words}"
        elif path + 2 + 24 + len(words) <= 120:
            assert warning.endswith(f"...{words}")
            assert len(warning) == 120

    @given(path=st.integers(1, 140), image=st.integers(1, 300))
    def test_a_warning_about_new_pods_keeps_path_and_text_whole(self, path: int, image: int) -> None:
        """Only the image is cut, unless the path alone leaves no room for the text."""
        (warning,) = rollout_warnings([rejected("i" * image, path=("p" * path,))])
        words = " is not approved; new Pods will be refused"
        assert len(warning) <= 120
        assert warning.startswith(("p" * path)[:120])
        if path + 2 + image + len(words) <= 120:
            assert warning == f"{'p' * path}: {'i' * image}{words}"
        elif path + 2 + len(words) <= 120:
            assert warning.endswith(words)
            assert len(warning) == 120

    @pytest.mark.parametrize(
        ("verdict", "warning"),
        [
            pytest.param(rewritten("a", "r.io/a"), "image: a was rewritten to r.io/a", id="rewritten"),
            pytest.param(
                rewritten("a", None, problem="too long"), "image: a is left as written: too long", id="stays"
            ),
            pytest.param(
                rewritten("i" * 200, "r.io/" + "n" * 60),
                f"image: {'i' * 27}... was rewritten to r.io/{'n' * 60}",
                id="image-is-cut",
            ),
            pytest.param(
                rewritten("i" * 200, "r.io/" + "n" * 240),
                f"image: {'i' * 21}... was rewritten to r.io/{'n' * 63}...",
                id="both-are-cut",
            ),
        ],
    )
    def test_a_rewrite_causes_a_warning(self, verdict: Verdict, warning: str) -> None:
        assert rewrite_warnings([verdict]) == (warning,)
        assert len(warning) <= 120

    def test_many_rewrites_are_counted(self) -> None:
        planned = [rewritten("a", "r.io/a")] * 6 + [rewritten("b", None, problem="too long")] * 6
        found = rewrite_warnings(planned)
        assert len(found) == 10
        assert found[-1] == "3 more images were rewritten or left as written"

    @pytest.mark.parametrize(
        ("kind", "warning"),
        [
            pytest.param(
                "Widget.example.com",
                "Widget.example.com: no image found; declare any under resources in the policy",
                id="kind-and-group",
            ),
            pytest.param(
                "K" * 62,
                f"{'K' * 58}...: no image found; declare any under resources in the policy",
                id="long",
            ),
            pytest.param(
                "é\n", r"\xe9\n: no image found; declare any under resources in the policy", id="escaped"
            ),
        ],
    )
    def test_the_warning_for_an_undeclared_kind_shows_how_to_declare_it(
        self, kind: str, warning: str
    ) -> None:
        assert undeclared_warning(kind) == warning
        assert len(warning) <= 120


class TestAudit:
    """Audit annotations are one line of at most 1 KiB."""

    def test_rejected_images_are_listed_as_written(self) -> None:
        obj = pod("nginx", "registry.corp.io/a", "a\nb", initContainers=[container("busybox")])
        for mode in ("enforce", "warn"):
            audit = validate(review(obj), policy(mode=mode)).audit
            assert audit["rejected"] == r"nginx, a\nb, busybox"
            assert audit["mode"] == mode
            assert audit["policy"] == policy(mode=mode).revision

    @pytest.mark.parametrize(
        ("spec", "shown"),
        [
            pytest.param(
                {"containers": [container("")]}, "spec.containers[0].image (the image is empty)", id="empty"
            ),
            pytest.param({"containers": "nginx"}, "spec.containers (it is text, not a list)", id="text"),
            pytest.param(
                {"containers": [7]}, "spec.containers[0] (it is a number, not a mapping)", id="number"
            ),
        ],
    )
    def test_a_value_that_is_not_an_image_is_named_by_its_path(self, spec: Any, shown: str) -> None:
        assert validate(review({**pod(), "spec": spec}), policy()).audit["rejected"] == shown

    def test_no_annotation_lists_rejected_images_when_there_are_none(self) -> None:
        assert validate(review(pod("registry.corp.io/a")), policy()).audit.keys() == {"mode", "policy"}

    def test_rewritten_images_are_listed_with_their_new_names(self) -> None:
        answer = mutate(review(pod("nginx", "quay.io/x")), policy(HUB_TO_CORP, mode="mutate"))
        assert answer.audit["rewritten"] == "nginx -> registry.corp.io/dockerhub/library/nginx"

    @pytest.mark.parametrize("length", [1, 10, 100, 495, 496, 497, 600, 5000])
    @pytest.mark.parametrize("count", [1, 2, 3, 50, 10_000])
    def test_images_that_do_not_fit_are_counted(self, count: int, length: int) -> None:
        text = audit_list([rejected("x" * length)] * count, lambda verdict: str(verdict.slot.value))
        assert len(text) <= 1024
        items, _, left = text.removesuffix(" more").partition(" and ")
        assert len(items.split(", ")) + int(left or 0) == count

    def test_lines_that_do_not_fit_are_not_formatted(self) -> None:
        """Formatting thousands of paths with a key of megabytes would take minutes."""
        described = []

        def describe(verdict: Verdict) -> str:
            described.append(verdict)
            return "x" * 600

        audit_list([rejected("x")] * 1000, describe)
        assert len(described) == 2
