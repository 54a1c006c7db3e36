"""``gatekeeper-py schema``."""

from __future__ import annotations

import json
from typing import Literal

import click


@click.command()
@click.option(
    "--for",
    "document",
    type=click.Choice(["policy", "exceptions", "test", "webhooks"]),
    default="policy",
    show_default=True,
    help="Which document: a policy, exceptions, a file of policy tests, or webhook settings (webhooks.yaml).",
)
def schema(document: Literal["policy", "exceptions", "test", "webhooks"]) -> None:
    """Print the JSON Schema of a document, for editors."""
    if document == "webhooks":
        from gatekeeper_py.controller.webhooks.settings import settings_schema as found  # noqa: PLC0415
    elif document == "exceptions":
        from gatekeeper_py.core.policy.parse.exceptions import exceptions_schema as found  # noqa: PLC0415
    elif document == "test":
        from gatekeeper_py.cli.inputs.testfile import test_schema as found  # noqa: PLC0415
    else:
        from gatekeeper_py.core.policy.parse.document import json_schema as found  # noqa: PLC0415
    click.echo(json.dumps(found(), indent=2))
