"""Runs checks on non-blocking sockets, without a task or a future for any of them.

A check is started with an address that is resolved already; when it has ended, one way or the
other, `done` is called with what was found, once, and never from within `start`. Deadlines are
looked at every TICK_S, which is exact enough for timeouts of seconds and costs one timer for all.

Nothing that a check does gets out of here: a protocol's mistake ends that check as a local error,
and a `done` that raises is told to the loop's exception handler.
"""

import asyncio
import contextlib
import errno
import heapq
import itertools
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from reachmap_agent.engine.poller import Poller, best_poller
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

_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS}) | (
    frozenset({errno.EWOULDBLOCK}) if sys.platform == "win32" else frozenset()
)
"""Elsewhere EWOULDBLOCK is EAGAIN, by which the kernel means that it cannot connect at all."""

_BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Only a connection that was made breaks like this: RST against a SYN is ECONNREFUSED."""


class Attempt:
    """One check under way, and afterwards what became of it. Times are time.monotonic_ns()."""

    __slots__ = (
        "address",
        "broken",
        "connected_ns",
        "connection",
        "deadline",
        "done",
        "ended_ns",
        "exchange",
        "icmp",
        "info",
        "own",
        "patience_s",
        "received",
        "reset",
        "started_ns",
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
        self.connection: socket.socket | None = None
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
        self.info: TcpInfo | None = None
        self.verdict: Verdict | None = None

    @property
    def local(self) -> str:
        """Address and port on this host, in words; empty when connect chose none."""
        if self.own is None:
            return ""
        host, port = self.own[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connect_us(self) -> int:
        """Time to connect: the kernel's own measure, unless a lost SYN made it longer."""
        if self.info is not None and self.info.rtt_us and not self.info.retransmits:
            return self.info.rtt_us
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
        self._deadlines: list[tuple[float, int, Attempt]] = []
        """A heap; an attempt that ended stays until its time comes, and is passed over then."""
        self._serial = itertools.count()
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
        tcp = attempt.transport is Transport.TCP
        family = socket.AF_INET6 if ":" in attempt.address[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        attempt.connection = connection
        connection.setblocking(False)
        if _LINUX:
            _set_receive_errors(connection, family, on=True)
        code = connection.connect_ex(attempt.address)
        if code not in _IN_PROGRESS:
            self._fail(attempt, code)
            return
        attempt.own = connection.getsockname()
        self._attempts[connection.fileno()] = attempt
        self._poller.connecting(connection.fileno())
        self._due(attempt, timeout_s)
        if not tcp:
            self._connected(attempt, connection.getpeername())

    def _on_ready(self, descriptor: int) -> None:
        attempt = self._attempts.get(descriptor)
        if attempt is not None:
            self._continue(attempt)

    def _continue(self, attempt: Attempt) -> None:
        if attempt.connection is None:  # it ended meanwhile
            return
        try:
            if attempt.connected_ns:
                self._receive(attempt)
            else:
                self._look(attempt)
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)

    def _look(self, attempt: Attempt) -> None:
        """See what became of a connection that was under way."""
        connection = attempt.connection
        assert connection is not None
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            peer = connection.getpeername()
        except OSError:
            peer = None
        if peer is not None:
            # It is made; an error besides is an ICMP error that came later, and harms nothing.
            self._connected(attempt, peer)
        elif code in _BROKEN and attempt.exchange is not None:
            # It was made, and broken before we looked. What it said may still be there to read.
            attempt.broken = code
            self._connected(attempt, peer)
        elif code:
            self._fail(attempt, code)
        # Else it is no news of this one. The descriptor's number was another's before, of whose
        # connection a process forked meanwhile still holds a copy (epoll(7), question 6).

    def _connected(self, attempt: Attempt, peer: Any) -> None:
        connection = attempt.connection
        assert connection is not None
        attempt.connected_ns = time.monotonic_ns()
        if peer == attempt.own:
            # The kernel chose the very port that is dialled as the source, and both ends met.
            self._end(attempt, Verdict(Outcome.REFUSED, ("it met itself: nothing listens there",)))
            return
        if _LINUX and attempt.transport is Transport.TCP:
            attempt.info = _tcp_info(connection)
        if attempt.exchange is None:
            self._end(attempt, Verdict(Outcome.OPEN))
            return
        if _LINUX and attempt.transport is Transport.TCP:
            # Established, a connection survives an ICMP error; reported ones would end it.
            _set_receive_errors(connection, connection.family, on=False)
        self._poller.reading(connection.fileno())
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
                if attempt.transport is Transport.TCP:
                    self._lost(attempt, error.errno or 0)
                else:
                    self._fail(attempt, error.errno or 0)
                return
            if not received and attempt.transport is Transport.TCP:
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
        self._release(attempt, verdict.farewell)
        if attempt is self._starting:
            self._loop.call_soon(self._tell, attempt)
        else:
            self._tell(attempt)

    def _release(self, attempt: Attempt, farewell: bytes = b"") -> None:
        """Let go of its socket, with a last word if there is one, and of its exchange."""
        connection, attempt.connection = attempt.connection, None
        if connection is not None:
            self._attempts.pop(connection.fileno(), None)
            self._poller.forget(connection.fileno())
            with contextlib.suppress(OSError):  # it may be broken
                if attempt.transport is Transport.TCP:
                    _take_leave(connection, attempt, farewell)
            with contextlib.suppress(OSError):
                connection.close()
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

    def _now(self) -> float:
        """The loop's time, less what it was stalled."""
        return self._loop.time() - self._stalled_s

    def _due(self, attempt: Attempt, after_s: float) -> None:
        """Give it so much time from now, whatever it was given before."""
        attempt.deadline = self._now() + after_s
        heapq.heappush(self._deadlines, (attempt.deadline, next(self._serial), attempt))
        if self._tick is None:
            self._tick = self._loop.call_later(TICK_S, self._expire)

    def _expire(self) -> None:
        assert self._tick is not None
        late_s = self._loop.time() - self._tick.when()
        self._stalled_s += max(0.0, late_s - _STALL_S)
        now = self._now()
        while self._deadlines:
            deadline, _, attempt = self._deadlines[0]
            if deadline > now and attempt.verdict is None:
                break
            heapq.heappop(self._deadlines)
            if attempt.verdict is None and attempt.deadline <= now:
                self._out_of_time(attempt)
        self._tick = self._loop.call_later(TICK_S, self._expire) if self._deadlines else None

    def _out_of_time(self, attempt: Attempt) -> None:
        try:
            if attempt.connected_ns and attempt.exchange is not None:
                self._advance(attempt, attempt.exchange.throw, Silence())
            if attempt.verdict is None:  # if it would say more, there is no time for the answer
                self._end(attempt, _silent(attempt))
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)


