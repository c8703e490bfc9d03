"""`reachmap map`, `flows`, `explain`, `agents` and `status`: questions to a running collector."""

import sys
from typing import Any, Final

import click

from reachmap_collector import render
from reachmap_collector.cli.options import ask, ask_for_flows, filtered, formatted, on_bus
from reachmap_collector.views import By
from reachmap_shared.errors import BusError
from reachmap_shared.names import port_number


@click.command("map")
@click.option(
    "--by",
    type=click.Choice([by.value for by in By]),
    default=By.ROLE.value,
    show_default=True,
    help="What the rows are: roles, hosts, or rows of the profiles' port tables.",
)
@filtered
@formatted
@on_bus
def show_map(by: str, style: str, nats: str | None, context: str | None, **filters: Any) -> None:
    """Show the map: who must reach what, and whether they do.

    \b
    Examples:
      reachmap map
      reachmap map --by host --role agent
      reachmap map --by row            every row of the port table, accounted for
    """
    answer = ask(nats, context, "map", {"by": by, "filters": filters})
    render.show(
        style,
        answer,
        table=render.matrix,
        rows=lambda: render.matrix_rows(answer),
        columns=render.MATRIX_COLUMNS[by],
    )


@click.command()
@filtered
@formatted
@on_bus
def flows(style: str, nats: str | None, context: str | None, **filters: Any) -> None:
    """List flows, one a line.

    \b
    Examples:
      reachmap flows --state broken
      reachmap flows --source pc-17 --format json
    """
    found = ask_for_flows(nats, context, filters)
    render.show(
        style,
        found,
        table=render.flows,
        rows=lambda: render.flow_rows(found),
        columns=render.FLOW_COLUMNS,
        spread=("checks",),
    )


@click.command()
@click.argument("source")
@click.argument("destination", metavar="DESTINATION[:PORT]")
@formatted
@on_bus
def explain(
    source: str, destination: str, style: str, nats: str | None, context: str | None
) -> None:
    """Tell everything known of the flows from one host to another.

    \b
    Examples:
      reachmap explain pc-17 nats-1
      reachmap explain pc-17 nats-1:4433
    """
    host, colon, port = destination.partition(":")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise click.BadParameter(f"{port!r} is not a port", param_hint="DESTINATION[:PORT]")
    parameters: dict[str, Any] = {"source": source, "destination": host}
    if colon:
        parameters["port"] = port_number(int(port))
    answer = ask(nats, context, "explain", parameters)["flows"]
    render.show(
        style,
        answer,
        table=render.explanation,
        rows=lambda: render.flow_rows(answer),
        columns=render.FLOW_COLUMNS,
        spread=("checks",),
    )


@click.command()
@formatted
@on_bus
def agents(style: str, nats: str | None, context: str | None) -> None:
    """List the agents: who reports, from where, how fresh."""
    answer = ask(nats, context, "agents")["agents"]
    render.show(
        style,
        answer,
        table=render.agents,
        rows=lambda: answer,
        columns=render.AGENT_COLUMNS,
    )


@click.command()
@formatted
@on_bus
def status(style: str, nats: str | None, context: str | None) -> None:
    """Say in one line how things are, with Nagios's exit codes and performance data.

    Exit code 0: all as expected; 1: degraded or unknown; 2: broken or exposed; 3: cannot tell.
    """
    try:
        answer = ask(nats, context, "status")
    except BusError as error:
        click.echo(f"REACHMAP UNKNOWN - {error}", err=style != "table")
        sys.exit(3)
    render.show(
        style,
        answer,
        table=render.status,
        rows=lambda: render.status_rows(answer),
        spread=("agents", "delivery", "store", "observations"),
    )
    sys.exit(render.status_exit_code(answer))


COMMANDS: Final = (show_map, flows, explain, agents, status)
