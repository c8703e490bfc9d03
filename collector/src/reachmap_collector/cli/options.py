"""Options that several commands share, and how a query command asks its question."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from reachmap_collector.render import FORMATS
from reachmap_shared import bus
from reachmap_shared.vocabulary import State

Command = TypeVar("Command", bound=Callable[..., Any])

NATS_VARIABLE: Final = "REACHMAP_NATS_URL"


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
    for name, what in (
        ("row", "Of this row of a port table: 7, openuem:7, or words such as '4433 console'."),
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

    async def question() -> Any:
        flows: list[Any] = []
        parameters = {"filters": dict(filters), "details": details}
        after: Any = None
        async with bus.connected(urls(nats, context), "reachmap command line") as connection:
            while True:
                page = await connection.query("flows", {**parameters, "after": after})
                flows += page["flows"]
                after = page["next"]
                if after is None:
                    return {**page, "flows": flows}

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
