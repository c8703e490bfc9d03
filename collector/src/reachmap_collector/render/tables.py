"""Answers to queries as tables and short texts for people.

Each function takes an answer as `reachmap_collector.views` makes it, and the terminal's width.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reachmap_collector.render import marks
from reachmap_collector.render.layout import Column, table
from reachmap_collector.render.words import address, apart, asked_rows, clock, latency
from reachmap_collector.topology.schema import Basis
from reachmap_collector.views import By
from reachmap_shared.vocabulary import State

Json = dict[str, Any]


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
    return Group(*apart(blocks), Text(""), marks.legend(present))


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
        return Group(*asked_rows(table_rows), nothing) if table_rows else nothing
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
            latency(flow["latency_ms"]),
        )
        for flow in found
    ]
    made = table(columns, rows, width)
    return Group(*asked_rows(table_rows), made) if table_rows else made


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
    return Group(*apart(parts), Text(""), _BASIS_LEGEND)


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


def _basis(entry: Json) -> str:
    if entry["row"]:
        return f" #{entry['row']['row']}"
    return " +" if entry["basis"] == Basis.OBSERVED else ""


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


def _late(milliseconds: int) -> str:
    """How late checks run; nothing where they do not."""
    if milliseconds <= 0:
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
