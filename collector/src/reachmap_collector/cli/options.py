"""Options that several commands share, and how a query command asks its question."""

import asyncio
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from reachmap_collector.render import FORMATS
from reachmap_collector.store import default_url
from reachmap_shared import bus
from reachmap_shared.vocabulary import State

Command = TypeVar("Command", bound=Callable[..., Any])

NATS_VARIABLE: Final = "REACHMAP_NATS_URL"
STORE_VARIABLE: Final = "REACHMAP_STORE"


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


def default_data() -> Path:
    """Where a collector keeps its state when nobody says where."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/reachmap-collector")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "reachmap"


def in_data(command: Command) -> Command:
    """Where the collector's state is: --data."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_data,
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


def urls(nats: str | None, context: str | None) -> list[str]:
    """The servers' URLs that the options mean."""
    if nats and context and _is_typed("nats"):
        raise click.UsageError("--nats and --context both say where the bus is: give one")
    if context:
        return _context_urls(context)
    return [url.strip() for url in (nats or bus.DEFAULT_URL).split(",")]


def ask(
    nats: str | None, context: str | None, query: str, parameters: Mapping[str, Any] | None = None
) -> Any:
    """The collector's answer to one query; raises BusUnavailable and QueryRefused."""

    async def question() -> Any:
        async with bus.connected(urls(nats, context), "reachmap command line") as connection:
            return await connection.query(query, parameters or {})

    return asyncio.run(question())


def ask_for_flows(nats: str | None, context: str | None, filters: Mapping[str, Any]) -> list[Any]:
    """All flows that fit the filters, page after page."""

    async def question() -> list[Any]:
        flows: list[Any] = []
        after: Any = None
        async with bus.connected(urls(nats, context), "reachmap command line") as connection:
            while True:
                page = await connection.query("flows", {"filters": dict(filters), "after": after})
                flows += page["flows"]
                after = page["next"]
                if after is None:
                    return flows

    return asyncio.run(question())


def _context_urls(name: str) -> list[str]:
    """The URLs of a context as the nats command line keeps it (its architecture record 21)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(base) / "nats" / "context" / f"{name}.json"
    try:
        url = json.loads(path.read_text())["url"]
        if not url:
            raise ValueError("the url is empty")
    except OSError as error:
        raise click.UsageError(f"no context {name!r}: {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"context {name!r} names no server: {path}") from error
    return [part.strip() for part in str(url).split(",")]


def _is_typed(option: str) -> bool:
    """Whether an option stands on the command line, and not just in the environment."""
    invocation = click.get_current_context(silent=True)
    return (
        invocation is None or invocation.get_parameter_source(option) is ParameterSource.COMMANDLINE
    )
