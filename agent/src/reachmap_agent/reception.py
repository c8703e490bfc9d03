"""Whoever connects to a listener is received here: bounded in number, time, words and work.

A visitor is either idle (it has said nothing yet, or has been told all) or in conversation. Of each
kind only so many have a place, and a newcomer gets that of whoever has had it for longest: so
strangers who sit there cost no more than the places, and keep nobody out, for an honest visitor
speaks at once, is told all within its first moments, and leaves. When
a network has many of them, it is one of its own that makes room: a flood from a few addresses takes
nothing from the others.
Idle ones have no exchange; it is made when they speak.

The listening sockets and the visitors hang in an epoll instance of their own, which asyncio's loop
watches, and of which only a little is served in one turn: however many come, the checks run on.

TCP_DEFER_ACCEPT would leave those who say nothing in the kernel, and is not for us: they would fill
its queue of half-open connections, where a flood of them keeps the honest out, and look there like
connections whose answer was lost on its way.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from reachmap_agent.kernel import TCP_INFO, TCP_INFO_SIZE, read_tcp_info
from reachmap_agent.outcomes import describe
from reachmap_agent.watcher import Watched, Watcher, best_watcher
from reachmap_agent.wire.exchange import MAX_READ, StandIn
from reachmap_agent.wire.proof import Endpoint
from reachmap_shared import log
from reachmap_shared.vocabulary import Transport

_BACKLOG: Final = 4096
"""Connections that the kernel keeps for us (it may allow fewer): a burst beyond it loses SYNs, and
those who sent them try again only after a second."""

_MAX_IDLE: Final = 128
_MAX_TALKING: Final = 128
"""Visitors at once, over all listeners; `checks` leaves descriptors for both. One that is idle
costs a socket; one that talks may cost a TLS session, some 50 KB."""

_MAX_OF_ONE: Final = 8
"""Places of a kind that one network may have when all are taken: an address, or with IPv6 the 64
bits that one subscriber has at least. Many agents may be behind one address, so it is not 1."""

_VISIT_S: Final = 5.0
"""For one visit: longer than any check, short for a stranger who only sits there."""

_TICK_S: Final = 0.25
"""How often those are looked for whose time is up: one timer for all."""

_MAX_HEARD: Final = 2 * MAX_READ
"""Bytes of one visitor; our checks say less than 2 KB, inside TLS too."""

_ACCEPTS_AT_ONCE: Final = 32
_DATAGRAMS_A_TURN: Final = 64
"""So that no port takes all of a turn from the others, and the clock is looked at in between."""

_MANY_WAIT: Final = _BACKLOG // 4
"""To be accepted. Then those who were told all at once are not given a place besides: Linux lets
them read what came before a reset, and it is better than that others are lost."""

_PAUSE_S: Final = 1.0
"""Before accepting again when this process has run out of descriptors or memory."""

_LOG_EVERY_S: Final = 60.0
"""Of what strangers can make happen as often as they like, one line in this time."""

_LINUX: Final = sys.platform == "linux"

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_ORDERLY_CLOSE: Final = struct.pack("ii", 0, 0)
"""SO_LINGER (socket(7)): what is reset leaves nothing behind, and nothing on the service's port."""

_STREAM: Final = int(socket.SOCK_STREAM)
_accept: Final[Callable[[socket.socket], tuple[int, Any]]] = vars(socket.SocketType)["_accept"]
"""What `accept` calls, which then makes enums of three numbers and takes longer for that than the
kernel for its part."""

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_PKTINFO: Final = struct.Struct("=i4s4s")
"""struct in_pktinfo (ip(7)): interface, our own address for answers, address in the header."""
_PKTINFO6: Final = struct.Struct("=16sI")
"""struct in6_pktinfo (ipv6(7)): address in the header, interface."""

_log = log.get("reception")


