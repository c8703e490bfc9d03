"""The way of a broken flow's packets, drawn hop by hop as far as it goes."""

from collections.abc import Iterator
from typing import Any

from rich.text import Text

Json = dict[str, Any]


def way(flow: Json, found: Json) -> Iterator[Text]:
    """A line for each device that the packets met, and where they stop."""
    if not found["path"]:
        return
    yield Text(f"{flow['source']}  {found['local'] or ''}".rstrip())
    steps = _known(found["path"])
    stopped = not steps[-1]["passes"] and steps[-1]["by"] != flow["address"]
    for step in steps:
        here = stopped and step is steps[-1]
        mark = Text(" x ", "bold red") if here else Text(" | ", "dim")
        yield mark.append_text(Text(f"{step['hop']:>2}  {_says(step)}", "red" if here else ""))
    end = Text(f"{flow['destination']}  {flow['address']}", "dim" if stopped else "")
    yield end.append_text(Text(_compared(flow, found["compared"]), "dim"))


def _known(path: list[Json]) -> list[Json]:
    """All hops up to the first in vain, behind which nobody said anything."""
    last = max((place for place, step in enumerate(path) if step["by"]), default=-1)
    return path[: last + 1] if last >= 0 and not path[last]["passes"] else path[: last + 2]


def _says(step: Json) -> str:
    if step["met"] == "silence":
        return "no answer"
    if step["met"] == "own":
        return "nothing was sent"
    if step["passes"]:
        return step["by"] or "somebody"
    icmp = step["icmp"]
    met = f"ICMP type {icmp['type']} code {icmp['code']}" if icmp else step["met"].upper()
    return f"{step['by'] or 'somebody'} says {met}"


def _compared(flow: Json, compared: Json | None) -> str:
    if compared is None or compared["outcome"] != "open":
        return ""
    place = f"port {compared['port']}"
    if compared["address"] != flow["address"]:
        place += f" of {compared['address']}"
    hops = len(compared["path"])
    return f"   ({place} works, {hops} {'hop' if hops == 1 else 'hops'} away)"
