"""What Tab completes: names that the collector knows.

Whoever presses Tab waits: an answer comes at once or not at all, and never an error.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from reachmap_collector.cli import access
from reachmap_shared import bus
from reachmap_shared.bus import Bus
from reachmap_shared.vocabulary import State

TIMEOUT_S: Final = 0.8
"""For the server and the collector together; longer, and one types it oneself."""

Found = list[CompletionItem]
Completer = Callable[[click.Context, click.Parameter, str], Found]


def hosts(context: click.Context, _parameter: click.Parameter, begun: str) -> Found:
    """The deployment's hosts."""
    return _fitting(begun, (host["host"] for host in _topology(context, "hosts")))


def roles(context: click.Context, _parameter: click.Parameter, begun: str) -> Found:
    """The topology's roles."""
    return _fitting(begun, (role["role"] for role in _topology(context, "roles")))


def services(context: click.Context, _parameter: click.Parameter, begun: str) -> Found:
    """What the roles listen on."""
    found = (one["service"] for role in _topology(context, "roles") for one in role["listens"])
    return _fitting(begun, found)


def rows(context: click.Context, _parameter: click.Parameter, begun: str) -> Found:
    """The port tables' rows, by number; shells that can show what each is."""
    answer = _asked(context, "map", {"by": "row"}, "rows") or {"rows": []}
    return [
        CompletionItem(str(row["row"]), help=f"{row['port']} {row['component']} {row['traffic']}")
        for row in answer["rows"]
        if str(row["row"]).startswith(begun)
    ]


def states(_context: click.Context, _parameter: click.Parameter, begun: str) -> Found:
    """A flow's states."""
    return _fitting(begun, State)


def _fitting(begun: str, known: Iterable[str]) -> Found:
    return [CompletionItem(name) for name in known if name.startswith(begun)]


def _topology(context: click.Context, part: str) -> list[Any]:
    answer = _asked(context, "topology", {}, "hosts") or {}
    found: list[Any] = answer.get(part, [])
    return found


async def everything(
    connection: Bus, query: str, parameters: Mapping[str, Any], rows: str
) -> dict[str, Any]:
    """All pages of a query as one answer; `rows` is where each has its part."""
    found: list[Any] = []
    after: Any = None
    while True:
        page = await connection.query(query, {**parameters, "after": after})
        found += page[rows]
        after = page.pop("next", None)  # an older collector, and some answers, have but one
        if after is None:
            return {**page, rows: found}


def _asked(context: click.Context, query: str, parameters: dict[str, Any], rows: str) -> Any:
    """The collector's answer, or None."""

    async def question() -> Any:
        with context.scope(cleanup=False):  # click has left it when it asks what fits
            found = access.server(context.params.get("nats"), context.params.get("context"))
        async with asyncio.timeout(TIMEOUT_S):
            async with bus.connected(found.urls, "reachmap completion", found.access) as connection:
                return await everything(connection, query, parameters, rows)

    # Whatever it is: a message in the midst of a line that is being typed helps nobody.
    with contextlib.suppress(Exception):
        return asyncio.run(question())
    return None
