"""Runs checks on non-blocking sockets, without a task or a future for any of them.

A check is started with an address that is resolved already; when it has ended, one way or the
other, `done` is called with what was found, once, and never from within `start`. Deadlines are
looked at every TICK_S, which is exact enough for timeouts of seconds and costs one timer for all.

What decides the price of a check is the number of system calls. On Linux one look at TCP_INFO says
whether a connection is made, refused or none of ours, and how long it took.

Nothing that a check does gets out of here: a protocol's mistake ends that check as a local error,
and a `done` that raises is told to the loop's exception handler.
"""

import asyncio
import errno
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from reachmap_agent.engine.poller import Poller, best_poller
from reachmap_agent.kernel import (
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_IP,
    SOL_IPV6,
    TCP_CLOSE,
    TCP_INFO,
    TCP_INFO_SIZE,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Icmp,
    TcpInfo,
    read_icmp,
    read_tcp_info,
    segments_in,
)
from reachmap_agent.outcomes import describe, from_error, from_icmp, from_silence, own_doing
from reachmap_agent.wire.exchange import MAX_READ, Exchange, Lost, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

TICK_S: Final = 0.025

_STALL_S: Final = 0.25
"""How late a tick may be before the loop counts as stalled. Beyond that no deadline gets nearer:
answers lay in the kernel while nobody could look."""

_READS_A_TURN: Final = 16
"""So that one who never stops talking does not keep the loop from everybody else."""

_ERRORS_LOOKED_AT: Final = 8
"""Messages of one error queue: the network's own word may stand behind one of this host's."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for no time: close sends RST, and no TIME_WAIT is left (socket(7))."""

_LINUX: Final = sys.platform == "linux"

_NON_BLOCKING: Final[int] = getattr(socket, "SOCK_NONBLOCK", 0)
"""Nothing where a socket cannot be made so from the start."""

# Numbers and members by names of our own: looking up an enum's costs more than what is done by it.
_TCP: Final = Transport.TCP
_IPV4: Final = int(socket.AF_INET)
_IPV6: Final = int(socket.AF_INET6)
_STREAM: Final = int(socket.SOCK_STREAM) | _NON_BLOCKING
_DATAGRAM: Final = int(socket.SOCK_DGRAM) | _NON_BLOCKING

_CLOSED: Final = bytes([TCP_CLOSE])
_NOT_MADE: Final = (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE)

_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS}) | (
    frozenset({errno.EWOULDBLOCK}) if sys.platform == "win32" else frozenset()
)
"""Elsewhere EWOULDBLOCK is EAGAIN, by which the kernel means that it cannot connect at all."""

_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Only a connection that was made breaks like this: RST against a SYN is ECONNREFUSED."""

_OPEN: Final = Verdict(Outcome.OPEN)
_REFUSED: Final = Verdict(Outcome.REFUSED, (describe(OSError(errno.ECONNREFUSED, "")),))


class Attempt:
    """One check under way, and afterwards what became of it. Times are time.monotonic_ns()."""

    __slots__ = (
        "_info",
        "address",
        "broken",
        "connected_ns",
        "connection",
        "deadline",
        "descriptor",
        "done",
        "ended_ns",
        "exchange",
        "icmp",
        "own",
        "patience_s",
        "received",
        "reset",
        "started_ns",
        "tcp_info",
        "transport",
        "unsent",
        "verdict",
    )

    def __init__(
        self,
        transport: Transport,
        address: Any,
        exchange: Exchange | None,
        patience_s: float | None,
        *,
        reset: bool,
        done: "Callable[[Attempt], None]",
    ) -> None:
        self.transport = transport
        self.address = address
        """As sockets take it: (host, port), or four fields for IPv6."""
        self.exchange = exchange
        """What is said once connected; None when the connection itself is the answer."""
        self.patience_s = patience_s
        self.reset = reset
        self.done = done
        self.connection: socket.SocketType | None = None
        self.descriptor = -1
        """The number of its socket."""
        self.started_ns = 0
        self.connected_ns = 0
        self.ended_ns = 0
        self.deadline = 0.0
        self.unsent = b""
        self.received = 0
        """Bytes of the answer."""
        self.broken = 0
        """The error that broke the connection, while there may be something left to read."""
        self.own: Any = None
        """Address and port on this host, once connect has chosen them."""
        self.icmp: Icmp | None = None
        self.tcp_info = b""
        """struct tcp_info as the kernel gave it last; `info` reads it for whoever wants to know."""
        self._info: TcpInfo | None = None
        self.verdict: Verdict | None = None

    @property
    def local(self) -> str:
        """Address and port on this host, in words; empty when connect chose none."""
        if self.own is None:
            return ""
        host, port = self.own[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def info(self) -> TcpInfo | None:
        """What TCP counted for its connection, where the kernel says."""
        if self._info is None and self.tcp_info:
            self._info = read_tcp_info(self.tcp_info)
        return self._info

    def learn(self, tcp_info: bytes) -> None:
        """Keep what the kernel says of its connection now."""
        self.tcp_info, self._info = tcp_info, None

    @property
    def connect_us(self) -> int:
        """Time to connect: the kernel's own measure, unless a lost SYN made it longer."""
        info = self.info
        if info is not None and info.rtt_us and not info.retransmits:
            return info.rtt_us
        return (self.connected_ns - self.started_ns) // 1000


