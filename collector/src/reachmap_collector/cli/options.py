"""Options that several commands share, and how a query command asks its question."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from reachmap_collector.cli import access
from reachmap_collector.cli.access import Server
from reachmap_collector.render import FORMATS
from reachmap_collector.store import default_url
from reachmap_shared import bus
from reachmap_shared.access import ANYBODY
from reachmap_shared.bus import Bus
from reachmap_shared.vocabulary import State

Command = TypeVar("Command", bound=Callable[..., Any])

NATS_VARIABLE: Final = "REACHMAP_NATS_URL"
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
        envvar=NATS_VARIABLE,
        show_envvar=True,
        help="NATS server(s), separated by commas. [default: this user's collector's, else "
        f"{bus.DEFAULT_URL}]",
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
    """Which flows: --source, --destination, --role, --service, --state; they combine."""
    for name, what in (
        ("state", f"In this state: {', '.join(State)}."),
        ("service", "To this service, as in nats-server:4433."),
        ("role", "With this role on either end."),
        ("destination", "To this host."),
        ("source", "From this host."),
    ):
        command = click.option(f"--{name}", metavar=name.upper(), help=what)(command)
    return command


def server(nats: str | None, context: str | None) -> Server:
    """The servers that the options mean, and how to connect to them."""
    if nats and context and access.is_typed("nats"):
        raise click.UsageError("--nats and --context both say where the bus is: give one")
    files = access.given()
    if context:
        found = access.of_context(context)
        return Server(found.urls, files) if files else found
    urls = [url.strip() for url in nats.split(",")] if nats else None
    if files is None and (kept := access.kept_here(urls)):
        return kept
    return Server(urls or [bus.DEFAULT_URL], files or ANYBODY)


def ask(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any] | None = None
) -> Any:
    """The collector's answer to one query; raises BusUnavailable and QueryRefused."""

    async def question() -> Any:
        async with _connected(nats, context) as connection:
            return await connection.query(query, parameters or {})

    return asyncio.run(question())


def _connected(nats: str | None, context: str | None) -> AbstractAsyncContextManager[Bus]:
    found = server(nats, context)
    return bus.connected(found.urls, "reachmap command line", found.access)


def ask_for_flows(nats: str | None, context: str | None, filters: Mapping[str, Any]) -> list[Any]:
    """All flows that fit the filters, page after page."""

    async def question() -> list[Any]:
        flows: list[Any] = []
        after: Any = None
        async with _connected(nats, context) as connection:
            while True:
                page = await connection.query("flows", {"filters": dict(filters), "after": after})
                flows += page["flows"]
                after = page["next"]
                if after is None:
                    return flows

    return asyncio.run(question())
