"""The roles that a port table's rows make, and what has to be guessed for them. Pure.

A row says who listens or who connects, and on which port; never to whom, and seldom in which
protocol. Rows are paired by port, the rest is guessed, and every guess is a finding.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reachmap_collector.topology.findings import Finding, FindingKind
from reachmap_collector.topology.schema import Basis, Connect, Listen, Role, Row
from reachmap_shared.names import MAX_NAME, ServiceName
from reachmap_shared.vocabulary import Transport

_PROTOCOL_WORDS: Final = {
    "nats": "nats",
    "ocsp": "ocsp",
    "postgres": "postgres",
    "postgresql": "postgres",
    "sftp": "ssh",
    "ssh": "ssh",
    "https": "https",
    "http": "http",
    "tls": "tls",
}
"""Words that tell a protocol, the more telling first: NATS over TLS is NATS."""

_PROTOCOL_PORTS: Final = {22: "ssh", 80: "http", 443: "https", 4222: "nats", 5432: "postgres"}

_NAMES_NOBODY: Final = frozenset(
    "a access all an any client communication connect connection connections connects data for "  # noqa: SIM905 - one word a line reads worse
    "from in inbound incoming internal network on out outbound outgoing port remote request "
    "requests send sends server service tcp the to traffic udp used".split()
)
"""First words of a description that are no name: 'Connection to the database'."""

_MADE_UP: Final = "not in the table: made up for those rows that connect to this port"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a port table, understood."""

    number: int
    line: int
    row: Row
    role: str
    transports: frozenset[Transport]
    """Those that the row names."""
    protocol: str
    """The text of its column for protocols, if there is one."""

    @property
    def transport(self) -> Transport | None:
        """The transport to take; None leaves it to the other end, and in the end to TCP."""
        if len(self.transports) == 1:
            return next(iter(self.transports))
        return Transport.TCP if self.transports else None

    @property
    def service(self) -> ServiceName:
        """What the row's component listens on, if it is inbound."""
        return ServiceName(self.role, self.row.port)


