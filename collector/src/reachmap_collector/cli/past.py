"""`reachmap history`, `diff`, `trend` and `watch`: what became of flows, and what becomes."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from reachmap_collector import render
from reachmap_collector.cli import access, alerts, names
from reachmap_collector.cli.moments import moment
from reachmap_collector.cli.options import ask_long, ends, formatted, narrowed, on_bus
from reachmap_collector.cli.watching import watched
from reachmap_shared import log
from reachmap_shared.lifecycle import run_until_signal

Command = TypeVar("Command", bound=Callable[..., Any])

_PAGE: Final = 500


def past_filtered(command: Command) -> Command:
    """Which flows: --source, --destination, --service, --role; they combine."""
    for name, complete, what in (
        ("role", names.roles, "With this role on either end."),
        ("service", names.services, "To this service, as in nats-server:4433."),
        ("destination", names.hosts, "To this host, also by a name that it had."),
        ("source", names.hosts, "From this host, also by a name that it had."),
    ):
        command = narrowed(name, complete, what)(command)
    return command


@click.command()
@past_filtered
@click.option(
    "--since",
    type=moment,
    metavar="TIME",
    help="From then on: '2 hours ago', 'yesterday 14:00', ...",
)
@click.option("--until", type=moment, metavar="TIME", help="Before then.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="The latest N alone.  [default: 50 in a table, else all]",
)
@formatted
@on_bus
def history(
    since: str | None,
    until: str | None,
    limit: int | None,
    style: str,
    nats: str | None,
    context: str | None,
    **filters: Any,
) -> None:
    """List what became of flows, newest first.

    A host keeps its history when it gets another address, and, with `was` in the topology, when it
    gets another name.

    \b
    Examples:
      reachmap history --since "2 hours ago"
      reachmap history --source pc-17 --service nats-server:4433
      reachmap history --since yesterday --until "yesterday 14:00" --format csv
    """
    if limit is None and style == "table":
        limit = 50
    asked = {"filters": filters, "since": since, "until": until}
    found: list[Any] = []
    after: Any = None
    while True:
        left = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = ask_long(nats, context, "history", {**asked, "after": after, "limit": left})
        found += page["transitions"]
        after = page["next"]
        if after is None or len(found) == limit:
            break
    render.show(
        style,
        found,
        table=lambda shown, width: render.history(shown, width, more=after is not None),
        rows=lambda: found,
        columns=render.HISTORY_COLUMNS,
    )


@click.command()
@past_filtered
@click.option(
    "--since",
    type=moment,
    metavar="TIME",
    required=True,
    help="Compare how it was then: '1 hour ago'.",
)
@click.option("--until", type=moment, metavar="TIME", help="How it was then.  [default: now]")
@formatted
@on_bus
def diff(
    since: str,
    until: str | None,
    style: str,
    nats: str | None,
    context: str | None,
    **filters: Any,
) -> None:
    """Tell what changed between two times: what broke, healed, appeared, grouped and counted.

    \b
    Examples:
      reachmap diff --since "1 hour ago"
      reachmap diff --since "yesterday 18:00" --until "today 08:00" --role agent
    """
    answer: Any = None
    asked = {"filters": filters, "since": since, "until": until}
    groups: list[Any] = []
    after: Any = None
    while True:
        answer = ask_long(nats, context, "diff", {**asked, "after": after})
        groups += answer["groups"]
        after = answer["next"]
        if after is None:
            break
        asked["until"] = answer["until"]  # of the same moment as the first page
    shown = {name: value for name, value in answer.items() if name != "next"} | {"groups": groups}
    render.show(
        style,
        shown,
        table=render.diff,
        rows=lambda: groups,
        columns=render.DIFF_COLUMNS,
        left_out="the times compared and the counts",
    )


@click.command()
@click.argument("source", shell_complete=names.hosts)
@click.argument("destination", metavar="DESTINATION[:PORT]", shell_complete=names.hosts)
@click.option(
    "--since",
    type=moment,
    metavar="TIME",
    help="From then on: '1 day ago'.  [default: an hour before the end]",
)
@click.option("--until", type=moment, metavar="TIME", help="Before then.  [default: now]")
@click.option(
    "--steps",
    type=click.IntRange(1, 500),
    metavar="N",
    default=12,
    show_default=True,
    help="Into how many steps the time is cut.",
)
@formatted
@on_bus
def trend(
    source: str,
    destination: str,
    since: str | None,
    until: str | None,
    steps: int,
    style: str,
    nats: str | None,
    context: str | None,
) -> None:
    """Tell how flows between two hosts fared: checks, how many found it open, how fast.

    Every check counts, also those that changed nothing. They are kept for 90 days.

    \b
    Examples:
      reachmap trend pc-17 nats-1:4433
      reachmap trend pc-17 db-1 --since "1 week ago" --steps 7
      reachmap trend pc-17 nats-1:4433 --since "1 day ago" --steps 96 --format csv
    """
    asked = ends(source, destination) | {"since": since, "until": until, "steps": steps}
    answer = ask_long(nats, context, "trend", asked)
    render.show(
        style,
        answer,
        table=render.trend,
        rows=lambda: render.trend_rows(answer),
        columns=render.TREND_COLUMNS,
        left_out="the span and the flows' whole counts",
    )


@click.command()
@past_filtered
@click.option("--alerts", "of_alerts", is_flag=True, help="Alerts as they come and go, as NDJSON.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "ndjson"]),
    default="table",
    show_default=True,
    help="A line a change, for people or for programs.",
)
@on_bus
def watch(
    style: str, of_alerts: bool, nats: str | None, context: str | None, **filters: Any
) -> None:
    """Tell of changes as they happen, one a line, until Ctrl-C.

    After an outage of the bus or the collector it goes on where it was: nothing is lost, and
    nothing told twice.

    \b
    Examples:
      reachmap watch
      reachmap watch --role agent --format ndjson
      reachmap watch --alerts | jq -r .summary
    """
    log.configure(verbose=False)
    meant = {name: value for name, value in filters.items() if value is not None}
    where = access.server(nats, context)
    if of_alerts:
        if meant:
            raise click.UsageError("--alerts takes no filters: an alert is of many flows")
        run_until_signal(lambda: alerts.follow(where))
        return

    def show(changes: Sequence[Any]) -> None:
        for one in changes:
            if style == "ndjson":
                click.echo(json.dumps(one))
            else:
                render.print_trimmed(render.console(), render.change(render.printable(one)))

    run_until_signal(lambda: watched(where, meant, show))


COMMANDS: Final = (history, diff, trend, watch)