class Engine:
    """All checks of one agent that are under way."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_poller: Callable[
            [asyncio.AbstractEventLoop, Callable[[int], None]], Poller
        ] = best_poller,
    ) -> None:
        self._loop = loop
        self._poller = make_poller(loop, self._on_ready)
        self._attempts: dict[int, Attempt] = {}
        self._deadlines: dict[float, deque[tuple[float, Attempt]]] = {}
        """A queue for each timeout, so that each is in order by itself: checks share a few."""
        self._stalled_s = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._starting: Attempt | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._attempts)

    def start(self, attempt: Attempt, timeout_s: float) -> None:
        """Begin; `attempt.done` is called when it has ended, but not before this returns."""
        if self._closed:
            return
        attempt.started_ns = time.monotonic_ns()
        self._starting = attempt
        try:
            self._connect(attempt, timeout_s)
        except OSError as error:  # no descriptor left, or an address that is none
            self._end(attempt, Verdict(Outcome.LOCAL_ERROR, (describe(error),)))
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)
        finally:
            self._starting = None

    def close(self) -> None:
        """Drop what is under way; nobody hears of it again, nor of what is started from now on."""
        if self._closed:
            return
        self._closed = True
        for attempt in list(self._attempts.values()):
            self._release(attempt)
        self._deadlines.clear()
        if self._tick is not None:
            self._tick.cancel()
        self._poller.close()

    def _connect(self, attempt: Attempt, timeout_s: float) -> None:
        kind = _STREAM if attempt.transport is _TCP else _DATAGRAM
        family = _IPV6 if ":" in attempt.address[0] else _IPV4
        # The plain type under socket.socket: it is made non-blocking, and closed, in one call each.
        attempt.connection = connection = socket.SocketType(family, kind)
        if not _NON_BLOCKING:
            connection.setblocking(False)
        if _LINUX:
            _set_receive_errors(connection, family, 1)
        code = connection.connect_ex(attempt.address)
        if code not in _IN_PROGRESS:
            self._fail(attempt, code)
            return
        attempt.own = connection.getsockname()
        attempt.descriptor = descriptor = connection.fileno()
        self._attempts[descriptor] = attempt
        self._poller.connecting(descriptor)
        self._due(attempt, timeout_s)
        if kind == _DATAGRAM:
            self._connected(attempt)

    def _on_ready(self, descriptor: int) -> None:
        attempt = self._attempts.get(descriptor)
        if attempt is not None:
            self._continue(attempt)

    def _continue(self, attempt: Attempt) -> None:
        try:
            if attempt.connection is None:  # it ended meanwhile
                pass
            elif attempt.connected_ns:
                self._receive(attempt)
            else:
                self._look(attempt, attempt.connection)
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)

    def _look(self, attempt: Attempt, connection: socket.SocketType) -> None:
        """See what became of a connection that was under way."""
        data = attempt.tcp_info = _tcp_info(connection) if _LINUX else b""
        if data[0] not in _NOT_MADE if data else _has_peer(connection):
            self._connected(attempt)
            return
        # Since Linux 6.9 an ICMP error leaves the connection under way, but SO_ERROR tells it.
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ECONNREFUSED and data[:1] == _CLOSED and segments_in(data):
            # A segment ended it, so that was RST. ICMP errors are none; _fail asks for those.
            self._end(attempt, _REFUSED)
        elif code in _BROKEN and attempt.exchange is not None:
            # It was made, and broken before we looked. What it said may still be there to read.
            attempt.broken = code
            self._connected(attempt)
        elif code:
            self._fail(attempt, code)
        # Else it is no news of this one. The descriptor's number was another's before, of whose
        # connection a process forked meanwhile still holds a copy (epoll(7), question 6).

    def _connected(self, attempt: Attempt) -> None:
        connection = attempt.connection
        assert connection is not None
        attempt.connected_ns = time.monotonic_ns()
        if attempt.own[1] == attempt.address[1] and _met_itself(connection):
            # The kernel chose the very port that is dialled as the source, and both ends met.
            self._end(attempt, Verdict(Outcome.REFUSED, ("it met itself: nothing listens there",)))
            return
        if attempt.exchange is None:
            self._end(attempt, _OPEN)
            return
        if _LINUX and attempt.transport is _TCP:
            # Established, a connection survives an ICMP error; reported ones would end it. One that
            # was reported already harms nothing once it is read.
            _set_receive_errors(connection, connection.family, 0)
            if not attempt.broken:
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                attempt.broken = code if code in _BROKEN else 0  # RST came since we looked
        self._poller.reading(attempt.descriptor)
        if attempt.patience_s is not None:
            self._due(attempt, attempt.patience_s)
        self._advance(attempt, attempt.exchange.__next__)
        self._receive(attempt)

    def _receive(self, attempt: Attempt) -> None:
        """Read all that is there, as an edge-triggered poller wants it."""
        self._flush(attempt)
        for _ in range(_READS_A_TURN):
            if attempt.connection is None:
                return
            assert attempt.exchange is not None
            try:
                received = attempt.connection.recv(MAX_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if attempt.transport is _TCP:
                    self._lost(attempt, error.errno or 0)
                else:
                    self._fail(attempt, error.errno or 0)
                return
            if not received and attempt.transport is _TCP:
                if attempt.broken:
                    self._lost(attempt, attempt.broken)
                else:
                    self._closed_by_peer(attempt)
                return
            attempt.received += len(received)
            self._advance(attempt, attempt.exchange.send, received)
        self._loop.call_soon(self._continue, attempt)

    def _lost(self, attempt: Attempt, code: int) -> None:
        """The connection broke: let the exchange say whether it had heard enough."""
        attempt.broken = code
        assert attempt.exchange is not None
        self._advance(attempt, attempt.exchange.throw, Lost())
        if attempt.verdict is None:
            self._fail(attempt, code)

    def _closed_by_peer(self, attempt: Attempt) -> None:
        assert attempt.exchange is not None
        self._advance(attempt, attempt.exchange.send, b"")
        if attempt.verdict is None:
            fact = f"it closed the connection after {attempt.received} bytes, short of an answer"
            self._end(attempt, Verdict(Outcome.RESET, (fact,)))

    def _advance(
        self, attempt: Attempt, step: Callable[..., bytes], *arguments: bytes | Exception
    ) -> None:
        """Let the exchange go on until it waits for more, and send what it says."""
        try:
            attempt.unsent += step(*arguments)
        except StopIteration as stop:
            if not isinstance(stop.value, Verdict):
                self._mistake(attempt, TypeError(f"its verdict is {stop.value!r}"))
            else:
                self._end(attempt, stop.value)
        except Silence:
            self._end(attempt, _silent(attempt))
        except Lost:
            self._fail(attempt, attempt.broken)
        except Exception as error:  # noqa: BLE001  a protocol's mistake is not the network's
            self._mistake(attempt, error)
        else:
            self._flush(attempt)

    def _flush(self, attempt: Attempt) -> None:
        if not attempt.unsent or attempt.broken or attempt.connection is None:
            return
        try:
            sent = attempt.connection.send(attempt.unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            code = error.errno or 0
            if code in _BROKEN:  # but it may have answered before it broke
                attempt.broken = code
            else:
                self._fail(attempt, code)
            return
        attempt.unsent = attempt.unsent[sent:]
        if attempt.unsent:
            self._poller.sending(attempt.connection.fileno())

    def _fail(self, attempt: Attempt, code: int) -> None:
        """End with an error of the operating system's, and the ICMP error behind it if any."""
        error = OSError(code, "")
        facts = [describe(error)]
        if _LINUX and attempt.connection is not None:
            attempt.icmp = _icmp(attempt.connection)
        if code in _BROKEN:
            outcome = from_error(error)
            facts.append(f"it had connected, and sent {attempt.received} bytes before that")
        elif attempt.icmp is not None:
            own, dialled = attempt.own or ("",), attempt.address
            outcome, words = from_icmp(attempt.icmp, attempt.transport, dialled[0], own[0])
            facts.append(words)
        else:
            outcome = from_error(error)
            facts += own_doing(code, under_way=attempt.own is not None)
        self._end(attempt, Verdict(outcome, tuple(facts)))

    def _mistake(self, attempt: Attempt, error: Exception) -> None:
        fact = f"the check itself failed: {type(error).__name__}: {error}"
        self._end(attempt, Verdict(Outcome.LOCAL_ERROR, (fact,)))

    def _end(self, attempt: Attempt, verdict: Verdict) -> None:
        if attempt.verdict is not None:
            return
        attempt.ended_ns = time.monotonic_ns()
        attempt.verdict = verdict
        self._release(attempt, verdict)
        if attempt is self._starting:
            self._loop.call_soon(self._tell, attempt)
        else:
            self._tell(attempt)

    def _release(self, attempt: Attempt, verdict: Verdict | None = None) -> None:
        """Let go of its socket, with a last word if there is one, and of its exchange."""
        connection = attempt.connection
        if connection is not None:
            attempt.connection = None
            if attempt.descriptor >= 0:
                del self._attempts[attempt.descriptor]
                self._poller.forget(attempt.descriptor)
            try:
                # What was refused is closed on both sides: there is nobody to take leave of.
                if verdict is not _REFUSED and attempt.transport is _TCP:
                    _take_leave(connection, attempt, verdict.farewell if verdict else b"")
            except OSError:  # it may be broken
                pass
            finally:
                _close(connection)
        if attempt.exchange is not None:
            try:
                attempt.exchange.close()
            except Exception as error:  # noqa: BLE001  its verdict stands
                self._complain("a check did not end well", error)

    def _tell(self, attempt: Attempt) -> None:
        if self._closed:
            return
        try:
            attempt.done(attempt)
        except Exception as error:  # noqa: BLE001  others' checks must go on
            self._complain("nobody could be told how a check ended", error)

    def _complain(self, what: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": what, "exception": error})

    def _due(self, attempt: Attempt, after_s: float) -> None:
        """Give it so much time from now, whatever it was given before."""
        attempt.deadline = deadline = self._loop.time() - self._stalled_s + after_s
        queue = self._deadlines.get(after_s)
        if queue is None:
            queue = self._deadlines[after_s] = deque()
            if self._tick is None:
                self._tick = self._loop.call_later(TICK_S, self._expire)
        queue.append((deadline, attempt))

    def _expire(self) -> None:
        assert self._tick is not None
        now = self._loop.time()
        self._stalled_s += max(0.0, now - self._tick.when() - _STALL_S)
        now -= self._stalled_s
        for after_s, queue in list(self._deadlines.items()):
            while queue:
                deadline, attempt = queue[0]
                if deadline > now and attempt.verdict is None:
                    break
                queue.popleft()
                # Its time may have been set anew since, and it stands in another queue too.
                if attempt.verdict is None and attempt.deadline <= now:
                    self._out_of_time(attempt)
            else:
                del self._deadlines[after_s]
        self._tick = self._loop.call_later(TICK_S, self._expire) if self._deadlines else None

    def _out_of_time(self, attempt: Attempt) -> None:
        try:
            if attempt.connected_ns and attempt.exchange is not None:
                self._advance(attempt, attempt.exchange.throw, Silence())
            if attempt.verdict is None:  # if it would say more, there is no time for the answer
                self._end(attempt, _silent(attempt))
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)


