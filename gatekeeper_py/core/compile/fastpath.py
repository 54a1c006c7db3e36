"""The fast path of a policy: the pre-approved images, and the match conditions for them.

Source: docs/fast-path.md. All code here errs on the safe side. An image that is pre-approved is approved by
``decide`` in that namespace, in every mode, from the instant of the compilation until ``valid_until``. If
this is not certain for an image, the image is not pre-approved, which only costs a call of the webhook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.compile import exclusions, expression
from gatekeeper_py.core.compile.choice import Candidate, Choice, choose
from gatekeeper_py.core.compile.exclusions import Exclusion, scope_of
from gatekeeper_py.core.compile.preapproved import EVERYTHING, NOTHING, PreApproved
from gatekeeper_py.core.compile.written import MAX_LENGTH, parse_full
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import ANY
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    InvalidReference,
)
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.finding import Finding, Remark, Remarks
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule

WebhookKind = Literal["validating", "mutating"]
ENDPOINTS: Final[tuple[WebhookKind, ...]] = ("validating", "mutating")

NEVER_CALLED: Final = "no image is ever rewritten"
EXCLUSION_VERBS: Final[Mapping[WebhookKind, str]] = MappingProxyType(
    {"validating": "covers", "mutating": "rewrites"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """An allow rule, and for each webhook why it is called for all images of the rule.

    The reason is empty if the images are pre-approved, even if some of them are excluded, such as a denied
    subtree.
    """

    rule: Rule
    validating: str = ""
    mutating: str = ""

    def why_not(self, endpoint: WebhookKind) -> str:
        return self.validating if endpoint == "validating" else self.mutating


@dataclass(frozen=True, kw_only=True)
class FastPath:
    """The images that a policy pre-approves from the instant of its compilation until ``valid_until``.

    ``validating`` and ``mutating`` are the expressions for the webhooks' ``matchConditions``: true when the
    webhook must be called. ``None`` means that the webhook is always called and must have no condition.
    ``valid_until`` is the first instant at which a pre-approved image may no longer be approved, ``None`` if
    there is no such instant.
    """

    rules: tuple[RuleVerdict, ...]
    approved: Mapping[WebhookKind, PreApproved]
    validating: str | None
    mutating: str | None
    valid_until: datetime | None

    def expression(self, endpoint: WebhookKind) -> str | None:
        return self.validating if endpoint == "validating" else self.mutating

    def approves(self, namespace: str | None, image: str, endpoint: WebhookKind) -> bool:
        """Return whether an image is pre-approved, or the endpoint is never called."""
        return self.approved[endpoint].has(namespace, image)

    def tightens(self, previous: FastPath | None) -> bool:
        """Return whether an image that was pre-approved may no longer be.

        Such a change must reach the API server before anything that relies on it. If ``previous`` is
        ``None``, it is unknown, and everything may have been pre-approved.
        """
        return previous is None or not all(
            self.approved[endpoint].covers(previous.approved[endpoint]) for endpoint in ENDPOINTS
        )

    def why(self, namespace: str | None, image: str, endpoint: WebhookKind) -> str:
        """Return on one line why an image is pre-approved or not."""
        approved = self.approved[endpoint]
        if approved.everything:
            return NEVER_CALLED
        if len(image) > MAX_LENGTH:
            return f"it is longer than {MAX_LENGTH} characters"
        name = parse_full(image)
        if name is None:
            return _why_not_in_full(image)
        excluded = approved.excluding(namespace, name)
        included = approved.including(namespace, name)
        if included is not None:
            return f"it is excluded: {excluded.because}" if excluded else f"{included.because} approves it"
        for verdict in self.rules:
            if verdict.why_not(endpoint) and verdict.rule.pattern.matches(name):
                return f"{verdict.rule} matches it, but {verdict.why_not(endpoint)}"
        return "no allow rule matches it" + ("" if namespace is None else f" in {namespace}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The instant of a compilation, and the instant until which a rule must be valid to be included."""

    now: datetime
    until: datetime


Guard = Callable[[Rule, Policy, Moment], str]
"""Returns why no image of a rule can be pre-approved, an empty text if there is no reason."""


def compile_fastpath(policy: Policy, now: datetime, *, lasting: timedelta = timedelta()) -> FastPath:
    """Compile a policy, whatever its mode, as of an instant.

    Rules that expire within ``lasting`` are left to the webhook. Raises ``ValueError`` for an instant
    without an offset.
    """
    return _compile(policy, Moment(now=now, until=now + lasting), GUARDS, EXCLUSIONS)


