"""Answers to queries as tables and short texts for people.

Each function takes an answer as `reachmap_collector.views` makes it, and the terminal's width.
"""

import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reachmap_collector.render import marks
from reachmap_collector.render.layout import Column, table
from reachmap_collector.render.way import back, beside, way
from reachmap_collector.topology.schema import Basis
from reachmap_collector.views import By
from reachmap_shared.diagnosis import Silenced
from reachmap_shared.vocabulary import Cause, Expectation, Outcome, State

Json = dict[str, Any]


_SILENCED: Final[Mapping[str, str]] = {
    Silenced.NO_AGENT: "there is none on {destination}",
    Silenced.NO_ANSWER: "the one on {destination} did not answer",
    Silenced.BUSY: "the one on {destination} was busy with others",
    Silenced.REFUSED: "the one on {destination} refused",
    Silenced.FORGED: "what answered was not the one on {destination}",
    Silenced.LATE: "the one on {destination} did not tell in time what it saw",
}


def matrix(answer: Json, width: int) -> RenderableType:
    """The map: rows against services, in blocks that fit the width; or the port table's rows."""
    if answer["by"] == By.ROW:
        return _port_table(answer["rows"], width)
    rows = answer["rows"]
    if not rows:
        return Text("No flow fits: the topology has none, or the filters leave none.")
    label = max([len(row["name"]) for row in rows] + [len(answer["by"])])
    blocks = [
        _matrix_block(answer["by"], rows, columns, label)
        for columns in _blocks(answer["columns"], rows, width - label)
    ]
    present = {state for row in rows for cell in row["cells"].values() for state in cell}
    return Group(*_apart(blocks), Text(""), marks.legend(present))


def matrix_rows(answer: Json) -> list[Json]:
    """The map's cells, one a row."""
    if answer["by"] == By.ROW:
        return list(answer["rows"])
    return [
        {answer["by"]: row["name"], "service": column, **{s: cell.get(s, 0) for s in State}}
        for row in answer["rows"]
        for column, cell in row["cells"].items()
    ]


def flows(
    found: Sequence[Json], width: int, table_rows: Sequence[Json] | None = None
) -> RenderableType:
    """One line a flow; where there is no room, without how fast it is and who answered.

    Where rows of a port table were asked for, they come first.
    """
    if not found:
        nothing = Text("No flow fits: the topology has none, or the filters leave none.")
        return Group(*_asked_rows(table_rows), nothing) if table_rows else nothing
    columns = (
        Column("state", whole=True),
        Column("source", whole=True),
        Column("destination", whole=True),
        Column("service"),
        Column("address"),
        Column("saw"),
        Column("who", spare=1),
        Column("ms", right=True, spare=2),
    )
    rows = [
        (
            marks.state(flow["state"]),
            flow["source"],
            flow["destination"],
            flow["service"],
            address(flow),
            flow["outcome"] or "-",
            flow["answered_by"] or "-",
            _latency(flow["latency_ms"]),
        )
        for flow in found
    ]
    made = table(columns, rows, width)
    return Group(*_asked_rows(table_rows), made) if table_rows else made


def flow_rows(found: Sequence[Json]) -> list[Json]:
    """Flows as flat rows: the reasons by their roles alone, table rows as `openuem:7`."""
    return [
        {
            **flow,
            "reasons": [reason["role"] for reason in flow["reasons"]],
            "rows": [f"{row['profile']}:{row['row']}" for row in flow.get("rows", ())],
        }
        for flow in found
    ]


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
    return Group(*_asked_rows(table_rows or ()), *_apart(blocks))


def agents(rows: Sequence[Json], width: int) -> RenderableType:
    """One line an agent, and below it what is wrong with some."""
    if not rows:
        return Text("No agent has reported, and the topology expects none.")
    columns = (
        Column("agent", whole=True),
        Column("state", whole=True),
        Column("heard"),
        Column("address"),
        Column("roles"),
        Column("checks", right=True, spare=1),
        Column("late", right=True, spare=2, sparse=True),
    )
    lines = [
        (
            row["agent"],
            Text(row["state"], "green" if row["state"] == "fresh" else "bold red"),
            f"{row['age_s']:.0f} s ago" if "age_s" in row else "never",
            ", ".join(row.get("addresses", ())),
            ", ".join(row.get("roles", ())),
            str(row.get("checks_done", "")),
            _late(row.get("checks_late_ms", 0)),
        )
        for row in rows
    ]
    notes = [note for row in rows for note in _agent_notes(row)]
    return Group(table(columns, lines, width), *([Text("")] if notes else []), *notes)


