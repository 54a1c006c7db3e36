"""Properties of proposals: a proposed pattern is accepted, and not wider than the intended one.

The tests put a mistake into a good pattern, so the intended pattern is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import PolicyError, parse_policy
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import InvalidPattern, parse_pattern, parse_prefix
from property.strategies import any_text, images, patterns
from support.budget import budget
from support.builders import policy_text

QUICK: Final = settings(max_examples=budget(200))


def without_hub_host(pattern: str) -> str:
    """Remove Docker Hub's host where a repository follows; a tag alone would mean any registry."""
    shorter = pattern.removeprefix("docker.io/").removeprefix("library/")
    return pattern if shorter.startswith(":") else shorter


def without_host(pattern: str) -> str:
    return pattern.removeprefix("*/**")


def with_a_scheme(pattern: str) -> str:
    return f"https://{pattern}"


def with_spaces(pattern: str) -> str:
    return f" {pattern}\n"


def in_upper_case(pattern: str) -> str:
    name, at, digest = pattern.partition("@")
    return name.upper() + at + digest


def tag_after_a_slash(pattern: str) -> str:
    return pattern.replace("/**:", "/:")


def tag_after_the_host(pattern: str) -> str:
    return pattern.replace("/**:", ":")


MISTAKES: Final[list[Callable[[str], str]]] = [
    without_hub_host,
    without_host,
    with_a_scheme,
    with_spaces,
    in_upper_case,
    tag_after_a_slash,
    tag_after_the_host,
]

TAGGED: Final = st.builds(
    "{}/{}**:{}{}".format,
    st.sampled_from(["*", "a.io", "a.io:5000", "*.corp.io", "docker.io", "docker.io/library"]),
    st.sampled_from(["", "x/", "team-*/"]),
    st.sampled_from(["latest", "v1", "v*", "1.25"]),
    st.sampled_from(["", "@*"]),
)
MEANT: Final = (
    patterns | TAGGED | st.sampled_from(["docker.io/nginx", "docker.io/library/nginx", "docker.io/a/b"])
)


def proposal_for(parse: Callable[[str], Any], text: str) -> str:
    """Return the proposal for a text; empty if it is accepted."""
    try:
        parse(text)
    except InvalidPattern as problem:
        return problem.proposal
    return ""


def matches(pattern: str, image: str) -> bool:
    return parse_pattern(pattern).matches(parse_image(image))


@QUICK
@given(any_text | patterns | st.text("aA*./:@- 1", max_size=20))
def test_every_proposal_parses(text: str) -> None:
    for parse in (parse_pattern, parse_prefix):
        proposal = proposal_for(parse, text)
        if proposal:
            parse(proposal)
            assert proposal != text


@settings(max_examples=budget(400))
@given(MEANT, st.lists(st.sampled_from(MISTAKES), min_size=1, max_size=3), st.lists(images, max_size=20))
def test_a_proposal_is_not_wider_than_the_intended_pattern(
    meant: str, mistakes: list[Callable[[str], str]], some_images: list[str]
) -> None:
    text = meant
    for mistake in mistakes:
        text = mistake(text)
    proposal = proposal_for(parse_pattern, text)
    assume(proposal)
    for image in some_images:
        assert matches(meant, image) or not matches(proposal, image), f"{text} -> {proposal}"


PLACES: Final = {
    "allow[0]": lambda text: policy_text(allow=f"[{text}]"),
    "allow[0].image": lambda text: policy_text(allow=f"[{{image: {text}}}]"),
    "deny[0]": lambda text: policy_text(f"deny: [{text}]"),
    "mirrors[0].from": lambda text: policy_text(f"mirrors: [{{from: {text}, to: z.example}}]"),
    "mirrors[0].to": lambda text: policy_text(f"mirrors: [{{from: z.example, to: {text}}}]"),
    "mirrors[0].except[0]": lambda text: policy_text(
        f"mirrors: [{{from: y.example, to: z.example, except: [{text}]}}]"
    ),
}


@settings(max_examples=budget(200))
@given(
    MEANT | st.text("aA*./:@-1", min_size=1, max_size=16),
    st.sampled_from(MISTAKES),
    st.sampled_from(sorted(PLACES)),
)
def test_a_document_that_follows_a_proposal_is_accepted(
    meant: str, mistake: Callable[[str], str], place: str
) -> None:
    def refusals(text: str) -> dict[str, str]:
        try:
            parse_policy(PLACES[place]("'" + text.replace("\n", "") + "'"))
        except PolicyError as problem:
            return {finding.path: finding.proposal for finding in problem.findings}
        return {}

    proposal = refusals(mistake(meant)).get(place)
    assume(proposal)
    assert proposal is not None
    if not proposal.startswith(("send it to", "merge")):
        assert place not in refusals(proposal)
