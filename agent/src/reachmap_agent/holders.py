"""Who holds a port of this host: asked of the system, without touching the port.

On Linux netlink's sock_diag says it, with the owner and the systemd unit; where a sandbox forbids
netlink, /proc/net does, without the unit. Elsewhere psutil says it. Where nobody does, binding the
port for a moment says whether it is free, and no more.

To find a port held is cheap. To name who holds it may mean to look through all processes: that is
asked for apart, once for each holder.
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

from reachmap_agent import elsewhere, sockdiag
from reachmap_agent.processes import all_pids, with_sockets
from reachmap_agent.sockdiag import EndOfDump, Listening
from reachmap_shared.vocabulary import Transport

_LINUX: Final = sys.platform == "linux"
_PROTOCOLS: Final = {Transport.TCP: sockdiag.TCP, Transport.UDP: sockdiag.UDP}
_NETLINK_SOCK_DIAG: Final = 4
_TABLES: Final = Path("/proc/net")
_NAMES: Final = {sockdiag.TCP: "tcp", sockdiag.UDP: "udp"}
_CGROUPS: Final = Path("/sys/fs/cgroup")
_UNIT_ENDINGS: Final = (".service", ".scope", ".socket")


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that holds a port, as far as it can be known without privilege."""

    unit: str = ""
    """Its systemd unit."""
    uid: int | None = None
    """The owner of its socket."""
    pid: int | None = None
    process: str = ""
    """What the process is called."""

    @property
    def description(self) -> str:
        """As in `nats-server (pid 812) of nats.service`, or `a program of uid 33`."""
        owner = self.unit or ("" if self.uid is None else f"uid {self.uid}")
        if self.pid is None:
            return self.unit or (f"a program of {owner}" if owner else "another program")
        program = f"{self.process or 'a program'} (pid {self.pid})"
        return f"{program} of {owner}" if owner else program


class Ports:
    """A look at all listening sockets at one moment.

    Args:
        transports: Which to look at.
        own: Inodes of the agent's own sockets, which do not count. Where there are none, as on
            all systems but Linux, nothing of this process counts.
    """

    def __init__(self, transports: Iterable[Transport], own: Collection[int]) -> None:
        self._own = frozenset(own) - {0}
        self._sockets: dict[Transport, list[Listening] | None] = {
            transport: _listening(transport) for transport in transports
        }

    def held(self, addresses: Iterable[str], port: int, transport: Transport) -> Listening | None:
        """What would be in the way of a listener there; None when nothing is."""
        sockets = self._sockets[transport]
        for address in addresses:
            if sockets is None:
                if _is_taken(address, port, transport):
                    return Listening(address, port, False, None, 0, None)
                continue
            found = [
                one for one in sockets if one.inode not in self._own and one.covers(address, port)
            ]
            if found:  # the first that was opened, of those that many processes may have on a port
                return min(found, key=lambda one: one.inode)
        return None


def inode(own: socket.socket) -> int:
    """Linux's number for a socket of this process; 0 elsewhere."""
    return os.fstat(own.fileno()).st_ino if _LINUX else 0


def identify(
    sockets: Collection[Listening], transport: Transport, patience_s: float
) -> dict[Listening, Holder]:
    """Who has each of these sockets, found within a time."""
    if not _LINUX:
        return {one: _identify_elsewhere(one, transport) for one in sockets}
    control_groups = {one: _control_group(one.cgroup) for one in sockets}
    pids: list[int] = []
    for group in control_groups.values():
        with contextlib.suppress(OSError):
            pids += map(int, (group / "cgroup.procs").read_text().split())
    inodes = {one.inode for one in sockets if one.inode}
    processes = with_sockets(inodes, sorted(pids), patience_s)
    left = inodes - processes.keys()
    # A socket of another user's is most likely in a process that we may not look into.
    if os.geteuid() != 0:
        left &= {one.inode for one in sockets if one.uid == os.geteuid()}
    if left:
        processes |= with_sockets(left, all_pids(), patience_s)
    found = {}
    for one, group in control_groups.items():
        process = processes.get(one.inode)
        found[one] = Holder(
            unit=group.name if group.name.endswith(_UNIT_ENDINGS) else "",
            uid=one.uid,
            pid=process.pid if process else None,
            process=process.name if process else "",
        )
    return found


def _identify_elsewhere(one: Listening, transport: Transport) -> Holder:
    found = one if one.pid is not None else elsewhere.of_own_user(transport, one.port)
    if found is None or found.pid is None:
        return Holder()
    return Holder(pid=found.pid, process=elsewhere.process_name(found.pid))


def _listening(transport: Transport) -> list[Listening] | None:
    """All listening sockets; None where the kernel cannot be asked."""
    if not _LINUX:
        return elsewhere.listening(transport)
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


def _control_group(inode: int | None) -> Path:
    """A control group's folder; one that is not there when it has none of its own."""
    if inode and inode != 1:
        for folder, names, _ in os.walk(_CGROUPS):
            for name in names:
                with contextlib.suppress(OSError):
                    # Thousands of Paths would take longer than all the rest.
                    if os.stat(os.path.join(folder, name)).st_ino == inode:  # noqa: PTH116, PTH118
                        return Path(folder, name)
    return _CGROUPS / "none"


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
