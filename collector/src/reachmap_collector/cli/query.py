"""`reachmap map`, `flows`, `explain` and `agents`: questions to a running collector."""

from typing import Any, Final

import click

from reachmap_collector import render
from reachmap_collector.cli import names
from reachmap_collector.cli.options import (
    ask,
    ask_for_agents,
    ask_for_flows,
    ask_for_map,
    ends,
    filtered,
    formatted,
    on_bus,
)
from reachmap_collector.views import By


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
    answer = ask_for_map(nats, context, {"by": by, "filters": filters})
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
      reachmap flows --row 7              of row 7 of the port table
      reachmap flows --row '5432 console'
    """
    answer = ask_for_flows(nats, context, filters)
    found, table_rows = answer["flows"], render.printable(answer["rows"])
    render.show(
        style,
        found,
        table=lambda shown, width: render.flows(shown, width, table_rows),
        rows=lambda: render.flow_rows(found),
        columns=render.FLOW_COLUMNS,
        spread=("checks",),
    )


@click.command()
@click.argument("source", required=False, shell_complete=names.hosts)
@click.argument(
    "destination", metavar="[DESTINATION[:PORT]]", required=False, shell_complete=names.hosts
)
@click.option(
    "--row",
    metavar="ROW",
    help="Of a row of a port table, instead of two hosts.",
    shell_complete=names.rows,
)
@click.option("--rules", is_flag=True, help="Show the firewall rules to ask for, in full.")
@formatted
@on_bus
def explain(
    source: str | None,
    destination: str | None,
    row: str | None,
    rules: bool,
    style: str,
    nats: str | None,
    context: str | None,
) -> None:
    """Tell everything known of the flows from one host to another.

    Hosts are given by their names, or by an address of theirs.

    \b
    Examples:
      reachmap explain pc-17 nats-1
      reachmap explain 10.0.7.17 10.0.0.5:4433
      reachmap explain pc-17 nats-1:4433 --rules
      reachmap explain --row 7            what row 7 of the port table stands for
    """
    table_rows = None
    if row is not None and source is None:
        answer = ask_for_flows(nats, context, {"row": row}, details=True)
        found, table_rows = answer["flows"], render.printable(answer["rows"])
    elif row is None and source is not None and destination is not None:
        answer = ask(nats, context, "explain", ends(source, destination))
        found = answer["flows"]
        for address, host in answer.get("hosts", {}).items():
            click.echo(f"{address} is {host}", err=True)
    else:
        raise click.UsageError("expected SOURCE and DESTINATION, or --row ROW alone")
    render.show(
        style,
        found,
        table=lambda shown, width: render.explanation(shown, width, table_rows, rules=rules),
        rows=lambda: render.flow_rows(found),
        columns=render.FLOW_COLUMNS,
        spread=("checks",),
    )


@click.command()
@formatted
@on_bus
def agents(style: str, nats: str | None, context: str | None) -> None:
    """List the agents: who reports, from where, how fresh."""
    answer = ask_for_agents(nats, context)
    render.show(
        style,
        answer,
        table=render.agents,
        rows=lambda: answer,
        columns=render.AGENT_COLUMNS,
    )


COMMANDS: Final = (show_map, flows, explain, agents)