class Reception:
    """Receives whoever connects, on all ports of one agent."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._watched: dict[int, Watched] = {}
        self._idle = _Places(_MAX_IDLE)
        self._talking = _Places(_MAX_TALKING)
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

    def seat(self, visitor: "_Visitor", *, talks: bool) -> None:
        """Give it a place of the kind that it needs from now on; another may have to make room."""
        if visitor.places is not None:
            visitor.places.remove(visitor)
        visitor.places = self._talking if talks else self._idle
        if (gone := visitor.places.add(visitor)) is not None:
            self.complain("more visitors than places: the oldest are turned away")
            gone.end()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._expire)

    def complain(self, what: str, **facts: object) -> None:
        """Log it, unless that was done a short while ago."""
        now = time.monotonic()
        if now - self._complained.get(what, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._complained[what] = now
            _log.warning(what, **facts)

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


class _Places:
    """A number of visitors, in the order in which they came here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._all: dict[_Visitor, None] = {}
        self._by_network: dict[str | bytes, dict[_Visitor, None]] = {}
        self._crowds: dict[str | bytes, None] = {}
        """Networks with more places than one may have when all are taken."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> "Iterator[_Visitor]":
        return iter(self._all)

    def add(self, visitor: "_Visitor") -> "_Visitor | None":
        """Give it a place; returns who has to make room, if anybody has."""
        network = visitor.network
        self._all[visitor] = None
        neighbours = self._by_network.get(network)
        if neighbours is None:
            neighbours = self._by_network[network] = {}
        neighbours[visitor] = None
        crowded = len(neighbours) > _MAX_OF_ONE
        if crowded:
            self._crowds[network] = None
        if len(self._all) <= self._limit:
            return None
        if not crowded:
            crowd = next(iter(self._crowds), None)
            neighbours = self._all if crowd is None else self._by_network[crowd]
        return next(iter(neighbours))

    def remove(self, visitor: "_Visitor") -> None:
        """Take its place."""
        network = visitor.network
        del self._all[visitor]
        neighbours = self._by_network[network]
        del neighbours[visitor]
        if len(neighbours) <= _MAX_OF_ONE:
            self._crowds.pop(network, None)
            if not neighbours:
                del self._by_network[network]


class OpenPort:
    """A port that is listened on.

    Args:
        addresses: Where to bind.
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
        make_stand_in: Callable[[Endpoint, Endpoint], StandIn | None],
        answered: Callable[[], None],
    ) -> None:
        self.reception = reception
        self.make_stand_in = make_stand_in
        self.answered = answered
        self.sockets: list[socket.socket] = []
        self.visitors: set[_Visitor] = set()
        try:
            for address in addresses:
                if (bound := _bound(address, port, transport)) is not None:
                    self.sockets.append(bound)
            if not self.sockets:
                raise OSError(errno.EAFNOSUPPORT, "no address family to listen on")
            for bound in self.sockets:
                door = _TcpDoor if transport is Transport.TCP else _UdpDoor
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
        for visitor in tuple(self.visitors):
            visitor.end(silently=True)


class _TcpDoor:
    """A listening socket."""

    def __init__(self, port: OpenPort, bound: socket.socket) -> None:
        self.port = port
        self._bound = bound
        address = _endpoint(bound.getsockname())
        self.local = None if ipaddress.ip_address(address[0]).is_unspecified else address
        """Where visitors come to; None where we listen everywhere, and the kernel must be asked."""

    def ready(self, until: float) -> None:
        """Accept some of those who wait.

        A few at a time, and what is said to them is sent in one go: a client that is woken by each
        of us apart costs us more than all the rest.
        """
        hurries = self._waiting() > _MANY_WAIT
        while time.monotonic() < until and self.port.sockets:
            entered = self._accept_some()
            for visitor in entered:
                visitor.stay(hurries=hurries)
            if len(entered) < _ACCEPTS_AT_ONCE:
                break

    def _accept_some(self) -> "list[_Visitor]":
        entered: list[_Visitor] = []
        family = int(self._bound.family)
        waits = False
        ends = time.monotonic() + _VISIT_S
        while len(entered) < _ACCEPTS_AT_ONCE:
            try:
                descriptor, peer = _accept(self._bound)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionAbortedError:
                continue
            except OSError as error:  # the connection is still there, and so would be this event
                self._pause(error)
                break
            connection = socket.socket(family, _STREAM, 0, descriptor)
            visitor = _Visitor(self, connection, peer, ends)
            entered.append(visitor)
            # Who speaks first is the same for all of these: no plan changes meanwhile.
            waits = visitor.enter(waits=waits)
        return entered

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


