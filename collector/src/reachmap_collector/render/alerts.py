"""Alerts for people: a line each, with what to do, and what keeps outlets from being told."""

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from reachmap_collector.render.layout import Column, table

Json = dict[str, Any]

ALERT_COLUMNS: Final = (
    *("id", "status", "severity", "kind", "subject", "service", "summary", "explains", "examples"),
    *("consequences", "advice", "began", "told", "ended", "returns", "acknowledged_by", "muted_by"),
)
"""What CSV has in its header, also where there is no row to say it."""

_STYLES: Final = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


def alerts(answer: Json, width: int) -> RenderableType:
    """All alerts, then silences, then outlets that fail."""
    parts: list[RenderableType] = [_table(answer["alerts"], width)]
    notes = [*_notes(answer)]
    return Group(*parts, *([Text("")] if notes else []), *notes)


def _table(found: list[Json], width: int) -> RenderableType:
    if not found:
        return Text("No alert: nothing that anybody would have to look after.")
    columns = (
        Column("alert", whole=True),
        Column("severity", whole=True),
        Column("what"),
        Column("since", whole=True),
        Column("to do", spare=1),
    )
    rows = [
        (
            one["id"],
            Text(one["severity"], _STYLES.get(one["severity"], "")),
            one["summary"] + _standing(one),
            one["began"][:19] + "Z",
            one["advice"] or "-",
        )
        for one in found
    ]
    return table(columns, rows, width)


def _standing(one: Json) -> str:
    """What else is to be said of it, in brackets."""
    said = [
        one["status"] if one["status"] != "firing" else "",
        _returned(one["returns"]),
        f"{one['acknowledged_by']} looks after it" if one["acknowledged_by"] else "",
        f"not told: {one['muted_by']}" if one["muted_by"] else "",
    ]
    told = "; ".join(filter(None, said))
    return f" ({told})" if told else ""


def _returned(times: int) -> str:
    """How often it came back, in words; nothing if it did not."""
    return "" if not times else "came back once" if times == 1 else f"came back {times} times"


def _notes(answer: Json) -> Iterator[Text]:
    for one in answer["silences"]:
        what = [f"{name} {', '.join(one[name])}" for name in _FILTERS if one[name]]
        comment = f": {one['comment']}" if one["comment"] else ""
        yield Text(f"silence {one['id']} until {one['until']} by {one['by']}{comment}")
        yield Text(f"  of {'; '.join(what)}")
    for one in answer["outlets"]:
        lost = one["dropped"] + one["refused"]
        if one["trouble"] or lost:
            line = f"outlet {one['outlet']}: {one['waiting']} wait"
            line += f", {lost} were never told" if lost else ""
            line += f": {one['trouble']}" if one["trouble"] else ""
            yield Text(line, "bold red")


_FILTERS: Final = ("kinds", "hosts", "roles", "services")
