"""FactCache are bounded in number and in time."""

from __future__ import annotations

from gatekeeper_py.core.images.manifest import MISSING, SIGNATURE, Answer, Kind, Manifest, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.facts import FactCache, ValidSignatures

SETTINGS = Registry(host="a.io")
FOUND = found("sha256:" + "a" * 64)


def image(number: int) -> Manifest:
    return Manifest("a.io", f"app-{number}", "v1")


def test_the_fact_that_was_unused_for_longest_is_dropped_first() -> None:
    facts = FactCache(size=2)
    facts.store(image(1), FOUND, SETTINGS, 0)
    facts.store(image(2), FOUND, SETTINGS, 0)
    facts.get(image(1), 0)
    facts.store(image(3), FOUND, SETTINGS, 0)
    assert len(facts) == 2
    assert facts.get(image(2), 0) is None
    assert facts.get(image(1), 0) is not None


def test_lifetimes_come_from_the_registry_settings() -> None:
    facts = FactCache()
    settings = Registry(host="a.io", ttl_found=5, ttl_missing=2)
    fact = facts.store(image(1), FOUND, settings, 100)
    assert (fact.fresh_until, fact.usable_until) == (105, 705)
    fact = facts.store(image(2), MISSING, settings, 100)
    assert (fact.fresh_until, fact.usable_until) == (102, 102)


def test_an_expired_fact_is_dropped() -> None:
    facts = FactCache()
    facts.store(image(1), FOUND, SETTINGS, 0)
    assert facts.get(image(1), 659) is not None
    assert facts.get(image(1), 660) is None
    assert len(facts) == 0


def test_renewal_does_not_count_as_use() -> None:
    facts = FactCache()
    facts.store(image(1), FOUND, SETTINGS, 0)
    facts.get(image(1), 10)
    facts.store(image(1), FOUND, SETTINGS, 50)
    assert facts.used_since(image(1), 10)
    assert not facts.used_since(image(1), 11)
    assert not facts.used_since(image(2), 0)


def test_a_fact_answers_the_hot_path_while_it_is_fresh_and_its_use_is_recorded() -> None:
    facts = FactCache()
    facts.store(image(1), FOUND, SETTINGS, 0)
    facts.store(image(2), MISSING, SETTINGS, 0)
    fact = facts.find(image(1))
    assert fact is not None
    assert fact.found_until < 0, "not used yet"
    facts.get(image(1), 10)
    assert fact.found_until == 11
    facts.get(image(1), 59.5)
    assert fact.found_until == 60 == fact.fresh_until
    facts.get(image(1), 100)
    assert fact.found_until == 60
    missing = facts.get(image(2), 1)
    assert missing is not None
    assert missing.found_until < 0


def test_peeking_sees_fresh_facts_only() -> None:
    facts = FactCache()
    facts.store(image(1), FOUND, SETTINGS, 0)
    assert facts.peek(image(1), 59) is not None
    assert facts.peek(image(1), 60) is None
    assert facts.peek(image(2), 0) is None


def test_the_valid_signature_that_was_unused_for_longest_is_forgotten_first() -> None:
    signatures = ValidSignatures(size=2)
    images = [Manifest("a.io", "app", f"sha256:{n}", SIGNATURE, ("key", "other")) for n in range(3)]
    answers = [Answer("found", image.reference, key="other", form="simple") for image in images]
    for image, answer in zip(images[:2], answers, strict=False):
        signatures.add(image, answer)
    assert signatures.find(images[0]) == answers[0]
    signatures.add(images[2], answers[2])
    assert [signatures.find(image) for image in images] == [answers[0], None, answers[2]]
    assert len(signatures) == 2


def test_a_valid_signature_answers_no_look_up_of_another_kind() -> None:
    signatures = ValidSignatures(size=2)
    signed = Manifest("a.io", "app", "sha256:0", SIGNATURE, ("key",))
    signatures.add(signed, Answer("found", signed.reference, key="key", form="simple"))
    assert signatures.find(signed._replace(kind=Kind("new"))) is None
