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
import sys
import time
from collections.abc import Callable
from typing import Final

from reachmap_agent.engine import ends
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.deadlines import Deadlines
from reachmap_agent.engine.ends import BROKEN
from reachmap_agent.engine.poller import Poller, best_poller
from reachmap_agent.engine.sockets import (
    LINUX,
    READS_A_TURN,
    Sockets,
    has_peer,
    icmp_error,
    lives_on,
    met_itself,
    tcp_info,
)
from reachmap_agent.kernel import (
    TCP_CLOSE,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    nothing_lost,
    refused_at_once,
    reset_came,
)
from reachmap_agent.wire.exchange import MAX_READ, Lost, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

# By names of our own: looking up an enum's costs more than what is done by it.
_TCP: Final = Transport.TCP
_OPEN: Final = Outcome.OPEN

_NOT_MADE: Final = (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE)

_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS}) | (
    frozenset({errno.EWOULDBLOCK}) if sys.platform == "win32" else frozenset()
)
"""Elsewhere EWOULDBLOCK is EAGAIN, by which the kernel means that it cannot connect at all."""


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
        self._sockets = Sockets()
        self._attempts: dict[int, Attempt] = {}
        self._deadlines = Deadlines(loop, self._out_of_time)
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
            self._end(attempt, ends.not_started(error))
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
        self._deadlines.rest()
        self._poller.close()

    def _connect(self, attempt: Attempt, timeout_s: float) -> None:
        taken_over = self._sockets.take(attempt)
        connection = attempt.connection
        assert connection is not None
        code = connection.connect_ex(attempt.address)
        if code not in _IN_PROGRESS:
            self._fail(attempt, code)
            return
        attempt.own = connection.getsockname()
        attempt.descriptor = descriptor = connection.fileno()
        self._attempts[descriptor] = attempt
        if taken_over:
            self._poller.connecting_again(descriptor)
        else:
            self._poller.connecting(descriptor)
        self._deadlines.set(attempt, timeout_s)
        if attempt.transport is not _TCP:
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
        data = attempt.tcp_info = tcp_info(connection) if LINUX else b""
        if data[0] not in _NOT_MADE if data else has_peer(connection):
            attempt.at_once = nothing_lost(data)
            self._connected(attempt)
            return
        # Since Linux 6.9 an ICMP error leaves the connection under way, but SO_ERROR tells it.
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ECONNREFUSED and reset_came(data):
            # A segment ended it, so that was RST. ICMP errors are none; _fail asks for those.
            attempt.at_once = refused_at_once(data)
            self._end(attempt, ends.REFUSED)
        elif code in BROKEN and attempt.exchange is not None:
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
        if attempt.own[1] == attempt.address[1] and met_itself(connection):
            # The kernel chose the very port that is dialled as the source, and both ends met.
            self._end(attempt, ends.MET_ITSELF)
            return
        if attempt.exchange is None:
            self._end(attempt, ends.OPEN)
            return
        self._poller.reading(attempt.descriptor)
        self._advance(attempt, attempt.exchange.__next__)
        self._receive(attempt)
        if attempt.patience_s is not None and attempt.verdict is None:
            self._deadlines.set(attempt, attempt.patience_s)

    def _receive(self, attempt: Attempt) -> None:
        """Read all that is there, as an edge-triggered poller wants it."""
        self._flush(attempt)
        for _ in range(READS_A_TURN):
            if attempt.connection is None:
                return
            assert attempt.exchange is not None
            try:
                received = attempt.connection.recv(MAX_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if attempt.transport is not _TCP:
                    self._fail(attempt, error.errno or 0)
                elif lives_on(attempt.connection):
                    continue
                else:
                    self._lost(attempt, error.errno or 0)
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
            self._end(attempt, ends.closed_early(attempt))

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
            self._silent(attempt)
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
            if code in BROKEN:  # but it may have answered before it broke
                attempt.broken = code
            elif attempt.transport is _TCP and lives_on(attempt.connection):
                self._flush(attempt)
            else:
                self._fail(attempt, code)
            return
        attempt.sent += sent
        attempt.unsent = attempt.unsent[sent:]
        if attempt.unsent:
            self._poller.sending(attempt.connection.fileno())

    def _fail(self, attempt: Attempt, code: int) -> None:
        """End with an error of the operating system's, and the ICMP error behind it if any."""
        if LINUX:
            attempt.icmp = icmp_error(attempt)
        self._end(attempt, ends.failed(attempt, code))

    def _mistake(self, attempt: Attempt, error: Exception) -> None:
        self._end(attempt, ends.mistaken(error))

    def _silent(self, attempt: Attempt) -> None:
        if LINUX and attempt.transport is _TCP and attempt.connection is not None:
            attempt.learn(tcp_info(attempt.connection))
        self._end(attempt, ends.silent(attempt, time.monotonic_ns()))

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
            self._sockets.drop()

    def _release(self, attempt: Attempt, verdict: Verdict | None = None) -> None:
        """Let go of its socket, with a last word if there is one, and of its exchange."""
        if attempt.connection is not None:
            if attempt.descriptor >= 0:
                del self._attempts[attempt.descriptor]
                self._poller.forget(attempt.descriptor)
                if not self._attempts:
                    self._deadlines.rest()
            farewell = verdict.farewell if verdict is not None else b""
            self._sockets.leave(attempt, farewell, clean=_is_clean(attempt))
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

    def _out_of_time(self, attempt: Attempt) -> None:
        try:
            if attempt.connected_ns and attempt.exchange is not None:
                self._advance(attempt, attempt.exchange.throw, Silence())
            if attempt.verdict is None:  # if it would say more, there is no time for the answer
                self._silent(attempt)
        except Exception as error:  # noqa: BLE001  a mistake of ours is not the network's
            self._mistake(attempt, error)


def _is_clean(attempt: Attempt) -> bool:
    """Whether its socket saw a connection made or refused at once, and nothing else."""
    if not attempt.at_once or attempt.own is None:
        return False
    verdict = attempt.verdict
    if verdict is ends.REFUSED:
        return True
    return (
        verdict is not None
        and verdict.outcome is _OPEN
        and attempt.reset
        and not (attempt.sent or attempt.received or attempt.broken or verdict.farewell)
    )