def _take_leave(connection: socket.SocketType, attempt: Attempt, farewell: bytes) -> None:
    if attempt.reset and not farewell:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return
    if farewell:
        connection.send(attempt.unsent + farewell)
    # Closing with something unread sends RST, before the other side has heard our last words.
    for _ in range(_READS_A_TURN):
        if not connection.recv(MAX_READ):
            break


def _silent(attempt: Attempt) -> Verdict:
    """The verdict on an attempt whose time is up, with what TCP itself knows of it."""
    waited = f"{(time.monotonic_ns() - attempt.started_ns) / 1e9:.1f} s"
    if attempt.transport is Transport.UDP:
        return Verdict(Outcome.TIMEOUT, (f"no answer within {waited}",))
    info = None
    if _LINUX and attempt.connection is not None:
        attempt.learn(_tcp_info(attempt.connection))
        info = attempt.info
    if not attempt.connected_ns:
        fact = f"no answer to the connection within {waited}"
        return Verdict(Outcome.TIMEOUT, (fact, *from_silence(info, connected=False)))
    fact = f"connected, but no answer within {waited}"
    if attempt.received:
        fact = f"the answer stopped after {attempt.received} bytes, {waited} after the start"
    return Verdict(Outcome.STALLED, (fact, *from_silence(info, connected=True)))


def _set_receive_errors(connection: socket.SocketType, family: int, on: int) -> None:
    if family == _IPV6:
        connection.setsockopt(SOL_IPV6, IPV6_RECVERR, on)
    else:
        connection.setsockopt(SOL_IP, IP_RECVERR, on)


def _has_peer(connection: socket.SocketType) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def _met_itself(connection: socket.SocketType) -> bool:
    try:
        return bool(connection.getpeername() == connection.getsockname())
    except OSError:
        return False


def _close(connection: socket.SocketType) -> None:
    try:  # noqa: SIM105  suppress() costs as much as closing does
        connection.close()
    except OSError:  # what became of the connection; the descriptor is free all the same
        pass


def _icmp(connection: socket.SocketType) -> Icmp | None:
    for _ in range(_ERRORS_LOOKED_AT):
        try:
            _, ancillary, _, _ = connection.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:  # nothing is queued: it was no ICMP error
            return None
        if (icmp := read_icmp(ancillary)) is not None:
            return icmp
    return None


def _tcp_info(connection: socket.SocketType) -> bytes:
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE)
    except OSError:
        return b""
