"""For a change that refuses images, the controller finds an image that only the old expression skips."""

from __future__ import annotations

import pytest

from controller.world import START
from gatekeeper_py.controller.fastpath.probe import DIGEST, ProbeImage, choose, still_useful, why_not_called
from gatekeeper_py.controller.probe_pod import ProbeAnswer, pod
from gatekeeper_py.core.admission import mutate
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.images.manifest import MISSING, Answer, Resolution, failed, found
from gatekeeper_py.core.policy.policy import parse_policy
from support.builders import review

HEAD = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\n"
BEFORE = HEAD + "allow: [a.io, b.io/team/**, c.io/app, 'd.io@*']\n"
MIRRORED = BEFORE + "mirrors: [{from: z.io, to: b.io/team}]\n"
ALL = "a.io, b.io/team/**, c.io/app, 'd.io@*'"
DIGESTED = f"d.io/gatekeeper-py-probe@{DIGEST}"


def chosen(after: str, *, mode: str | None = None, before: str = BEFORE) -> dict[str, str]:
    """Return the probe images by endpoint for a change from ``before``. The function checks each image."""
    old, policy = compile_fastpath(parse_policy(before), START), parse_policy(HEAD + after, mode)
    new, compiled = compile_fastpath(policy, START), policy.at(START)
    found = choose(old, new, policy, "probe", START)
    for candidate in found:
        assert old.approves("probe", candidate.image, candidate.endpoint)
        assert not new.approves("probe", candidate.image, candidate.endpoint)
        if candidate.endpoint == "validating":
            assert not compiled.decide("probe", candidate.image).approved
        else:
            assert compiled.plan("probe", candidate.image) is not None
    assert still_useful(found, new, policy, "probe", START) == found
    return {candidate.endpoint: candidate.image for candidate in found}


@pytest.mark.parametrize(
    ("after", "image"),
    [
        pytest.param("allow: [b.io/team/**, c.io/app, 'd.io@*']", "a.io/gatekeeper-py-probe", id="registry"),
        pytest.param("allow: [a.io, c.io/app, 'd.io@*']", "b.io/team/gatekeeper-py-probe", id="subtree"),
        pytest.param("allow: [a.io, b.io/team/**, 'd.io@*']", "c.io/app", id="repository"),
        pytest.param("allow: [a.io, b.io/team/**, c.io/app]", DIGESTED, id="pinned"),
        pytest.param(
            "allow: [b.io/team/**, {image: a.io, namespaces: [shop]}]",
            "a.io/gatekeeper-py-probe",
            id="for-another-namespace",
        ),
        pytest.param(f"allow: [{ALL}]\ndeny: ['a.io/old/**']", "a.io/old/gatekeeper-py-probe", id="denied"),
        pytest.param(f"allow: [{ALL}]\ndeny: ['a.io/x-*/app:v*']", "a.io/x-x/app:vx", id="denied-by-globs"),
        pytest.param(f"allow: [{ALL}]\ndeny: ['a.io/y@*']", f"a.io/y@{DIGEST}", id="denied-when-pinned"),
        pytest.param(
            f"allow: [{ALL}]\ndeny: ['*/**:latest']",
            "a.io/gatekeeper-py-probe:latest",
            id="denied-everywhere",
        ),
        pytest.param(f"allow: [{ALL}]\ndeny: ['*/**:rc*']", "a.io/gatekeeper-py-probe:rcx", id="denied-tags"),
    ],
)
def test_an_image_that_only_the_old_expression_skips_is_found(after: str, image: str) -> None:
    assert chosen(after) == {"validating": image}


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(f"allow: [{ALL}]", id="nothing-taken-off"),
        pytest.param(f"allow: [{ALL.replace('a.io', 'a.io, e.io', 1)}]", id="more-allowed"),
        pytest.param(
            "allow: [{image: a.io, until: 2099-01-01}, b.io/team/**, c.io/app, 'd.io@*']",
            id="all-of-it-still-approved",
        ),
    ],
)
def test_no_image_is_found_when_nothing_is_refused(after: str) -> None:
    assert chosen(after) == {}


def test_an_image_that_a_mirror_rewrites_does_not_show_validation_in_mutate_mode() -> None:
    """API servers would call the validating webhook with the rewritten image."""
    after = "allow: [b.io/team/**, c.io/app, 'd.io@*']\nmirrors: [{from: a.io, to: b.io/team}]"
    assert chosen(after, mode="enforce") == {"validating": "a.io/gatekeeper-py-probe"}
    assert chosen(after, mode="mutate") == {"mutating": "a.io/gatekeeper-py-probe"}


