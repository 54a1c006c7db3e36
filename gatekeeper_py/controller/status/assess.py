"""Conclude from the facts whether an installation is healthy, and name every problem. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

import msgspec

from gatekeeper_py.controller import certificates
from gatekeeper_py.controller.certificates import CertificateStore, InvalidSecret
from gatekeeper_py.controller.configurations import Memory, Verb, Wanted, Write, changes_to, complete
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.pause import read_pause
from gatekeeper_py.controller.plan import removal
from gatekeeper_py.controller.status.reading import (
    Observations,
    PodFacts,
    as_deployed,
    policy_configmap,
    renew_before,
)
from gatekeeper_py.controller.webhooks import drift
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Desired
from gatekeeper_py.controller.webhooks.settings import (
    SETTINGS_KEY,
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
    read_settings,
)
from gatekeeper_py.controller.webhooks.templates import VALIDATING_PATH, exemptions
from gatekeeper_py.core.admission.judge import Met
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.names import always_exempt
from gatekeeper_py.core.policy.configmap import MODE_KEY, POLICY_KEY
from gatekeeper_py.core.policy.document import Mode, OverrideEntry, PolicyError
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.core.policy.rules import Rule

ENFORCED_RECENTLY: Final = timedelta(minutes=5)
"""Maximum age of the last proof. The controller proves each minute that the policy is enforced."""

RENEWAL_FAILS: Final = 2 / 3
"""Fraction of ``--renew-before-days``. If less time than this is left, the renewal of a certificate fails. By
default it is 20 of 30 days."""

NOT_AFTER: Final = "gatekeeper_py_certificate_not_after_timestamp_seconds"
FILES_BAD: Final = "gatekeeper_py_certificate_files_bad"
IN_STEP: Final = "gatekeeper_py_fastpath_in_step"
ENFORCED: Final = "gatekeeper_py_control_enforced"
LAST_ENFORCED: Final = "gatekeeper_py_control_last_enforced_timestamp_seconds"
MUTATION_ACTIVE: Final = "gatekeeper_py_control_mutation_active"
REQUIREMENTS: Final = "gatekeeper_py_requirements_total"
ALARM: Final = 'gatekeeper_py_control_alarm{what="'


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica of the server. Its mode and revision are ``None`` when it could not be read."""

    pod: str
    ready: bool
    mode: str | None
    revision: str | None
    certificate_not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook configuration. An absent configuration is as desired if it should not exist.

    ``planned`` is the write that the controller's next pass makes, ``None`` if none.
    """

    name: str
    present: bool
    as_desired: bool
    planned: Verb | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """Whether the controller's last probe Pods proved enforcement.

    ``last`` is when probe Pods last proved it, ``None`` if never.
    """

    enforced: bool
    last: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """An entry of the policy, or an exception, that expires or has expired at ``at``."""

    entry: str
    at: datetime
    owner: str | None

    def as_json(self) -> dict[str, str | None]:
        return {"entry": self.entry, "at": format_instant(self.at), "owner": self.owner}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionsInUse:
    """The exceptions that the replicas use. Each number is the largest that any replica shows.

    ``live`` holds the number of live entries by source, ``invalid`` is the number of invalid documents.
    ``ending`` holds one entry that ends soon of each document, and ``ended`` one that has ended, both for up
    to ten documents.
    """

    live: Mapping[str, int]
    next_end: str | None
    invalid: int
    ending: tuple[Expiry, ...] = ()
    ended: tuple[Expiry, ...] = ()

    def as_json(self) -> dict[str, Any]:
        ends = {"ending": [*map(Expiry.as_json, self.ending)], "ended": [*map(Expiry.as_json, self.ended)]}
        return {"live": dict(self.live), "nextEnd": self.next_end, "invalid": self.invalid, **ends}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status of an installation. ``mode`` and ``revision`` are those of the ConfigMap.

    ``in_step`` is ``None`` if there is no fast path, and ``enforcement`` is ``None`` if no controller proves
    enforcement. The exemptions come from the settings in the cluster. If these settings are refused, or there
    is no controller, the exemptions come from the live configuration. ``expired`` are the entries of the
    policy that have expired, the latest first. ``overrides`` set the mode of some namespaces
    now; the first one that matches a namespace counts. ``not_checked`` is what the caller may not read.
    """

    namespace: str
    problems: tuple[str, ...]
    mode: Mode | None
    revision: str | None
    next_expiry: Expiry | None
    expired: tuple[Expiry, ...]
    replicas: tuple[Replica, ...]
    webhooks: tuple[Webhook, ...]
    paused: datetime | None
    in_step: bool | None
    enforcement: Enforcement | None
    exempt_namespaces: tuple[str, ...]
    exempt_labels: tuple[str, ...]
    overrides: tuple[OverrideEntry, ...] = ()
    not_checked: tuple[str, ...] = ()
    exceptions: ExceptionsInUse | None = None
    """``None`` if no replica serves a policy with grants."""
    requirements: Mapping[Met, int] | None = None
    """The requirements of images that the replicas have judged since they started, by result. ``None`` if the
    policy has no requirements."""

    @property
    def healthy(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "healthy": self.healthy,
            "problems": list(self.problems),
            "notChecked": list(self.not_checked),
            "mode": self.mode and self.mode.name,
            "revision": self.revision,
            "overrides": [
                {"names": list(each.names), "mode": each.mode.name, "until": _shown(each.until)}
                for each in self.overrides
            ],
            "nextExpiry": None if self.next_expiry is None else self.next_expiry.as_json(),
            "expired": [each.as_json() for each in self.expired],
            "exceptions": None if self.exceptions is None else self.exceptions.as_json(),
            "requirements": self.requirements and dict(self.requirements),
            "replicas": [
                {
                    "pod": each.pod,
                    "ready": each.ready,
                    "mode": each.mode,
                    "revision": each.revision,
                    "certificateNotAfter": _shown(each.certificate_not_after),
                }
                for each in self.replicas
            ],
            "webhooks": [
                {"name": each.name, "present": each.present, "asDesired": each.as_desired}
                for each in self.webhooks
            ],
            "paused": _shown(self.paused),
            "fastPath": None if self.in_step is None else {"inStep": self.in_step},
            "enforcement": None
            if self.enforcement is None
            else {
                "enforced": self.enforcement.enforced,
                "lastEnforced": _shown(self.enforcement.last),
            },
        }


