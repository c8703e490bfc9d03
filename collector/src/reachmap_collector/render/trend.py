"""How flows fared over a span of time, step by step, for people."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from reachmap_collector.render.layout import Cell, Column, table
from reachmap_collector.render.words import address, clock

Json = dict[str, Any]

TREND_COLUMNS: Final = (
    *("source", "destination", "service", "address", "port", "transport", "at"),
    *("made", "open", "local_error", "flips", "latency_ms"),
)

_COLUMNS: Final = (
    Column("from", whole=True),
    Column("checks", right=True, whole=True),
    Column("open", right=True, whole=True),
    Column("not made", right=True, whole=True, sparse=True),
    Column("flips", right=True, whole=True, sparse=True),
    Column("connects in", right=True, whole=True),
)


def trend(answer: Json, width: int) -> RenderableType:
    """A table for each flow: a line a step, then the whole."""
    if not answer["flows"]:
        span = f"from {clock(answer['since'])} to {clock(answer['until'])}"
        return Text(f"No check of such a flow is known {span}.")
    return Group(*_tables(answer["flows"], width))


def trend_rows(answer: Json) -> list[Json]:
    """A row for each step of each flow."""
    return [
        {name: flow[name] for name in TREND_COLUMNS[:6]} | step
        for flow in answer["flows"]
        for step in flow["steps"]
    ]


def _tables(flows: Sequence[Json], width: int) -> Iterator[RenderableType]:
    for number, flow in enumerate(flows):
        title = f"{flow['source']} -> {flow['destination']}  {flow['service']}"
        yield Text(f"{chr(10) if number else ''}{title} at {address(flow)}", style="bold")
        steps = [_line(clock(step["at"]), step) for step in flow["steps"]]
        yield table(_COLUMNS, [*steps, _line("in all", flow)], width)


def _line(begins: str, step: Json) -> Sequence[Cell]:
    tried = step["made"] - step["local_error"]
    share = Text("")
    if tried:
        lost = step["open"] < tried
        # Rounded down: what was lost at all never reads as 100 %.
        percent = int(1000 * step["open"] / tried) / 10
        share = Text(f"{percent:g} %", "bold red" if lost else "green")
    latency = step["latency_ms"]
    return (
        begins,
        str(step["made"]),
        share,
        str(step["local_error"] or ""),
        str(step["flips"] or ""),
        "" if latency is None else f"{latency:g} ms",
    )
