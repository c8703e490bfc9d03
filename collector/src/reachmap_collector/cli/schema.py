"""`reachmap schema`: the JSON Schemas of what `--format json` prints."""

import json
from typing import Final

import click

from reachmap_collector import documents


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(sorted(documents.DOCUMENTS)))
def schema(name: str) -> None:
    """Print the JSON Schema (2020-12) of what a command gives with --format json.

    NAME is agents, diff, explain, flows, history, map, status or topology.

    \b
    Example:
      reachmap schema flows > flows.schema.json
    """
    click.echo(json.dumps(documents.schema(name), indent=2))


COMMANDS: Final = (schema,)
