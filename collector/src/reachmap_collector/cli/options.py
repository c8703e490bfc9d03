"""Options that several commands share, and how a query command asks its question."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from reachmap_collector.cli import access, names, patience
from reachmap_collector.cli.access import Server
from reachmap_collector.render import FORMATS
from reachmap_collector.store import default_url
from reachmap_shared import bus
from reachmap_shared.bus import Bus
from reachmap_shared.names import port_number
from reachmap_shared.urls import DEFAULT_URL
from reachmap_shared.vocabulary import State

Command = TypeVar("Command", bound=Callable[..., Any])

_LONG_S: Final = 60.0
"""For an answer that is looked up in a store of years."""

STORE_VARIABLE: Final = "REACHMAP_STORE"


def on_bus(command: Command) -> Command:
    """Where the bus is: --nats, --context; and how to connect to it."""
    command = access.accessed(command)
    command = click.option(
        "--context",
        metavar="NAME",
        help="Take server and credentials from this context of the nats command line.",
    )(command)
    return click.option(
        "--nats",
        metavar="URL",
        envvar=access.NATS_VARIABLE,
        show_envvar=True,
        help="NATS server(s), separated by commas. [default: this user's collector's, else "
        f"{DEFAULT_URL}]",
    )(command)


def in_data(command: Command) -> Command:
    """Where the collector's state is: --data."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=access.default_data,
        help="Where the collector keeps its state.  [default: /var/lib/reachmap-collector for "
        "root, else ~/.local/state/reachmap]",
    )(command)


def stored(command: Callable[..., None]) -> Callable[..., None]:
    """Where the store is, as the argument `url`: --store, or else in --data."""

    @in_data
    @click.option(
        "--store",
        metavar="URL",
        envvar=STORE_VARIABLE,
        show_envvar=True,
        help="sqlite:///PATH or postgresql://USER@HOST/DATABASE.  [default: reachmap.sqlite in "
        "the data directory]",
    )
    @functools.wraps(command)
    def resolved(*arguments: Any, store: str | None, data: Path, **options: Any) -> None:
        command(*arguments, url=store or default_url(data), **options)

    return resolved


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
            "Of this row of a port table: 7, openuem:7, or words such as '5432 console'.",
        ),
        ("state", names.states, f"In this state: {', '.join(State)}."),
        ("service", names.services, "To this service, as in nats-server:4433."),
        ("role", names.roles, "With this role on either end."),
        ("destination", names.hosts, "To this host, by name or address."),
        ("source", names.hosts, "From this host, by name or address."),
    ):
        command = narrowed(name, complete, what)(command)
    return command


def narrowed(name: str, complete: names.Completer, what: str) -> Callable[[Command], Command]:
    """One filter, with one value: to go by the last of two would leave out without a word."""

    def only(
        context: click.Context, parameter: click.Parameter, given: Sequence[str]
    ) -> str | None:
        if len(given) > 1:
            raise click.BadParameter(
                f"given {len(given)} times: it takes one value; different filters combine",
                context,
                parameter,
            )
        return given[0] if given else None

    return click.option(
        f"--{name}",
        metavar=name.upper(),
        help=what,
        shell_complete=complete,
        multiple=True,
        callback=only,
    )


def ask(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any] | None = None
) -> Any:
    """The collector's answer to one query; raises BusUnavailable and QueryRefused."""

    async def question() -> Any:
        async with found(access.server(nats, context)) as connection:
            return await connection.query(query, parameters or {})

    return asyncio.run(question())


def ask_long(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any] | None = None
) -> Any:
    """As `ask`, for what may take its time."""

    async def question() -> Any:
        async with found(access.server(nats, context)) as connection:
            return await connection.query(query, parameters or {}, timeout_s=_LONG_S)

    return asyncio.run(question())


@asynccontextmanager
async def found(server: Server) -> AsyncIterator[Bus]:
    """A connection to a bus with a collector on it; raises BusUnavailable soon if there is none."""
    connecting = bus.connected(
        server.urls, "reachmap command line", server.access, patience.left_s()
    )
    async with connecting as connection:
        await connection.find_collector(patience.left_s())
        yield connection


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
    agents: list[Any] = _ask_for_all(nats, context, "agents", {})["agents"]
    return agents


def ask_for_map(nats: str | None, context: str | None, parameters: Mapping[str, Any]) -> Any:
    """The matrix, page after page, as one answer."""
    return _ask_for_all(nats, context, "map", parameters, "rows")


def ask_for_alerts(nats: str | None, context: str | None, *, everything: bool) -> Any:
    """Alerts, page after page, as one answer."""
    return _ask_for_all(nats, context, "alerts", {"all": everything})


def ask_for_topology(nats: str | None, context: str | None) -> Any:
    """The topology in force, page after page of its hosts, as one answer."""
    return _ask_for_all(nats, context, "topology", {}, "hosts")


def _ask_for_all(
    nats: str | None,
    context: str | None,
    query: str,
    parameters: Mapping[str, Any],
    rows: str | None = None,
) -> Any:
    async def question() -> Any:
        async with found(access.server(nats, context)) as connection:
            return await names.everything(connection, query, parameters, rows or query)

    return asyncio.run(question())


def ends(source: str, destination: str) -> dict[str, Any]:
    """What is asked of two hosts, or of one port of the second; by names or by addresses."""
    host, port = _parted(destination)
    parameters: dict[str, Any] = {"source": source.strip("[]"), "destination": host.strip("[]")}
    if port is not None:
        if not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise click.BadParameter(f"{port!r} is not a port", param_hint="DESTINATION[:PORT]")
        parameters["port"] = port_number(int(port))
    return parameters


def _parted(destination: str) -> tuple[str, str | None]:
    """A host and its port; an IPv6 address is in brackets where a port follows it."""
    host, colon, port = destination.rpartition(":")
    is_bare = ":" in host and not host.startswith("[")
    if not colon or is_bare or destination.endswith("]"):
        return destination, None
    return host, port