@pytest.mark.parametrize(
    ("mirror", "image"),
    [
        pytest.param("{from: a.io, to: b.io/team}", "a.io/gatekeeper-py-probe", id="a-registry"),
        pytest.param("{from: a.io/old, to: b.io/team}", "a.io/old/gatekeeper-py-probe", id="a-part-of-one"),
        pytest.param("{from: d.io/old, to: b.io/team}", DIGESTED.replace("io/", "io/old/"), id="pinned"),
    ],
)
def test_an_image_that_a_mirror_rewrites_shows_mutation_in_mutate_mode(mirror: str, image: str) -> None:
    after = f"allow: [{ALL}]\nmirrors: [{mirror}]"
    assert chosen(after, mode="mutate", before=MIRRORED) == {"mutating": image}
    assert chosen(after, mode="enforce", before=MIRRORED) == {}


@pytest.mark.parametrize(
    ("source", "image"),
    [
        pytest.param("a.io", "a.io/gatekeeper-py-probe", id="of-an-ordinary-image"),
        pytest.param("z.io/x", "z.io/x/gatekeeper-py-probe", id="of-something-else"),
        pytest.param("docker.io", "docker.io/gatekeeper-py-probe", id="of-docker-hub"),
    ],
)
def test_the_first_mirror_of_a_policy_shows_mutation_in_mutate_mode(source: str, image: str) -> None:
    """Before the change there was no mirror, so no API server called the mutating webhook."""
    after = f"allow: [{ALL}]\nmirrors: [{{from: {source}, to: b.io/team}}]"
    assert chosen(after, mode="mutate") == {"mutating": image}
    assert chosen(after, mode="enforce") == {}


def test_one_change_can_show_at_both_endpoints() -> None:
    after = "allow: [b.io/team/**, c.io/app, 'd.io@*']\nmirrors: [{from: c.io, to: b.io/team}]"
    assert chosen(after, mode="mutate", before=MIRRORED) == {
        "validating": "a.io/gatekeeper-py-probe",
        "mutating": "c.io/app",
    }


def test_an_exception_of_a_mirror_shows_nothing() -> None:
    after = f"allow: [{ALL}]\nmirrors: [{{from: c.io, to: b.io/team, except: [c.io]}}]"
    assert chosen(after, mode="mutate") == {}


def test_an_image_that_is_approved_again_is_not_useful() -> None:
    policy = parse_policy(BEFORE)
    candidate = ProbeImage("validating", "a.io/gatekeeper-py-probe")
    assert still_useful((candidate,), compile_fastpath(policy, START), policy, "probe", START) == ()


VERIFYING = [
    pytest.param("verify: true", id="verify"),
    pytest.param("pin: true", id="pin"),
    pytest.param("verify: true, onMissing: deny", id="missing-is-denied"),
    pytest.param("verify: true, onError: deny", id="error-is-denied"),
    pytest.param("verify: true, onMissing: rewrite, onError: rewrite", id="rewritten-anyway"),
]


@pytest.mark.parametrize("fields", VERIFYING)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(MISSING, id="missing"),
        pytest.param(failed("401"), id="error"),
        pytest.param(found(DIGEST), id="found"),
    ],
)
def test_a_mirror_with_look_ups_shows_mutation_for_any_answer_of_the_registry(
    fields: str, answer: Answer
) -> None:
    """The warnings prove the call of the mutating webhook, even for an image that no registry has."""
    after = f"allow: [{ALL}]\nmirrors: [{{from: a.io, to: b.io/team, {fields}}}]"
    image = chosen(after, mode="mutate")["mutating"]
    request = parse(review(pod(image), namespace="probe"))
    policy = parse_policy(HEAD + after, "mutate").at(START)
    given = mutate(request, policy, Answers(lambda _lookup: Resolution(answer, 0))).response.warnings
    seen = ProbeAnswer(status=403, warnings=tuple(f'299 - "{warning}"' for warning in given))
    assert not why_not_called(seen, "mutating", "pods.hook.gk")


@pytest.mark.parametrize("fields", VERIFYING)
def test_no_mirror_that_may_use_none_of_its_targets(fields: str) -> None:
    """Images of such a mirror stay as written without a warning, so a probe would never succeed."""
    after = f"allow: [{ALL}]\nmirrors: [{{from: a.io, to: z.io/team, {fields}}}]"
    assert chosen(after, mode="mutate") == {}
