"""What a pass does about each change of an installation.

A row holds changes, and after them what the next pass does. It begins with an installation that is armed and
settled, and with the controller that armed it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from controller.changes import become, delete, edit, extend, later, pause, pods, want
from controller.world import (
    BOTH,
    CERTIFICATES,
    CONFIGURATIONS,
    INSTALLATION,
    MUTATING,
    PARTS,
    TEMPLATES,
    VALIDATING,
    World,
    trusts,
)
from gatekeeper_py.controller.configurations import Write
from gatekeeper_py.controller.plan import Armed, Paused, Plan, Removing, State, Waiting, plan
from gatekeeper_py.controller.webhooks.desired import (
    NO_CONDITIONS,
    Conditions,
    found_conditions,
    without_conditions,
)
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import POD_MUTATION, POD_VALIDATION, POLICY_GUARD

SECRET: Final = INSTALLATION.secret_path
SLICES: Final = INSTALLATION.slices_path
NAMESPACE, OWNER = PARTS[:2]
MINUTE: Final = timedelta(minutes=1)
TEN: Final = "2026-01-01T00:11:00Z"


class Site:
    """An installation, and a controller that plans its passes."""

    def __init__(self) -> None:
        self.world = World()
        self.wanted = BOTH
        self.state = State()
        self.left: dict[str, Any] = {}
        """The webhooks of the configurations as the last pass left them."""

    def plan(self) -> Plan:
        world = self.world
        return plan(world.observed(), self.wanted, self.state, world.now, INSTALLATION, CERTIFICATES)

    def webhooks(self) -> dict[str, Any]:
        """Return the webhooks of each configuration, without conditions of the fast path."""
        live = self.world.cluster.objects
        found = {path: live[path]["webhooks"] for path in CONFIGURATIONS if path in live}
        return {path: [without_conditions(each) for each in webhooks] for path, webhooks in found.items()}

    def conditions(self) -> dict[str, Conditions]:
        """Return the conditions of the fast path that each configuration carries."""
        found = self.world.cluster.objects
        return {each.path: found_conditions(found.get(each.path, {}), each.names) for each in TEMPLATES}

    def carry_out(self, due: Plan, most: int | None = None) -> None:
        """Carry out a plan, or only its first writes, as a pass that an error ends."""
        for write in due.writes[:most]:
            self.world.carry_out(write)
        self.state = due.state if most is None else due.seen


def write_one(site: Site) -> None:
    """Run a pass that ends after its first write."""
    site.carry_out(site.plan(), most=1)


def restart(site: Site) -> None:
    """Replace the controller by one that remembers nothing."""
    site.state = State()


def pick_up(site: Site) -> None:
    """Let the replicas load what the Secret holds."""
    site.world.pick_up_all()


def load_first(site: Site) -> None:
    site.world.pick_up(site.world.replicas[0])


Action = Callable[[Site], object]


def install(replicas: int) -> Action:
    """Begin with an installation whose controller has never run."""
    return lambda site: vars(site).update(world=World(replicas), state=State())


def start(replicas: int) -> Action:
    """Begin with an installation whose replicas have just loaded their first certificate."""

    def begin(site: Site) -> None:
        for each in (install(replicas), passed, pick_up):
            each(site)

    return begin


def carry(conditions: Conditions) -> Action:
    """Write conditions as the fast path does."""
    return lambda site: site.world.put_conditions(conditions)


SHORT: Final = {SECRET: "secret", VALIDATING: "validating", MUTATING: "mutating"}


def shown(writes: tuple[Write, ...], step: str) -> list[str]:
    """Return the reason, the object and the different fields of each write.

    Equal writes to both configurations are shown once. The reason of the Secret is the step of its rotation.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for each in writes:
        reason = step if each.path == SECRET else each.reason
        fields = {re.sub(r".*\.|\[.*", "", path.rpartition(" ")[2]) for path in each.different}
        found.setdefault((reason, "".join(f" {field}" for field in sorted(fields))), []).append(
            SHORT[each.path]
        )
    return [
        f"{reason} {'both' if len(names) == 2 else names[0]}{fields}"
        for (reason, fields), names in found.items()
    ]


