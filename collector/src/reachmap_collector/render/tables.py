"""Answers to queries as tables and short texts for people.

Each function takes an answer as `reachmap_collector.views` makes it, and the terminal's width.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reachmap_collector.render import marks
from reachmap_collector.topology.schema import Basis
from reachmap_collector.views import By
from reachmap_shared.vocabulary import Expectation, Outcome, State

Json = dict[str, Any]


def matrix(answer: Json, width: int) -> RenderableType:
    """The map: rows against services, in blocks that fit the width; or the port table's rows."""
    if answer["by"] == By.ROW:
        return _port_table(answer["rows"])
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


def flows(found: Sequence[Json], _width: int) -> RenderableType:
    """One line a flow."""
    if not found:
        return Text("No flow fits: the topology has none, or the filters leave none.")
    table = _table("state", "source", "destination", "service", "saw", "who", "ms>")
    for flow in found:
        table.add_row(
            marks.state(flow["state"]),
            flow["source"],
            flow["destination"],
            flow["service"],
            flow["outcome"] or "-",
            flow["answered_by"] or "-",
            _latency(flow["latency_ms"]),
        )
    return table


def flow_rows(found: Sequence[Json]) -> list[Json]:
    """Flows as flat rows: the reasons by their names alone."""
    return [{**flow, "reasons": [reason["role"] for reason in flow["reasons"]]} for flow in found]


def explanation(found: Sequence[Json], _width: int) -> RenderableType:
    """All that is known of some flows, one after the other."""
    return Group(*_apart([_explain(flow) for flow in found]))


def agents(rows: Sequence[Json], _width: int) -> RenderableType:
    """One line an agent, and below it what is wrong with some."""
    if not rows:
        return Text("No agent has reported, and the topology expects none.")
    table = _table("agent", "state", "heard", "address", "roles", "checks>")
    for row in rows:
        heard = f"{row['age_s']:.0f} s ago" if "age_s" in row else "never"
        table.add_row(
            row["agent"],
            Text(row["state"], "green" if row["state"] == "fresh" else "bold red"),
            heard,
            ", ".join(row.get("addresses", ())),
            ", ".join(row.get("roles", ())),
            str(row.get("checks_done", "")),
        )
    notes = [note for row in rows for note in _agent_notes(row)]
    return Group(table, *([Text("")] if notes else []), *notes)


def status(answer: Json, _width: int) -> RenderableType:
    """The line that Nagios reads."""
    counts, by_agent = answer["flows"], answer["agents"]
    told = [f"{count} {state}" for state, count in counts.items() if count]
    missing = sum(count for state, count in by_agent.items() if state != "fresh")
    agents_told = f"{sum(by_agent.values())} agents" + (f", {missing} missing" if missing else "")
    data = " ".join(f"{state}={count}" for state, count in counts.items())
    line = (
        f"REACHMAP {_NAGIOS[status_exit_code(answer)]} - flows: {', '.join(told) or 'none'}; "
        f"{agents_told} | {data} agents_missing={missing}"
    )
    # In a group, since a lone text is printed anew and may then be broken after all.
    return Group(Text(line, no_wrap=True, overflow="ignore"))


def topology(answer: Json, _width: int) -> RenderableType:
    """Roles with their listeners and connections, then hosts, then deny rules."""
    roles = _table("role", "listens on", "connects to")
    for role in answer["roles"]:
        listens = [f"{one['service']} {one['protocol']}{_basis(one)}" for one in role["listens"]]
        connects = [f"{one['service']}{_basis(one)}" for one in role["connects"]]
        roles.add_row(role["role"], "\n".join(listens) or "-", "\n".join(connects) or "-")
    parts: list[RenderableType] = [roles]
    if answer["hosts"]:
        hosts = _table("host", "roles", "addresses")
        for host in answer["hosts"]:
            addresses = ", ".join(host["addresses"]) or "from its agent"
            hosts.add_row(host["host"], ", ".join(host["roles"]) or "from its agent", addresses)
        parts.append(hosts)
    if answer["deny"]:
        denies = _table("must not reach", "")
        for deny in answer["deny"]:
            denies.add_row(deny["role"], deny["service"])
        parts.append(denies)
    return Group(*_apart(parts), Text(""), _BASIS_LEGEND)


def topology_rows(answer: Json) -> list[Json]:
    """One row a listener and one a connection."""
    return [
        {
            "role": role["role"],
            "does": does,
            **{key: one[key] for key in ("service", "basis", "row")},
        }
        for role in answer["roles"]
        for does, entries in (("listens", role["listens"]), ("connects", role["connects"]))
        for one in entries
    ]


def status_exit_code(answer: Json) -> int:
    """Nagios's: 0 all as expected, 1 degraded or unknown, 2 broken or exposed, 3 cannot tell."""
    return _EXIT_CODES.get(answer["state"], 3)


