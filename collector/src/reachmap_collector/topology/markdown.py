"""Port tables in Markdown, as vendors publish them, made into profiles. Pure: text in, text out.

All tables are read that have a column for ports, one for components and one for the traffic's
direction. An inbound row says that its component listens on the port; an outbound row, that its
component connects to whoever listens there.

That is less than a profile needs, so each guess is a finding, for a person to look at. A mistake
refuses the file whole, with the line of every other mistake in it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import tomli_w

from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.topology.draft import Entry, draft_roles, slug
from reachmap_collector.topology.findings import Finding, FindingKind
from reachmap_collector.topology.schema import (
    MAX_NOTE,
    ProfileFile,
    Row,
)
from reachmap_collector.topology.tables import Table, TableLine, find_tables
from reachmap_shared.names import MAX_NAME, port_number, role_name
from reachmap_shared.vocabulary import Transport

Value = TypeVar("Value")
Traffic = Literal["inbound", "outbound"]
Mistake = tuple[int, str]
"""A line, or 0 for the file as a whole, and what is wrong there."""

_COLUMNS: Final = {
    "Port": ("port", "ports", "port number", "default port"),
    "Component": ("component", "role", "service", "application"),
    "Traffic": ("traffic", "direction", "traffic direction"),
    "Description": ("description", "notes", "note", "purpose", "comment", "comments"),
    "Transport": ("transport",),
    "Protocol": ("protocol", "proto"),
}
"""What a column holds, and the headers that say so, the likeliest first."""

_REQUIRED: Final = ("Port", "Component", "Traffic")

_TRAFFIC: Final[Mapping[str, Traffic]] = {
    "inbound": "inbound",
    "incoming": "inbound",
    "ingress": "inbound",
    "in": "inbound",
    "outbound": "outbound",
    "outgoing": "outbound",
    "egress": "outbound",
    "out": "outbound",
}

_SHOWN: Final = 100
"""Characters of the user's own in a message."""

