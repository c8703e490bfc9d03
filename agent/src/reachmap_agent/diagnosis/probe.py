"""One packet, or one check, with options that everyday checks have no use for.

A bounded number of hops, a chosen source port, short segments. All of it is unprivileged: ICMP
errors come through the socket's error queue, TCP's counters through TCP_INFO. What is asked of a
service is the first words of its own protocol, so nothing of this looks like an attack to it.
"""

import asyncio
import contextlib
import errno
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from reachmap_agent.diagnosis.line import (
    Line,
    Ports,
    close_line,
    icmp_error,
    met_itself,
    open_line,
    own_port,
    payload_counts,
    set_ttl,
    tcp_info,
)
from reachmap_agent.kernel import (
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_IP,
    SOL_IPV6,
    Icmp,
)
from reachmap_agent.outcomes import from_error, from_icmp
from reachmap_agent.wire.exchange import MAX_READ, Exchange, Lost, Silence, Verdict
from reachmap_shared.diagnosis import Hop, IcmpError, Met, Recheck
from reachmap_shared.vocabulary import Outcome, Transport

_LINUX: Final = sys.platform == "linux"
_TIME_EXCEEDED: Final = ((4, 11), (6, 3))
_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
FIRST_WORDS: Final = 500
"""Bytes of a payload that is sent to see how far it gets: small enough for every link."""
_LOOK_S: Final = 0.02


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

    def open(self, *, ttl: int = 0, mss: int = 0) -> Line:
        """A socket for it; raises OSError when there is none to be had."""
        return open_line(self.address, self.transport, self.ports, ttl=ttl, mss=mss)


async def recheck(subject: Subject, timeout_s: float, mss: int = 0) -> Recheck:
    """Check a flow, and tell what the kernel says of it.

    Args:
        subject: The flow.
        timeout_s: For the connection, and for its exchange, each.
        mss: What its segments are held to, both ways; 0 for no such thing.
    """
    with contextlib.ExitStack() as held:
        try:
            line = subject.open(mss=mss)
        except OSError as error:
            return Recheck(Outcome.LOCAL_ERROR, Met.OWN, 0, errno=error.errno or -1)
        held.callback(close_line, line)
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
            line = open_line(
                subject.address, subject.transport, subject.ports, ttl=ttl, mss=subject.mark
            )
        except OSError:
            return Hop(ttl, Met.OWN)
        held.callback(close_line, line)
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
            line = open_line(
                subject.address,
                subject.transport,
                subject.ports,
                mss=subject.mark if size <= subject.mark else 0,
            )
        except OSError:
            return Hop(ttl, Met.OWN)
        held.callback(close_line, line)
        made = await _connect(subject, line, timeout_s)
        if made.met is not Met.SYN_ACK or made.errno:
            return None
        set_ttl(line.socket, ttl)
        line.began = time.monotonic()
        try:
            line.socket.send(words)
        except OSError as error:
            return _hop(subject, ttl, _failed(subject, line, error))
        while time.monotonic() < line.began + timeout_s:
            # Of a connection that is made the kernel tells the error, and not who sent it.
            code = line.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code in _BROKEN:
                return Hop(ttl, Met.RST, subject.address[0], None, line.ms(), own_port(line))
            if code == errno.EHOSTUNREACH:
                version = 6 if line.socket.family == socket.AF_INET6 else 4
                expired = IcmpError(version, 3 if version == 6 else 11, 0, "")
                return Hop(ttl, Met.ICMP, "", expired, line.ms(), own_port(line))
            info = tcp_info(line.socket)
            if info is None or not info.unacked:
                return Hop(ttl, Met.DATA, subject.address[0], None, line.ms(), own_port(line))
            await asyncio.sleep(_LOOK_S)
        return Hop(ttl, Met.SILENCE, port=own_port(line))


async def lasts(subject: Subject, seconds: float) -> bool:
    """Whether a connection on which nothing is said is still there after so long."""
    with contextlib.ExitStack() as held:
        try:
            line = subject.open()
        except OSError:
            return False
        held.callback(close_line, line)
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


async def _connect(subject: Subject, line: Line, timeout_s: float) -> Recheck:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(line.socket, subject.address)
    except TimeoutError:
        if (icmp := icmp_error(line.socket)) is not None:
            return _by_icmp(subject, line, icmp)
        return _counted(line, Recheck(Outcome.TIMEOUT, Met.SILENCE, own_port(line)))
    except OSError as error:
        return _failed(subject, line, error)
    ms = line.ms()
    if met_itself(line.socket):
        return Recheck(Outcome.REFUSED, Met.OWN, own_port(line), errno=errno.ECONNREFUSED)
    return _counted(line, Recheck(Outcome.OPEN, Met.SYN_ACK, own_port(line), met_ms=ms))


def _failed(subject: Subject, line: Line, error: OSError) -> Recheck:
    if (icmp := icmp_error(line.socket)) is not None:
        return replace(_by_icmp(subject, line, icmp), errno=error.errno or -1)
    came = tcp_info(line.socket)
    if error.errno == errno.ECONNREFUSED and (came is None or came.segments_in):
        met = Met.RST
    elif error.errno in _BROKEN:  # it was made, and broken off before we looked
        met = Met.SYN_ACK
    elif error.errno == errno.ETIMEDOUT:
        met = Met.SILENCE
    else:
        met = Met.OWN
    seen = Recheck(from_error(error), met, own_port(line), error.errno or -1, met_ms=line.ms())
    return _counted(line, seen)


def _by_icmp(subject: Subject, line: Line, icmp: Icmp) -> Recheck:
    own = line.socket.getsockname()[0]
    outcome, _ = from_icmp(icmp, subject.transport, subject.address[0], own)
    fact = IcmpError(icmp.version, icmp.type, icmp.code, icmp.offender)
    seen = Recheck(outcome, Met.ICMP, own_port(line), icmp.errno, fact, line.ms())
    return _counted(line, seen)


async def _ask_datagram(subject: Subject, line: Line, timeout_s: float) -> Recheck:
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
            if (icmp := icmp_error(line.socket)) is not None:
                return replace(_by_icmp(subject, line, icmp), sent=sent)
            return Recheck(outcome, Met.SILENCE, own_port(line), sent=sent)
        except OSError as error:
            met = _failed(subject, line, error)
            if error.errno == errno.ECONNREFUSED and met.icmp is None:
                met = replace(met, met=Met.ICMP)  # only ICMP refuses a datagram
            return replace(met, sent=sent)
    return Recheck(
        verdict.outcome,
        Met.DATA,
        own_port(line),
        met_ms=ms,
        proven=verdict.reached is not None,
        sent=sent,
        received=received,
    )


async def _converse(subject: Subject, line: Line, timeout_s: float, met: Recheck) -> Recheck:
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


def _counted(line: Line, seen: Recheck) -> Recheck:
    """With what TCP counted."""
    info = tcp_info(line.socket)
    if info is None:
        return seen
    unsent, tried = payload_counts(line.socket)
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
