"""``gatekeeper-py explain``: show why an image is approved or rejected."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import format_option, namespace_option, usage
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.cli.inputs.files import SUFFIXES, UnreadableError
from gatekeeper_py.cli.inputs.lookups import with_lookups
from gatekeeper_py.cli.inputs.policies import now, usable_policy
from gatekeeper_py.cli.reporting.console import TEXT_OR_JSON, Console, console
from gatekeeper_py.core.admission.explain import (
    Explanation,
    nearest_as_json,
    rule_as_json,
)
from gatekeeper_py.core.admission.explain import explain as explain_image
from gatekeeper_py.core.admission.messages import exception_text
from gatekeeper_py.core.admission.world import BY_NAME, World
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.rules import Rule

if TYPE_CHECKING:
    from gatekeeper_py.core.compare.difference import Witness

MAX_RULE: Final = 600
"""Maximum number of characters of a rule that are shown. A pattern has at most 512."""

_RULE: Final = re.compile(r"(?P<bare>[0-9]{1,7})|(?P<list>allow|deny)\[(?P<index>[0-9]{1,7})\]")

VERDICT_STYLES: Final = {"approved": "bold green", "rejected": "bold red"}


@click.command()
@click.argument("policy")
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@namespace_option("Judge for a Pod in this namespace. Default: no namespace.")
@options.AT
@format_option(TEXT_OR_JSON)
@options.look_ups
@options.EXCEPTIONS
@click.option(
    "--rule",
    metavar="N",
    help="Show instead the shortest image whose verdict depends on this rule alone. 3 is the rule allow[3]."
    " Write deny[3] for a deny rule.",
)
@click.option(
    "--fast-path",
    is_flag=True,
    help="Show instead whether the API server admits the image without calling the webhook.",
)
@usage(
    "give at most one of --rule, --fast-path and --look-up",
    "give exactly one of IMAGE and --rule",
    "--rule cannot be combined with --namespace",
)
def explain(
    policy: str,
    images: tuple[str, ...],
    namespace: str | None,
    instant: datetime | None,
    exceptions: ExceptionFiles,
    style: str,
    rule: str | None,
    registry_config: Path | None,
    *,
    fast_path: bool,
    look_up: bool,
) -> int:
    """Show which rule of POLICY decides on each IMAGE, or which rules nearly matched.

    Exit code: 0 when all images are approved, 1 when some are rejected, 2 when the policy cannot be used.

    With --fast-path, show instead whether the API server admits a Pod with this image without calling the
    webhook, and why. The exit code is then 0. Use "check --fast-path" to see this for each rule.

    With --rule, show an image whose verdict depends on this rule alone. N counts from 0, as in allow[N]. Exit
    code: 0 when there is such an image; 1 when there is none, so the rule has no effect.

    With --look-up, look up images in registries as the webhook does. Without it, a requirement that needs a
    look-up counts as met.
    """
    if rule is not None:
        return _explain_rule(usable_policy(policy), rule, instant or now(), style)
    _check_images(policy, images)
    if fast_path:
        return _explain_fast_path(usable_policy(policy), images, namespace, instant or now(), style)
    compiled = usable_policy(policy).at(instant or now(), exceptions.read(namespace))

    def judged(world: World) -> list[Explanation]:
        return [explain_image(compiled, namespace, image, world) for image in images]

    explained = with_lookups(compiled, registry_config, judged) if look_up else judged(BY_NAME)
    TEXT_OR_JSON[style](
        lambda: _print_images(explained),
        lambda: [as_json(each) for each in explained],
    )
    return 0 if all(explanation.verdict.approved for explanation in explained) else 1


def _check_images(policy: str, images: Sequence[str]) -> None:
    """Refuse to explain the name of a manifest, and arguments in the wrong order."""
    file = next((image for image in images if image.endswith(SUFFIXES) and os.path.isfile(image)), None)
    if file is not None and policy != "-" and not os.path.exists(policy):
        raise click.UsageError("the policy comes first: gatekeeper-py explain POLICY IMAGE...")
    if file is not None:
        raise click.UsageError(
            f"{file} is a file: to judge manifests, use gatekeeper-py review POLICY FILE..."
        )


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return the stable JSON form of one explanation."""
    verdict = explanation.verdict
    return {
        **verdict.as_json("image"),
        "namespace": explanation.namespace,
        **verdict.as_json("canonical", "verdict", "reason", "detail"),
        "rule": rule_as_json(verdict.decision.rule),
        "exception": None,
        **verdict.as_json("exception"),
        "origins": list(explanation.origins),
        "rewritten": explanation.rewritten,
        "nearest": nearest_as_json(explanation.nearest),
        "mode": explanation.mode.name,
        "effect": explanation.effect,
        **verdict.as_json("requirements"),
    }


def _explain_fast_path(
    policy: Policy, images: Sequence[str], namespace: str | None, instant: datetime, style: str
) -> int:
    # Imported here, like what --rule needs, because most runs explain verdicts.
    from gatekeeper_py.core.compile.fastpath import ENDPOINTS, compile_fastpath  # noqa: PLC0415

    path = compile_fastpath(policy, instant)
    shown: list[dict[str, Any]] = [
        {
            "image": image,
            "namespace": namespace,
            **{
                endpoint: {
                    "preApproved": path.approves(namespace, image, endpoint),
                    "why": path.why(namespace, image, endpoint),
                }
                for endpoint in ENDPOINTS
            },
        }
        for image in images
    ]
    TEXT_OR_JSON[style](lambda: _print_fast_path(shown, ENDPOINTS), lambda: shown)
    return 0


