"""Options that several commands share, and how a query command asks its question."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from reachmap_collector.cli import names
from reachmap_collector.cli.servers import NATS_VARIABLE, urls
from reachmap_collector.render import FORMATS
from reachmap_shared import bus
from reachmap_shared.vocabulary import State

Command = TypeVar("Command", bound=Callable[..., Any])


def on_bus(command: Command) -> Command:
    """Where the bus is: --nats, --context."""
    command = click.option(
        "--context",
        metavar="NAME",
        help="Take the server from this context of the nats command line.",
    )(command)
    return click.option(
        "--nats",
        metavar="URL",
        envvar=NATS_VARIABLE,
        show_envvar=True,
        help=f"NATS server(s), separated by commas. [default: {bus.DEFAULT_URL}]",
    )(command)


def formatted(command: Command) -> Command:
    """How to print: --format."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="Tables are for people; the others are for programs.",
    )(command)


def filtered(command: Command) -> Command:
    """Which flows: --source, --destination, --role, --service, --state, --row; they combine."""
    for name, complete, what in (
        (
            "row",
            names.rows,
            "Of this row of a port table: 7, openuem:7, or words such as '4433 console'.",
        ),
        ("state", names.states, f"In this state: {', '.join(State)}."),
        ("service", names.services, "To this service, as in nats-server:4433."),
        ("role", names.roles, "With this role on either end."),
        ("destination", names.hosts, "To this host."),
        ("source", names.hosts, "From this host."),
    ):
        command = click.option(
            f"--{name}", metavar=name.upper(), help=what, shell_complete=complete
        )(command)
    return command


def ask(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any] | None = None
) -> Any:
    """The collector's answer to one query; raises BusUnavailable and QueryRefused."""

    async def question() -> Any:
        async with bus.connected(urls(nats, context), "reachmap command line") as connection:
            return await connection.query(query, parameters or {})

    return asyncio.run(question())


def ask_for_flows(
    nats: str | None, context: str | None, filters: Mapping[str, Any], *, details: bool = False
) -> Any:
    """All flows that fit the filters, page after page, as one answer.

    Args:
        nats: URLs, as --nats has them.
        context: Of the nats command line, as --context has it.
        filters: By their names; None leaves one out.
        details: Whether each flow comes with what `explain` adds.
    """
    return _ask_for_all(nats, context, "flows", {"filters": dict(filters), "details": details})


def ask_for_agents(nats: str | None, context: str | None) -> list[Any]:
    """All agents, page after page."""
    found: list[Any] = _ask_for_all(nats, context, "agents", {})["agents"]
    return found


def _ask_for_all(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any]
) -> Any:
    """All pages of a query whose answer has its rows under the query's own name, as one."""

    async def question() -> Any:
        rows: list[Any] = []
        after: Any = None
        async with bus.connected(urls(nats, context), "reachmap command line") as connection:
            while True:
                page = await connection.query(query, {**parameters, "after": after})
                rows += page[query]
                after = page.get("next")  # an older collector has but one page of agents
                if after is None:
                    return {**page, query: rows}

    return asyncio.run(question())
