"""A tap: the packets of one flow as they pass this host's network interfaces (CAP_NET_RAW).

It sees what comes before the host's own firewall does, and what leaves only after it. Since
"nothing came" is the strongest thing that it can say, it is tried: shown a packet of its own
making, it must see it.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from array import array
from collections import Counter
from typing import Final

from reachmap_agent.diagnosis import packets
from reachmap_agent.diagnosis.packets import Packet
from reachmap_shared.diagnosis import BLOCK, MAX_PACKETS, PacketKind, Packets, TapState
from reachmap_shared.vocabulary import Transport

_ETH_P_ALL: Final = 3
_OUTGOING: Final = 4  # PACKET_OUTGOING
_NOT_OURS: Final = 3  # PACKET_OTHERHOST
_SOL_PACKET: Final = 263
_STATISTICS: Final = 6  # PACKET_STATISTICS
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER
_BUFFER: Final = 1 << 20
_READS_A_TURN: Final = 64
_FILTER_SIZE: Final = 8
_MAX_STRANGERS: Final = 16
"""Of other hosts' packets; they only show that more is going on."""


class Tap:
    """The packets of a flow, from now on.

    Args:
        transport: The flow's.
        port: The flow's, on the destination.
        block: The first of the source ports of the diagnosis.
        mark: The MSS that SYNs of the diagnosis announce, whatever becomes of their port.
        serves: Whether the port is this host's.
    """

    def __init__(
        self, transport: Transport, port: int, block: int, mark: int, *, serves: bool
    ) -> None:
        self._port = port
        self._block = block
        self._mark = mark
        self._serves = serves
        self._seen: Counter[tuple[bool, PacketKind, str, int, bool]] = Counter()
        self.answers: dict[tuple[str, int], Packet] = {}
        """The answers to SYNs of the diagnosis that left, by whom they were for."""
        self._missed = 0
        self._tried = False
        self._socket: socket.socket | None = None
        self._trial: socket.socket | None = None
        self._state = TapState.NONE
        if sys.platform == "linux":
            try:
                self._open(transport)
            except PermissionError:
                self._state = TapState.FORBIDDEN
                self.close()
            except OSError:
                self._state = TapState.BLIND
                self.close()

    def _open(self, transport: Transport) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
        self._state = TapState.BLIND
        self._trial = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._trial.bind(("127.0.0.1", 0))
        code = packets.program(transport, self._port, self._block, self._trial.getsockname()[1])
        kept = array("B", code)
        told = struct.pack("HP", len(code) // _FILTER_SIZE, kept.buffer_info()[0])
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, told)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with contextlib.suppress(BlockingIOError):  # what came before there was a filter
            while True:
                self._socket.recv(1)
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._trial.sendto(b"", self._trial.getsockname())

    @property
    def is_open(self) -> bool:
        """Whether it may see anything."""
        return self._socket is not None

    def tell(self) -> tuple[TapState, int, tuple[Packets, ...]]:
        """How it fares, how many packets it missed, and what it has seen."""
        if self._socket is not None:
            while self._read() == _READS_A_TURN:
                pass
            statistics = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)  # since the last time
            self._missed += struct.unpack("=II", statistics)[1]
        state = TapState.WORKS if self._tried else self._state
        ranked = sorted(self._seen.items(), key=lambda item: not item[0][-1])  # ours first
        told = tuple(Packets(*key, count) for key, count in ranked[:MAX_PACKETS])
        return state, self._missed + max(0, len(ranked) - MAX_PACKETS), told

    def close(self) -> None:
        """See no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._trial is not None:
            self._trial.close()
            self._trial = None

    def _read(self) -> int:
        """Take in some of what there is; returns how many that were."""
        assert self._socket is not None
        for number in range(_READS_A_TURN):
            try:
                data, sender = self._socket.recvfrom(packets.SNAP)
            except OSError:  # no more for now, or an interface that went down
                return number
            if sender[2] == _NOT_OURS:
                continue
            packet = packets.read(data)
            if packet is not None:
                self._note(packet, inbound=sender[2] != _OUTGOING)
        return _READS_A_TURN

    def _note(self, packet: Packet, *, inbound: bool) -> None:
        if self._trial is not None and packet.destination_port == self._trial.getsockname()[1]:
            self._tried = True
            return
        if packet.destination_port == self._port:
            client, port, service = packet.source, packet.source_port, packet.destination
        elif packet.source_port == self._port:
            client, port, service = packet.destination, packet.destination_port, packet.source
        else:
            return  # an ICMP error about something else
        ours = self._block <= port < self._block + BLOCK
        ours = ours or (packet.kind is PacketKind.SYN and packet.mss == self._mark)
        peer = client if self._serves else service
        if packet.kind is PacketKind.ICMP_ERROR and inbound:
            peer = packet.sender
        if ours and packet.kind is PacketKind.SYN_ACK and not inbound and self._serves:
            self.answers[client, port] = packet
        if not ours:
            port = 0
        key = (inbound, packet.kind, peer, port, ours)
        if not ours and key not in self._seen and self._strangers() >= _MAX_STRANGERS:
            key = (inbound, packet.kind, "", 0, False)
        self._seen[key] += 1

    def _strangers(self) -> int:
        return sum(not ours for *_, ours in self._seen)
