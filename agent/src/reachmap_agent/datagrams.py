"""Whoever sends a datagram is answered from the address that was asked, with no more than it sent.

So a forged source address makes a listener no weapon; and a question to many gets no answer.
"""

import ipaddress
import socket
import struct
import sys
import time
from typing import Final

from reachmap_agent.reception import OpenPort, endpoint
from reachmap_agent.wire.exchange import MAX_READ
from reachmap_agent.wire.proof import Endpoint

_A_TURN: Final = 64
"""So that no port takes all of a turn from the others, and the clock is looked at in between."""

_LINUX: Final = sys.platform == "linux"

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_PKTINFO: Final = struct.Struct("=i4s4s")
"""struct in_pktinfo (ip(7)): interface, our own address for answers, address in the header."""
_PKTINFO6: Final = struct.Struct("=16sI")
"""struct in6_pktinfo (ipv6(7)): address in the header, interface."""


class DatagramDoor:
    """A socket for datagrams."""

    def __init__(self, port: OpenPort, bound: socket.socket) -> None:
        self._port = port
        self._bound = bound
        self._local = endpoint(bound.getsockname())
        self._is_everywhere = ipaddress.ip_address(self._local[0]).is_unspecified
        if self._is_everywhere:
            self._local = ("", self._local[1])
            if _LINUX and bound.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            elif _LINUX:
                bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def ready(self, until: float) -> None:
        """Answer some of the datagrams that came."""
        for _ in range(_A_TURN):
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
        answer = self._last_words(local, endpoint(peer), question)
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
