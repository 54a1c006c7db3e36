"""``gatekeeper-py review``: judge manifests offline, for CI."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
import yaml

from gatekeeper_py.commands.manifests import Manifest, applied, read_manifests
from gatekeeper_py.commands.parameters import EXEMPT_NAMESPACES
from gatekeeper_py.commands.policyinput import now, usable_policy
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import Judgement
from gatekeeper_py.core.admission.messages import image_line
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.reporting.junit import junit
from gatekeeper_py.reporting.manifest import ManifestDumper
from gatekeeper_py.reporting.reviewed import ReviewedImage, ReviewedObject, Verdict, print_reviewed
from gatekeeper_py.reporting.sarif import sarif


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One object with its report; ``stored`` is what the cluster would store."""

    report: ReviewedObject
    stored: Any


@click.command()
@click.argument("policy")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--mutate", is_flag=True, help="Print the admitted objects as they would be stored.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "sarif", "junit"]),
    default="text",
    show_default=True,
)
@EXEMPT_NAMESPACES
def review(
    policy: str,
    files: tuple[str, ...],
    style: Literal["text", "json", "sarif", "junit"],
    exempt_namespaces: tuple[str, ...],
    *,
    mutate: bool,
) -> int:
    """Judge the objects in each FILE (YAML or JSON, - for stdin) as the webhook would.

    Exit code: 0 when all are admitted, 1 when some are rejected, 2 when a file cannot be read.
    """
    if mutate and style in {"sarif", "junit"}:
        raise click.UsageError(f"--mutate prints objects; --format {style} prints a report")
    if (policy, *files).count("-") > 1:
        raise click.UsageError("stdin can be read only once")
    compiled = usable_policy(policy).at(now())
    exempt = frozenset(exempt_namespaces)
    reviewed = [
        review_manifest(manifest, compiled, exempt) for file in files for manifest in read_manifests(file)
    ]
    reports = [each.report for each in reviewed]
    if mutate:
        _print_stored(reviewed, style)
    elif style == "json":
        click.echo(json.dumps([report.as_json() for report in reports], indent=2))
    elif style == "sarif":
        click.echo(json.dumps(sarif(reports), indent=2))
    elif style == "junit":
        click.echo(junit(reports))
    else:
        print_reviewed(reports)
    return 1 if any(report.verdict == "rejected" for report in reports) else 0


def review_manifest(manifest: Manifest, compiled: CompiledPolicy, exempt: frozenset[str]) -> Reviewed:
    """Judge an object as both webhooks would, one after the other; not at all in an exempt namespace."""
    if manifest.namespace in exempt:
        report = ReviewedObject(
            source=manifest.source,
            document=manifest.document,
            kind=manifest.kind,
            namespace=manifest.namespace,
            name=manifest.name,
            verdict="exempt",
            images=(),
        )
        return Reviewed(report=report, stored=manifest.request.object)
    mutated = admission.mutate(manifest.request, compiled)
    stored = applied(mutated.response.patch, manifest.request.object)
    validated = admission.validate(manifest.request._replace(object=stored), compiled)
    verdict: Verdict = "admitted"
    if validated.verdict == "denied":
        verdict = "rejected"
    elif validated.verdict == "warned":
        verdict = "warned"
    elif mutated.verdict == "mutated":
        verdict = "rewritten"
    originals = {judgement.slot.path: judgement.slot.value for judgement in mutated.judgements}
    report = ReviewedObject(
        source=manifest.source,
        document=manifest.document,
        kind=manifest.kind,
        namespace=manifest.namespace,
        name=manifest.name,
        verdict=verdict,
        images=tuple(_image(judgement, originals) for judgement in validated.judgements),
    )
    return Reviewed(report=report, stored=stored)


def _image(judgement: Judgement, originals: dict[str, str]) -> ReviewedImage:
    slot, decision = judgement.slot, judgement.decision
    original = originals.get(slot.path)
    return ReviewedImage(
        path=slot.path,
        image=slot.value if original is None else original,
        approved=judgement.approved,
        reason=decision.reason,
        detail=decision.detail,
        rewritten=judgement.rewritten if original is None else slot.value,
        stored=original is not None,
        message="" if judgement.approved else image_line(judgement),
    )


def _print_stored(reviewed: Sequence[Reviewed], style: str) -> None:
    """Print stored objects on stdout, and on stderr why the others would be rejected."""
    for each in reviewed:
        if each.report.verdict == "rejected":
            for image in each.report.rejected:
                click.echo(f"rejected {escape(each.report.title)}: {image.message}", err=True)
    # A review of a DELETE stores nothing.
    stored = [
        each.stored for each in reviewed if each.report.verdict != "rejected" and each.stored is not None
    ]
    if style == "json":
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": stored}, indent=2))
        return
    yaml.dump_all(stored, sys.stdout, Dumper=ManifestDumper, sort_keys=False, explicit_start=True)
