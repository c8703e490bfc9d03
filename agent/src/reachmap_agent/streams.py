"""Whoever connects to a listener: heard, told and let go, in the words of the port's protocol.

Idle visitors have no exchange; it is made when they speak. Those who have no place are turned away
for as little as can be when many wait: the kernel keeps only so many for us, and those for whom
there is no room try again only after a second.

TCP_DEFER_ACCEPT would leave those who say nothing in the kernel, and is not for us: they would fill
its queue of half-open connections, where a flood of them keeps the honest out, and look there like
connections whose answer was lost on its way.
"""

import asyncio
import contextlib
import ipaddress
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

if sys.platform != "win32":
    import fcntl
    import termios

from reachmap_agent.kernel import TCP_INFO, TCP_INFO_SIZE, read_tcp_info
from reachmap_agent.outcomes import describe
from reachmap_agent.places import Network, Places
from reachmap_agent.reception import ORDERLY_CLOSE, RESET_ON_CLOSE, OpenPort, Visitor, endpoint
from reachmap_agent.wire.exchange import MAX_READ, StandIn

_ACCEPTS_AT_ONCE: Final = 32
"""So that no port takes all of a turn from the others, and the clock is looked at in between."""

_PAUSE_S: Final = 1.0
"""Before accepting again when this process has run out of descriptors or memory."""

_LINUX: Final = sys.platform == "linux"

_NO_BYTES: Final = bytes(4)

_STREAM: Final = int(socket.SOCK_STREAM)
_accept: Final[Callable[[socket.socket], tuple[int, Any]]] = vars(socket.SocketType)["_accept"]
"""What `accept` calls, which then makes enums of three numbers and takes longer for that than the
kernel for its part."""


class StreamDoor:
    """A listening socket."""

    def __init__(self, port: OpenPort, bound: socket.socket) -> None:
        self.port = port
        self._bound = bound
        limits = port.reception.limits
        self._visit_s = limits.visit_s
        self._many = min(limits.idle_places + limits.talking_places, limits.backlog // 2)
        """Waiting to be accepted. Whoever takes a place then loses it to those behind it before it
        can say a word."""
        address = endpoint(bound.getsockname())
        self.local = None if ipaddress.ip_address(address[0]).is_unspecified else address
        """Where visitors come to; None where we listen everywhere, and the kernel must be asked."""

    def ready(self, until: float) -> None:
        """Accept some of those who wait.

        A few at a time, and what is said to them is sent in one go: a client that is woken by each
        of us apart costs us more than all the rest.
        """
        while time.monotonic() < until and self.port.sockets:
            hurries = self._waiting() > self._many
            entered, there_are_more = self._accept_some(hurries=hurries)
            for visitor in entered:
                visitor.stay(hurries=hurries)
            if not there_are_more:
                break

    def _accept_some(self, *, hurries: bool) -> "tuple[list[_StreamVisitor], bool]":
        """Those who have entered, and whether others may still wait.

        To greet somebody, give it a place and take it back for the next one takes five times as
        long as to accept it. So in a hurry those are turned away who would but take a place from
        one of their own network: then there is time for the others.
        """
        entered: list[_StreamVisitor] = []
        family = int(self._bound.family)
        reception = self.port.reception
        waits = False
        ends = time.monotonic() + self._visit_s
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                descriptor, peer = _accept(self._bound)
            except (BlockingIOError, InterruptedError):
                return entered, False
            except ConnectionAbortedError:
                continue
            except OSError as error:  # the connection is still there, and so would be this event
                if reception.let_go():  # that gives descriptors back
                    continue
                self._pause(error)
                return entered, False
            network = _network(peer[0])
            if (
                hurries
                and entered
                and reception.costs_a_neighbour(network, talks=not waits)
                and not (waits and _has_spoken(descriptor))
            ):
                reception.turn_away(descriptor)
                continue
            connection = socket.socket(family, _STREAM, 0, descriptor)
            visitor = _StreamVisitor(self, connection, peer, network, ends)
            entered.append(visitor)
            # Who speaks first is the same for all of these: no plan changes meanwhile.
            waits = visitor.enter(waits=waits)
        return entered, True

    def _waiting(self) -> int:
        """How many connections the kernel keeps for us, as far as it tells."""
        if not _LINUX:
            return 0
        info = read_tcp_info(self._bound.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE))
        return info.unacked if info is not None else 0

    def _pause(self, error: OSError) -> None:
        reception = self.port.reception
        reception.complain("cannot accept", reason=describe(error))
        reception.forget(self._bound)
        asyncio.get_running_loop().call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._bound in self.port.sockets:  # or it was closed in the meantime
            try:
                self.port.reception.watch(self._bound, self)
            except OSError as error:  # a watcher needs a descriptor too
                self._pause(error)


