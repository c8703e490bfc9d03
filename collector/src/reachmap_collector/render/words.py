"""Words that several renderings have in common: addresses, times, blocks one below the other."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

Json = dict[str, Any]


def address(flow: Json) -> str:
    """What is dialled, as `10.0.0.5:4433` or `[fd00::5]:4433`."""
    address = flow["address"]
    if address is None:
        return "-"
    return f"[{address}]:{flow['port']}" if ":" in address else f"{address}:{flow['port']}"


def latency(milliseconds: float | None) -> str:
    """To a tenth, or to a hundredth where a tenth would be nothing: within one host or rack."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f}" if milliseconds >= 0.95 else f"{milliseconds:.2f}"


def clock(timestamp: str) -> str:
    """A timestamp in the reader's own time zone, with the date where it is not today's."""
    moment = datetime.datetime.fromisoformat(timestamp).astimezone()
    today = datetime.datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}"


def asked_rows(rows: Iterable[Json]) -> Iterable[Text]:
    """The rows of port tables that a question was about, and a blank line after them."""
    told = [Text(f"row {row['row']} of {row['profile']}: {row['text']}", "bold") for row in rows]
    return [*told, Text("")] if told else []


def apart(blocks: Sequence[RenderableType]) -> Iterable[RenderableType]:
    """Blocks with a blank line between each two."""
    for index, block in enumerate(blocks):
        if index:
            yield Text("")
        yield block
