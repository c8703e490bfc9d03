"""A probe's socket: with a source port of a block, a bounded number of hops, short segments.

And what the kernel tells of it: ICMP errors from its error queue, TCP's counters.
"""

import contextlib
import errno
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reachmap_agent.diagnosis.host import family_of
from reachmap_agent.kernel import (
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_IP,
    SOL_IPV6,
    TCP_INFO,
    TCP_INFO_SIZE,
    Icmp,
    TcpInfo,
    read_icmp,
    read_tcp_info,
)
from reachmap_shared.diagnosis import BLOCK
from reachmap_shared.vocabulary import Transport

_LINUX: Final = sys.platform == "linux"
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_RANGE: Final = (32768, 60999)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_IPV6_UNICAST_HOPS: Final = 16
_TCP_MAXSEG: Final = 2
_PORT_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
_ERRORS_LOOKED_AT: Final = 8
_PAYLOAD: Final = struct.Struct("=144xI8xI")
"""tcpi_notsent_bytes and tcpi_data_segs_out, of struct tcp_info (linux/tcp.h)."""


def random_block(rng: random.Random) -> int:
    """An aligned block of ports among those that outgoing connections have on this host."""
    low, high = _USUAL_RANGE
    with contextlib.suppress(OSError, ValueError):
        low, high = map(int, _RANGE.read_text().split())
    first, last = -(-low // BLOCK), (high + 1) // BLOCK - 1
    return BLOCK * rng.randint(first, max(first, last))


class Ports:
    """The source ports of a diagnosis, in an order that nobody knows who has not seen them.

    Args:
        block: The first of them.
        rng: For the order.
    """

    def __init__(self, block: int, rng: random.Random) -> None:
        self.block = block
        self._order = rng.sample(range(block, block + BLOCK), BLOCK)
        self._next = 0
        self._drawn: set[int] = set()

    @property
    def drawn(self) -> tuple[int, ...]:
        """Those that were used so far."""
        return tuple(sorted(self._drawn))

    def draw(self) -> Iterator[int]:
        """Ports to try, until one is free; each is used once before any is used again."""
        for _ in range(BLOCK):
            self._next += 1
            port = self._order[(self._next - 1) % BLOCK]
            self._drawn.add(port)
            yield port


@dataclass(slots=True)
class Line:
    """A socket on its way to the other end."""

    socket: socket.socket
    began: float
    """On the monotonic clock."""
    port: int = 0
    """Its source port, where that was chosen; else 0."""

    def ms(self) -> int:
        """How long it has been under way."""
        return round((time.monotonic() - self.began) * 1000)


def open_line(
    address: tuple[Any, ...],
    transport: Transport,
    ports: "Ports | None" = None,
    *,
    ttl: int = 0,
    mss: int = 0,
) -> Line:
    """A socket that is not connected yet.

    Raises:
        OSError: There is none to be had.
    """
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    family = family_of(address[0])
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if _LINUX:
            if family == socket.AF_INET6:
                made.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
            else:
                made.setsockopt(SOL_IP, IP_RECVERR, 1)
        if ttl:
            set_ttl(made, ttl)
        if mss and kind == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_MAXSEG, mss)
        return Line(made, time.monotonic(), _bind(made, ports))
    except BaseException:
        made.close()
        raise


def set_ttl(made: socket.socket, ttl: int) -> None:
    """Let its packets go so many hops from now on."""
    if made.family == socket.AF_INET6:
        made.setsockopt(SOL_IPV6, _IPV6_UNICAST_HOPS, ttl)
    else:
        made.setsockopt(SOL_IP, socket.IP_TTL, ttl)


def _bind(made: socket.socket, ports: Ports | None) -> int:
    if ports is None:
        return 0
    for port in ports.draw():
        try:
            made.bind(("", port))
        except OSError as error:
            if error.errno not in _PORT_TAKEN:
                raise
        else:
            return port
    return 0  # the whole block is taken: let the kernel choose


def close_line(line: Line) -> None:
    """Let go of it, and of the connection on either end."""
    with contextlib.suppress(OSError):
        if line.socket.type == socket.SOCK_STREAM:
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    line.socket.close()


def payload_counts(made: socket.socket) -> tuple[int, int]:
    """Bytes that never left TCP, and segments with payload that it meant to send."""
    data = made.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _PAYLOAD.size)
    return _PAYLOAD.unpack(data) if len(data) == _PAYLOAD.size else (0, 0)


def tcp_info(made: socket.socket) -> TcpInfo | None:
    """What TCP counted; None where there is no TCP, or no such thing."""
    if not _LINUX or made.type != socket.SOCK_STREAM:
        return None
    try:
        return read_tcp_info(made.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE))
    except OSError:
        return None


def icmp_error(made: socket.socket) -> Icmp | None:
    """The ICMP error in its error queue; None when there is none."""
    if not _LINUX:
        return None
    for _ in range(_ERRORS_LOOKED_AT):
        try:
            _, ancillary, _, _ = made.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None
        if (icmp := read_icmp(ancillary)) is not None:
            return icmp
    return None


def own_port(line: Line) -> int:
    """The source port, whoever chose it."""
    if line.port:
        return line.port
    with contextlib.suppress(OSError):
        return int(line.socket.getsockname()[1])
    return 0


def met_itself(made: socket.socket) -> bool:
    """Whether the kernel chose the very port that is dialled, and both ends met."""
    try:
        return bool(made.getpeername() == made.getsockname())
    except OSError:
        return False