_BASIS_LEGEND: Final = Text(
    "#3: row 3 of the profile's port table; +: not in the table, but seen in the source code", "dim"
)

_NAGIOS: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_EXIT_CODES: Final = {
    State.OK: 0,
    State.DEGRADED: 1,
    State.UNKNOWN: 1,
    State.BROKEN: 2,
    State.EXPOSED: 2,
}


def _blocks(columns: Sequence[str], rows: Sequence[Json], width: int) -> Iterable[list[str]]:
    """The columns in groups that fit the width each, in their order."""
    block: list[str] = []
    used = 0
    for column in columns:
        words = _heading(column).split("\n")
        words += [marks.count(row["cells"].get(column, {})).plain for row in rows]
        wide = max(map(len, words)) + 1
        if block and used + wide > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += wide
    if block:
        yield block


def _matrix_block(
    by: str, rows: Sequence[Json], columns: Sequence[str], label: int
) -> RenderableType:
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column(by, min_width=label, no_wrap=True, vertical="bottom")
    for column in columns:
        table.add_column(_heading(column), justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        cells = [row["cells"].get(column, {}) for column in columns]
        if any(cells):
            table.add_row(row["name"], *(marks.count(cell) for cell in cells))
    return table


def _heading(service: str) -> str:
    """A service as a narrow column's heading, broken where its name has hyphens."""
    return service.replace("-", "-\n").replace(":", "\n")


def _port_table(rows: Sequence[Json]) -> RenderableType:
    table = _table("row>", "port>", "component", "traffic", "description", "flows")
    for row in rows:
        table.add_row(
            str(row["row"]),
            str(row["port"]),
            row["component"],
            row["traffic"],
            row["description"],
            marks.count(row["states"]) if row["flows"] else Text("none", "dim"),
        )
    present = {state for row in rows for state in row["states"]}
    covered = sum(1 for row in rows if row["flows"])
    told = Text(f"{covered} of {len(rows)} rows have flows here.   ", "dim")
    return Group(table, Text(""), told.append_text(marks.legend(present)))


def _explain(flow: Json) -> RenderableType:
    title = Text.assemble(
        (f"{flow['source']} -> {flow['destination']}  {flow['service']}  ", "bold"),
        marks.state(flow["state"]),
        f" since {_clock(flow['since'])}",
    )
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column()
    where = f"{flow['address'] or 'no address yet'} port {flow['port']}/{flow['transport']}"
    facts.add_row("dialled", f"{where}, speaking {flow['protocol']}; expected {flow['expect']}")
    if flow["outcome"]:
        by = f", answered by the {flow['answered_by']}" if flow["answered_by"] else ""
        is_open = flow["outcome"] == Outcome.OPEN
        took = f", connects in {_latency(flow['latency_ms'])} ms" if is_open else ""
        facts.add_row("saw", f"{flow['outcome']}{by}{took}, at {_clock(flow['checked'])}")
    if flow["cause"]:
        facts.add_row("cause", Text(f"{flow['cause']} ({flow['confidence']})", "bold"))
    for index, fact in enumerate(flow["evidence"]):
        facts.add_row("" if index else "evidence", fact)
    because = "needed by" if flow["expect"] == Expectation.REACHABLE else "forbidden by"
    for index, reason in enumerate(flow["reasons"]):
        facts.add_row("" if index else because, _reason(reason))
    if flow["advice"]:
        facts.add_row("to do", Text(flow["advice"], "bold"))
    return Group(title, Padding(facts, (0, 0, 0, 2)))


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
            f"{', '.join(row['addresses'])} since {_clock(row['joined'])}: give each its own --id",
            "bold red",
        )
    if not row["in_topology"]:
        yield Text(
            f"{name}: is not in the topology: list it under hosts, or let its roles in with admit",
            "yellow",
        )
    if row.get("plan_refused"):
        yield Text(f"{name}: {row['plan_refused']}", "yellow")
    for listener in row.get("listeners", ()):
        if listener["state"] == "failed":
            port = f"{listener['service']} (port {listener['port']})"
            yield Text(f"{name}: cannot listen for {port}: {listener['detail']}", "yellow")


def _table(*columns: str) -> Table:
    """A plain table; a column whose name ends in `>` is right-aligned."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if right else "left")
    return table


def _latency(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}"


def _clock(timestamp: str) -> str:
    """A timestamp in the reader's own time zone, with the date where it is not today's."""
    moment = datetime.datetime.fromisoformat(timestamp).astimezone()
    today = datetime.datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M:%S}"


def _apart(blocks: Sequence[RenderableType]) -> Iterable[RenderableType]:
    for index, block in enumerate(blocks):
        if index:
            yield Text("")
        yield block
