"""``gatekeeper-py schema``."""

from __future__ import annotations

import json

import click

from gatekeeper_py.core.policy.parse.schema import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of the policy document, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))