class _Visitor:
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

    def __init__(self, door: _TcpDoor, connection: socket.socket, peer: Any, until: float) -> None:
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
        host = peer[0]
        self.network: str | bytes = host
        if ":" in host:
            self.network = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
        self.places: _Places | None = None
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
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        waits = waits or self._begin()
        if waits:
            self._hear()  # most have spoken by now, and many need no more than this
            if not self._heard:
                self._exchange = None
        return waits

    def stay(self, *, hurries: bool) -> None:
        """Be told the first words, and stay; not if it `hurries` and all is said with them."""
        self._flush()
        if hurries and self._is_told:
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
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY_CLOSE)
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
            local = self._door.local or _endpoint(self._connection.getsockname())
            self._exchange = self._door.port.make_stand_in(local, _endpoint(self._peer))
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
        if self._heard > _MAX_HEARD:
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


class _UdpDoor:
    """A socket for datagrams."""

    def __init__(self, port: OpenPort, bound: socket.socket) -> None:
        self._port = port
        self._bound = bound
        self._local = _endpoint(bound.getsockname())
        self._is_everywhere = ipaddress.ip_address(self._local[0]).is_unspecified
        if self._is_everywhere:
            self._local = ("", self._local[1])
            if _LINUX and bound.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            elif _LINUX:
                bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def ready(self, until: float) -> None:
        """Answer some of the datagrams that came."""
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                self._answer()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # a datagram that cannot be read or answered is lost, as datagrams are
            if time.monotonic() >= until or not self._port.sockets:
                return

    def _answer(self) -> None:
        """Answer one, from the address that was asked, with no more than was sent."""
        local, source = self._local, None
        if self._is_everywhere and _LINUX:
            question, ancillary, _, peer = self._bound.recvmsg(MAX_READ, 64)
            if ancillary:
                asked, source = _asked(*ancillary[0])
                if source is None:
                    return
                local = asked, local[1]
        else:
            question, peer = self._bound.recvfrom(MAX_READ)
        answer = self._last_words(local, _endpoint(peer), question)
        if not answer or len(answer) > len(question):
            return
        if source is None:
            self._bound.sendto(answer, peer)
        else:
            self._bound.sendmsg([answer], [source], 0, peer)
        self._port.answered()

    def _last_words(self, local: Endpoint, peer: Endpoint, question: bytes) -> bytes:
        try:
            exchange = self._port.make_stand_in(local, peer)
            if exchange is not None:
                next(exchange)
                exchange.send(question)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped here
        except Exception as error:  # noqa: BLE001  a protocol's mistake is no reason to end
            self._port.reception.complain("a stand-in failed", error=repr(error))
        return b""


def _asked(level: int, kind: int, data: bytes) -> tuple[str, tuple[int, int, bytes] | None]:
    """From what recvmsg tells besides: the address that was asked, and how to answer from it.

    A question to many, by broadcast or multicast, has no such address: many would answer it.
    """
    if level == socket.IPPROTO_IPV6:
        packed, interface = _PKTINFO6.unpack(data)
        address = ipaddress.IPv6Address(packed)
        # Only a link-local address says nothing without its interface; else the routes choose it.
        info = _PKTINFO6.pack(packed, interface if address.is_link_local else 0)
        return str(address), None if address.is_multicast else (level, _IPV6_PKTINFO, info)
    _, own, asked = _PKTINFO.unpack(data)
    info = _PKTINFO.pack(0, own, bytes(4))
    return socket.inet_ntoa(asked), (level, _IP_PKTINFO, info) if own == asked else None


def _endpoint(address: Any) -> Endpoint:
    host = address[0].partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host, address[1]


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
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL and address == "::":
            return None  # the kernel has IPv6, but it is switched off
        raise
    return bound
