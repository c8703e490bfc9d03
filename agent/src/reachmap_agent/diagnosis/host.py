"""What this host's kernel shows to anyone: counters, connections, routes, who listens.

/proc/net is read through /proc/thread-self: `/proc/net` itself follows the process, and is hidden
where only processes may be seen (systemd's ProcSubset=pid).
"""

import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from reachmap_agent.diagnosis import counters, tables
from reachmap_agent.holders import Ports, identify
from reachmap_agent.sockdiag import FAMILIES, Listening
from reachmap_shared.diagnosis import Row
from reachmap_shared.vocabulary import Transport

_NET: Final = Path("/proc/thread-self/net")
_LINUX: Final = sys.platform == "linux"
_ROUTE, _SOCK_DIAG = 0, 4
_PATIENCE_S: Final = 0.05
"""For looking through processes: checks wait meanwhile."""
_ANY_PORT: Final = 9
"""Of a connected UDP socket that sends nothing."""


def family_of(address: str) -> socket.AddressFamily:
    """The family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def read_counters() -> counters.Values | None:
    """All counters as they are now; None where the system has none."""
    found: dict[str, int] = {}
    for name in counters.FILES:
        with contextlib.suppress(OSError):  # a kernel without IPv6 lacks one
            found |= counters.parse((_NET / name).read_text())
    return found or None


def connections(port: int, block: int) -> set[Row]:
    """The connections of a local port from a block of source ports."""
    found: set[Row] = set()
    for family in FAMILIES if _LINUX else ():
        try:
            bodies = _ask(_SOCK_DIAG, tables.ask_connections(family, port))
            rows = (tables.connection(body, port, block) for body in bodies)
            found |= {row for row in rows if row is not None}
        except OSError:  # a sandbox may lack AF_NETLINK
            with contextlib.suppress(OSError):
                table = _NET / ("tcp6" if family == socket.AF_INET6 else "tcp")
                found |= set(tables.from_table(table.read_text(), port, block))
    return found


def is_hooked() -> bool | None:
    """Whether a program sits before the taps on any interface; None when that is unknown."""
    if not _LINUX:
        return None
    try:
        return any(map(tables.is_hooked, _ask(_ROUTE, tables.ask_links())))
    except OSError:
        return None


def is_local(address: str) -> bool:
    """Whether an address is this host's own."""
    return not _tried(address, lambda probe: probe.bind((address, 0)))


def route_error(local: str, peer: str) -> int:
    """The error that a packet from here to a peer meets before it leaves; 0 for none."""

    def connect(probe: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may not be ours, behind address translation
            probe.bind((local, 0))
        probe.connect((peer, _ANY_PORT))

    return _tried(peer, connect)


def listens(address: str, port: int, transport: Transport) -> Listening | None:
    """What listens there, the agent's own listeners included; None when nothing does."""
    return Ports({transport}, ()).held((address,), port, transport)


def describe(found: Listening, transport: Transport) -> str:
    """Whose that is."""
    return identify((found,), transport, _PATIENCE_S)[found].description


def _tried(address: str, action: Callable[[socket.socket], None]) -> int:
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
            action(probe)
    except OSError as error:
        return error.errno or -1
    return 0


def _ask(protocol: int, question: bytes) -> list[bytes]:
    found: list[bytes] = []
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, protocol) as netlink:
        netlink.settimeout(1.0)
        netlink.sendto(question, (0, 0))
        try:
            while True:
                for body in tables.messages(netlink.recv(1 << 16)):
                    found.append(body)  # noqa: PERF402  extend would lose all at the dump's end
        except tables.EndOfDump:
            return found
