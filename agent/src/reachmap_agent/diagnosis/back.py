"""The way back: how far an answer gets that the kernel gave, sent once more with few hops to live.

It is the very segment that left, to the very port that asked, so whatever lets answers pass lets
this one pass; and it goes nowhere but to who asked. It needs a raw socket (CAP_NET_RAW), as the tap
does that saw the answer leave, and runs in the event loop without a task.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Final

from reachmap_agent.diagnosis.host import family_of
from reachmap_agent.diagnosis.line import set_ttl
from reachmap_agent.diagnosis.packets import Packet
from reachmap_agent.kernel import IP_RECVERR, IPV6_RECVERR, SOL_IP, SOL_IPV6, read_icmp
from reachmap_shared.diagnosis import MAX_HOPS, Hop, IcmpError, Met

AT_ONCE: Final = 4
"""Hops asked at the same time; so many in a row that stay silent end the walk."""
_AGAIN_S: Final = 0.6
"""After that hops are asked once more that did not answer, and then no more."""
_WINDOW: Final = 1024
"""What the segments announce, and the number of their hops: by that an error is known again."""
_SYN, _RST, _ACK = 2, 4, 16
_HEADER: Final = struct.Struct("!HHIIBBHHH")
_READS: Final = 64
_EXPIRED: Final = ((4, 11), (6, 3))


class BackWalk:
    """Walks at once.

    Args:
        answer: What left.

    Raises:
        OSError: There is no such socket to be had.
    """

    def __init__(self, answer: Packet) -> None:
        self._answer = answer
        self._version = 6 if ":" in answer.destination else 4
        self._hops: dict[int, Hop] = {}
        self._first = 1
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._socket = _raw(answer)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self._ask()

    @property
    def goes_on(self) -> bool:
        """Whether it still asks."""
        return self._socket.fileno() >= 0

    def hops(self) -> tuple[Hop, ...]:
        """What is known by now, up to the last hop that was asked."""
        ends = [ttl for ttl, hop in self._hops.items() if not _passes(hop)]
        last = min(ends, default=self._asked)
        return tuple(self._hops.get(ttl, Hop(ttl, Met.SILENCE)) for ttl in range(1, last + 1))

    def close(self) -> None:
        """Walk no further."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _ask(self) -> None:
        """Ask the next few hops."""
        self._asked = min(self._first + AT_ONCE - 1, MAX_HOPS)
        self._send()
        self._later(self._ask_again)

    def _ask_again(self) -> None:
        self._send()
        self._later(self._go_on)

    def _go_on(self) -> None:
        group = [
            self._hops[ttl] for ttl in range(self._first, self._asked + 1) if ttl in self._hops
        ]
        if not group or not all(map(_passes, group)) or self._asked == MAX_HOPS:
            self.close()
            return
        self._first = self._asked + 1
        self._ask()

    def _later(self, action: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(_AGAIN_S, action)

    def _send(self) -> None:
        for ttl in range(self._first, self._asked + 1):
            if ttl not in self._hops and not self._sent(ttl):
                self._hops[ttl] = Hop(ttl, Met.OWN)

    def _sent(self, ttl: int) -> bool:
        set_ttl(self._socket, ttl)
        for _ in range(AT_ONCE + 1):
            try:
                self._socket.send(segment(self._answer, _WINDOW + ttl))
            except OSError:  # this host's own, or what the one before has met: that is told once
                continue
            return True
        return False

    def _read(self) -> None:
        for _ in range(_READS):
            try:
                quoted, ancillary, _, _ = self._socket.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            icmp = read_icmp(ancillary)
            if icmp is not None and (ttl := self._ttl(quoted)):
                error = IcmpError(icmp.version, icmp.type, icmp.code, icmp.offender)
                self._hops.setdefault(ttl, Hop(ttl, Met.ICMP, icmp.offender, error))
        for _ in range(_READS):
            try:
                self._note_end(self._socket.recv(512))
            except BlockingIOError:
                return
            except OSError:  # an error that was read above
                continue

    def _ttl(self, quoted: bytes) -> int:
        """Which of the segments an error is about; 0 for none."""
        if quoted[:8] != segment(self._answer, 0)[:8]:
            return 0
        if len(quoted) >= 16:
            return max(0, int.from_bytes(quoted[14:16], "big") - _WINDOW)
        # A device that quotes no more than it must: the nearest that is not known.
        free = (ttl for ttl in range(self._first, self._asked + 1) if ttl not in self._hops)
        return next(free, 0)

    def _note_end(self, data: bytes) -> None:
        """Who asked answers: it came there."""
        body = data[(data[0] & 15) * 4 :] if self._version == 4 and data else data
        if len(body) < _HEADER.size:
            return
        port, other, _, _, _, flags, *_ = _HEADER.unpack_from(body)
        ports = self._answer.destination_port, self._answer.source_port
        if (port, other) != ports or flags & _SYN:
            return
        met = Met.RST if flags & _RST else Met.DATA
        passed = max((ttl for ttl, hop in self._hops.items() if _passes(hop)), default=0)
        self._hops.setdefault(passed + 1, Hop(passed + 1, met, self._answer.destination))


def _passes(hop: Hop) -> bool:
    return hop.icmp is not None and (hop.icmp.version, hop.icmp.type) in _EXPIRED


def _raw(answer: Packet) -> socket.socket:
    family = family_of(answer.destination)
    made = socket.socket(
        family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP
    )
    try:
        made.bind((answer.source, 0))
        if family == socket.AF_INET6:
            made.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
        else:
            made.setsockopt(SOL_IP, IP_RECVERR, 1)
        made.connect((answer.destination, 0))
    except BaseException:
        made.close()
        raise
    return made


def segment(answer: Packet, window: int) -> bytes:
    """The same answer once more, as TCP has it (RFC 9293, 3.1), without options."""

    def made(checksum: int) -> bytes:
        return _HEADER.pack(
            answer.source_port,
            answer.destination_port,
            answer.sequence,
            answer.acknowledged,
            _HEADER.size // 4 << 4,
            _SYN | _ACK,
            window,
            checksum,
            0,
        )

    ends = (ipaddress.ip_address(end).packed for end in (answer.source, answer.destination))
    pseudo = b"".join(ends) + struct.pack("!II", socket.IPPROTO_TCP, _HEADER.size)
    total = sum(struct.unpack(f"!{(len(pseudo) + _HEADER.size) // 2}H", pseudo + made(0)))
    total = (total & 0xFFFF) + (total >> 16)
    return made(~(total + (total >> 16)) & 0xFFFF)
