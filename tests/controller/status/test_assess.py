"""The status that follows from the state of an installation: healthy, or with each problem."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.world import CERTIFICATES, INSTALLATION, START
from gatekeeper_py.cluster.issuing import issue
from gatekeeper_py.controller import certificates
from gatekeeper_py.controller.certificates import CertificateUse
from gatekeeper_py.controller.status.assess import Status, assess
from gatekeeper_py.controller.status.reading import Observations, PodFacts
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions, OwnerReference
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import (
    MUTATING_NAME,
    MUTATING_PATH,
    POD_VALIDATION,
    VALIDATING_NAME,
    VALIDATING_PATH,
    mutating,
    validating,
)
from gatekeeper_py.core.names import PAUSED_UNTIL
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.process.settings import ConfigMapName

POLICY = (
    "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow: [a.io]\n"
    "mirrors: [{from: docker.io, to: a.io/hub}]\n"
)
OWNER = OwnerReference(
    api_version="rbac.authorization.k8s.io/v1", kind="ClusterRole", name=INSTALLATION.owner, uid="u"
)
STORE, _ = certificates.advance(None, CertificateUse(), CERTIFICATES, START)
EXPIRES = START + timedelta(days=90)


def replica(name: str, mode: str | None = None, *, text: str = POLICY) -> PodFacts:
    policy = parse_policy(text, mode)
    return PodFacts(
        name=name,
        ready=True,
        policy={"mode": policy.mode.name, "revision": policy.revision, "refused": None},
        metrics={"gatekeeper_py_certificate_not_after_timestamp_seconds": EXPIRES.timestamp()},
    )


def controller(**metrics: float) -> PodFacts:
    return PodFacts(
        name="gk-controller-1", ready=True, metrics={f"gatekeeper_py_{k}": v for k, v in metrics.items()}
    )


def healthy() -> Observations:
    """Return an installation in mode enforce, with two replicas and a controller."""
    document = validating(INSTALLATION.target, WebhookSettings()).document(STORE.bundle, OWNER)
    return Observations(
        namespace={"metadata": {"name": "ns"}},
        owner={"metadata": {"name": INSTALLATION.owner, "uid": "u"}},
        service={},
        deployment={"spec": {"replicas": 2}},
        controller={},
        policy={"data": {"policy.yaml": POLICY}},
        settings={"data": {"webhooks.yaml": "# nothing\n"}},
        secret={"data": STORE.data()},
        webhooks={VALIDATING_PATH: copy.deepcopy(document)},
        replicas=(replica("gk-1"), replica("gk-2")),
        controllers=(controller(control_mutation_active=0.0),),
    )


def mutating_too(facts: Observations) -> Observations:
    """Return the installation of ``healthy`` in mode mutate."""
    document = mutating(INSTALLATION.target, WebhookSettings()).document(STORE.bundle, OWNER)
    return replace(
        facts,
        policy={"data": {"policy.yaml": POLICY, "mode": "mutate"}},
        webhooks={**facts.webhooks, MUTATING_PATH: copy.deepcopy(document)},
        replicas=(replica("gk-1", "mutate"), replica("gk-2", "mutate")),
        controllers=(controller(control_mutation_active=1.0),),
    )


def assessed(facts: Observations, **later: float) -> Status:
    return assess(facts, INSTALLATION, START + timedelta(**later))


def test_the_results_of_requirements_are_added_up() -> None:
    text = f"{POLICY}require: [{{images: [a.io], digest: true}}]\n"
    counted = {f'gatekeeper_py_requirements_total{{result="{name}"}}': 2.0 for name in ("met", "unmet")}
    replicas = [replica(name, text=text) for name in ("gk-1", "gk-2")]
    served = tuple(replace(each, metrics=each.metrics | counted) for each in replicas)
    facts = replace(healthy(), policy={"data": {"policy.yaml": text}}, replicas=served)
    assert assessed(facts).as_json()["requirements"] == {"met": 4, "unmet": 4, "error": 0}


def test_the_json_form() -> None:
    revision = parse_policy(POLICY).revision
    expires = "2026-04-01T00:00:00Z"
    assert assessed(healthy()).as_json() == {
        "healthy": True,
        "problems": [],
        "notChecked": [],
        "mode": "enforce",
        "revision": revision,
        "overrides": [],
        "nextExpiry": None,
        "expired": [],
        "exceptions": None,
        "requirements": None,
        "replicas": [
            {
                "pod": name,
                "ready": True,
                "mode": "enforce",
                "revision": revision,
                "certificateNotAfter": expires,
            }
            for name in ("gk-1", "gk-2")
        ],
        "webhooks": [
            {"name": VALIDATING_NAME, "present": True, "asDesired": True},
            {"name": MUTATING_NAME, "present": False, "asDesired": True},
        ],
        "paused": None,
        "fastPath": None,
        "enforcement": None,
    }


def test_the_exceptions_are_the_worst_that_a_replica_shows() -> None:
    facts = healthy()
    one, two = facts.replicas
    live = {"namespace": 2, "installation": 0, "break-glass": 1}
    end = {"entry": "ghcr.io/a (namespace team-a)", "at": "2026-01-05T00:00:00Z", "owner": None}
    first = {
        "live": live,
        "nextEnd": "2026-01-05T00:00:00Z",
        "invalid": 0,
        "unreadable": [],
        "ending": [end | {"reason": "x"}],
        "ended": [end | {"owner": "alice"}],
    }
    second = {
        "live": live | {"namespace": 3},
        "nextEnd": None,
        "invalid": 1,
        "unreadable": ["namespace"],
    }
    pods = (
        replace(one, policy=(one.policy or {}) | {"exceptions": first}),
        replace(two, policy=(two.policy or {}) | {"exceptions": second}),
    )
    status = assessed(replace(facts, replicas=pods))
    assert status.as_json()["exceptions"] == {
        "live": live | {"namespace": 3},
        "nextEnd": "2026-01-05T00:00:00Z",
        "invalid": 1,
        "ending": [end],
        "ended": [end | {"owner": "alice"}],
    }
    assert status.problems == ("the replica gk-2 has no right to read exceptions with the source namespace",)


@pytest.mark.parametrize(
    "odd",
    [[], {"live": 7, "nextEnd": 3, "invalid": "x", "unreadable": "x", "ending": [{"entry": 3}], "ended": 7}],
)
def test_exceptions_of_another_form_count_as_none(odd: Any) -> None:
    facts = healthy()
    one, two = facts.replicas
    pods = (replace(one, policy=(one.policy or {}) | {"exceptions": odd}), two)
    status = assessed(replace(facts, replicas=pods))
    assert status.healthy
    found = status.exceptions
    assert found is None or not (any(found.live.values()) or found.ending or found.ended)


def test_what_expires_next_and_what_has_expired() -> None:
    text = (
        "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\n"
        "allow: [a.io, {image: b.io, until: 2026-01-04}, {image: c.io, until: 2026-01-03, owner: me}]\n"
        "deny: [{image: d.io, until: 2026-01-02}]\n"
        "namespaces: [{names: [shop, pay], mode: warn, until: 2026-01-05}]\n"
    )
    facts = replace(
        healthy(),
        policy={"data": {"policy.yaml": text}},
        replicas=(replica("gk-1", text=text), replica("gk-2", text=text)),
    )
    third = {"entry": "allow[2] c.io", "at": "2026-01-03T00:00:00Z", "owner": "me"}
    shown = assessed(facts, days=1).as_json()
    assert shown["nextExpiry"] == third
    assert [each["entry"] for each in shown["expired"]] == ["deny[0] d.io"]
    override = {"names": ["shop", "pay"], "mode": "warn", "until": "2026-01-05T00:00:00Z"}
    assert shown["overrides"] == [override]
    assert assessed(facts, days=9).as_json()["overrides"] == []
    assert shown["healthy"]
    shown = assessed(facts, days=3).as_json()
    assert shown["nextExpiry"] == {
        "entry": "namespaces[0] shop, pay", "at": "2026-01-05T00:00:00Z", "owner": None
    }  # fmt: skip
    assert [each["entry"] for each in shown["expired"]] == ["allow[1] b.io", "allow[2] c.io", "deny[0] d.io"]


@pytest.mark.parametrize(
    ("enforced", "last", "later", "problem"),
    [
        pytest.param(1.0, 0.0, 60, "", id="proven"),
        pytest.param(
            1.0, 0.0, 301,
            "the controller stopped probing whether the policy is enforced (last at 2026-01-01T00:00:00Z)",
            id="stale",
        ),
        pytest.param(
            0.0, 0.0, 60,
            "API servers do not prove that they enforce the policy (last at 2026-01-01T00:00:00Z)",
            id="not-any-more",
        ),
        pytest.param(
            0.0, None, 60, "API servers do not prove that they enforce the policy (never)", id="never"
        ),
    ],
)  # fmt: skip
def test_the_proof_of_enforcement(enforced: float, last: float | None, later: float, problem: str) -> None:
    proven = 0.0 if last is None else START.timestamp() + last
    metrics = {"control_enforced": enforced, "control_last_enforced_timestamp_seconds": proven}
    facts = replace(healthy(), controllers=(controller(**metrics),))
    status = assessed(facts, seconds=later)
    assert status.problems == ((problem,) if problem else ())
    shown = status.as_json()["enforcement"]
    assert shown == {
        "enforced": enforced == 1,
        "lastEnforced": None if last is None else "2026-01-01T00:00:00Z",
    }
    # A pause is a separate problem, which explains why enforcement is not proven.
    paused = annotated("2026-01-01T01:00:00Z")(replace(facts, webhooks={}))
    assert all("enforce" not in each for each in assessed(paused, seconds=later).problems)


Change = Callable[[Observations], Observations]


def edited(path: str, edit: Callable[[dict[str, Any]], object]) -> Change:
    """Edit a webhook configuration."""

    def change(facts: Observations) -> Observations:
        live = copy.deepcopy(facts.webhooks[path])
        edit(live)
        return replace(facts, webhooks={**facts.webhooks, path: live})

    return change


def annotated(value: str) -> Change:
    return lambda facts: replace(facts, namespace={"metadata": {"annotations": {PAUSED_UNTIL: value}}})


PAUSED = annotated("2026-01-01T01:00:00Z")
IS_PAUSED = "paused until 2026-01-01T01:00:00Z: the webhook is not called, every image is admitted"


def having(**objects: Any) -> Change:
    return lambda facts: replace(facts, **objects)


def first_replica(**changes: Any) -> Change:
    return lambda facts: replace(facts, replicas=(replace(facts.replicas[0], **changes), *facts.replicas[1:]))


def with_controller(**metrics: float) -> Change:
    return lambda facts: replace(facts, controllers=(controller(**metrics),))


def running(command: str, configmap: str, *arguments: str) -> dict[str, Any]:
    """Return a Deployment of two Pods that run a command with ``--configmap``."""
    containers = [{"args": [command, f"--configmap={configmap}", *arguments]}]
    return {"spec": {"replicas": 2, "template": {"spec": {"containers": containers}}}}


def mutate(facts: Observations) -> Observations:
    """Let the policy rewrite images, without a mutating configuration."""
    return replace(mutating_too(facts), webhooks=facts.webhooks)


def by_hand(facts: Observations) -> Observations:
    """Install the static manifests, without a controller."""
    for each in (without_owners(VALIDATING_PATH), without_owners(MUTATING_PATH)):
        facts = each(facts)
    return replace(facts, owner=None, controller=None, controllers=(), secret={"data": {}})


def without_bundles(live: dict[str, Any]) -> None:
    for each in live["webhooks"]:
        each["clientConfig"]["caBundle"] = ""


def without_owners(path: str) -> Change:
    return edited(path, lambda it: it["metadata"].pop("ownerReferences"))


def written(conditions: Conditions = NO_CONDITIONS, **installation: Any) -> dict[str, Any]:
    """Return the webhook configurations of an installation in mode enforce."""
    desired = validating(replace(INSTALLATION, **installation).target, WebhookSettings())
    return {VALIDATING_PATH: desired.document(STORE.bundle, OWNER, conditions)}


MINE = ConfigMapName("ns", "mine")
BAD_FILES = {**healthy().replicas[0].metrics, "gatekeeper_py_certificate_files_bad": 1.0}
REFUSED = {**(healthy().replicas[0].policy or {}), "refused": {"findings": [{"message": "bad"}]}}
OLD_PROOF = controller(control_enforced=0.0, control_last_enforced_timestamp_seconds=0.0)
PROOF = controller(control_enforced=1.0, control_last_enforced_timestamp_seconds=START.timestamp())
FAST_PATH = Conditions(expressions={POD_VALIDATION: "true"}, revision="0123456789ab")
ENFORCE = having(policy=healthy().policy, replicas=healthy().replicas)
DRIFT = f"differs in metadata.ownerReferences, webhooks[{POD_VALIDATION}].clientConfig"
ELSEWHERE = edited(VALIDATING_PATH, lambda it: it["webhooks"][0]["clientConfig"]["service"].update(name="x"))
MINE_DEPLOYED = having(
    deployment=running("serve", "ns/mine"),
    controller=running("control", "ns/mine"),
    webhooks=written(policy=MINE),
)

CASES: dict[str, tuple[Change | str, ...]] = {
    "mode-enforce": (),
    "mode-mutate": (mutating_too,),
    "mutation-is-missing": (mutate, f"the webhook configuration {MUTATING_NAME} does not exist"),
    "mutation-is-left-over": (
        having(webhooks=mutating_too(healthy()).webhooks),
        f"the webhook configuration {MUTATING_NAME} exists, although it should not",
    ),
    "mutation-begins": (
        mutating_too, with_controller(control_mutation_active=0.0), "the mutating webhook is not active yet",
    ),
    "mutation-paused": (mutating_too, with_controller(), PAUSED, having(webhooks={}), IS_PAUSED),
    "paused": (PAUSED, having(webhooks={}), IS_PAUSED),
    "in-step": (having(webhooks=written(FAST_PATH)), with_controller(fastpath_in_step=1.0)),
    "no-controller": (mutating_too, by_hand),
    "no-controller-in-mode-enforce": (mutating_too, by_hand, ENFORCE),
    "no-controller-but-drift": (
        mutating_too, by_hand, ELSEWHERE, f"the webhook configuration {VALIDATING_NAME} {DRIFT}",
    ),
    "another-configmap": (MINE_DEPLOYED,),
    "another-configmap-is-missing": (MINE_DEPLOYED, having(policy=None), "the ConfigMap mine does not exist"),
    "two-configmaps": (
        having(deployment=running("serve", "ns/policy"), controller=running("control", "ns/other")),
        "the servers read the policy from the ConfigMap ns/policy, but the controller from ns/other",
    ),
    "newer-proof": (having(controllers=(OLD_PROOF, PROOF)),),
    "secret-may-not-be-read": (having(secret=None, secret_readable=False),),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_change_causes_exactly_the_problems_of_its_row(name: str) -> None:
    """A row holds changes of a healthy installation, and all problems."""
    facts, problems = healthy(), tuple(each for each in CASES[name] if isinstance(each, str))
    for change in CASES[name]:
        facts = facts if isinstance(change, str) else change(facts)
    status = assessed(facts, seconds=10)
    assert status.problems == problems
    assert all(each.as_desired for each in status.webhooks) is not any(
        "configuration" in each for each in problems
    )
    assert (status.paused == START + timedelta(hours=1)) is (IS_PAUSED in problems)
    assert status.as_json()["fastPath"] == ({"inStep": True} if name == "in-step" else None)
    unread = () if facts.secret_readable else ("the Secret gk-tls, because you may not read it",)
    assert status.not_checked == unread


UNTRUSTING = validating(INSTALLATION.target, WebhookSettings()).document(
    issue(("elsewhere",), START, timedelta(days=90)).ca, OWNER
)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (having(namespace=None, replicas=(), webhooks={}), "ns does not exist"),
        (annotated("2026-01-01T01:00:00Z"), "paused until 2026-01-01T01:00:00Z"),
        (annotated("soon"), "is ignored: 'soon'"),
        (having(policy=None), "the ConfigMap policy does not exist"),
        (having(policy={"data": {}}), "has no key policy.yaml"),
        (having(policy={"data": {"policy.yaml": "allow: [nginx]\n"}}), "is refused"),
        (having(policy={"data": {"policy.yaml": POLICY, "mode": "off"}}), "is refused: line 1, mode"),
        (having(policy={"data": {"policy.yaml": POLICY, "policy.yml": "x"}}), "unknown keys: policy.yml"),
        (
            having(policy={"data": {"policy.yaml": POLICY, "mode": "warn"}}),
            "gk-1 serves the mode enforce, but the ConfigMap has warn",
        ),
        (having(policy={"data": {"policy.yaml": POLICY + "# changed\n"}}), "gk-2 serves the revision"),
        (
            having(settings={"data": {"webhooks.yaml": "colour: red"}}),
            "webhooks.yaml is refused: line 1, colour",
        ),
        (
            having(settings={"data": {"webhooks.yaml": "", "my-webhooks.yaml": ""}}),
            "the ConfigMap gatekeeper-py-webhooks is refused: data.my-webhooks.yaml: this key is not read",
        ),
        (
            having(settings={"data": {"webhook.yaml": ""}}),
            "no key webhooks.yaml; data.webhook.yaml: this key is not read",
        ),
        (
            having(settings={"data": {"webhooks.yaml": ""}, "binaryData": {"a": "AA=="}}),
            "is refused: binaryData: must be absent",
        ),
        (having(service=None), "the Service gk does not exist"),
        (having(deployment=None), "the Deployment gk does not"),
        (having(deployment={"spec": {"replicas": 3}}), "2 of 3 replicas are ready"),
        (having(deployment={"spec": {"replicas": 0}}, replicas=()), "scaled to no"),
        (first_replica(ready=False), "the replica gk-1 is not ready"),
        (first_replica(ready=False, unready="policy: none"), "the replica gk-1 is not ready: policy: none"),
        (
            first_replica(metrics=BAD_FILES),
            "the replica gk-1 cannot use its certificate files: see certificate_refused in its log",
        ),
        (first_replica(problem="503 Service Unavailable", policy=None), "gk-1 cannot be reached: 503"),
        (first_replica(policy={"mode": None, "revision": None}), "gk-1 has no policy"),
        (first_replica(policy=REFUSED), "gk-1 refused a document: bad"),
        (first_replica(metrics={}), "gk-1 shows no certificate"),
        (having(secret=None), "the Secret gk-tls does not exist"),
        (having(secret={"data": {"ca.crt": "!"}}), "gk-tls holds no usable"),
        (having(webhooks={}), f"{VALIDATING_NAME} does not exist"),
        (
            edited(VALIDATING_PATH, lambda it: it["webhooks"][0].update(failurePolicy="Ignore")),
            f"{VALIDATING_NAME} differs in webhooks[{POD_VALIDATION}].failurePolicy",
        ),
        (
            edited(VALIDATING_PATH, lambda it: it["metadata"].pop("ownerReferences")),
            "differs in metadata.ownerReferences",
        ),
        (having(webhooks={VALIDATING_PATH: UNTRUSTING}), "does not trust the certificate in the Secret"),
        (edited(VALIDATING_PATH, without_bundles), "has no CA bundle"),
        (having(owner=None), f"{INSTALLATION.owner_path} does not exist: the controller deletes the webhook"),
        (having(controller=None), "gatekeeper-py-controller does not exist"),
        (having(controllers=()), "no controller is ready"),
        (
            having(controllers=(replace(healthy().controllers[0], problem="timeout"),)),
            "gk-controller-1 cannot be reached: timeout",
        ),
        (with_controller(**{'control_alarm{what="endpoints"}': 1.0}), "raises the alarm endpoints"),
        (with_controller(fastpath_in_step=0.0), "the fast path is not in step"),
    ],
)  # fmt: skip
def test_each_problem_is_named(change: Change, problem: str) -> None:
    status = assessed(change(healthy()))
    assert not status.healthy
    assert any(problem in each for each in status.problems), status.problems
    assert len(set(status.problems)) == len(status.problems)


def test_a_certificate_is_named_before_and_after_it_expires() -> None:
    assert assessed(healthy(), days=69).problems == ()
    assert "expires at 2026-04-01" in assessed(healthy(), days=71).problems[0]
    assert "expired at 2026-04-01" in assessed(healthy(), days=90).problems[0]


@pytest.mark.parametrize(
    ("change", "planned"),
    [
        (having(), [None, None]),
        (having(webhooks={}), ["create", None]),
        (edited(VALIDATING_PATH, lambda it: it["webhooks"].pop()), ["replace", None]),
        (having(webhooks={VALIDATING_PATH: UNTRUSTING}), ["replace", None]),
        (having(webhooks=mutating_too(healthy()).webhooks), [None, "delete"]),
        (having(owner=None), ["delete", None]),
        (annotated("2026-01-01T01:00:00Z"), ["delete", None]),
        (having(owner=None, controller=None, webhooks={}), [None, None]),
    ],
)  # fmt: skip
def test_the_writes_that_a_controller_plans_are_shown(change: Change, planned: list[str | None]) -> None:
    assert [each.planned for each in assessed(change(healthy())).webhooks] == planned


def test_exemptions_are_those_of_the_settings() -> None:
    text = "exemptNamespaces: [calico-system]\nexemptNamespaceLabels: {team: platform}\n"
    facts = replace(healthy(), settings={"data": {"webhooks.yaml": text}})
    settings = WebhookSettings(
        exempt_namespaces=("calico-system",), exempt_namespace_labels=(("team", "platform"),)
    )
    document = validating(INSTALLATION.target, settings).document(STORE.bundle, OWNER)
    status = assessed(replace(facts, webhooks={VALIDATING_PATH: document}))
    assert status.problems == ()
    assert status.exempt_namespaces == ("ns", "kube-system", "calico-system")
    assert status.exempt_labels == ("team=platform",)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"webhooks.yaml": "colour: red"}, id="bad"),
        pytest.param({"webhook.yaml": ""}, id="misnamed"),
    ],
)
def test_while_the_settings_are_refused_the_exemptions_are_those_in_force(data: dict[str, str]) -> None:
    settings = WebhookSettings(
        exempt_namespaces=("calico-system",), exempt_namespace_labels=(("team", "platform"),)
    )
    document = validating(INSTALLATION.target, settings).document(STORE.bundle, OWNER)
    facts = replace(healthy(), settings={"data": data}, webhooks={VALIDATING_PATH: document})
    status = assessed(facts)
    assert status.exempt_namespaces == ("ns", "kube-system", "calico-system")
    assert status.exempt_labels == ("team=platform",)
    assert assessed(replace(facts, webhooks={})).exempt_namespaces == ("ns", "kube-system")


def test_the_renewal_deadline_follows_the_renewal_time() -> None:
    controller = running("control", "ns/policy", "--renew-before-days=15")
    facts = replace(healthy(), controller=controller)
    assert assessed(facts, days=79).problems == ()
    assert "expires at 2026-04-01" in assessed(facts, days=81).problems[0]