def assess(facts: Observations, installation: Installation, now: datetime) -> Status:
    """Return the status that follows from the facts at an instant."""
    return _Assessment(facts, installation, now).status()


class _Assessment:
    """Checks one part after the other and collects the problems."""

    def __init__(self, facts: Observations, installation: Installation, now: datetime) -> None:
        self._facts = facts
        self._installation = as_deployed(installation, facts.deployment, facts.controller)
        self._now = now
        self._expires_soon = RENEWAL_FAILS * renew_before(facts.controller, installation.namespace)
        self._problems: list[str] = []
        # An installation without a controller and an owner uses the static manifests, for instance with
        # cert-manager.
        self._has_controller = facts.controller is not None or facts.owner is not None
        if facts.namespace is None:
            self._report(f"the namespace {installation.namespace} does not exist: nothing is installed there")
        self._paused_until = self._paused()
        self._policy = self._parsed_policy()
        self._settings = self._parsed_settings()
        self._store = self._parsed_secret()

    def status(self) -> Status:
        policy = self._policy
        replicas = tuple(map(self._replica, self._facts.replicas))
        if self._facts.namespace is not None:
            self._check_parts(replicas)
            self._check_replicas(replicas)
        webhooks = self._webhooks()
        in_step = self._controllers()
        enforcement = self._enforcement()
        exempt_namespaces, exempt_labels = self._exemptions()
        exceptions = self._exceptions()
        expiries = sorted(() if policy is None else _expiries(policy), key=lambda each: each.at)
        return Status(
            namespace=self._installation.namespace,
            problems=tuple(dict.fromkeys(self._problems)),
            mode=None if policy is None else policy.mode,
            revision=None if policy is None else policy.revision,
            next_expiry=next((each for each in expiries if each.at > self._now), None),
            expired=tuple(each for each in reversed(expiries) if each.at <= self._now),
            replicas=replicas,
            webhooks=webhooks,
            paused=self._paused_until,
            in_step=in_step,
            enforcement=enforcement,
            exempt_namespaces=exempt_namespaces,
            exempt_labels=exempt_labels,
            not_checked=()
            if self._facts.secret_readable
            else (f"the Secret {self._installation.secret}, because you may not read it",),
            overrides=tuple(
                each
                for each in (() if policy is None else policy.document.namespaces)
                if each.until is None or self._now < each.until
            ),
            exceptions=exceptions,
            requirements=self._requirements(),
        )

    def _report(self, problem: str) -> None:
        self._problems.append(problem)

    def _paused(self) -> datetime | None:
        pause = read_pause(self._facts.namespace or {}, self._now)
        if pause.problem:
            self._report(pause.problem)
        if pause.until is not None:
            until = format_instant(pause.until)
            self._report(f"paused until {until}: the webhook is not called, every image is admitted")
        return pause.until

    def _parsed_policy(self) -> Policy | None:
        """Return the policy in the ConfigMap."""
        if self._facts.namespace is None:
            return None
        name = self._installation.policy.name
        if self._facts.policy is None:
            self._report(f"the ConfigMap {name} does not exist")
            return None
        data = self._facts.policy.get("data") or {}
        unknown = sorted({*data, *(self._facts.policy.get("binaryData") or {})} - {POLICY_KEY, MODE_KEY})
        if unknown:
            self._report(f"the ConfigMap {name} has unknown keys: {', '.join(unknown)}"[:300])
        text, mode = data.get(POLICY_KEY), data.get(MODE_KEY)
        if not isinstance(text, str):
            self._report(f"the ConfigMap {name} has no key {POLICY_KEY}")
            return None
        try:
            return parse_policy(text, mode, max_bytes=MAX_CONFIGMAP_BYTES)
        except PolicyError as problem:
            self._report(f"the policy in the ConfigMap {name} is refused: {problem.findings[0]}")
            return None

    def _parsed_settings(self) -> WebhookSettings | None:
        """Return the settings of the webhook configurations, ``None`` when they are refused."""
        if self._facts.settings is None:
            return WebhookSettings()
        found = read_settings(self._facts.settings.get("data"), self._facts.settings.get("binaryData"))
        if found.findings:
            name = self._installation.settings
            problems = "; ".join(f"{each.path}: {each.message}" for each in found.findings)
            self._report(f"the ConfigMap {name} is refused: {problems}"[:300])
            return None
        try:
            return parse_settings(found.text or "")
        except InvalidWebhookSettings as problem:
            self._report(f"{SETTINGS_KEY} is refused: {problem.findings[0]}")
            return None

    def _exemptions(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the exempt namespaces, by name and by label."""
        if self._settings is None or not self._has_controller:
            # The live configuration has the last good settings, or those of the static manifests.
            found = exemptions(self._facts.webhooks.get(VALIDATING_PATH) or {})
            if found is not None:
                return found
        known = self._settings or WebhookSettings()
        names = (*always_exempt(self._installation.namespace), *known.exempt_namespaces)
        labels = (f"{key}={value}" for key, value in known.exempt_namespace_labels)
        return tuple(dict.fromkeys(names)), tuple(labels)

    def _parsed_secret(self) -> CertificateStore | None:
        """Return the certificates in the Secret; ``None`` if they are not known."""
        facts, name = self._facts, self._installation.secret
        if not facts.secret_readable or facts.namespace is None:
            return None
        if facts.secret is None:
            self._report(f"the Secret {name} does not exist")
            return None
        if not self._has_controller:
            return None  # another issuer wrote the Secret, in another form
        try:
            return certificates.parse_secret(facts.secret.get("data") or {})
        except InvalidSecret as problem:
            self._report(f"the Secret {name} holds no usable certificate: {problem}")
            return None

    def _replica(self, pod: PodFacts) -> Replica:
        shown = pod.policy or {}
        timestamp = pod.metrics.get(NOT_AFTER)
        return Replica(
            pod=pod.name,
            ready=pod.ready,
            mode=_text(shown.get("mode")),
            revision=_text(shown.get("revision")),
            certificate_not_after=None if timestamp is None else datetime.fromtimestamp(timestamp, UTC),
        )

    def _check_parts(self, replicas: tuple[Replica, ...]) -> None:
        facts, installation = self._facts, self._installation
        if facts.service is None:
            self._report(f"the Service {installation.service} does not exist")
        if facts.deployment is None:
            self._report(f"the Deployment {installation.deployment} does not exist")
            return
        expected = (facts.deployment.get("spec") or {}).get("replicas", 1)
        ready = sum(each.ready for each in replicas)
        if ready < expected:
            self._report(f"{ready} of {expected} replicas are ready")
        if not expected:
            self._report(f"the Deployment {installation.deployment} is scaled to no replicas")

    def _check_replicas(self, replicas: tuple[Replica, ...]) -> None:
        for pod, each in zip(self._facts.replicas, replicas, strict=True):
            name = f"the replica {pod.name}"
            if not each.ready:
                self._report(": ".join(filter(None, (f"{name} is not ready", pod.unready))))
            if pod.problem:
                self._report(f"{name} cannot be reached: {pod.problem}")
                continue
            self._problems += _policy_problems(name, pod, each, self._policy)
            if pod.metrics.get(FILES_BAD):
                self._report(f"{name} cannot use its certificate files: see certificate_refused in its log")
            self._problems += _certificate_problems(name, each, self._now, self._expires_soon)

    def _exceptions(self) -> ExceptionsInUse | None:
        shown = []
        for pod in self._facts.replicas:
            each = (pod.policy or {}).get("exceptions")
            if isinstance(each, dict):
                shown.append(each)
                sources = each.get("unreadable")
                if isinstance(sources, list) and sources:
                    listed = ", ".join(map(str, sources))
                    problem = f"has no right to read exceptions with the source {listed}"
                    self._report(f"the replica {pod.name} {problem}"[:300])
        if not shown:
            return None
        ends = [end for each in shown if isinstance(end := each.get("nextEnd"), str)]
        return ExceptionsInUse(
            live={source: max(_count(each.get("live"), source) for each in shown) for source in SOURCES},
            next_end=min(ends, default=None),
            invalid=max(_count(each, "invalid") for each in shown),
            ending=max((_ends(each.get("ending")) for each in shown), key=len),
            ended=max((_ends(each.get("ended")) for each in shown), key=len),
        )

    def _requirements(self) -> Mapping[Met, int] | None:
        if self._policy is None or not self._policy.document.require:
            return None
        samples = [each.metrics for each in self._facts.replicas]
        return {
            result: sum(int(each.get(f'{REQUIREMENTS}{{result="{result}"}}', 0)) for each in samples)
            for result in get_args(Met)
        }

    def _webhooks(self) -> tuple[Webhook, ...]:
        """Compare the configurations with what a pass of the controller would write."""
        live, planned = self._facts.webhooks, {each.path: each for each in self._planned()}
        webhooks = []
        for each in complete(self._installation.target):
            write, current = planned.get(each.path), live.get(each.path)
            problem = self._distrust(current, each) if write is None else _reason(write)
            if problem:
                self._report(f"the webhook configuration {each.name} {problem}")
            verb: Verb | None = None
            if problem and self._has_controller:
                # A bundle that does not trust the Secret is replaced, too, which `changes_to` cannot know.
                verb = "replace" if write is None else write.verb
            webhooks.append(
                Webhook(name=each.name, present=current is not None, as_desired=not problem, planned=verb)
            )
        return tuple(webhooks)

    def _planned(self) -> list[Write]:
        """Return the writes to configurations that a pass of the controller would plan.

        Without a controller, both configurations should exist, and their metadata does not matter.
        """
        facts, target = self._facts, self._installation.target
        removed = removal(self._installation, facts.namespace, facts.owner) if self._has_controller else ""
        if removed and facts.namespace is not None:
            self._report(f"{removed}: the controller deletes the webhook configurations")
        if removed or facts.namespace is None or self._paused_until is not None:
            return [Write("delete", path, reason="removed") for path in facts.webhooks]
        wanted = Wanted(settings=None, mutates=True)
        if self._has_controller:
            # The fast path's conditions are not known here, so expect those that exist.
            wanted = Wanted(settings=self._settings, mutates=self._rewrites(), conditions=NO_CONDITIONS)
        found = [
            bundle
            for each in complete(target)
            for bundle in drift.bundles(facts.webhooks.get(each.path, {}), each)
        ]
        # During a rotation the configurations trust the old CA and the new one, so expect what they have.
        bundle = found[0] if found else b""
        owner = self._installation.owner_of(((facts.owner or {}).get("metadata") or {}).get("uid", ""))
        writes, _, _ = changes_to(target, facts.webhooks, wanted, bundle, owner, Memory(), self._now)
        return [each for each in writes if self._has_controller or not _in_metadata(each)]

    def _distrust(self, live: dict[str, Any] | None, desired: Desired) -> str:
        """Return why API servers do not trust the replicas, empty if they do."""
        bundles = () if live is None else drift.bundles(live, desired)
        if bundles and not bundles[0]:
            return "has no CA bundle"
        if bundles and self._store is not None and not certificates.trusts(bundles[0], self._store):
            return "does not trust the certificate in the Secret"
        return ""

    def _controllers(self) -> bool | None:
        """Check the controllers; return whether the fast path is in step, ``None`` without one."""
        facts = self._facts
        if not self._has_controller or facts.namespace is None:
            return None
        if facts.controller is None:
            self._report(f"the Deployment {self._installation.controller} does not exist")
        self._check_configmaps()
        if not any(each.ready for each in facts.controllers):
            self._report("no controller is ready")
        in_step: bool | None = None
        for each in facts.controllers:
            if each.problem:
                self._report(f"the controller {each.name} cannot be reached: {each.problem}")
                continue
            for what in _alarms(each):
                self._report(f"the controller raises the alarm {what}: see its log")
            if IN_STEP in each.metrics:
                in_step = (in_step is not False) and each.metrics[IN_STEP] == 1
        if in_step is False and self._paused_until is None:
            self._report("the fast path is not in step with the policy")
        self._check_mutation()
        return in_step

    def _check_configmaps(self) -> None:
        """Check that the controller reads the policy that the servers use."""
        namespace = self._installation.namespace
        served = policy_configmap(self._facts.deployment, "serve", namespace)
        read = policy_configmap(self._facts.controller, "control", namespace)
        if served is not None and read is not None and served != read:
            self._report(
                f"the servers read the policy from the ConfigMap {served}, but the controller from {read}"
            )

    def _enforcement(self) -> Enforcement | None:
        """Return the newest proof of a controller."""
        answering = [each.metrics for each in self._facts.controllers if ENFORCED in each.metrics]
        if not answering:
            return None
        metrics = max(answering, key=lambda each: each.get(LAST_ENFORCED, 0.0))
        timestamp = metrics.get(LAST_ENFORCED, 0.0)
        last = datetime.fromtimestamp(timestamp, UTC) if timestamp else None
        found = Enforcement(enforced=metrics[ENFORCED] == 1, last=last)
        if self._paused_until is not None:
            return found
        since = "never" if last is None else f"last at {format_instant(last)}"
        if not found.enforced:
            self._report(f"API servers do not prove that they enforce the policy ({since})")
        elif last is None or self._now - last > ENFORCED_RECENTLY:
            self._report(f"the controller stopped probing whether the policy is enforced ({since})")
        return found

    def _rewrites(self) -> bool | None:
        """Return whether the policy can rewrite images; ``None`` if the policy is not known."""
        return None if self._policy is None else self._policy.rewriting(self._now).possible

    def _check_mutation(self) -> None:
        answering = [each for each in self._facts.controllers if not each.problem]
        if self._paused_until is not None or not answering or not self._rewrites():
            return
        if not any(each.metrics.get(MUTATION_ACTIVE) for each in answering):
            self._report("the mutating webhook is not active yet")


def _in_metadata(write: Write) -> bool:
    return write.verb == "replace" and all(path.startswith("metadata.") for path in write.different)


def _reason(write: Write) -> str:
    match write.verb:
        case "create":
            return "does not exist"
        case "delete":
            return "exists, although it should not"
        case "replace":
            return f"differs in {', '.join(write.different[:5])}"


def _expiries(policy: Policy) -> Iterator[Expiry]:
    for (name, index, *below), entry, until in policy.document.dated():
        if isinstance(entry, Rule):
            shown = str(entry)
        else:
            names = (entry.name,) if isinstance(entry, Key) else entry.names
            shown = f"{name}[{index}] {', '.join(names[:5])}"
        shown = f"{name}[{index}].{shown}" if below else shown
        yield Expiry(entry=shown, at=until, owner=entry.owner if isinstance(entry, Rule) else None)


def _policy_problems(name: str, pod: PodFacts, each: Replica, policy: Policy | None) -> Iterator[str]:
    """Yield the differences between the policy of a replica and the ConfigMap."""
    refused = (pod.policy or {}).get("refused")
    if isinstance(refused, dict):
        findings = refused.get("findings") or [{}]
        yield f"{name} refused a document: {findings[0].get('message', 'see /policy')}"[:300]
    if each.revision is None:
        yield f"{name} has no policy"
    elif policy is not None and each.mode != policy.mode.name:
        yield f"{name} serves the mode {each.mode}, but the ConfigMap has {policy.mode}"
    elif policy is not None and each.revision != policy.revision:
        yield f"{name} serves the revision {each.revision}, but the ConfigMap holds {policy.revision}"


def _certificate_problems(name: str, each: Replica, now: datetime, expires_soon: timedelta) -> Iterator[str]:
    not_after = each.certificate_not_after
    if not_after is None:
        yield f"{name} shows no certificate"
    elif not_after <= now:
        yield f"the certificate of {name} expired at {format_instant(not_after)}"
    elif not_after - now < expires_soon:
        yield f"the certificate of {name} expires at {format_instant(not_after)}"


def _alarms(controller: PodFacts) -> Iterator[str]:
    for sample, value in controller.metrics.items():
        if sample.startswith(ALARM) and value:
            yield sample.removeprefix(ALARM).removesuffix('"}')


def _count(counts: Any, key: str) -> int:
    """Return a number that a replica shows, 0 if it shows none."""
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else 0


def _shown(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _ends(shown: object) -> tuple[Expiry, ...]:
    """Return the ends that a replica shows, none if they have another form."""
    try:
        return msgspec.convert(shown, tuple[Expiry, ...])
    except msgspec.ValidationError:
        return ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