def topology(answer: Json, width: int) -> RenderableType:
    """Roles with their listeners and connections, then hosts, then deny rules."""
    columns = (Column("role", whole=True), Column("listens on"), Column("connects to"))
    lines = []
    for role in answer["roles"]:
        listens = [f"{one['service']} {one['protocol']}{_basis(one)}" for one in role["listens"]]
        connects = [f"{one['service']}{_basis(one)}" for one in role["connects"]]
        lines.append((role["role"], "\n".join(listens) or "-", "\n".join(connects) or "-"))
    parts: list[RenderableType] = [table(columns, lines, width)]
    if answer["hosts"]:
        columns = (Column("host", whole=True), Column("roles"), Column("addresses"))
        lines = [
            (
                host["host"],
                ", ".join(host["roles"]) or "from its agent",
                ", ".join(host["addresses"]) or "from its agent",
            )
            for host in answer["hosts"]
        ]
        parts.append(table(columns, lines, width))
    if answer["deny"]:
        rules = [(deny["role"], deny["service"]) for deny in answer["deny"]]
        parts.append(table((Column("must not reach"), Column("")), rules, width))
    return Group(*_apart(parts), Text(""), _BASIS_LEGEND)


def topology_rows(answer: Json) -> list[Json]:
    """One row a listener and one a connection."""
    return [
        {
            "role": role["role"],
            "does": does,
            **{key: one[key] for key in ("service", "basis", "row")},
            **{key: one.get(key) for key in ("protocol", "transport", "note")},
        }
        for role in answer["roles"]
        for does, entries in (("listens", role["listens"]), ("connects", role["connects"]))
        for one in entries
    ]


_BASIS_LEGEND: Final = Text(
    "#3: row 3 of the profile's port table; +: not in the table, but seen in the source code", "dim"
)

MATRIX_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    By.ROLE: (By.ROLE, "service", *State),
    By.HOST: (By.HOST, "service", *State),
    By.ROW: (
        *("profile", "row", "port", "component", "traffic", "description"),
        *("flows", "states", "state"),
    ),
}
FLOW_COLUMNS: Final = (
    *("source", "destination", "service", "address", "port", "transport", "protocol", "expect"),
    *("state", "outcome", "answered_by", "cause", "at", "confidence", "evidence"),
    *("since", "checked", "latency_ms", "duration_ms", "reasons"),
    *("certificate_until", "seen_as", "checks_made", "checks_open", "checks_local_error", "rows"),
)
AGENT_COLUMNS: Final = (
    *("agent", "state", "in_topology", "expected", "roles", "heard", "age_s", "joined", "boot"),
    *("hostname", "addresses", "announced_roles", "announced_ports", "announced_targets"),
    *("version", "platform", "capabilities"),
    *("plan", "plan_refused", "listeners", "checks_done", "checks_late_ms"),
    *("observations_dropped", "observations_waiting", "changes_dropped", "clock_skew_s"),
    *("observations_received", "observations_refused", "observations_vanished"),
    *("dropped_before", "vanished_before", "notes"),
)
TOPOLOGY_COLUMNS: Final = (
    *("role", "does", "service", "basis", "row"),
    *("protocol", "transport", "note"),
)
"""What CSV has in its header, also where there is no row to say it."""

_DAY_S: Final = 86_400


def _blocks(columns: Sequence[str], rows: Sequence[Json], width: int) -> Iterable[list[str]]:
    """The columns in groups that fit the width each, in their order."""
    block: list[str] = []
    used = 0
    for column in columns:
        wide = _cell_width(column, rows) + 1
        if block and used + wide > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += wide
    if block:
        yield block


def _cell_width(column: str, rows: Sequence[Json]) -> int:
    words = _heading(column).split("\n")
    words += [marks.count(row["cells"].get(column, {})).plain for row in rows]
    return max(map(len, words))