def _explain_rule(policy: Policy, text: str, instant: datetime, style: str) -> int:
    from gatekeeper_py.core.compare.difference import TooComplex, shortest_by  # noqa: PLC0415 - see above

    rule = _rule_named(policy, text)
    expired = not rule.lives_at(instant)
    try:
        witness = None if expired else shortest_by(policy, rule, instant)
    except TooComplex as problem:
        raise UnreadableError(f"no exact answer: {problem}") from None
    answer = {
        "rule": rule_as_json(rule),
        "expired": expired,
        "image": None if witness is None else witness.image,
        "namespace": None if witness is None else witness.namespace,
    }
    TEXT_OR_JSON[style](lambda: _print_rule(rule, witness, expired=expired), lambda: answer)
    return 0 if witness is not None else 1


def _rule_named(policy: Policy, text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise click.UsageError(f"--rule: {text[:60]!r} is not a number, allow[N] or deny[N]")
    kind = match["list"] or "allow"
    rules = policy.allow if kind == "allow" else policy.deny
    index = int(match["bare"] or match["index"])
    if index >= len(rules):
        raise click.UsageError(f"--rule: there is no {kind}[{index}]; the policy has {len(rules)} such rules")
    return rules[index]


def _print_rule(rule: Rule, witness: Witness | None, *, expired: bool) -> None:
    out = console()
    verb = "approves" if rule.list == "allow" else "denies"
    out.print(("rule", "bold"), " ", (escape(str(rule), MAX_RULE), "bold"))
    if expired:
        _row(out, "expired", "it decides nothing any more")
    elif witness is None:
        others = (
            "other rules approve, or deny, all"
            if rule.list == "allow"
            else "no rule approves, or others deny, all"
        )
        _row(out, "needed for", f"no image: {others} that it matches")
    else:
        _row(out, "needed for", f"{witness.image}: the shortest image that only this rule {verb}")
        if witness.namespace is not None and witness.namespace != "default":
            _row(out, "namespace", witness.namespace)


def _print_fast_path(answers: Sequence[dict[str, Any]], endpoints: Sequence[str]) -> None:
    out = console()
    for answer in answers:
        skipped = all(answer[endpoint]["preApproved"] for endpoint in endpoints)
        heading = ("pre-approved", "bold green") if skipped else ("calls the webhook", "bold yellow")
        out.print(heading, " ", (escape(answer["image"]), "bold"))
        for endpoint in endpoints:
            approved, why = answer[endpoint]["preApproved"], answer[endpoint]["why"]
            _row(out, endpoint, f"skipped: {why}" if approved else why)
        out.print()


def _print_images(explained: Sequence[Explanation]) -> None:
    out = console()
    for explanation in explained:
        _print(out, explanation)


def _print(out: Console, explanation: Explanation) -> None:
    verdict, decision = explanation.verdict, explanation.verdict.decision
    style = VERDICT_STYLES[verdict.in_words]
    out.print((verdict.in_words, style), " ", (escape(verdict.image), "bold"))
    if explanation.namespace is not None:
        _row(out, "namespace", escape(explanation.namespace))
    if verdict.canonical is not None:
        _row(out, "canonical", verdict.canonical)
        if explanation.matched_as is not None and not verdict.canonical.startswith(explanation.matched_as):
            _row(out, "matched as", explanation.matched_as)
    for origin in explanation.origins:
        _row(out, "mirrors", origin)
    _row(out, "because", decision.detail)
    if explanation.effect != {"approved": "admitted", "rejected": "refused"}[verdict.in_words]:
        _row(out, "effect", f"{explanation.effect} in mode {explanation.mode}")
    for each in verdict.requirements:
        _row(out, "requires", escape(each.in_words, MAX_RULE))
    decided = decision.exception or decision.rule
    if decided is not None and decision.approved:
        _print_origin(out, decided.owner, decided.reason)
    if decision.ruling is not None and decision.ruling.missed is not None:
        _row(out, "exception", exception_text(decision.ruling.missed))
    for miss in explanation.nearest:
        _row(out, "near miss", f"{miss.rule}: {miss.missed}")
    _print_rewrite(out, explanation)
    out.print()


def _print_origin(out: Console, owner: str | None, reason: str | None) -> None:
    for label, value in (("owner", owner), ("reason", reason)):
        if value:
            _row(out, label, value)


def _print_rewrite(out: Console, explanation: Explanation) -> None:
    if explanation.new is not None and explanation.rewritten is not None:
        then = "approved" if explanation.new.approved else "still rejected"
        _row(out, "mutate", f"{explanation.rewritten} ({then})")
    elif explanation.rewrite_problem:
        _row(out, "mutate", f"left as written: {explanation.rewrite_problem}")


def _row(out: Console, label: str, value: str) -> None:
    out.print((f"  {label:<11}", "dim"), value)