def _take_leave(connection: socket.socket, attempt: Attempt, farewell: bytes) -> None:
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
        info = attempt.info = _tcp_info(attempt.connection)
    if not attempt.connected_ns:
        fact = f"no answer to the connection within {waited}"
        return Verdict(Outcome.TIMEOUT, (fact, *from_silence(info, connected=False)))
    fact = f"connected, but no answer within {waited}"
    if attempt.received:
        fact = f"the answer stopped after {attempt.received} bytes, {waited} after the start"
    return Verdict(Outcome.STALLED, (fact, *from_silence(info, connected=True)))


def _set_receive_errors(connection: socket.socket, family: int, *, on: bool) -> None:
    if family == socket.AF_INET6:
        connection.setsockopt(SOL_IPV6, IPV6_RECVERR, int(on))
    else:
        connection.setsockopt(SOL_IP, IP_RECVERR, int(on))


def _icmp(connection: socket.socket) -> Icmp | None:
    for _ in range(_ERRORS_LOOKED_AT):
        try:
            _, ancillary, _, _ = connection.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:  # nothing is queued: it was no ICMP error
            return None
        if (icmp := read_icmp(ancillary)) is not None:
            return icmp
    return None


def _tcp_info(connection: socket.socket) -> TcpInfo | None:
    try:
        return read_tcp_info(connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE))
    except OSError:
        return None
