"""Follows what becomes of flows over every outage, without losing or repeating anything.

What is new is asked for by the sequence of what was shown last; a word on the bus only says when it
is worth asking. So a word that is lost delays a change, and loses none.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from reachmap_collector.cli.access import Server
from reachmap_collector.cli.options import found
from reachmap_shared import bus, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, QueryRefused

_ASK_EVERY_S: Final = 5.0
"""Without a word; also how long a collector that came back may go unnoticed."""

_QUERY = "changes"


async def watched(
    server: Server, filters: Mapping[str, str], show: Callable[[Sequence[Any]], None]
) -> None:
    """Show changes, those of an answer together, until cancelled.

    Raises:
        BusUnavailable: There is no collector to begin with; later ones are waited for.
        QueryRefused: The filters are wrong.
    """
    async with found(server) as connection:
        last = (await connection.query(_QUERY, {"filters": filters}))["last"]
    news = asyncio.Event()

    async def wake() -> None:
        news.set()

    async def heard(_subject: str, _payload: bytes) -> None:
        news.set()

    async with bus.staying(server.urls, "reachmap watch", wake, access=server.access) as connection:
        await connection.subscribe(subjects.CHANGES, heard)
        _say("watching; Ctrl-C ends it")
        is_away = False
        while True:
            news.clear()
            answer = await _asked(connection, {"filters": filters, "after": last})
            if (answer is None) != is_away:
                is_away = answer is None
                _say("the collector does not answer, waiting" if is_away else "it answers again")
            if answer is not None:
                show(answer["changes"])
                last = answer["last"]
                if answer["reset"]:
                    _say("this collector has another history: going on from where it stands")
                if answer["more"]:
                    continue
            try:
                async with asyncio.timeout(_ASK_EVERY_S):
                    await news.wait()
            except TimeoutError:
                pass


async def _asked(connection: Bus, parameters: Mapping[str, Any]) -> Any:
    """The collector's answer; None when there is none now."""
    try:
        return await connection.query(_QUERY, parameters)
    except BusUnavailable:
        return None
    except QueryRefused as error:
        if error.code.startswith("5"):  # its store is away
            return None
        raise


def _say(text: str) -> None:
    click.echo(f"reachmap: {text}", err=True)