_TRANSPORT: Final = re.compile(r"\b(tcp|udp)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Imported:
    """A profile made from port tables, and what a person should look at in it."""

    profile: ProfileFile
    findings: tuple[Finding, ...]


def import_table(text: str, path: Path | str, title: str = "") -> Imported:
    """Make one profile of all the port tables in a Markdown text.

    Args:
        text: What stands in the file.
        path: The file's name, for messages and for the profile's `source`.
        title: The profile's; cut to what a title may hold.

    Raises:
        InvalidFile: With every problem found, each with its line and what was expected.
    """
    tables, prose = find_tables(text)
    port_tables = [table for table in tables if not _missing(table.header)]
    mistakes = list(_lost_tables(prose))
    if not port_tables and not mistakes:
        mistakes += _no_port_table(tables)
    entries: list[Entry] = []
    for table in port_tables:
        found, wrong = _entries(table, first=len(entries) + 1)
        entries += found
        mistakes += wrong
    mistakes += _repetitions(entries)
    if mistakes:
        mistakes.sort(key=lambda mistake: mistake[0])
        problems = [Problem(f"line {line}" if line else "", text) for line, text in mistakes]
        raise InvalidFile(path, problems)
    roles, guesses = draft_roles(entries)
    profile = ProfileFile(
        title=title[:MAX_NOTE],
        source=f"port table in {Path(path).name}"[:MAX_NOTE],
        rows=[entry.row for entry in entries],
        roles=roles,
    )
    return Imported(profile, (*_left_out(tables), *guesses))


def to_toml(profile: ProfileFile) -> str:
    """Write a profile as a file that loads as the same profile, without what is default.

    One line a row, a service or a connection, as the built-in profiles have it: tomli_w would
    give each its own table as soon as one of them is long.
    """
    content = profile.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    lines = [
        tomli_w.dumps({key: content[key]}, indent=2).rstrip("\n")
        for key in ("title", "source", "profiles")
        if key in content
    ]
    lines += _inline_array("rows", content.get("rows", []))
    for name, role in content.get("roles", {}).items():
        lines += ["", f"[roles.{name}]"]
        lines += [_inline({"title": role["title"]})] if "title" in role else []
        lines += _inline_array("connects", role.get("connects", []))
        if "listens" in role:
            lines.append(f"[roles.{name}.listens]")
            lines += [f'"{key}" = {{ {_inline(value)} }}' for key, value in role["listens"].items()]
    for deny in content.get("deny", []):
        lines += ["", "[[deny]]", *(_inline({key: value}) for key, value in deny.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _inline_array(key: str, tables: Sequence[Mapping[str, str | int]]) -> list[str]:
    if not tables:
        return []
    return [f"{key} = [", *(f"  {{ {_inline(table)} }}," for table in tables), "]"]


def _inline(table: Mapping[str, str | int]) -> str:
    return ", ".join(tomli_w.dumps({key: value}).rstrip("\n") for key, value in table.items())


def _columns(header: TableLine) -> dict[str, int]:
    """Where a table's columns are, by what they hold."""
    names = [
        # "Traffic (in/out)" is a header of traffic.
        " ".join(re.findall(r"\w+", re.sub(r"\(.*?\)", " ", cell).casefold()))
        for cell in header.cells
    ]
    return {
        column: names.index(known[0])
        for column, synonyms in _COLUMNS.items()
        if (known := [synonym for synonym in synonyms if synonym in names])
    }


def _missing(header: TableLine) -> list[str]:
    """The columns that an import needs and a table has not."""
    columns = _columns(header)
    return [name for name in _REQUIRED if name not in columns]


def _no_port_table(tables: Sequence[Table]) -> Iterator[Mistake]:
    expected = f"expected one with the columns {', '.join(_REQUIRED)} and perhaps Description"
    yield 0, f"no table {'of ports ' if tables else ''}in it: {expected}"
    for table in tables:
        yield table.header.number, _unlike_ports(table)


def _unlike_ports(table: Table) -> str:
    columns = _shown(", ".join(cell or "(nameless)" for cell in table.header.cells))
    missing = " or ".join(_missing(table.header))
    return f"a table with the columns {columns}, but none for {missing}"


def _left_out(tables: Iterable[Table]) -> Iterator[Finding]:
    for table in tables:
        missing = _missing(table.header)
        if missing and "Port" not in missing:
            where = f"line {table.header.number}"
            yield Finding(FindingKind.TABLE_LEFT_OUT, where, f"{_unlike_ports(table)}: left out")


def _lost_tables(prose: Iterable[TableLine]) -> Iterator[Mistake]:
    for line in prose:
        if not _missing(line):
            rule = "|---" * line.written + "|"
            yield line.number, f"the header of a table, but expected {rule} in the line below it"


def _entries(table: Table, first: int) -> tuple[list[Entry], list[Mistake]]:
    """Read a table's rows, which count on from `first`."""
    if not table.rows:
        return [], [(table.header.number, "the table has no rows: expected one for each port")]
    columns = _columns(table.header)
    width = len(table.header.cells)
    entries: list[Entry] = []
    mistakes: list[Mistake] = []
    for number, line in enumerate(table.rows, first):
        if line.written != width:
            message = rf"found {line.written} cells, expected {width}; a | in a cell is written \|"
            mistakes.append((line.number, message))
            continue
        cells = {column: line.cells[index] for column, index in columns.items()}
        entry, messages = _entry(number, line.number, cells)
        mistakes += [(line.number, message) for message in messages]
        entries += [entry] if entry else []
    return entries, mistakes


def _entry(number: int, line: int, cells: Mapping[str, str]) -> tuple[Entry | None, list[str]]:
    """Read one row, or say all that is wrong with it."""
    messages: list[str] = []

    def read(reader: Callable[[str], Value], column: str) -> Value | None:
        try:
            return reader(cells.get(column, ""))
        except ValueError as error:
            messages.append(str(error))
            return None

    port = read(_port, "Port")
    role = read(_role, "Component")
    traffic = read(_traffic, "Traffic")
    description = read(_description, "Description")
    if port is None or role is None or traffic is None or description is None:
        return None, messages
    named = (cells.get(column, "") for column in ("Port", "Transport", "Protocol"))
    return Entry(
        number=number,
        line=line,
        row=Row(port=port, component=cells["Component"], traffic=traffic, description=description),
        role=role,
        transports=frozenset(
            Transport(word.lower()) for cell in named for word in _TRANSPORT.findall(cell)
        ),
        protocol=cells.get("Protocol", ""),
    ), []


def _port(cell: str) -> int:
    """Read `4433`, `53/udp`, `53 (UDP)` and the like."""
    number = _TRANSPORT.sub(" ", cell).strip(" /()+,&")
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise ValueError(
            f"{_shown(cell)!r} is not a port: "
            "expected one number from 1 to 65535, as in 4433 or 53/udp"
        )
    return port_number(int(number))


def _role(cell: str) -> str:
    if len(cell) > MAX_NOTE:
        raise ValueError(f"a component of {len(cell)} characters: expected at most {MAX_NOTE}")
    try:
        return role_name(slug(cell))
    except ValueError:
        raise ValueError(
            f"component {_shown(cell)!r} cannot become a role: "
            f"expected letters and digits, at most {MAX_NAME} of a-z 0-9 - when joined"
        ) from None


def _traffic(cell: str) -> Traffic:
    traffic = _TRAFFIC.get(cell.casefold())
    if traffic is None:
        raise ValueError(f"{_shown(cell)!r} is no direction: expected Inbound or Outbound")
    return traffic


def _description(cell: str) -> str:
    if len(cell) > MAX_NOTE:
        raise ValueError(f"a description of {len(cell)} characters: expected at most {MAX_NOTE}")
    return cell


def _repetitions(entries: Sequence[Entry]) -> Iterator[Mistake]:
    """Rows that say what another has said: a service or a connection has one row at most."""
    seen: dict[tuple[str, int, Traffic], list[Entry]] = defaultdict(list)
    for entry in entries:
        before = seen[entry.role, entry.row.port, entry.row.traffic]
        for other in before:
            here, there = entry.transport, other.transport
            if here is None or there is None or here == there:
                message = f"the same port, component and traffic as line {other.line}"
                yield entry.line, f"{message}: expected one row for both"
                break
            if entry.row.traffic == "inbound":
                message = f"{entry.service} is on {there} at line {other.line}, here on {here}"
                yield entry.line, f"{message}: expected another component for one of them"
                break
        before.append(entry)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
