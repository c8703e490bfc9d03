"""One packet, or one check, with options that everyday checks have no use for.

A bounded number of hops, a chosen source port, short segments. All of it is unprivileged: ICMP
errors come through the socket's error queue, TCP's counters through TCP_INFO. What is asked of a
service is the first words of its own protocol, so nothing of this looks like an attack to it.
"""

import asyncio
import contextlib
import errno
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from reachmap_agent.outcomes import from_error, from_icmp
from reachmap_agent.wire.exchange import MAX_READ, Exchange, Lost, Silence, Verdict
from reachmap_shared.diagnosis import BLOCK, Hop, IcmpError, Met, Recheck
from reachmap_shared.vocabulary import Outcome, Transport

_LINUX: Final = sys.platform == "linux"
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_RANGE: Final = (32768, 60999)
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_IPV6_UNICAST_HOPS: Final = 16
_TCP_MAXSEG: Final = 2
_TIME_EXCEEDED: Final = ((4, 11), (6, 3))
_PORT_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
_ERRORS_LOOKED_AT: Final = 8
FIRST_WORDS: Final = 500
"""Bytes of a payload that is sent to see how far it gets: small enough for every link."""
_LOOK_S: Final = 0.02
_PAYLOAD: Final = struct.Struct("=144xI8xI")
"""tcpi_notsent_bytes and tcpi_data_segs_out, of struct tcp_info (linux/tcp.h)."""


def random_block(rng: random.Random) -> int:
    """An aligned block of ports among those that outgoing connections have on this host."""
    low, high = _USUAL_RANGE
    with contextlib.suppress(OSError, ValueError):
        low, high = map(int, _RANGE.read_text().split())
    first, last = -(-low // BLOCK), (high + 1) // BLOCK - 1
    return BLOCK * rng.randint(first, max(first, last))


@dataclass(frozen=True, slots=True)
class Subject:
    """A flow, as it is looked into."""

    address: tuple[Any, ...]
    """As sockets take it."""
    transport: Transport
    exchange: Callable[[], Exchange]
    """Makes the first exchange of its protocol, anew each time."""
    patience_s: float | None = None
    """How long its protocol waits where silence is an answer."""
    ports: "Ports | None" = None
    """Where its source ports come from; None for the kernel's choice."""
    mark: int = 0
    """The MSS that its probes announce, by which SYNs are known again; 0 for none."""


class Ports:
    """The source ports of a diagnosis, one after the other."""

    def __init__(self, block: int) -> None:
        self.block = block
        self._next = 0

    def draw(self) -> Iterator[int]:
        """Ports to try, until one is free; each is used once before any is used again."""
        for _ in range(BLOCK):
            self._next += 1
            yield self.block + (self._next - 1) % BLOCK


@dataclass(slots=True)
class _Line:
    """A socket on its way to the other end."""

    socket: socket.socket
    began: float
    port: int = 0

    def ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)


async def recheck(subject: Subject, timeout_s: float, mss: int = 0) -> Recheck:
    """Check a flow, and tell what the kernel says of it.

    Args:
        subject: The flow.
        timeout_s: For the connection, and for its exchange, each.
        mss: What its segments are held to, both ways; 0 for no such thing.
    """
    with contextlib.ExitStack() as held:
        try:
            line = _open(subject, mss=mss)
        except OSError as error:
            return Recheck(Outcome.LOCAL_ERROR, Met.OWN, 0, errno=error.errno or -1)
        held.callback(_close, line)
        if subject.transport is Transport.UDP:
            return await _ask_datagram(subject, line, timeout_s)
        met = replace(await _connect(subject, line, timeout_s), mss=mss)
        if met.met is not Met.SYN_ACK or met.errno:
            return met
        return await _converse(subject, line, timeout_s, met)


async def hop(subject: Subject, ttl: int, timeout_s: float) -> Hop:
    """Send the flow's first packet with so many hops to live."""
    with contextlib.ExitStack() as held:
        try:
            line = _open(subject, ttl=ttl, mss=subject.mark)
        except OSError:
            return Hop(ttl, Met.OWN)
        held.callback(_close, line)
        if subject.transport is Transport.UDP:
            seen = await _ask_datagram(subject, line, timeout_s)
        else:
            seen = await _connect(subject, line, timeout_s)
    return _hop(subject, ttl, seen)


