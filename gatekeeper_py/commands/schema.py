"""``gatekeeper-py schema``."""

from __future__ import annotations

import json
from typing import Literal

import click


@click.command()
@click.option(
    "--for",
    "document",
    type=click.Choice(["policy", "webhooks"]),
    default="policy",
    show_default=True,
    help="The document: the policy, or webhooks.yaml of the controller.",
)
def schema(document: Literal["policy", "webhooks"]) -> None:
    """Print the JSON Schema of a document, for editors."""
    if document == "webhooks":
        from gatekeeper_py.control.webhooks.settings import settings_schema as found  # noqa: PLC0415
    else:
        from gatekeeper_py.core.policy.parse.schema import json_schema as found  # noqa: PLC0415
    click.echo(json.dumps(found(), indent=2))
