"""``gatekeeper-py review``: judge manifests offline, for CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import format_option, namespace_option, usage
from gatekeeper_py.cli.inputs.cluster import exempt_by
from gatekeeper_py.cli.inputs.exceptions import ExceptionFiles
from gatekeeper_py.cli.inputs.files import shown
from gatekeeper_py.cli.inputs.lookups import with_lookups
from gatekeeper_py.cli.inputs.manifests import Manifest, Skipped, applied, read_manifests
from gatekeeper_py.cli.inputs.policies import now, usable_policy, usable_settings
from gatekeeper_py.cli.inventory.provenance import Provenance, provenance
from gatekeeper_py.cli.reporting.console import TEXT_OR_JSON, json_text, note
from gatekeeper_py.cli.reporting.junit import junit
from gatekeeper_py.cli.reporting.manifest import user_yaml
from gatekeeper_py.cli.reporting.reviewed import ObjectVerdict, ReviewedObject, print_reviewed
from gatekeeper_py.cli.reporting.sarif import sarif
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import BY_NAME, World
from gatekeeper_py.core.admission.fields import is_kubernetes_group
from gatekeeper_py.core.admission.messages import image_line, kept_text
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import API_VERSION, MODES
from gatekeeper_py.core.policy.policy import CompiledPolicy

KUSTOMIZE_GROUP: Final = "kustomize.config.k8s.io"

_KUSTOMIZED: Final = "kustomize replaces images by its field images: review the output of kustomize build"
_OURS: Final = "this is a document for gatekeeper-py, which no cluster can store"


FORMATS: Final[Mapping[str, Callable[[list[ReviewedObject], Provenance], None]]] = {
    "text": print_reviewed,
    "json": lambda reports, _: click.echo(json_text([each.as_json() for each in reports])),
    "sarif": lambda reports, meta: click.echo(json_text(sarif(reports, meta))),
    "junit": lambda reports, meta: click.echo(junit(reports, meta)),
}


@click.command()
@click.argument("policy")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@namespace_option("Namespace for objects that do not name one.", default="default")
@click.option(
    "--mode",
    type=click.Choice(tuple(MODES)),
    help="Judge in this mode instead of the policy's. The policy's entries under namespaces take precedence.",
)
@click.option(
    "--mutate",
    is_flag=True,
    help="Print the admitted objects as they would be stored, with rewritten images.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 for unknown kinds (kinds in which no image is found) and for skipped files, too.",
)
@click.option(
    "--ignore",
    metavar="GLOB",
    multiple=True,
    help="Leave out files and folders of a directory, such as '.github' or '**/values*.yaml'. * stands for a"
    " part of a name, ** for any number of folders. The path begins below the directory. Repeatable.",
)
@format_option(FORMATS)
@options.look_ups
@options.EXCEPTIONS
@options.CLUSTER_NAME
@options.exemptions
@usage(
    *(f"--mutate cannot be combined with --format {each}" for each in FORMATS if each not in TEXT_OR_JSON),
    "give at most one of POLICY -, FILE - and --webhooks-config -: stdin can be read only once",
)
def review(
    policy: str,
    files: tuple[str, ...],
    namespace: str,
    mode: str | None,
    style: str,
    exempt_namespaces: tuple[str, ...],
    exceptions: ExceptionFiles,
    cluster_name: str | None,
    registry_config: Path | None,
    webhooks_config: str | None,
    ignore: tuple[str, ...],
    *,
    mutate: bool,
    strict: bool,
    look_up: bool,
) -> int:
    """Judge the objects in each FILE as the webhook would.

    A FILE is YAML or JSON, - for stdin, or a directory. In a directory and all folders below it, the files
    *.yaml, *.yml and *.json are read. Files there that are not Kubernetes manifests, such as chart templates,
    values and CI files, are skipped, and a line on stderr counts them.

    With --webhooks-config, namespaces can be exempt by name or by label. The command reads the labels from
    the Namespace objects in the files. A namespace without such an object can be exempt only by name.

    Without --look-up, images are judged by name only. With --look-up, an image that does not exist is
    rejected. If a registry cannot be queried and the policy says onError: keep, the image is left as written
    and judged by name, and the command prints a warning.

    Exit code: 0 when all objects are admitted, 1 when some are rejected, 2 when a file cannot be read or
    holds no object.
    """
    if ignore and not any(map(os.path.isdir, files)):
        raise click.UsageError("--ignore leaves out files of a directory, but no FILE is a directory")
    chosen = usable_policy(policy, "gatekeeper-py review POLICY FILE...")
    instant = now()
    judged_by = chosen if mode is None else replace(chosen, mode=MODES[mode])
    compiled = judged_by.at(instant, exceptions.read(namespace))
    meta = provenance(instant, cluster_name, judged_by, shown(policy))
    settings = None if webhooks_config is None else usable_settings(webhooks_config)
    skipped = Skipped()
    manifests = [
        manifest
        for file in files
        for manifest in read_manifests(file, namespace=namespace, skipped=skipped, ignore=ignore)
    ]
    if skipped.files:
        note(f"note: {skipped}")

    exempt = frozenset(exempt_namespaces) if settings is None else exempt_among(settings, manifests)

    def judged(world: World) -> list[ReviewedObject]:
        return [review_manifest(each, compiled, exempt, world) for each in manifests]

    reviewed = with_lookups(compiled, registry_config, judged) if look_up else judged(BY_NAME)
    for each in reviewed:
        for warning in each.warnings:
            note(f"Warning: {escape(each.title)}: {escape(warning, 500)}")
    if mutate:
        stored = _stored(reviewed)
        TEXT_OR_JSON[style](
            lambda: click.echo(user_yaml(stored), nl=False),
            lambda: {"apiVersion": "v1", "kind": "List", "items": stored},
        )
    else:
        FORMATS[style](reviewed, meta)
    failing = {"rejected", "unknown"} if strict else {"rejected"}
    is_failure = any(each.verdict in failing for each in reviewed) or (strict and skipped.files)
    return 1 if is_failure else 0


def exempt_among(settings: WebhookSettings, manifests: Iterable[Manifest]) -> frozenset[str]:
    """Return the exempt namespaces. Labels are read from the Namespace objects among the manifests."""
    namespaces = (each.request.object for each in manifests if each.kind == "Namespace")
    return exempt_by(settings, namespaces)


def review_manifest(
    manifest: Manifest,
    compiled: CompiledPolicy,
    exempt: AbstractSet[str],
    world: World = BY_NAME,
) -> ReviewedObject:
    """Judge an object as the mutating webhook, and then the validating webhook, would.

    An object in an exempt namespace is not judged. ``world`` is what registries hold.
    """
    obj = manifest.request.object
    if manifest.namespace in exempt:
        return ReviewedObject(manifest=manifest, verdict="exempt", mode=None, stored=obj)
    mutated = admission.mutate(manifest.request, compiled, world)
    stored = applied(mutated.response.patch, obj)
    validated = admission.validate(manifest.request._replace(object=stored), compiled, world)
    is_kustomized = _overrides_images(manifest)
    is_ours = manifest.request.group == API_VERSION.partition("/")[0]
    if validated.exemption == "unknown-kind" and (
        is_kustomized or not is_kubernetes_group(manifest.request.group)
    ):
        return ReviewedObject(
            manifest=manifest,
            verdict="unknown",
            mode=validated.mode,
            stored=stored,
            note=_KUSTOMIZED
            if is_kustomized
            else _OURS
            if is_ours
            else " ".join(validated.response.warnings),
            empty=True,
        )
    verdict: ObjectVerdict = "admitted"
    if validated.verdict == "denied":
        verdict = "rejected"
    elif validated.verdict == "warned":
        verdict = "warned"
    elif mutated.verdict == "mutated":
        verdict = "rewritten"
    warnings = (
        *(f"{each.slot.value}{kept_text(each)}" for each in mutated.kept),
        *(
            f"{each.slot.value} could not be verified: {each.unverified}"
            for each in validated.images
            if each.unverified
        ),
    )
    declared = (manifest.request.group, manifest.request.kind) in compiled.resources
    return ReviewedObject(
        manifest=manifest,
        verdict=verdict,
        mode=validated.mode,
        stored=stored,
        images=validated.images,
        originals={each.slot.parts: each.slot.value for each in mutated.images},
        warnings=warnings,
        empty=verdict == "admitted" and not validated.images and not declared,
    )


def _overrides_images(manifest: Manifest) -> bool:
    """Return whether an object is a kustomization that replaces images of other objects."""
    obj = manifest.request.object
    return manifest.request.group == KUSTOMIZE_GROUP and isinstance(obj, dict) and bool(obj.get("images"))


def _stored(reviewed: Sequence[ReviewedObject]) -> list[Any]:
    """Return the stored objects, and print the reasons for rejections on stderr."""
    for each in reviewed:
        if each.verdict == "rejected":
            for image in each.rejected:
                note(f"rejected {escape(each.title)}: {image_line(image)}")
    # A review of a DELETE stores nothing.
    return [each.stored for each in reviewed if each.verdict != "rejected" and each.stored is not None]