def slug(text: str) -> str:
    """A role's name as a component's would be, or something that is no name."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower()))


def draft_roles(entries: Sequence[Entry]) -> tuple[dict[str, Role], tuple[Finding, ...]]:
    """Make roles of rows, none of which says what another has said.

    Returns:
        The roles in the order in which the rows name them, and what was guessed, in the rows' own.
    """
    draft = _Draft()
    draft.take(entries)
    return draft.roles(), draft.findings()


class _Draft:
    """Roles in the making."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}
        self._listens: dict[str, dict[str, Listen]] = defaultdict(dict)
        self._connects: dict[str, list[Connect]] = defaultdict(list)
        self._findings: list[tuple[int, Finding]] = []
        self._listeners: dict[int, list[Entry]] = defaultdict(list)
        """Inbound rows by their port."""

    def take(self, entries: Sequence[Entry]) -> None:
        """Make roles of all the rows there are."""
        for entry in entries:
            self._titles.setdefault(entry.role, entry.row.component)
            if len(entry.transports) > 1:
                self._find(
                    FindingKind.TWO_TRANSPORTS, [entry], "both tcp and udp: taken as tcp alone"
                )
            if entry.row.traffic == "inbound":
                self._listen(entry)
        lonely: dict[tuple[int, Transport], list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.row.traffic == "outbound" and not self._connect(entry):
                lonely[entry.row.port, entry.transport or Transport.TCP].append(entry)
        for (port, transport), rows in lonely.items():
            self._make_up(port, transport, rows)
        self._find_never_dialled()

    def roles(self) -> dict[str, Role]:
        return {
            name: Role(
                title=title,
                listens=self._listens[name],
                connects=sorted(self._connects[name], key=lambda connect: connect.row or 0),
            )
            for name, title in self._titles.items()
        }

    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for _, finding in sorted(self._findings, key=lambda found: found[0]))

    def _listen(self, entry: Entry) -> None:
        transport = entry.transport or Transport.TCP
        texts = (entry.protocol, entry.row.description, entry.row.component)
        protocol = _protocol(transport, entry.row.port, texts)
        if protocol is None:
            self._find(
                FindingKind.GUESSED_PROTOCOL,
                [entry],
                f"nothing tells the protocol of {entry.service}: taken as plain tcp",
            )
        self._listeners[entry.row.port].append(entry)
        self._listens[entry.role][str(entry.service)] = Listen(
            protocol=protocol or "tcp",
            transport=transport,
            basis=Basis.DOCUMENTED,
            row=entry.number,
        )

    def _connect(self, entry: Entry) -> bool:
        """Connect a row to all that listen on its port; False if nobody does."""
        services = [
            listener.service
            for listener in self._listeners[entry.row.port]
            if entry.transport in {None, listener.transport or Transport.TCP}
        ]
        for service in services:
            self._connects[entry.role].append(_documented(service, entry))
        if len(services) > 1:
            self._find(
                FindingKind.SEVERAL_LISTENERS,
                [entry],
                f"{_list(services)} have this port: taken as connecting to each",
            )
        return bool(services)

    def _make_up(self, port: int, transport: Transport, rows: Sequence[Entry]) -> None:
        """Make up a listener that rows share: the table has no row for it."""
        names = self._names(rows)
        name = next(
            name
            for name in itertools.chain(names, _port_names(port))
            if f"{name}:{port}" not in self._listens[name]
        )
        service = ServiceName(name, port)
        protocol = _protocol(transport, port, [row.row.description for row in rows]) or "tcp"
        made = "taken" if name in self._titles else "made up"
        others = [other for other in names if other != name]
        self._find(
            FindingKind.NO_LISTENER,
            rows,
            f"no row listens on {transport} port {port}: role {name} was {made} to listen there, "
            f"speaking {protocol}" + (f"; the rows also name {_list(others)}" if others else ""),
        )
        self._titles.setdefault(name, names.get(name, ""))
        self._listens[name][str(service)] = Listen(
            protocol=protocol, transport=transport, basis=Basis.LOCAL, note=_MADE_UP
        )
        for row in rows:
            self._connects[row.role].append(_documented(service, row))

    def _names(self, rows: Sequence[Entry]) -> dict[str, str]:
        """Names that rows give to whom they connect to, each with the word it comes from."""
        words = [word for row in rows for word in row.row.description.split()[:1]]
        dialling = {row.role for row in rows}
        names: dict[str, str] = {}
        for word in words:
            name = slug(word)
            plausible = re.fullmatch(rf"[a-z][a-z0-9-]{{1,{MAX_NAME - 1}}}", name)
            if plausible and name not in _NAMES_NOBODY and name not in dialling:
                names.setdefault(name, word.strip(",.:;"))
        return names

    def _find_never_dialled(self) -> None:
        dialled = {connect.to for connects in self._connects.values() for connect in connects}
        for entry in itertools.chain.from_iterable(self._listeners.values()):
            if str(entry.service) not in dialled:
                self._find(
                    FindingKind.NEVER_DIALLED,
                    [entry],
                    f"no row connects to {entry.service}: add it to those roles that do",
                )

    def _find(self, kind: FindingKind, rows: Sequence[Entry], message: str) -> None:
        numbers = ", ".join(str(row.number) for row in rows)
        where = f"row {numbers}" if len(rows) == 1 else f"rows {numbers}"
        self._findings.append((rows[0].number, Finding(kind, where, message)))


def _documented(service: ServiceName, entry: Entry) -> Connect:
    return Connect(to=str(service), basis=Basis.DOCUMENTED, row=entry.number)


def _protocol(transport: Transport, port: int, texts: Iterable[str]) -> str | None:
    """The protocol that the first telling text tells, or the port; None if none does."""
    if transport is Transport.UDP:
        return "udp"
    for text in texts:
        words = set(re.findall(r"[a-z0-9]+", text.lower()))
        for word, protocol in _PROTOCOL_WORDS.items():
            if word in words:
                return protocol
    return _PROTOCOL_PORTS.get(port)


def _port_names(port: int) -> Iterator[str]:
    yield f"port-{port}"
    for number in itertools.count(2):
        yield f"port-{port}-{number}"


def _list(names: Iterable[object]) -> str:
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last
