"""All that is known of flows, told for people: what was seen, where it goes wrong, what to do.

A flow is as `reachmap_collector.views` and the queries make it.
"""

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reachmap_collector.render import marks
from reachmap_collector.render.way import back, beside, way
from reachmap_collector.render.words import apart, asked_rows, clock, latency
from reachmap_shared.diagnosis import Silenced
from reachmap_shared.vocabulary import Cause, Expectation, Outcome

Json = dict[str, Any]

_SILENCED: Final[Mapping[str, str]] = {
    Silenced.NO_AGENT: "there is none on {destination}",
    Silenced.NO_ANSWER: "the one on {destination} did not answer",
    Silenced.BUSY: "the one on {destination} was busy with others",
    Silenced.REFUSED: "the one on {destination} refused",
    Silenced.FORGED: "what answered was not the one on {destination}",
    Silenced.LATE: "the one on {destination} did not tell in time what it saw",
}

_DAY_S: Final = 86_400


def explanation(
    found: Sequence[Json],
    _width: int,
    table_rows: Sequence[Json] | None = None,
    *,
    rules: bool = False,
) -> RenderableType:
    """All that is known of some flows, one after the other; with `rules`, how to ask for each."""
    blocks = [_explain(flow, rules=rules) for flow in found]
    if table_rows and not blocks:
        blocks = [Text("No flow fits: no host of this deployment has these roles.")]
    return Group(*asked_rows(table_rows or ()), *apart(blocks))


def _explain(flow: Json, *, rules: bool) -> RenderableType:
    title = Text.assemble(
        (f"{flow['source']} -> {flow['destination']}  {flow['service']}  ", "bold"),
        marks.state(flow["state"]),
        f" since {clock(flow['since'])}",
    )
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column(overflow="fold")
    where = f"{flow['address'] or 'no address yet'} port {flow['port']}/{flow['transport']}"
    facts.add_row("dialled", f"{where}, speaking {flow['protocol']}; expected {flow['expect']}")
    if flow["outcome"]:
        by = f", answered by the {flow['answered_by']}" if flow["answered_by"] else ""
        is_open = flow["outcome"] == Outcome.OPEN
        took = f", connects in {latency(flow['latency_ms'])} ms" if is_open else ""
        facts.add_row("saw", f"{flow['outcome']}{by}{took}, at {clock(flow['checked'])}")
    checks = flow["checks"]
    if checks["made"] > 1:  # one alone is told above
        facts.add_row("", _counted(checks))
    if flow["certificate_until"]:
        facts.add_row("", _certificate(flow["certificate_until"], time.time()))
    if flow["seen_as"]:
        facts.add_row("", f"the listener saw it come from {flow['seen_as']}")
    if flow["cause"]:
        facts.add_row("cause", _cause(flow))
    found = flow.get("diagnosis")  # an older collector has none
    if found:
        facts.add_row("", _looked_into(flow, found))
    for index, fact in enumerate(flow["evidence"]):
        facts.add_row("" if index else "evidence", fact)
    for index, line in enumerate(way(flow, found) if found else ()):
        facts.add_row("" if index else "way", line)
    for index, line in enumerate(back(flow, found) if found else ()):
        facts.add_row("" if index else "way back", line)
    for index, line in enumerate(beside(flow, found) if found else ()):
        facts.add_row("" if index else "meanwhile", line)
    because = "needed by" if flow["expect"] == Expectation.REACHABLE else "forbidden by"
    for index, reason in enumerate(flow["reasons"]):
        facts.add_row("" if index else because, _reason(reason))
    told = [reason["row"] for reason in flow["reasons"]]
    for row in flow.get("rows", ()):
        if row not in told:
            facts.add_row("listed in", f"row {row['row']} of {row['profile']}: {row['text']}")
    if flow["advice"]:
        facts.add_row("to do", Text(flow["advice"], "bold"))
    requests = flow.get("requests") or {}  # an older collector has none
    if requests:
        hint = "" if rules else "   (--rules: as a command)"
        facts.add_row("ask for", Text.assemble(requests["plain"], (hint, "dim")))
    commands = [one for one in requests.items() if rules and one[0] != "plain"]
    return Group(
        title,
        Padding(facts, (0, 0, 0, 2)),
        # Each in a line of its own, however long: a command in pieces cannot be copied.
        *(
            Text.assemble((f"  {name}\n", "dim"), f"  {text}", no_wrap=True, overflow="ignore")
            for name, text in commands
        ),
    )


def _reason(reason: Json) -> str:
    text = f"{reason['role']} -> {reason['service']} ({reason['basis']}"
    if reason["row"]:
        text += (
            f", row {reason['row']['row']} of {reason['row']['profile']}: {reason['row']['text']}"
        )
    text += ")"
    return f"{text}: {reason['note']}" if reason["note"] else text


def _cause(flow: Json) -> Text:
    if flow["cause"] != Cause.UNKNOWN:
        at = f" at {flow['at']}" if flow["at"] else ""
        return Text(f"{flow['cause']}{at} ({flow['confidence']})", "bold")
    text = Text("unknown", "bold")
    if flow["settled_by"]:
        text.append(f"; what would settle it: {flow['settled_by']}", "not bold")
    return text


def _looked_into(flow: Json, found: Json) -> str:
    """Who looked, in a sentence."""
    when = f"looked into at {clock(found['at'])}"
    if (why := found["witness"]["silenced"]) is None:
        return f"{when} by the agents on {flow['source']} and {flow['destination']} together"
    said = _SILENCED[why].format(destination=flow["destination"])
    return f"{when} by the agent on {flow['source']} alone: {said}"


def _counted(checks: Json) -> str:
    """What the latest roll-ups say, which come once in a while: so not of this very moment."""
    text = f"{checks['open']} of {checks['made']} recent checks open"
    return f"{text}; {checks['local_error']} could not be made" if checks["local_error"] else text


def _certificate(until: str, now: float) -> Text:
    """When a certificate ends, and how soon that is."""
    end = datetime.datetime.fromisoformat(until)
    left = end.timestamp() - now
    days = int(abs(left) // _DAY_S)
    span = f"{days} day{'' if days == 1 else 's'}" if days else "less than a day"
    date = end.date()  # in UTC, as certificates name it
    if left <= 0:
        return Text(f"certificate ended {span} ago, on {date}", "bold red")
    return Text(f"certificate ends {date}, in {span}")
