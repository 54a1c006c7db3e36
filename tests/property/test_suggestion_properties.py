"""Laws of suggested policies: they approve what runs, need every rule, and do not depend on order."""

from __future__ import annotations

from typing import Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper_py.cli.commands.suggestion import extended, new_policy
from gatekeeper_py.cli.inventory.suggestion import NOTHING, By, Suggestion
from gatekeeper_py.core import CompiledPolicy, PolicyError, parse_policy
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.policy.lint.platforms import every_account, open_registry
from gatekeeper_py.core.policy.policy import Policy
from property.policy_pairs import NOW
from property.strategies import any_text, documents, images, namespaces, text_of, varied_images
from support.budget import budget
from support.builders import pod, policy_text, review

examples: Final = settings(max_examples=budget(60))
running = st.lists(
    st.tuples(st.one_of(images, images, varied_images, any_text), namespaces), min_size=1, max_size=15
)
widths = st.sampled_from(["registry", "path", "repository"])
Running = list[tuple[str, str | None]]


def suggestion(base: Policy, by: By, used_images: Running) -> Suggestion:
    found = Suggestion(base.at(NOW), by)
    for image, namespace in used_images:
        found.take(parse(review(pod(image), namespace=namespace)))
    return found


def approved(policy: CompiledPolicy, used_images: Running) -> list[bool]:
    return [policy.decide(namespace, image).approved for image, namespace in used_images]


def without(policy: Policy, index: int) -> CompiledPolicy | None:
    lines = policy.text.split("\n")
    rules = [number for number, line in enumerate(lines) if line.startswith("  - ")]
    del lines[rules[index]]
    return parse_policy("\n".join(lines)).at(NOW) if len(rules) > 1 else None


@examples
@given(running, widths)
def test_a_new_policy_approves_what_runs_and_needs_every_rule(used_images: Running, by: By) -> None:
    found = suggestion(NOTHING, by, used_images)
    assume(found.rules)
    policy = parse_policy(new_policy(found, by))
    left_out = NOTHING.at(NOW)
    answers = approved(policy.at(NOW), used_images)
    for (image, namespace), answer in zip(used_images, answers, strict=True):
        decision = left_out.decide(namespace, image)
        assert answer == (decision.reason != "invalid") or "no pattern can name it" in {
            each.why for each in found.left_out
        }
    for index in range(len(policy.allow)):
        narrower = without(policy, index)
        if narrower is not None:
            assert approved(narrower, used_images) != answers
    for rule in policy.allow:
        assert open_registry(rule.pattern.host) is None or not every_account(rule.pattern)


@examples
@given(running, widths, st.randoms(use_true_random=False))
def test_the_order_of_what_runs_does_not_matter(used_images: Running, by: By, random: object) -> None:
    shuffled = list(used_images)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = suggestion(NOTHING, by, used_images), suggestion(NOTHING, by, shuffled)
    assert new_policy(one, by) == new_policy(other, by)
    half = suggestion(NOTHING, by, used_images[: len(used_images) // 2])
    half.merge(suggestion(NOTHING, by, used_images[len(used_images) // 2 :]))
    assert new_policy(half, by) == new_policy(one, by)


@examples
@given(documents, running, widths)
def test_a_base_is_kept_and_approves_what_runs_unless_it_is_denied(
    document: dict[str, object], used_images: Running, by: By
) -> None:
    try:
        base = parse_policy(text_of({**document, "mode": "enforce"}))
    except PolicyError:
        assume(False)
        raise
    found = suggestion(base, by, used_images)
    policy = parse_policy(extended(base, found))
    assert policy.allow[: len(base.allow)] == base.allow
    assert policy.deny == base.deny
    for image, namespace in used_images:
        before, after = (each.at(NOW).decide(namespace, image) for each in (base, policy))
        if before.reason in {"denied", "invalid"}:
            assert (after.approved, after.reason) == (False, before.reason)
        else:
            assert after.approved or "no pattern can name it" in {each.why for each in found.left_out}
    assert not suggestion(policy, by, used_images).rules
    assert extended(policy, suggestion(policy, by, [])) == policy.text


def test_the_policy_of_an_example_is_short() -> None:
    used_images: Running = [
        ("nginx:1", "a"),
        ("ghcr.io/x/y/z", "a"),
        ("r.corp.io/a/b:1", "b"),
        ("r.corp.io/c", "b"),
    ]
    policy = parse_policy(new_policy(suggestion(NOTHING, "registry", used_images), "registry"))
    assert [rule.pattern.text for rule in policy.allow] == [
        "docker.io/library/**",
        "ghcr.io/x/**",
        "r.corp.io",
    ]
    assert parse_policy(policy_text())
