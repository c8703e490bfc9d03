"""Stand-ins for services that are not there: they hold a role's ports and say who they are.

A port that another program holds is ceded: this agent never tries it again, so that a service
which restarts finds its port free. Strangers cost little: a bounded number of connections, each
for a short time, reading little and saying no more than the protocol's first words.
"""

import asyncio
import contextlib
import errno
import functools
import socket
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reachmap_agent.credentials import Contexts
from reachmap_agent.outcomes import describe
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.exchange import MAX_READ, Offer, StandIn
from reachmap_shared import log
from reachmap_shared.messages import ListenerReport, ListenerSpec
from reachmap_shared.vocabulary import ListenerState, Transport

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  as the real services bind

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

_CEDED: Final = "another program was seen on it"

_log = log.get("listeners")

Key = tuple[int, Transport]


@dataclass(slots=True)
class _Listener:
    spec: ListenerSpec
    sockets: list[socket.socket]
    state: ListenerState
    detail: str
    serving: set[asyncio.Task[None]] = field(default_factory=set)


class Listeners:
    """The stand-ins of one agent.

    Args:
        addresses: Where to bind; empty for every interface, as real services do.
        tasks: Where connections are served.
    """

    def __init__(self, addresses: Sequence[str], tasks: asyncio.TaskGroup) -> None:
        self._addresses = tuple(addresses) or _EVERYWHERE
        self._tasks = tasks
        self._open: dict[Key, _Listener] = {}
        self._ceded: set[Key] = set()
        self._contexts: Contexts | None = None
        self._connections = 0

    def apply(self, specs: Iterable[ListenerSpec], contexts: Contexts) -> None:
        """Hold just these ports from now on; those held already stay open without a gap."""
        self._contexts = contexts
        wanted: Mapping[Key, ListenerSpec] = {(spec.port, spec.transport): spec for spec in specs}
        for key in [key for key in self._open if key not in wanted]:
            self._close(self._open.pop(key))
        for key, spec in wanted.items():
            known = self._open.get(key)
            if known is not None and known.state is not ListenerState.FAILED:
                known.spec = spec
            else:
                self._open[key] = self._opened(key, spec)

    def close(self) -> None:
        """Let go of every port."""
        for listener in self._open.values():
            self._close(listener)
        self._open.clear()

    def reports(self) -> tuple[ListenerReport, ...]:
        """What became of each port."""
        return tuple(
            ListenerReport(
                entry.spec.service,
                entry.spec.port,
                entry.spec.transport,
                entry.state,
                entry.detail[:300],
            )
            for entry in self._open.values()
        )

    def _opened(self, key: Key, spec: ListenerSpec) -> _Listener:
        listener = _Listener(spec, [], ListenerState.LISTENING, "")
        if key in self._ceded:
            listener.state, listener.detail = ListenerState.CEDED, _CEDED
            return listener
        try:
            for address in self._addresses:
                if (bound := _bound(address, spec)) is not None:
                    listener.sockets.append(bound)
            if not listener.sockets:
                raise OSError(errno.EAFNOSUPPORT, "no address family to listen on")
        except OSError as error:
            self._close(listener)
            listener.detail = describe(error)
            if error.errno == errno.EADDRINUSE:
                self._ceded.add(key)
                listener.state = ListenerState.CEDED
                listener.detail = _CEDED
            else:
                listener.state = ListenerState.FAILED
                _log.warning("cannot listen", service=spec.service, reason=listener.detail)
            return listener
        for bound in listener.sockets:
            self._watch(listener, bound)
        return listener

    def _watch(self, listener: _Listener, bound: socket.socket) -> None:
        if bound in listener.sockets:  # or it was closed in the meantime
            tcp = listener.spec.transport is Transport.TCP
            ready = self._accept if tcp else self._answer_datagram
            asyncio.get_running_loop().add_reader(bound, ready, listener, bound)

    def _close(self, listener: _Listener) -> None:
        """Close the port and reset its connections, which would hold it for the next one."""
        for bound in listener.sockets:
            asyncio.get_running_loop().remove_reader(bound)
            bound.close()
        listener.sockets.clear()
        for task in listener.serving:
            task.cancel()

    def _stand_in(self, listener: _Listener) -> StandIn | None:
        """A fresh exchange; None where it takes TLS and the plan brought no certificate."""
        protocol = REGISTRY[listener.spec.protocol]
        tls = self._contexts.server if self._contexts and protocol.uses_tls else None
        if protocol.uses_tls and tls is None:
            return None
        return protocol.stand_in(Offer(listener.spec.token, tls))

    def _accept(self, listener: _Listener, bound: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, _peer = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # the connection is still there, and so would be this event
                _log.warning("cannot accept", service=listener.spec.service, reason=describe(error))
                loop = asyncio.get_running_loop()
                loop.remove_reader(bound)
                loop.call_later(_PAUSE_S, self._watch, listener, bound)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            exchange = self._stand_in(listener)
            if self._connections >= _MAX_CONNECTIONS or exchange is None:
                connection.close()
                continue
            self._connections += 1
            task = self._tasks.create_task(_serve(connection, exchange))
            listener.serving.add(task)
            task.add_done_callback(functools.partial(self._served, listener, connection, exchange))

    def _served(
        self,
        listener: _Listener,
        connection: socket.socket,
        exchange: StandIn,
        task: asyncio.Task[None],
    ) -> None:
        """Clean up here, since a task that is cancelled before it begins does not."""
        listener.serving.discard(task)
        self._connections -= 1
        exchange.close()
        connection.close()

    def _answer_datagram(self, listener: _Listener, bound: socket.socket) -> None:
        try:
            question, peer = bound.recvfrom(MAX_READ)
            answer = _last_words(self._stand_in(listener), question)
            if answer and len(answer) <= len(question):
                bound.sendto(answer, peer)
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


async def _serve(connection: socket.socket, exchange: StandIn) -> None:
    """Say what is to be said, and wait for the other side to close.

    The one who closes first keeps the TIME_WAIT, and on the service's port it would keep the
    service from starting: who does not close in time is reset.
    """
    loop = asyncio.get_running_loop()
    # Whoever came may have gone, or just sit there: nothing of theirs is kept.
    with contextlib.suppress(OSError):  # a TimeoutError is one
        async with asyncio.timeout(_CONNECTION_S):
            if last := await _converse(connection, exchange):
                await loop.sock_sendall(connection, last)
            while await loop.sock_recv(connection, MAX_READ):
                pass
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY_CLOSE)


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


def _bound(address: str, spec: ListenerSpec) -> socket.socket | None:
    """A socket that listens; None where the host lacks the address family altogether."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if spec.transport is Transport.TCP else socket.SOCK_DGRAM
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
        bound.bind((address, spec.port))
        if kind == socket.SOCK_STREAM:
            bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL and address == "::":
            return None  # the kernel has IPv6, but it is switched off
        raise
    return bound