def passed(site: Site) -> str:
    """Run a pass, check what holds after each, and return its stage, its writes and what it reports."""
    conditions, due = site.conditions(), site.plan()
    site.carry_out(due)
    report, changes, pause = due.report, due.report.changes, 2.0
    match report.stage:
        case Waiting(why):
            stage = f"waiting ({why})"
        case Armed(settled):
            stage, pause = ("settled", 60.0) if settled else ("rotating", 5.0)
        case Paused(until):
            stage = f"paused until {until:%H:%M}"
        case Removing(why):
            stage = f"removing ({why.rpartition('/')[2]})"
    alarms = " ".join(name for name, problem in report.alarms.items() if problem)
    parts = [stage, *shown(due.writes, report.change)]
    parts += [f"alarms {alarms}"] if alarms else []
    parts += [f"tampering {' '.join(changes.tampering)}"] if changes.tampering else []
    parts += ["conditions differ"] if changes.conditions_differ else []
    parts += [f"{changes.tolerated_terms} terms"] if changes.tolerated_terms else []
    parts += ["no mutation"] if report.armed and not changes.registered else []
    parts += [] if report.next_seconds == pause else [f"next {report.next_seconds:g}"]
    parts = parts[1:] if stage == "settled" and parts[1:] else parts

    if {each.reason for each in due.writes} == {"repaired"}:
        assert site.webhooks() == site.left, "a repair restores what the last pass left"
    site.left = site.webhooks()
    if site.wanted.conditions is not None:
        kept = "webhooks" in changes.tampering or site.conditions() == conditions
        assert kept, "only the fast path writes its conditions"
    elif report.armed:
        assert all(found == NO_CONDITIONS for found in site.conditions().values())
    leaves = [each.mounted for each in site.world.replicas if each.mounted]
    for bundles in site.world.configured().values():
        assert all(trusts(bundle, leaf) for bundle in bundles for leaf in leaves)
    again = site.plan()
    assert (again.writes, again.report.changes.tampering) == ((), ()), "a second pass finds nothing to do"
    assert not again.report.alarms.get("selector")
    return ", ".join(parts)


EXEMPT: Final = want(settings=WebhookSettings(exempt_namespaces=("calico-system",)))
UNKNOWN: Final = want(settings=None)
KNOWN: Final = want(settings=WebhookSettings())

NEVER: Final = {"name": "never", "expression": "false"}
EXISTS: Final = {"key": "control-plane", "operator": "Exists"}
PLATFORM: Final = {"key": "control-plane", "operator": "NotIn", "values": ["true"]}
EXPRESSIONS: Final = ("namespaceSelector", "matchExpressions")


def add_terms(live: dict[str, Any]) -> None:
    """Add a selector term to each webhook, as a managed platform does."""
    for webhook in live["webhooks"]:
        webhook["namespaceSelector"]["matchExpressions"].append(PLATFORM)


