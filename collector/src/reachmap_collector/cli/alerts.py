"""`reachmap alerts` and `reachmap watch --alerts`: what is wrong, and what operators say to it."""

import asyncio
import getpass
import json
import sys
from typing import Any, Final

import click

from reachmap_collector import render
from reachmap_collector.cli.access import Server, is_typed, server
from reachmap_collector.cli.groups import Group
from reachmap_collector.cli.options import ask, ask_for_alerts, formatted, found, on_bus
from reachmap_shared import bus, subjects

_TRIAL_S: Final = 65.0
"""An outlet may take up to a minute to answer."""


@click.group(cls=Group, invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Also what is not told yet, or has ended.")
@formatted
@on_bus
@click.pass_context
def alerts(
    invocation: click.Context,
    everything: bool,
    style: str,
    nats: str | None,
    context: str | None,
) -> None:
    """List alerts: one for each outage, with its cause and what to do.

    \b
    Examples:
      reachmap alerts
      reachmap alerts ack 19a3c5d7e10-1 --comment "on it"
      reachmap alerts silence --host 'pc-*' --for 2h
      reachmap alerts test oncall
    """
    invocation.obj = (nats, context)
    if invocation.invoked_subcommand is not None:
        return
    answer = ask_for_alerts(nats, context, everything=everything)
    render.show(
        style,
        answer,
        table=render.alerts,
        rows=lambda: answer["alerts"],
        columns=render.ALERT_COLUMNS,
        left_out="silences and how outlets do",
    )


@alerts.command()
@click.argument("ident", metavar="ID")
@click.option("--comment", default="", help="What is done about it.")
@click.option("--by", default=getpass.getuser, help="Who.  [default: you]")
@on_bus
@click.pass_obj
def ack(
    outer: tuple[str | None, str | None],
    ident: str,
    comment: str,
    by: str,
    nats: str | None,
    context: str | None,
) -> None:
    """Say that somebody looks after an alert: its changes are no longer told, but its end."""
    parameters = {"id": ident, "by": by, "comment": comment}
    answer = ask(*_bus(outer, nats, context), "alerts-ack", parameters)
    click.echo(f"{answer['id']}: {answer['summary']}: {answer['acknowledged_by']} looks after it")


@alerts.command()
@click.option("--host", "hosts", multiple=True, help="About this host; pc-* for all that fit.")
@click.option("--service", "services", multiple=True, help="About this service, as in web:443.")
@click.option("--role", "roles", multiple=True, help="About hosts of this role.")
@click.option("--kind", "kinds", multiple=True, help="Of this kind, as in agent-silent.")
@click.option("--for", "lasts", default="1h", show_default=True, help="How long, as in 90m or 1d.")
@click.option("--comment", default="", help="Why.")
@click.option("--by", default=getpass.getuser, help="Who.  [default: you]")
@click.option("--end", metavar="ID", help="End this silence now.")
@on_bus
@click.pass_obj
def silence(
    outer: tuple[str | None, str | None],
    /,
    lasts: str,
    comment: str,
    by: str,
    end: str | None,
    nats: str | None,
    context: str | None,
    **what: tuple[str, ...],
) -> None:
    """Tell nobody of alerts that fit, for a while; they are listed all the same."""
    parameters: dict[str, Any] = {"for": lasts, "comment": comment, "by": by}
    parameters |= {name: list(values) for name, values in what.items()}
    if end is not None:
        parameters = {"end": end}
    answer = ask(*_bus(outer, nats, context), "alerts-silence", parameters)
    done = "ended" if end is not None else f"until {answer['until']}"
    click.echo(f"silence {answer['id']}: {done}")


@alerts.command()
@click.argument("outlet")
@on_bus
@click.pass_obj
def test(
    outer: tuple[str | None, str | None], outlet: str, nats: str | None, context: str | None
) -> None:
    """Send a harmless alert through an outlet, and say what came back.

    Exit code 1 when it was not taken.
    """
    where = server(*_bus(outer, nats, context))

    async def trial() -> Any:
        async with found(where) as connection:
            return await connection.query("alerts-test", {"outlet": outlet}, _TRIAL_S)

    answer = asyncio.run(trial())
    said = "delivered" if answer["delivered"] else "not delivered"
    click.echo(f"{outlet}: {said} in {answer['took_ms']:g} ms: {answer['said']}")
    sys.exit(0 if answer["delivered"] else 1)


async def follow(where: Server) -> None:
    """Print alerts as they come and go, one JSON object a line, until cancelled."""

    async def tell(_subject: str, payload: bytes) -> None:
        click.echo(json.dumps(json.loads(payload)))
        sys.stdout.flush()

    async with bus.staying(where.urls, "reachmap watch", access=where.access) as connection:
        await connection.subscribe(subjects.ALL_ALERTS, tell)
        await asyncio.Event().wait()


def _bus(
    outer: tuple[str | None, str | None], nats: str | None, context: str | None
) -> tuple[str | None, str | None]:
    """Where the bus is: as said behind the subcommand, or else as said before it."""
    return (nats, context) if any(map(is_typed, ("nats", "context"))) else outer


COMMANDS: Final = (alerts,)
