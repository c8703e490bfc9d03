"""One check under way, and afterwards what became of it."""

import socket
from collections.abc import Callable
from typing import Any

from reachmap_agent.kernel import Icmp, TcpInfo, nothing_lost, read_tcp_info, smoothed_rtt_us
from reachmap_agent.wire.exchange import Exchange, Verdict
from reachmap_shared.vocabulary import Transport


class Attempt:
    """One check under way, and afterwards what became of it. Times are time.monotonic_ns()."""

    __slots__ = (
        "_info",
        "address",
        "at_once",
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
        "sent",
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
        self.at_once = False
        """Whether the first SYN was answered, by whom ever, and TCP sent nothing twice."""
        self.unsent = b""
        self.sent = 0
        """Bytes that the kernel took."""
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
        if nothing_lost(self.tcp_info) and (rtt_us := smoothed_rtt_us(self.tcp_info)):
            return rtt_us
        return (self.connected_ns - self.started_ns) // 1000

    @property
    def went_smoothly(self) -> bool:
        """Whether its verdict says all that there is to say of it."""
        verdict = self.verdict
        return (
            self.connected_ns > 0
            and self.icmp is None
            and not self.lost_syns
            and verdict is not None
            and verdict.reached is None
        )

    @property
    def lost_syns(self) -> int:
        """How often it had to knock again."""
        if nothing_lost(self.tcp_info) or self.info is None:
            return 0
        return self.info.retransmits
