"""`reachmap export`: the map in other programs' formats."""

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from reachmap_collector.cli.options import (
    ask,
    ask_for_agents,
    ask_for_flows,
    filtered,
    on_bus,
)
from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.export import EXPORTERS, Options, Snapshot
from reachmap_collector.views import By

_MEANT_FOR: Final = {"by": ("dot", "mermaid"), "per_flow": ("prometheus",)}
"""Options that only some formats heed; with any other they are a mistake."""


@click.command()
@click.option(
    "--format",
    "style",
    type=click.Choice([*EXPORTERS]),
    required=True,
    help="What to make of the map.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, at once and whole; standard output else.",
)
@click.option(
    "--by",
    type=click.Choice([By.ROLE.value, By.HOST.value]),
    default=By.ROLE.value,
    show_default=True,
    help="What the nodes of dot and mermaid are.",
)
@click.option("--per-flow", is_flag=True, help="With prometheus: series for each flow.")
@filtered
@on_bus
def export(
    style: str,
    output: Path | None,
    by: str,
    per_flow: bool,
    nats: str | None,
    context: str | None,
    **filters: Any,
) -> None:
    """Give the map to other programs.

    \b
    Examples:
      reachmap export --format html --output map.html
      reachmap export --format junit --row 7 > row-7.xml
      reachmap export --format dot --by host | dot -Tsvg > map.svg
    """
    invocation = click.get_current_context()
    for name, formats in _MEANT_FOR.items():
        is_typed = invocation.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and style not in formats:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} is for --format {' and '.join(formats)}")
    snapshot = Snapshot(
        flows=ask_for_flows(nats, context, filters, details=True)["flows"],
        agents=ask_for_agents(nats, context),
        status=ask(nats, context, "status"),
    )
    text = EXPORTERS[style](snapshot, Options(By(by), per_flow))
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)


def _write(path: Path, text: str) -> None:
    """Put a file in place whole, so that whoever reads it meanwhile never sees half of it."""
    made: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            made = Path(file.name)
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(0o666 & ~mask)  # as any new file: a temporary one is its owner's alone
        made.replace(path)
    except OSError as error:
        if made is not None:
            made.unlink(missing_ok=True)
        reason = f"cannot be written: {error.strerror}"
        raise InvalidFile(path, [Problem("", reason)]) from error


COMMANDS: Final = (export,)
