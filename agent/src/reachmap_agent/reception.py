"""Whoever comes to a listener is received here: bounded in number, time, words and work.

A visitor is either idle (it has said nothing yet, or has been told all) or in conversation. Of each
kind only so many have a place, and a newcomer gets that of whoever has had it for longest: so
strangers who sit there cost no more than the places, and keep nobody out, for an honest visitor
speaks at once, is told all within its first moments, and leaves. How visitors are served is not
known here: see `reachmap_agent.streams` and `reachmap_agent.datagrams`.

The listening sockets and the visitors hang in an epoll instance of their own, which asyncio's loop
watches, and of which only a little is served in one turn: however many come, the checks run on.
"""

import asyncio
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from reachmap_agent import descriptors
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.places import Network, Places
from reachmap_agent.watcher import Watched, Watcher, best_watcher
from reachmap_agent.wire.exchange import StandIn
from reachmap_agent.wire.proof import Endpoint
from reachmap_shared import log
from reachmap_shared.vocabulary import Transport

_TICK_S: Final = 0.25
"""How often those are looked for whose time is up: one timer for all."""

_LEAVE_AT_ONCE: Final = 64
"""Of those who were turned away: well under a millisecond's work."""

_LOG_EVERY_S: Final = 60.0
"""Of what strangers can make happen as often as they like, one line in this time."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
ORDERLY_CLOSE: Final = struct.pack("ii", 0, 0)
"""SO_LINGER (socket(7)): what is reset leaves nothing behind, and nothing on the service's port."""

Door = Callable[["OpenPort", socket.socket], Watched]
"""Makes of a port's socket what serves those who come there."""

_log = log.get("reception")


class Visitor(Protocol):
    """Whoever takes a place."""

    places: "Places[Visitor] | None"
    """Those among which it has one."""

    @property
    def network(self) -> Network:
        """Where it comes from."""

    @property
    def until(self) -> float:
        """When its time is up, on the monotonic clock."""

    def end(self, *, silently: bool = False) -> None:
        """Turn it away; silently, where nobody is to be told that it was served."""