async def payload_hop(
    subject: Subject, ttl: int, timeout_s: float, size: int = FIRST_WORDS
) -> Hop | None:
    """Connect, and send the first payload, up to so many bytes, with so many hops to live.

    Returns:
        None when there is no payload to send, or no connection.
    """
    exchange = subject.exchange()
    with contextlib.closing(exchange), contextlib.ExitStack() as held:
        words = _next(exchange.send, None)[0][:size]
        if not words or subject.transport is Transport.UDP:
            return None
        try:
            line = _open(subject, mss=subject.mark if size <= subject.mark else 0)
        except OSError:
            return Hop(ttl, Met.OWN)
        held.callback(_close, line)
        made = await _connect(subject, line, timeout_s)
        if made.met is not Met.SYN_ACK or made.errno:
            return None
        _set_ttl(line.socket, ttl)
        line.began = time.monotonic()
        try:
            line.socket.send(words)
        except OSError as error:
            return _hop(subject, ttl, _failed(subject, line, error))
        while time.monotonic() < line.began + timeout_s:
            # Of a connection that is made the kernel tells the error, and not who sent it.
            code = line.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code in _BROKEN:
                return Hop(ttl, Met.RST, subject.address[0], None, line.ms(), _port(line))
            if code == errno.EHOSTUNREACH:
                version = 6 if line.socket.family == socket.AF_INET6 else 4
                expired = IcmpError(version, 3 if version == 6 else 11, 0, "")
                return Hop(ttl, Met.ICMP, "", expired, line.ms(), _port(line))
            info = _info(line.socket)
            if info is None or not info.unacked:
                return Hop(ttl, Met.DATA, subject.address[0], None, line.ms(), _port(line))
            await asyncio.sleep(_LOOK_S)
        return Hop(ttl, Met.SILENCE, port=_port(line))


async def lasts(subject: Subject, seconds: float) -> bool:
    """Whether a connection on which nothing is said is still there after so long."""
    with contextlib.ExitStack() as held:
        try:
            line = _open(subject)
        except OSError:
            return False
        held.callback(_close, line)
        made = await _connect(subject, line, seconds)
        if made.met is not Met.SYN_ACK or made.errno:
            return False
        await asyncio.sleep(seconds)
        return not line.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def is_passing(hop: Hop) -> bool:
    """Whether a hop is one on the way: it says that the packet's hops are used up."""
    return hop.icmp is not None and (hop.icmp.version, hop.icmp.type) in _TIME_EXCEEDED


def _hop(subject: Subject, ttl: int, seen: Recheck) -> Hop:
    by = ""
    if seen.icmp is not None:
        by = seen.icmp.offender
    elif seen.met not in (Met.SILENCE, Met.OWN):
        by = str(subject.address[0])
    return Hop(ttl, seen.met, by, seen.icmp, seen.met_ms, seen.port)


def _open(subject: Subject, *, ttl: int = 0, mss: int = 0) -> _Line:
    kind = socket.SOCK_STREAM if subject.transport is Transport.TCP else socket.SOCK_DGRAM
    family = family_of(subject.address[0])
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if _LINUX:
            if family == socket.AF_INET6:
                made.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
            else:
                made.setsockopt(SOL_IP, IP_RECVERR, 1)
        if ttl:
            _set_ttl(made, ttl)
        if mss and kind == socket.SOCK_STREAM:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_MAXSEG, mss)
        return _Line(made, time.monotonic(), _bind(made, subject.ports))
    except BaseException:
        made.close()
        raise


def _set_ttl(made: socket.socket, ttl: int) -> None:
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


def _close(line: _Line) -> None:
    with contextlib.suppress(OSError):
        if line.socket.type == socket.SOCK_STREAM:
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    line.socket.close()


async def _connect(subject: Subject, line: _Line, timeout_s: float) -> Recheck:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(line.socket, subject.address)
    except TimeoutError:
        if (icmp := _icmp(line.socket)) is not None:
            return _by_icmp(subject, line, icmp)
        return _counted(line, Recheck(Outcome.TIMEOUT, Met.SILENCE, _port(line)))
    except OSError as error:
        return _failed(subject, line, error)
    ms = line.ms()
    if _met_itself(line.socket):
        return Recheck(Outcome.REFUSED, Met.OWN, _port(line), errno=errno.ECONNREFUSED)
    return _counted(line, Recheck(Outcome.OPEN, Met.SYN_ACK, _port(line), met_ms=ms))


def _failed(subject: Subject, line: _Line, error: OSError) -> Recheck:
    if (icmp := _icmp(line.socket)) is not None:
        return replace(_by_icmp(subject, line, icmp), errno=error.errno or -1)
    came = _info(line.socket)
    if error.errno == errno.ECONNREFUSED and (came is None or came.segments_in):
        met = Met.RST
    elif error.errno in _BROKEN:  # it was made, and broken off before we looked
        met = Met.SYN_ACK
    elif error.errno == errno.ETIMEDOUT:
        met = Met.SILENCE
    else:
        met = Met.OWN
    seen = Recheck(from_error(error), met, _port(line), error.errno or -1, met_ms=line.ms())
    return _counted(line, seen)


def _by_icmp(subject: Subject, line: _Line, icmp: Icmp) -> Recheck:
    own = line.socket.getsockname()[0]
    outcome, _ = from_icmp(icmp, subject.transport, subject.address[0], own)
    fact = IcmpError(icmp.version, icmp.type, icmp.code, icmp.offender)
    seen = Recheck(outcome, Met.ICMP, _port(line), icmp.errno, fact, line.ms())
    return _counted(line, seen)


