"""The way of a broken flow's packets, drawn hop by hop as far as it goes, and what is beside it."""

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
    yield from _drawn(steps, stopped=stopped)
    end = Text(f"{flow['destination']}  {flow['address']}", "dim" if stopped else "")
    yield end.append_text(Text(_compared(flow, found["compared"]), "dim"))


def back(flow: Json, found: Json) -> Iterator[Text]:
    """Likewise of an answer's way back, as the destination saw it, where that was walked."""
    if not (path := found["witness"].get("back")):  # an older collector has none
        return
    yield Text(f"{flow['destination']}  {flow['address']}")
    steps = _known(path)
    stopped = not steps[-1]["passes"] and steps[-1]["by"] != found["local"]
    yield from _drawn(steps, stopped=stopped)
    end = f"{flow['source']}  {found['local'] or ''}".rstrip()
    yield Text(end, "dim" if stopped else "")


def _drawn(steps: list[Json], *, stopped: bool) -> Iterator[Text]:
    for step in steps:
        here = stopped and step is steps[-1]
        mark = Text(" x ", "bold red") if here else Text(" | ", "dim")
        yield mark.append_text(Text(f"{step['hop']:>2}  {_says(step)}", "red" if here else ""))


def beside(flow: Json, found: Json) -> Iterator[Text]:
    """What became of other flows meanwhile: of those that were checked, and of those alike."""
    told = [
        _neighbour(flow, one) for one in found.get("related", ())
    ]  # an older collector has none
    if told:
        yield Text(", ".join(told))
    if more := found["others"]:
        flows, fail = ("flow", "fails") if more == 1 else ("flows", "fail")
        yield Text(f"{more} more {flows} from {flow['source']} {fail} in the same way")


def _neighbour(flow: Json, other: Json) -> str:
    place = _place(flow, other)
    return f"{place} works" if other["outcome"] == "open" else f"{place}: {other['outcome']}"


def _place(flow: Json, other: Json) -> str:
    place = f"port {other['port']}"
    if other["transport"] != flow["transport"]:
        place += f"/{other['transport']}"
    return place if other["address"] == flow["address"] else f"{place} of {other['address']}"


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
    hops = len(compared["path"])
    return f"   ({_place(flow, compared)} works, {hops} {'hop' if hops == 1 else 'hops'} away)"
