"""What became of flows, as tables and lines for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from reachmap_collector.render.layout import Column, table
from reachmap_collector.render.words import address, clock
from reachmap_collector.turns import Turn

Json = dict[str, Any]

HISTORY_COLUMNS: Final = (
    *("sequence", "at", "change", "source", "destination", "service", "address", "port"),
    *("transport", "expect", "was", "was_answered_by", "outcome", "answered_by", "evidence"),
    *("source_then", "destination_then"),
)
DIFF_COLUMNS: Final = (
    *("change", "service", "destination", "was", "outcome", "flows", "hosts", "sources"),
    *("first", "last"),
)

_STYLES: Final[Mapping[str, str]] = {
    Turn.BROKE: "bold red",
    Turn.EXPOSED: "bold magenta",
    Turn.UNSEEN: "yellow",
    Turn.HEALED: "green",
    Turn.CLOSED: "green",
}


def history(found: Sequence[Json], width: int, *, more: bool = False) -> RenderableType:
    """One line a transition; `more` says that there are older ones."""
    if not found:
        return Text("No change fits: nothing changed then, or the filters leave none.")
    columns = (
        Column("at", whole=True),
        Column("change", whole=True),
        Column("source", whole=True),
        Column("destination", whole=True),
        Column("service"),
        Column("address", spare=1),
        Column("saw"),
    )
    lines = [
        (
            clock(one["at"]),
            _mark(one["change"]),
            one["source"],
            one["destination"],
            one["service"],
            address(one),
            saw(one),
        )
        for one in found
    ]
    told = Text(f"\nThe latest {len(found)}; --limit shows more, --since and --until others.")
    return Group(table(columns, lines, width), *([told] if more else []))


def diff(answer: Json, width: int) -> RenderableType:
    """How many flows changed and how, and a line for those that did alike."""
    span = f"from {clock(answer['since'])} to {clock(answer['until'])}"
    told = [f"{count} {change}" for change, count in answer["counts"].items() if count]
    if not told:
        return Text(f"Nothing changed {span}.")
    columns = (
        Column("change", whole=True),
        Column("flows", right=True, whole=True),
        Column("service"),
        Column("destination", whole=True),
        Column("saw"),
        Column("from"),
        Column("last at", spare=1),
    )
    lines = [
        (
            _mark(group["change"]),
            str(group["flows"]),
            group["service"],
            group["destination"],
            _between(group["was"], group["outcome"]),
            _sources(group),
            clock(group["last"]),
        )
        for group in answer["groups"]
    ]
    return Group(Text(f"{', '.join(told)}; {span}\n"), table(columns, lines, width))


def change(one: Json) -> Text:
    """A change in one line, as it happens."""
    return Text.assemble(
        f"{clock(one['at'])}  ",
        _mark(f"{one['change']:8}", one["change"]),
        f"  {one['source']} -> {one['destination']}  {one['service']}  {saw(one)}",
        no_wrap=True,
        overflow="ignore",
    )


def saw(one: Json) -> str:
    """What the checks saw before and after; where that is the same, what is new about it."""
    if one["was"] == one["outcome"] and one["was_answered_by"] != one["answered_by"]:
        by = f"{one['was_answered_by'] or 'nobody'} -> {one['answered_by'] or 'nobody'}"
        return f"{one['outcome']} ({by})"
    if one["was"] == one["outcome"] and one["evidence"]:
        return f"{one['outcome']}: {one['evidence'][-1]}"
    return _between(one["was"], one["outcome"])


def _between(was: str | None, now: str) -> str:
    return now if was in (None, now) else f"{was} -> {now}"


def _sources(group: Json) -> str:
    more = group["hosts"] - len(group["sources"])
    return ", ".join(group["sources"]) + (f" and {more} more" if more else "")


def _mark(text: str, turn: str = "") -> Text:
    return Text(text, _STYLES.get(turn or text, ""))
