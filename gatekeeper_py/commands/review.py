"""``gatekeeper-py review``: judge manifests offline, for CI."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import click
import yaml
from rich.text import Text

from gatekeeper_py.commands.findings import console, counted
from gatekeeper_py.commands.manifests import Manifest, applied, read_manifests
from gatekeeper_py.commands.policyinput import now, usable_policy
from gatekeeper_py.commands.reports import junit, sarif
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import Judgement
from gatekeeper_py.core.admission.messages import image_line
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.policy import CompiledPolicy

Verdict = Literal["admitted", "warned", "rejected", "rewritten"]

STYLES: Final = {
    "admitted": "bold green",
    "rewritten": "bold cyan",
    "warned": "bold yellow",
    "rejected": "bold red",
}


class _Dumper(yaml.SafeDumper):
    """Writes every value out: anchors are not for reading."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


# PyYAML knows YAML 1.1 only, and would write the text "12e5" without quotes, which is a number to
# every reader of YAML 1.2, kubectl's among them.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?0o[0-7]+\Z"), list("-+0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One object with its verdict; ``stored`` is what the cluster would keep of it."""

    manifest: Manifest
    verdict: Verdict
    judgements: tuple[Judgement, ...]
    originals: dict[str, str]
    stored: Any

    @property
    def title(self) -> str:
        manifest = self.manifest
        place = f"{manifest.namespace}/{manifest.name}" if manifest.namespace else manifest.name
        return f"{manifest.kind} {place}"


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
def review(
    policy: str, files: tuple[str, ...], style: Literal["text", "json", "sarif", "junit"], *, mutate: bool
) -> int:
    """Judge the objects in each FILE (YAML or JSON, - for stdin) as the webhook would.

    Exits with 0 when all are admitted, 1 when some are rejected, 2 when something cannot be read.
    """
    if mutate and style in {"sarif", "junit"}:
        raise click.UsageError(f"--mutate prints objects; --format {style} prints a report")
    if (policy, *files).count("-") > 1:
        raise click.UsageError("stdin can be read once only")
    compiled = usable_policy(policy).at(now())
    reviewed = [review_manifest(manifest, compiled) for file in files for manifest in read_manifests(file)]
    if mutate:
        _print_stored(reviewed, style)
    elif style == "json":
        click.echo(json.dumps([as_json(each) for each in reviewed], indent=2))
    elif style == "sarif":
        click.echo(json.dumps(sarif(reviewed), indent=2))
    elif style == "junit":
        click.echo(junit(reviewed))
    else:
        _print(reviewed)
    return 1 if any(each.verdict == "rejected" for each in reviewed) else 0


def review_manifest(manifest: Manifest, compiled: CompiledPolicy) -> Reviewed:
    """What both webhooks would do, one after the other."""
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
    return Reviewed(
        manifest=manifest,
        verdict=verdict,
        judgements=validated.judgements,
        originals={judgement.slot.path: judgement.slot.value for judgement in mutated.judgements},
        stored=stored,
    )


def as_json(reviewed: Reviewed) -> dict[str, Any]:
    """The stable form of one object's review."""
    manifest = reviewed.manifest
    return {
        "source": manifest.source,
        "document": manifest.document,
        "kind": manifest.kind,
        "namespace": manifest.namespace,
        "name": manifest.name,
        "verdict": reviewed.verdict,
        "images": [_image(judgement, reviewed.originals) for judgement in reviewed.judgements],
    }


def _image(judgement: Judgement, originals: dict[str, str]) -> dict[str, Any]:
    slot, decision = judgement.slot, judgement.decision
    original = originals.get(slot.path)
    return {
        "path": slot.path,
        "image": slot.value if original is None else original,
        "verdict": "approved" if decision.approved else "rejected",
        "reason": decision.reason,
        "detail": decision.detail,
        "rewritten": judgement.rewritten if original is None else slot.value,
    }


def _print(reviewed: Sequence[Reviewed]) -> None:
    out = console()
    for each in reviewed:
        place = f"{each.manifest.source}[{each.manifest.document}]"
        out.print(
            Text.assemble(
                (each.verdict, STYLES[each.verdict]), " ", (escape(each.title), "bold"), f" {place}"
            )
        )
        for judgement in each.judgements:
            line = _line(judgement, each.originals)
            if line:
                out.print(f"  {line}")
    counts = [(verdict, sum(each.verdict == verdict for each in reviewed)) for verdict in STYLES]
    said = ", ".join(f"{number} {verdict}" for verdict, number in counts if number)
    out.print(f"{counted(len(reviewed), 'object')}: {said or 'nothing to judge'}")


def _line(judgement: Judgement, originals: dict[str, str]) -> str:
    """What there is to say of one image; nothing for one that is approved as it stands."""
    path = judgement.slot.path
    if not judgement.approved:
        return image_line(judgement)
    if judgement.rewritten is not None:
        return f"{escape(path)}: {escape(judgement.slot.value)} will run as {judgement.rewritten}"
    if path in originals:
        return f"{escape(path)}: {escape(originals[path])} becomes {judgement.slot.value}"
    return ""


def _print_stored(reviewed: Sequence[Reviewed], style: str) -> None:
    """Objects on stdout; what the cluster would not store is named on stderr."""
    for each in reviewed:
        if each.verdict == "rejected":
            for judgement in each.judgements:
                if not judgement.approved:
                    click.echo(f"rejected {escape(each.title)}: {image_line(judgement)}", err=True)
    # A review of a DELETE stores nothing.
    stored = [each.stored for each in reviewed if each.verdict != "rejected" and each.stored is not None]
    if style == "json":
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": stored}, indent=2))
        return
    yaml.dump_all(stored, sys.stdout, Dumper=_Dumper, sort_keys=False, explicit_start=True)