def not_pre_approved(policy: Policy, now: datetime) -> tuple[Finding, ...]:
    """Return an informational finding for each allow rule whose images always need a call of the webhook.

    Further findings name the rules whose expiry ends the validity of match conditions that are compiled now.
    """
    fast_path, remarks = compile_fastpath(policy, now), Remarks()
    end = "" if fast_path.valid_until is None else format_instant(fast_path.valid_until)
    remarks.extend(
        Remark(
            severity="information",
            code="not-pre-approved",
            path=(verdict.rule.list, verdict.rule.index),
            message=f"the fast path leaves {verdict.rule} to the webhook: {verdict.validating}",
        )
        for verdict in fast_path.rules
        if verdict.validating
    )
    remarks.extend(
        Remark(
            severity="information",
            code="conditions-expire",
            path=(rule.list, rule.index, "until"),
            message=f"match conditions that are compiled now must be replaced before {end}",
        )
        for rule in policy.allow
        if rule.until is not None and rule.until == fast_path.valid_until
    )
    return as_findings(policy.text, remarks)


def _expired(rule: Rule, _: Policy, moment: Moment) -> str:
    if rule.lives_at(moment.until):
        return ""
    return "it expires soon" if rule.lives_at(moment.now) else "it has expired"


def _declared(_: Rule, policy: Policy, __: Moment) -> str:
    declared = any((entry.group, entry.kind) == POD for entry in policy.document.resources)
    return "resources declares further images of Pods" if declared else ""


def _spelling(rule: Rule, _: Policy, __: Moment) -> str:
    """Return a problem if no image written in full is parsed as an image that the rule matches.

    For example, the registry ``foo:443`` is folded to ``foo``, but ``foo/app`` is an image of Docker Hub.
    """
    entry = _included(rule)
    name = parse_full(entry.images.example("x"))
    return "" if name is not None and entry.images.matches(name) else "no image of it can be written in full"


GUARDS: Final[Mapping[str, Guard]] = MappingProxyType(
    {"until": _expired, "declared": _declared, "spelling": _spelling}
)
"""The reasons why a whole rule is not pre-approved, by name. A test removes them one at a time."""

EXCLUSIONS: Final[Mapping[WebhookKind, Mapping[str, Exclusion]]] = MappingProxyType(
    {"validating": exclusions.VALIDATING, "mutating": exclusions.MUTATING}
)


def _compile(
    policy: Policy,
    moment: Moment,
    guards: Mapping[str, Guard],
    excluding: Mapping[WebhookKind, Mapping[str, Exclusion]],
) -> FastPath:
    problems = {
        rule.index: problem
        for rule in policy.allow
        for problem in [next(filter(None, (guard(rule, policy, moment) for guard in guards.values())), "")]
        if problem
    }
    chosen = {
        endpoint: choose(
            _candidates(policy, problems, endpoint),
            (entry for exclusion in excluding[endpoint].values() for entry in exclusion(policy, moment.now)),
            EXCLUSION_VERBS[endpoint],
        )
        for endpoint in ENDPOINTS
    }
    approved = {endpoint: choice.approved for endpoint, choice in chosen.items()}
    if not approved["validating"]:
        approved["mutating"] = NOTHING
    elif not policy.rewrites:
        # The mutating webhook has no effect in any mode.
        approved["mutating"] = EVERYTHING
    return FastPath(
        rules=tuple(_verdict(rule, problems, chosen, approved) for rule in policy.allow),
        approved=MappingProxyType(approved),
        validating=_expression(approved["validating"]),
        mutating=_expression(approved["mutating"]),
        valid_until=chosen["validating"].until,
    )


def _candidates(policy: Policy, problems: Mapping[int, str], endpoint: WebhookKind) -> Iterator[Candidate]:
    for rule in policy.allow:
        if rule.index not in problems:
            entry = _included(rule)
            if endpoint == "validating":
                yield Candidate(index=rule.index, entry=entry, until=rule.until)
            else:
                # Whether a mirror rewrites an image does not depend on the namespace or the time.
                yield Candidate(index=rule.index, entry=replace(entry, namespaces=None))


def _included(rule: Rule) -> Scope:
    """Return the set of images written in full that a rule matches."""
    entry = scope_of(rule)
    images = entry.images
    if images.host == DOCKER_HUB and not images.segments:
        # On Docker Hub, the path of an image written in full has at least two segments.
        return replace(entry, images=replace(images, segments=(ANY,)))
    return entry


def _verdict(
    rule: Rule,
    problems: Mapping[int, str],
    chosen: Mapping[WebhookKind, Choice],
    approved: Mapping[WebhookKind, PreApproved],
) -> RuleVerdict:
    def why(endpoint: WebhookKind) -> str:
        if approved[endpoint].everything:
            return ""
        return problems.get(rule.index) or chosen[endpoint].problems.get(rule.index, "")

    return RuleVerdict(rule=rule, validating=why("validating"), mutating=why("mutating"))


def _expression(approved: PreApproved) -> str | None:
    return expression.expression(approved).text if approved else None


def _why_not_in_full(image: str) -> str:
    try:
        name = parse_image(image).name
    except InvalidReference as problem:
        return f"it is never approved: {problem}"
    return f"it is not written in full: {name}, then :tag, @sha256:digest, both or neither"
