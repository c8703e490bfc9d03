"""Who holds a port of this host: asked of the kernel, without touching the port.

On Linux netlink's sock_diag says it, with the owner and the systemd unit; where a sandbox forbids
netlink, /proc/net does, without the unit. Elsewhere, binding the port for a moment says whether it
is free, and no more.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reachmap_agent import sockdiag
from reachmap_agent.sockdiag import EndOfDump, Listening
from reachmap_shared.vocabulary import Transport

_PROTOCOLS: Final = {Transport.TCP: sockdiag.TCP, Transport.UDP: sockdiag.UDP}
_NETLINK_SOCK_DIAG: Final = 4
_TABLES: Final = Path("/proc/net")
_NAMES: Final = {sockdiag.TCP: "tcp", sockdiag.UDP: "udp"}
_CGROUPS: Final = Path("/sys/fs/cgroup")
_UNIT_ENDINGS: Final = (".service", ".scope", ".socket")


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that holds a port, as far as an unprivileged process can tell."""

    description: str
    """Its systemd unit or else its owner, as in `nats.service` or `a program of uid 33`."""


class Ports:
    """A look at all listening sockets at one moment.

    Args:
        transports: Which to look at.
        own: Inodes of the agent's own sockets, which do not count.
    """

    def __init__(self, transports: Iterable[Transport], own: Collection[int]) -> None:
        self._own = frozenset(own)
        self._sockets: dict[Transport, list[Listening] | None] = {
            transport: _listening(transport) for transport in transports
        }

    def holder(self, addresses: Iterable[str], port: int, transport: Transport) -> Holder | None:
        """Who would be in the way of a listener there; None when nobody is."""
        sockets = self._sockets[transport]
        for address in addresses:
            if sockets is None:
                if _is_taken(address, port, transport):
                    return Holder("another program")
                continue
            for found in sockets:
                if found.inode not in self._own and found.covers(address, port):
                    return Holder(_describe(found))
        return None


def _listening(transport: Transport) -> list[Listening] | None:
    """All listening sockets; None where the kernel cannot be asked."""
    if sys.platform != "linux":
        return None
    protocol = _PROTOCOLS[transport]
    for ask in (_dump, _table):  # a sandbox may lack AF_NETLINK, and /proc as well
        with contextlib.suppress(OSError):
            return [one for family in sockdiag.FAMILIES for one in ask(family, protocol)]
    return None


def _table(family: int, protocol: int) -> list[Listening]:
    path = _TABLES / (_NAMES[protocol] + ("6" if family == socket.AF_INET6 else ""))
    if family == socket.AF_INET6 and not path.exists():  # a kernel without IPv6
        return []
    return list(sockdiag.read_table(path.read_text(), protocol))


def _dump(family: int, protocol: int) -> list[Listening]:
    found: list[Listening] = []
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        netlink.sendto(sockdiag.request(family, protocol), (0, 0))
        try:
            while True:
                for one in sockdiag.read(netlink.recv(1 << 16)):
                    found.append(one)  # noqa: PERF402  extend would lose all at the end of the dump
        except EndOfDump:
            return found


def _describe(found: Listening) -> str:
    return _unit(found.cgroup) or f"a program of uid {found.uid}"


def _unit(cgroup: int | None) -> str | None:
    """The systemd unit of a control group; None when it is in none."""
    if not cgroup or cgroup == 1:
        return None
    for folder, names, _ in os.walk(_CGROUPS):
        for name in names:
            with contextlib.suppress(OSError):
                # Thousands of Paths would take longer than all the rest.
                if os.stat(os.path.join(folder, name)).st_ino == cgroup:  # noqa: PTH116, PTH118
                    return name if name.endswith(_UNIT_ENDINGS) else None
    return None


def _is_taken(address: str, port: int, transport: Transport) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as probe:
            if sys.platform == "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