def exempted(live: dict[str, Any]) -> list[str]:
    """Return the exempt namespaces of the webhook for Pods."""
    found: list[str] = live["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    return found


def going(live: dict[str, Any]) -> None:
    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def loosened(live: dict[str, Any]) -> None:
    live["webhooks"][0]["failurePolicy"] = "Ignore"
    live["webhooks"][0]["clientConfig"]["service"]["name"] = "elsewhere"


def without_owners(live: dict[str, Any]) -> None:
    del live["metadata"]["ownerReferences"]


def several(live: dict[str, Any]) -> None:
    del live["webhooks"][0]["clientConfig"]["caBundle"]
    live["webhooks"][0] |= {"objectSelector": {"matchLabels": {"x": "y"}}}


CONDITIONS: Final = Conditions(expressions={POD_VALIDATION: "p", POD_MUTATION: "m"}, revision="0123456789ab")
OLDER: Final = replace(CONDITIONS, expressions=dict.fromkeys(CONDITIONS.expressions, "false"), revision="b")
REVISED: Final = replace(CONDITIONS, revision="b")
MOVED: Final = replace(CONDITIONS, expressions={**CONDITIONS.expressions, POLICY_GUARD: "false"})
FAST: Final = want(conditions=CONDITIONS)

DUE: Final = later(CERTIFICATES.lifetime - CERTIFICATES.renew_before)
SETTLE: Final = later(CERTIFICATES.settle)


def straggle(**states: bool) -> Action:
    """Add a replica that does not load the next leaf."""
    return lambda site: vars(site.world.add_replica()).update(states)


def finish(site: Site) -> None:
    """Remove the last replica."""
    site.world.replicas.pop()
    site.world.announce()


def load_others(site: Site) -> None:
    for replica in site.world.replicas[:-1]:
        site.world.pick_up(replica)


ROWS: Final[dict[str, tuple[Action | str, ...]]] = {
    # The first start.
    "first-start": (
        install(2), "waiting (there is no replica behind the Service), create secret, alarms endpoints",
        "waiting (10.0.0.1: refused; 10.0.0.2: refused), alarms endpoints", pick_up, "created both, next 2",
        "next 2", later(MINUTE), "settled",
    ),
    "one-replica-of-two-judges": (start(2), become(0, judges=False), "created both, next 2"),
    "no-replica": (
        install(0), "waiting (there is no replica behind the Service), create secret, alarms endpoints",
        "waiting (there is no replica behind the Service), alarms endpoints",
    ),
    "no-slices": (
        start(1), delete(SLICES), "waiting (there is no replica behind the Service), alarms endpoints",
    ),
    "no-judge": (start(1), become(judges=False), "waiting (10.0.0.1: answers), alarms endpoints"),
    "unreachable": (start(1), become(reachable=False), "waiting (10.0.0.1: refused), alarms endpoints"),
    "leaving": (start(1), become(leaving=True), "waiting (10.0.0.1: shutting down)"),
    "unaddressed": (
        start(1), become(addressed=False),
        "waiting (there is no replica behind the Service), alarms endpoints",
    ),
    "untrusted-leaf": (
        start(2), delete(SECRET),
        "waiting (there is no replica behind the Service), create secret, alarms endpoints", load_first,
        "waiting (10.0.0.1: answers; 10.0.0.2: unknown authority)", pick_up, "created both, next 2",
    ),
    "no-settings": (UNKNOWN, start(2), "created both, next 2", later(MINUTE), KNOWN, "settled"),
    # Changes by somebody else.
    "nothing": ("settled",),
    "failure-policy": (
        pods(failurePolicy="Ignore"), "repaired validating failurePolicy, tampering failure-policy",
    ),
    "timeout": (pods(timeoutSeconds=1), "repaired validating timeoutSeconds, tampering timeout"),
    "selector": (
        extend(*EXPRESSIONS, by=EXISTS),
        "repaired validating namespaceSelector, alarms selector, tampering selector",
    ),
    "rules": (pods(rules=[]), "repaired validating rules, tampering rules"),
    "match-policy": (pods(matchPolicy="Exact"), "repaired validating matchPolicy, tampering rules"),
    "foreign-condition": (
        extend("matchConditions", by=NEVER), "repaired validating matchConditions, tampering conditions",
    ),
    "url": (
        pods(clientConfig={"url": "https://x"}), "repaired validating clientConfig, tampering client-config",
    ),
    "webhook-removed": (
        edit(lambda it: it["webhooks"].pop()), "repaired validating webhooks, tampering webhooks",
    ),
    "labels": (
        edit(lambda it: it["metadata"]["labels"].clear()), "repaired validating labels, tampering metadata",
    ),
    "owner": (edit(without_owners), "repaired validating ownerReferences, tampering metadata"),
    "another-field": (pods(sideEffects="NoneOnDryRun"), "repaired validating sideEffects, tampering other"),
    "several-fields": (
        edit(several),
        "repaired validating clientConfig objectSelector, alarms selector, tampering client-config selector",
    ),
    "both": (
        edit(lambda it: it["webhooks"].pop(), *CONFIGURATIONS),
        "repaired both webhooks, tampering webhooks webhooks",
    ),
    "foreign-label": (edit(lambda it: it["metadata"]["labels"].update(x="y")), "settled"),
    "deleted": (delete(VALIDATING), "repaired validating (deleted), tampering deleted"),
    "all-is-lost": (
        become(reachable=False), delete(*CONFIGURATIONS),
        "repaired both (deleted), alarms endpoints, tampering deleted deleted, next 2",
    ),
    "changed-before-a-start": (pods(failurePolicy="Ignore"), restart, "updated validating failurePolicy"),
    "platform": (
        edit(add_terms, *CONFIGURATIONS), "4 terms", pods(failurePolicy="Ignore"),
        "repaired validating failurePolicy, tampering failure-policy, 4 terms",
    ),
    # What is missing raises an alarm, and the webhook stays armed.
    "no-service": (delete(INSTALLATION.service_path), "alarms service"),
    "no-deployment": (delete(INSTALLATION.deployment_path), "alarms deployment"),
    "no-slices-any-more": (delete(SLICES), "alarms endpoints"),
    "no-judge-any-more": (become(judges=False), "alarms endpoints"),
    "no-secret": (
        delete(SECRET), "rotating, create secret, updated both clientConfig, alarms secret endpoints",
    ),
    "bad-secret": (
        edit(lambda it: it.update(data={"ca.crt": "!"}), SECRET),
        "rotating, create secret, updated both clientConfig, alarms secret endpoints",
    ),
    # Removal and pauses.
    "namespace-is-gone": (delete(NAMESPACE), "removing (ns does not exist), removed both"),
    "owner-is-gone": (delete(OWNER), "removing (gk-controller does not exist), removed both"),
    "namespace-is-being-deleted": (edit(going, NAMESPACE), "removing (ns is being deleted), removed both"),
    "owner-is-being-deleted": (edit(going, OWNER), "removing (gk-controller is being deleted), removed both"),
    "pause": (
        pause(TEN), "paused until 00:11, removed both", "paused until 00:11, next 60", later(9.5 * MINUTE),
        "paused until 00:11, next 30", later(0.5 * MINUTE), "created both, next 2",
    ),
    "pause-without-secret": (
        pause(TEN), "paused until 00:11, removed both", delete(SECRET),
        "paused until 00:11, create secret, alarms endpoints, next 60",
    ),
    "unready-after-a-pause": (
        pause(TEN), "paused until 00:11, removed both", become(judges=False), pause(None),
        "waiting (10.0.0.1: answers; 10.0.0.2: answers), alarms endpoints",
    ),
    "bad-pause": (pause("soon"), "alarms pause"),
    # The policy and the settings change.
    "mutation": (
        want(mutates=False), "removed mutating, no mutation", restart, want(mutates=None), "no mutation",
        want(mutates=True), "created mutating, next 2",
    ),
    "unknown-policy": (restart, want(mutates=None), "settled"),
    "settings": (
        EXEMPT, "updated both namespaceSelector", pods(timeoutSeconds=30),
        "repaired validating timeoutSeconds, tampering timeout",
    ),
    "unknown-settings": (
        edit(loosened), restart, UNKNOWN, "updated validating clientConfig", KNOWN,
        "updated validating failurePolicy",
    ),
    "edited-without-settings": (
        EXEMPT, "updated both namespaceSelector", restart, UNKNOWN, "settled", pods(failurePolicy="Ignore"),
        "repaired validating failurePolicy, tampering failure-policy",
        edit(lambda it: exempted(it).append("evil")),
        "repaired validating namespaceSelector, alarms selector, tampering selector",
        extend("matchConditions", by=NEVER), "repaired validating matchConditions, tampering conditions",
        delete(VALIDATING), "repaired validating (deleted), tampering deleted",
    ),
    # Certificates.
    "rotation": (
        DUE, "rotating, prepare secret, updated both clientConfig", "rotating", "rotating", SETTLE,
        "rotating, promote secret", "rotating", pick_up, "retire secret, updated both clientConfig",
    ),
    "restart-in-a-rotation": (
        DUE, write_one, later(60 * MINUTE), restart, "rotating, updated both clientConfig", "rotating",
        SETTLE, "rotating, promote secret",
    ),
    "leaving-replica-is-behind": (
        straggle(leaving=True), DUE, "rotating, prepare secret, updated both clientConfig", "rotating",
        SETTLE, "rotating, promote secret", load_others, "rotating", finish,
        "retire secret, updated both clientConfig",
    ),
    "new-replica-is-behind": (
        straggle(addressed=False), DUE, "rotating, prepare secret, updated both clientConfig", "rotating",
        SETTLE, "rotating, promote secret", load_others, "rotating", finish,
        "retire secret, updated both clientConfig",
    ),
    # Conditions of the fast path.
    "no-conditions-yet": (
        FAST, "conditions differ", restart, delete(VALIDATING), "created validating, conditions differ",
    ),
    "edited-conditions": (
        FAST, carry(CONDITIONS), "settled", carry(OLDER),
        "tampering conditions conditions, conditions differ", "conditions differ",
    ),
    "webhook-with-conditions": (
        FAST, carry(CONDITIONS), "settled", edit(lambda it: it["webhooks"].pop(0)),
        "repaired validating annotations webhooks, tampering webhooks, conditions differ", carry(CONDITIONS),
        "settled",
    ),
    "new-conditions": (
        FAST, carry(CONDITIONS), "settled", want(conditions=OLDER), "conditions differ", carry(OLDER),
        "settled", EXEMPT, "updated both namespaceSelector",
        want(conditions=CONDITIONS), carry(CONDITIONS), KNOWN,
        "updated both namespaceSelector",
    ),
    "rotation-with-conditions": (
        FAST, carry(CONDITIONS), "settled", DUE, "rotating, prepare secret, updated both clientConfig",
    ),
    "kept-conditions": (
        FAST, carry(CONDITIONS), restart, edit(without_owners), "updated validating ownerReferences",
    ),
    "older-conditions": (
        FAST, carry(OLDER), restart, "conditions differ", restart, edit(without_owners),
        "updated validating ownerReferences, conditions differ",
    ),
    "another-revision": (
        FAST, carry(REVISED), restart, "conditions differ", restart, edit(without_owners),
        "updated validating ownerReferences, conditions differ",
    ),
    "on-another-webhook": (
        FAST, carry(MOVED), restart, "conditions differ", restart, edit(without_owners),
        "updated validating ownerReferences, conditions differ",
    ),
    "no-fast-path": (
        carry(CONDITIONS), restart, "updated both annotations matchConditions", carry(OLDER), restart,
        "updated both annotations matchConditions", carry(REVISED), restart,
        "updated both annotations matchConditions", carry(MOVED), restart,
        "updated both annotations matchConditions",
    ),
}  # fmt: skip


@pytest.fixture
def site() -> Site:
    """Return an installation that is armed and settled."""
    found = Site()
    for change in (passed, pick_up, passed, later(MINUTE), passed):
        change(found)
    return found


@pytest.mark.parametrize("name", ROWS)
def test_a_change_leads_to_the_passes_of_its_row(site: Site, name: str) -> None:
    for each in ROWS[name]:
        if isinstance(each, str):
            assert passed(site) == each
        else:
            each(site)


def test_a_new_secret_has_no_leaf_to_serve_until_its_ca_is_trusted(site: Site) -> None:
    old = site.world.store.bundle
    delete(SECRET)(site)
    passed(site)
    assert site.world.secret["type"] == "Opaque"
    assert "tls.crt" not in site.world.secret["data"]
    assert all(bundle.startswith(old) for each in site.world.configured().values() for bundle in each)


def test_a_secret_of_another_type_keeps_what_else_it_holds(site: Site) -> None:
    data = {"tls.crt": "", "tls.key": "", "theirs": "a2VwdA=="}
    edit(lambda it: it.update(type="kubernetes.io/tls", data=data), SECRET)(site)
    for action in (passed, passed, SETTLE, passed):
        action(site)
        assert data.keys() <= site.world.secret["data"].keys()
        assert (site.world.secret["type"], site.world.secret["data"]["theirs"]) == (
            "kubernetes.io/tls",
            data["theirs"],
        )
    assert site.world.store.current is not None