class _StreamVisitor:
    """One connection, from when it is accepted until it is closed."""

    __slots__ = (
        "_connection",
        "_door",
        "_exchange",
        "_heard",
        "_is_told",
        "_peer",
        "_reception",
        "_talks",
        "_unsent",
        "network",
        "places",
        "until",
    )

    def __init__(
        self,
        door: StreamDoor,
        connection: socket.socket,
        peer: Any,
        network: Network,
        until: float,
    ) -> None:
        self._door = door
        self._reception = door.port.reception
        self._connection: socket.socket | None = connection
        self._peer = peer
        self._exchange: StandIn | None = None
        """While it is in conversation."""
        self._heard = 0
        self._unsent = b""
        self._is_told = False
        """Whether all that there is to say has been said."""
        self.network = network
        self.places: Places[Visitor] | None = None
        """Those among which it has one."""
        self._talks: bool | None = None
        self.until = until
        door.port.visitors.add(self)

    def enter(self, *, waits: bool) -> bool:
        """Find the first words, or hear the visitor's; returns whether it is for it to begin.

        `waits` tells that this is known already: then an exchange is made only if it has spoken.
        """
        assert self._connection is not None
        self._connection.setblocking(False)
        if not _LINUX:  # there it has it from the listening socket
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        waits = waits or self._begin()
        if waits:
            self._hear()  # most have spoken by now, and many need no more than this
            if not self._heard:
                self._exchange = None
        return waits

    def stay(self, *, hurries: bool) -> None:
        """Be told the first words, and stay.

        Not if all is said with them, and in a hurry a neighbour would have to make room: Linux lets
        a visitor read what came before a reset.
        """
        self._flush()
        if (
            hurries
            and self._is_told
            and self._reception.costs_a_neighbour(self.network, talks=False)
        ):
            self.end()
            return
        self._settle()
        if self._connection is not None:
            try:
                self._reception.watch(self._connection, self)
            except OSError:  # no memory for one more
                self.end()

    def ready(self, _until: float) -> None:
        """Read once."""
        self._hear()
        self._flush()
        self._settle()

    def end(self, *, in_order: bool = False, silently: bool = False) -> None:
        """Close the connection: by a reset, unless the visitor has closed it first.

        Who closes first keeps the TIME_WAIT, and on the service's port it would keep the service
        from starting.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._reception.forget(connection)
        if self.places is not None:
            self.places.remove(self)
        self._door.port.visitors.discard(self)
        if in_order:
            with contextlib.suppress(OSError):  # it may be broken
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ORDERLY_CLOSE)
                if _LINUX:
                    farewell_ms = round(self._reception.limits.farewell_s * 1000)
                    # Or one that never acknowledges would hold the port for minutes, in LAST_ACK.
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, farewell_ms)
        exchange, self._exchange = self._exchange, None
        try:
            connection.close()
            if exchange is not None:
                exchange.close()
            if self._is_told and not silently:
                self._door.port.answered()
        except Exception as error:  # noqa: BLE001  the other visitors must be served
            self._reception.complain("a visit did not end well", error=repr(error))

    def _settle(self) -> None:
        """Take the place that is right for what it does."""
        talks = self._exchange is not None
        if self._connection is not None and talks is not self._talks:
            self._talks = talks
            self._reception.seat(self, talks=talks)

    def _begin(self) -> bool:
        """Make its exchange, which may have something to say; returns whether it waits instead."""
        assert self._connection is not None
        try:
            local = self._door.local or endpoint(self._connection.getsockname())
            self._exchange = self._door.port.make_stand_in(local, endpoint(self._peer))
        except Exception as error:  # noqa: BLE001  a mistake of ours is no reason to end
            self._reception.complain("a stand-in failed", error=repr(error))
        if self._exchange is None:
            self.end()
            return False
        return self._advance(self._exchange.__next__) and not self._unsent

    def _hear(self) -> None:
        if self._connection is None:
            return
        try:
            chunk = self._connection.recv(MAX_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.end()
            return
        self._heard += len(chunk)
        if self._heard > self._reception.limits.heard_bytes:
            self.end()
            return
        if self._exchange is None and chunk and not self._is_told:
            self._begin()
        if self._exchange is not None:
            self._advance(self._exchange.send, chunk)
        if not chunk:
            self._flush()
            self.end(in_order=True)

    def _advance(self, step: Callable[..., bytes], *arguments: bytes) -> bool:
        """Let the exchange go on until it waits for more; returns whether it does, or has ended."""
        try:
            self._unsent += step(*arguments)
        except StopIteration as stop:
            self._exchange = None
            if stop.value:
                self._unsent += stop.value
                self._is_told = True
            elif arguments != (b"",):  # there is nothing to be said to such a one
                self.end()
        except Exception as error:  # noqa: BLE001  nor is a protocol's
            self._reception.complain("a stand-in failed", error=repr(error))
            self.end()
        else:
            return True
        return False

    def _flush(self) -> None:
        """Send it whole or give up: it is always less than a socket takes from one who reads."""
        if not self._unsent or self._connection is None:
            return
        words, self._unsent = self._unsent, b""
        try:
            if self._connection.send(words) == len(words):
                return
        except OSError:  # it has gone, or does not read
            pass
        self._is_told = False
        self.end()


def _network(host: str) -> Network:
    """Whose neighbours somebody with this address has."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
    return host


def _has_spoken(descriptor: int) -> bool:
    """Whether a visitor's first words are here already. Linux."""
    return fcntl.ioctl(descriptor, termios.FIONREAD, _NO_BYTES) != _NO_BYTES