class Reception:
    """Receives whoever comes, on all ports of one agent."""

    def __init__(self, limits: ListenerLimits) -> None:
        self.limits = limits
        self._watcher: Watcher | None = None
        self._watched: dict[int, Watched] = {}
        of_one = limits.places_of_one_network
        self._idle: Places[Visitor] = Places(limits.idle_places, of_one)
        self._talking: Places[Visitor] = Places(limits.talking_places, of_one)
        self._leaving: list[int] = []
        """Descriptors of connections that are only to be reset."""
        self._most_leaving = 0
        self._letting_go = False
        self._tick: asyncio.TimerHandle | None = None
        self._complained: dict[str, float] = {}

    @property
    def connections(self) -> int:
        """How many visitors there are."""
        return len(self._idle) + len(self._talking)

    def watch(self, bound: socket.socket, watched: Watched) -> None:
        """Tell `watched` whenever there is something to read."""
        if self._watcher is None:
            self._watcher = best_watcher(asyncio.get_running_loop(), self._watched)
        descriptor = bound.fileno()
        try:
            self._watcher.add(descriptor)
        except OSError:
            self._close_if_unused()
            raise
        self._watched[descriptor] = watched

    def forget(self, bound: socket.socket) -> None:
        """Watch it no more; nothing happens if it was not watched."""
        descriptor = bound.fileno()
        if self._watched.pop(descriptor, None) is not None and self._watcher is not None:
            self._watcher.remove(descriptor)
            if not self._watched:
                self._close_if_unused()

    def seat(self, visitor: Visitor, *, talks: bool) -> None:
        """Give it a place of the kind that it needs from now on; another may have to make room."""
        if visitor.places is not None:
            visitor.places.remove(visitor)
        visitor.places = self._talking if talks else self._idle
        if (gone := visitor.places.add(visitor)) is not None:
            self.turned_away()
            gone.end()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._expire)

    def costs_a_neighbour(self, network: Network, *, talks: bool) -> bool:
        """Whether a newcomer from this network would take the place of another one from there."""
        return (self._talking if talks else self._idle).costs_a_neighbour(network)

    def turn_away(self, descriptor: int) -> None:
        """Reset a connection that was only just accepted, soon: others wait to be accepted."""
        if not self._letting_go:
            self._letting_go = True
            self._most_leaving = self._room_to_leave()
            asyncio.get_running_loop().call_soon(self._let_some_go)
        if len(self._leaving) < self._most_leaving:
            self._leaving.append(descriptor)
        else:
            os.close(descriptor)
        self.turned_away()

    def let_go(self, count: int | None = None) -> bool:
        """Reset those who were turned away: so many, or all. Returns whether there was any."""
        gone = self._leaving[:count]
        del self._leaving[:count]
        for descriptor in gone:
            os.close(descriptor)
        return bool(gone)

    def turned_away(self) -> None:
        """Somebody has no place, for others have come: worth a line."""
        self.complain("more visitors than places: some are turned away")

    def complain(self, what: str, **facts: object) -> None:
        """Log it, unless that was done a short while ago."""
        now = time.monotonic()
        if now - self._complained.get(what, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._complained[what] = now
            _log.warning(what, **facts)

    def _room_to_leave(self) -> int:
        """How many may be on their way out, so that descriptors never run out."""
        others = descriptors.FOR_CHECKS + descriptors.KEPT + self.limits.descriptors
        return max(0, min(self.limits.leaving, descriptors.allowed() - others))

    def _let_some_go(self) -> None:
        self.let_go(_LEAVE_AT_ONCE)
        self._letting_go = bool(self._leaving)
        if self._letting_go:
            asyncio.get_running_loop().call_soon(self._let_some_go)

    def _close_if_unused(self) -> None:
        if self._watcher is not None and not self._watched:
            self._watcher.close()
            self._watcher = None

    def _expire(self) -> None:
        """Reset those whose time is up."""
        now = time.monotonic()
        for visitor in (*self._idle, *self._talking):
            if visitor.until <= now:
                visitor.end()
        loop = asyncio.get_running_loop()
        self._tick = loop.call_later(_TICK_S, self._expire) if self.connections else None


class OpenPort:
    """A port that is listened on.

    Args:
        addresses: Where to bind.
        door: For each of its sockets.
        make_stand_in: Makes an exchange for a visitor, of its own end's address and the visitor's;
            None where there is none to be had. Of a UDP socket on every address the own one may be
            empty, where the system does not tell it. For a visitor that takes its time it is called
            twice: once to see who speaks first, and again when it has spoken.
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
        door: Door,
        make_stand_in: Callable[[Endpoint, Endpoint], StandIn | None],
        answered: Callable[[], None],
    ) -> None:
        self.reception = reception
        self.make_stand_in = make_stand_in
        self.answered = answered
        self.sockets: list[socket.socket] = []
        self.visitors: set[Visitor] = set()
        backlog = reception.limits.backlog
        try:
            for address in addresses:
                if (bound := _bound(address, port, transport, backlog)) is not None:
                    self.sockets.append(bound)
            if not self.sockets:
                raise OSError(errno.EAFNOSUPPORT, "no address family to listen on")
            for bound in self.sockets:
                reception.watch(bound, door(self, bound))
        except OSError:
            self.close()
            raise

    @property
    def is_busy(self) -> bool:
        """Whether somebody is being served."""
        return bool(self.visitors)

    def close(self) -> None:
        """Close the port and reset its connections, which would hold it for the next one."""
        for bound in self.sockets:
            self.reception.forget(bound)
            bound.close()
        self.sockets.clear()
        self.reception.let_go()
        for visitor in tuple(self.visitors):
            visitor.end(silently=True)


def endpoint(address: Any) -> Endpoint:
    """Of a socket's address: without zone or prefix it is the same text for all who look at it."""
    host = address[0].partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host, address[1]


def _bound(address: str, port: int, transport: Transport, backlog: int) -> socket.socket | None:
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
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            bound.listen(backlog)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL and address == "::":
            return None  # the kernel has IPv6, but it is switched off
        raise
    return bound