def _matrix_block(
    by: str, rows: Sequence[Json], columns: Sequence[str], label: int
) -> RenderableType:
    block = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    block.add_column(by, min_width=label, no_wrap=True, vertical="bottom")
    for column in columns:
        block.add_column(
            _heading(column),
            justify="right",
            min_width=_cell_width(column, rows),
            no_wrap=True,
            vertical="bottom",
        )
    for row in rows:
        cells = [row["cells"].get(column, {}) for column in columns]
        if any(cells):
            block.add_row(row["name"], *(marks.count(cell) for cell in cells))
    return block


def _heading(service: str) -> str:
    """A service as a narrow column's heading, broken where its name has hyphens."""
    return service.replace("-", "-\n").replace(":", "\n")


def _port_table(rows: Sequence[Json], width: int) -> RenderableType:
    columns = (
        Column("row", right=True, whole=True),
        Column("port", right=True, whole=True),
        Column("component"),
        Column("traffic", whole=True),
        Column("description"),
        Column("flows", whole=True),
    )
    lines = [
        (
            str(row["row"]),
            str(row["port"]),
            row["component"],
            row["traffic"],
            row["description"],
            marks.count(row["states"]) if row["flows"] else Text("none", "dim"),
        )
        for row in rows
    ]
    present = {state for row in rows for state in row["states"]}
    covered = sum(1 for row in rows if row["flows"])
    told = Text(f"{covered} of {len(rows)} rows have flows here.   ", "dim")
    return Group(table(columns, lines, width), Text(""), told.append_text(marks.legend(present)))


def _asked_rows(rows: Iterable[Json]) -> Iterable[Text]:
    """The rows of port tables that a question was about, and a blank line after them."""
    told = [Text(f"row {row['row']} of {row['profile']}: {row['text']}", "bold") for row in rows]
    return [*told, Text("")] if told else []


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
        took = f", connects in {_latency(flow['latency_ms'])} ms" if is_open else ""
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


def _basis(entry: Json) -> str:
    if entry["row"]:
        return f" #{entry['row']['row']}"
    return " +" if entry["basis"] == Basis.OBSERVED else ""


def _reason(reason: Json) -> str:
    text = f"{reason['role']} -> {reason['service']} ({reason['basis']}"
    if reason["row"]:
        text += (
            f", row {reason['row']['row']} of {reason['row']['profile']}: {reason['row']['text']}"
        )
    text += ")"
    return f"{text}: {reason['note']}" if reason["note"] else text


def _agent_notes(row: Json) -> Iterable[Text]:
    name = row["agent"]
    if row["state"] == "conflict":
        yield Text(
            f"{name}: one of two agents under this name, on {row['hostname']} at "
            f"{', '.join(row['addresses'])} since {clock(row['joined'])}: give each its own --id",
            "bold red",
        )
    if row.get("plan_refused"):
        yield Text(f"{name}: {row['plan_refused']}", "yellow")
    for note in row["notes"]:
        yield Text(f"{name}: {note}", "yellow")
    for listener in row.get("listeners", ()):
        if listener["state"] == "failed":
            port = f"{listener['service']} (port {listener['port']})"
            yield Text(f"{name}: cannot listen for {port}: {listener['detail']}", "yellow")


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


def address(flow: Json) -> str:
    """What is dialled, as `10.0.0.5:4433` or `[fd00::5]:4433`."""
    address = flow["address"]
    if address is None:
        return "-"
    return f"[{address}]:{flow['port']}" if ":" in address else f"{address}:{flow['port']}"


def _late(milliseconds: int) -> str:
    """How late checks run; nothing where they do not."""
    if milliseconds <= 0:
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _latency(milliseconds: float | None) -> str:
    """To a tenth, or to a hundredth where a tenth would be nothing: within one host or rack."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f}" if milliseconds >= 0.95 else f"{milliseconds:.2f}"


def clock(timestamp: str) -> str:
    """A timestamp in the reader's own time zone, with the date where it is not today's."""
    moment = datetime.datetime.fromisoformat(timestamp).astimezone()
    today = datetime.datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}"


def _apart(blocks: Sequence[RenderableType]) -> Iterable[RenderableType]:
    for index, block in enumerate(blocks):
        if index:
            yield Text("")
        yield block