async def _ask_datagram(subject: Subject, line: _Line, timeout_s: float) -> Recheck:
    loop = asyncio.get_running_loop()
    exchange = subject.exchange()
    verdict: Verdict | None = None
    sent = received = ms = 0
    with contextlib.closing(exchange):
        try:
            await loop.sock_connect(line.socket, subject.address)
            words, verdict = _next(exchange.send, None)
            async with asyncio.timeout(timeout_s):
                while verdict is None:
                    if words:
                        sent += line.socket.send(words)
                    answer = await loop.sock_recv(line.socket, MAX_READ)
                    received += len(answer)
                    ms = line.ms()
                    words, verdict = _next(exchange.send, answer)
        except TimeoutError:
            outcome = Outcome.TIMEOUT
            if (icmp := _icmp(line.socket)) is not None:
                return replace(_by_icmp(subject, line, icmp), sent=sent)
            return Recheck(outcome, Met.SILENCE, _port(line), sent=sent)
        except OSError as error:
            met = _failed(subject, line, error)
            if error.errno == errno.ECONNREFUSED and met.icmp is None:
                met = replace(met, met=Met.ICMP)  # only ICMP refuses a datagram
            return replace(met, sent=sent)
    return Recheck(
        verdict.outcome,
        Met.DATA,
        _port(line),
        met_ms=ms,
        proven=verdict.reached is not None,
        sent=sent,
        received=received,
    )


async def _converse(subject: Subject, line: _Line, timeout_s: float, met: Recheck) -> Recheck:
    """The exchange on a connection that was made."""
    loop = asyncio.get_running_loop()
    exchange = subject.exchange()
    verdict: Verdict | None = None
    code = sent = received = 0
    if _LINUX:  # established, a connection survives ICMP errors, unless they are to be reported
        level, option = (
            (SOL_IPV6, IPV6_RECVERR)
            if line.socket.family == socket.AF_INET6
            else (SOL_IP, IP_RECVERR)
        )
        line.socket.setsockopt(level, option, 0)
    with contextlib.closing(exchange):
        try:
            async with asyncio.timeout(subject.patience_s or timeout_s) as patience:
                words, verdict = _next(exchange.send, None)
                while verdict is None:
                    if words:
                        await loop.sock_sendall(line.socket, words)
                        sent += len(words)
                    answer = await loop.sock_recv(line.socket, MAX_READ)
                    received += len(answer)
                    words, verdict = _next(exchange.send, answer)
                    if not answer and verdict is None:
                        verdict = Verdict(Outcome.RESET)
                    patience.reschedule(loop.time() + timeout_s)
        except TimeoutError:
            _, verdict = _next(exchange.throw, Silence())
            verdict = verdict or Verdict(Outcome.STALLED)
        except OSError as error:
            code = error.errno or -1
            _, verdict = _next(exchange.throw, Lost())
            verdict = verdict or Verdict(from_error(error))
    seen = replace(
        met,
        outcome=verdict.outcome,
        errno=code,
        proven=verdict.reached is not None,
        sent=sent,
        received=received,
    )
    return _counted(line, seen)


def _next(
    step: Callable[..., bytes], told: bytes | Exception | None
) -> tuple[bytes, Verdict | None]:
    """What an exchange says to what it is told, or its verdict."""
    try:
        return step(told), None
    except StopIteration as stop:
        verdict: Verdict = stop.value
        return b"", verdict
    except (Silence, Lost):
        return b"", None
    except Exception:  # noqa: BLE001  a protocol's mistake is not the network's
        return b"", Verdict(Outcome.LOCAL_ERROR)


def _counted(line: _Line, seen: Recheck) -> Recheck:
    """With what TCP counted."""
    info = _info(line.socket)
    if info is None:
        return seen
    unsent, tried = _payload(line.socket)
    return replace(
        seen,
        segments_out=info.segments_out,
        segments_in=info.segments_in,
        unacked=info.unacked,
        timeouts=info.retransmits,
        repeated=info.retransmitted,
        pmtu=info.pmtu,
        unsent=unsent,
        tried=tried,
    )


def _payload(made: socket.socket) -> tuple[int, int]:
    """Bytes that never left TCP, and segments with payload that it meant to send."""
    data = made.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _PAYLOAD.size)
    return _PAYLOAD.unpack(data) if len(data) == _PAYLOAD.size else (0, 0)


def _info(made: socket.socket) -> TcpInfo | None:
    if not _LINUX or made.type != socket.SOCK_STREAM:
        return None
    try:
        return read_tcp_info(made.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE))
    except OSError:
        return None


def _icmp(made: socket.socket) -> Icmp | None:
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


def _port(line: _Line) -> int:
    if line.port:
        return line.port
    with contextlib.suppress(OSError):
        return int(line.socket.getsockname()[1])
    return 0


def _met_itself(made: socket.socket) -> bool:
    try:
        return bool(made.getpeername() == made.getsockname())
    except OSError:
        return False
