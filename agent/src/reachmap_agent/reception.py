"""Whoever connects to a listener is received here: bounded in number, time and words.

Strangers cost little: a bounded number of connections, each for a short time, reading little and
saying no more than the protocol's first words.
"""

import asyncio
import contextlib
import errno
import functools
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Final

from reachmap_agent.outcomes import describe
from reachmap_agent.wire.exchange import MAX_READ, StandIn
from reachmap_agent.wire.proof import Endpoint
from reachmap_shared import log
from reachmap_shared.vocabulary import Transport

_BACKLOG: Final = 1024
"""Connections that the kernel keeps for us; asyncio's 100 loses some of a burst."""

_MAX_CONNECTIONS: Final = 256
"""At once, over all listeners: a flood beyond it is turned away, not remembered."""

_CONNECTION_S: Final = 5.0
"""For one connection: longer than any check, short for a stranger who only sits there."""

_ACCEPTS_A_TURN: Final = 64
"""So that a flood of connections leaves the loop to the checks now and then."""

_PAUSE_S: Final = 1.0
"""Before accepting again when this process has run out of descriptors or memory."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_ORDERLY_CLOSE: Final = struct.pack("ii", 0, 0)
"""SO_LINGER (socket(7)): what is reset leaves nothing behind, and nothing on the service's port."""

_log = log.get("reception")


class Reception:
    """Receives whoever connects, on all ports of one agent."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.connections = 0

    @property
    def is_full(self) -> bool:
        """Whether the next one must be turned away."""
        return self.connections >= _MAX_CONNECTIONS


class OpenPort:
    """A port that is listened on.

    Args:
        addresses: Where to bind.
        make_stand_in: Makes an exchange for each visitor; None where there is none to be had.
        answered: Called when a visitor has been told all, and has left.

    Raises:
        OSError: With EADDRINUSE, another program holds the port.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        transport: Transport,
        reception: Reception,
        make_stand_in: Callable[[Endpoint, Endpoint], StandIn | None],
        answered: Callable[[], None],
    ) -> None:
        self._reception = reception
        self._make_stand_in = make_stand_in
        self._answered = answered
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._serving: set[asyncio.Task[bool]] = set()
        self.sockets: list[socket.socket] = []
        try:
            for address in addresses:
                if (bound := _bound(address, port, transport)) is not None:
                    self.sockets.append(bound)
            if not self.sockets:
                raise OSError(errno.EAFNOSUPPORT, "no address family to listen on")
        except OSError:
            self.close()
            raise
        for bound in self.sockets:
            self._watch(bound)

    @property
    def is_busy(self) -> bool:
        """Whether somebody is being served."""
        return bool(self._serving)

    def close(self) -> None:
        """Close the port and reset its connections, which would hold it for the next one."""
        for bound in self.sockets:
            self._loop.remove_reader(bound)
            bound.close()
        self.sockets.clear()
        for task in self._serving:
            task.cancel()

    def _watch(self, bound: socket.socket) -> None:
        if bound in self.sockets:  # or it was closed in the meantime
            tcp = self._transport is Transport.TCP
            self._loop.add_reader(bound, self._accept if tcp else self._answer_datagram, bound)

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, peer = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # the connection is still there, and so would be this event
                _log.warning("cannot accept", reason=describe(error))
                self._loop.remove_reader(bound)
                self._loop.call_later(_PAUSE_S, self._watch, bound)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            exchange = (
                None
                if self._reception.is_full
                else self._make_stand_in(connection.getsockname()[:2], peer[:2])
            )
            if exchange is None:
                connection.close()
                continue
            self._reception.connections += 1
            task = self._reception.tasks.create_task(_serve(connection, exchange))
            self._serving.add(task)
            task.add_done_callback(functools.partial(self._served, connection, exchange))

    def _served(
        self, connection: socket.socket, exchange: StandIn, task: asyncio.Task[bool]
    ) -> None:
        """Clean up here, since a task that is cancelled before it begins does not."""
        self._serving.discard(task)
        self._reception.connections -= 1
        exchange.close()
        connection.close()
        if not task.cancelled() and task.result():
            self._answered()

    def _answer_datagram(self, bound: socket.socket) -> None:
        try:
            question, peer = bound.recvfrom(MAX_READ)
            answer = _last_words(self._make_stand_in(("", 0), peer[:2]), question)
            if answer and len(answer) <= len(question):
                bound.sendto(answer, peer)
                self._answered()
        except OSError:
            return  # a datagram that cannot be read or answered is lost, as datagrams are


def _last_words(exchange: StandIn | None, question: bytes) -> bytes:
    if exchange is not None:
        try:
            next(exchange)
            exchange.send(question)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped here
    return b""


async def _serve(connection: socket.socket, exchange: StandIn) -> bool:
    """Say what is to be said, and wait for the other side to close; returns whether all was said.

    The one who closes first keeps the TIME_WAIT, and on the service's port it would keep the
    service from starting: who does not close in time is reset.
    """
    loop = asyncio.get_running_loop()
    told = False
    # Whoever came may have gone, or just sit there: nothing of theirs is kept.
    with contextlib.suppress(OSError):  # a TimeoutError is one
        async with asyncio.timeout(_CONNECTION_S):
            if last := await _converse(connection, exchange):
                await loop.sock_sendall(connection, last)
                told = True
            while await loop.sock_recv(connection, MAX_READ):
                pass
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY_CLOSE)
    return told


async def _converse(connection: socket.socket, exchange: StandIn) -> bytes:
    """Carry bytes between the exchange and the socket; returns the exchange's last ones."""
    loop = asyncio.get_running_loop()
    try:
        sending = next(exchange)
        while True:
            if sending:
                await loop.sock_sendall(connection, sending)
            sending = exchange.send(await loop.sock_recv(connection, MAX_READ))
    except StopIteration as stop:
        last: bytes = stop.value
        return last


def _bound(address: str, port: int, transport: Transport) -> socket.socket | None:
    """A socket that listens; None where the host lacks the address family altogether."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    try:
        bound = socket.socket(family, kind)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would take a port from under whoever has it.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL and address == "::":
            return None  # the kernel has IPv6, but it is switched off
        raise
    return bound
