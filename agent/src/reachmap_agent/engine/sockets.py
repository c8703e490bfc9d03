"""The sockets under the checks: how they are made, asked, left, and handed on.

To make a socket, watch it and close it costs as much as the connection. So on Linux one whose check
left nothing behind is not closed before that check's end is told: a check that starts just then
takes it over. None is kept for later, when its news would wake the loop for nothing.

What the kernel keeps of a connection must not reach the next one. To connect to nowhere (AF_UNSPEC,
connect(2)) takes back state, counters, buffers and source address, and sends RST where one is due.
It takes back neither the link that a link-local address binds to, nor the turn of an IPv6 socket to
IPv4: after such addresses nothing is handed on. Nor does it empty the error queue: what is in there
is held against the source port of now.
"""

import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.ends import REFUSED
from reachmap_agent.kernel import (
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_IP,
    SOL_IPV6,
    TCP_CLOSE,
    TCP_INFO,
    TCP_INFO_SIZE,
    Icmp,
    forgets_connections,
    read_icmp,
)
from reachmap_agent.wire.exchange import MAX_READ
from reachmap_shared.vocabulary import Transport

LINUX: Final = sys.platform == "linux"

HANDS_ON: Final = LINUX and forgets_connections(os.uname().release)

READS_A_TURN: Final = 16
"""So that one who never stops talking does not keep the loop from everybody else."""

_CLOSED: Final = bytes((TCP_CLOSE,))

_ERRORS_LOOKED_AT: Final = 8
"""Messages of one error queue: the network's own word may stand behind one of this host's."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for no time: close sends RST, and no TIME_WAIT is left (socket(7))."""

_NON_BLOCKING: Final[int] = getattr(socket, "SOCK_NONBLOCK", 0)
"""Nothing where a socket cannot be made so from the start."""

# Numbers and members by names of our own: looking up an enum's costs more than what is done by it.
_TCP: Final = Transport.TCP
_IPV4: Final = int(socket.AF_INET)
_IPV6: Final = int(socket.AF_INET6)
_STREAM: Final = int(socket.SOCK_STREAM) | _NON_BLOCKING
_DATAGRAM: Final = int(socket.SOCK_DGRAM) | _NON_BLOCKING


class Sockets:
    """Makes them, and hands one on from a check that ended to the one that starts at once."""

    def __init__(self) -> None:
        self._spare: socket.SocketType | None = None
        self._left_by: Attempt | None = None
        """The check that had it."""

    def take(self, attempt: Attempt) -> bool:
        """Give a check its socket; whether it was another's before, and is watched already."""
        family = _IPV6 if ":" in attempt.address[0] else _IPV4
        is_stream = attempt.transport is _TCP
        spare, by = self._spare, self._left_by
        if spare is not None and by is not None and is_stream and spare.family == family:
            self._spare = None
            if _renew(spare):
                attempt.connection = spare
                return True
            _close(spare, by)
        # The plain type under socket.socket: it is made non-blocking, and closed, in one call each.
        attempt.connection = made = socket.SocketType(family, _STREAM if is_stream else _DATAGRAM)
        if not _NON_BLOCKING:
            made.setblocking(False)
        if LINUX:
            receive_errors(made)
        return False

    def leave(self, attempt: Attempt, farewell: bytes, *, clean: bool) -> None:
        """Let go of a check's socket, with a last word if there is one.

        Args:
            attempt: The check that had it.
            farewell: What is still to be sent.
            clean: Whether nothing happened to it that another check could ever hear of.
        """
        connection, attempt.connection = attempt.connection, None
        if connection is None:
            return
        if clean and HANDS_ON and _plain(attempt):
            self._spare, self._left_by = connection, attempt
        else:
            _close(connection, attempt, farewell)

    def drop(self) -> None:
        """The end was told: close what nobody took."""
        if self._spare is not None and self._left_by is not None:
            spare, self._spare = self._spare, None
            _close(spare, self._left_by)


def receive_errors(connection: socket.SocketType) -> None:
    """Have the kernel tell of ICMP errors, and keep them in the error queue (ip(7), IP_RECVERR)."""
    if connection.family == _IPV6:
        connection.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
    else:
        connection.setsockopt(SOL_IP, IP_RECVERR, 1)


def tcp_info(connection: socket.SocketType) -> bytes:
    """The kernel's struct tcp_info; nothing where it gives none."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_SIZE)
    except OSError:
        return b""


def icmp_error(attempt: Attempt) -> Icmp | None:
    """The ICMP error about a packet of this check's, if there is one."""
    if attempt.connection is None or attempt.own is None:  # then nothing was sent
        return None
    # A message about TCP begins with the header of what was sent, and that with its source port.
    own = attempt.own[1].to_bytes(2) if attempt.transport is _TCP else b""
    for _ in range(_ERRORS_LOOKED_AT):
        try:
            packet, ancillary, _, _ = attempt.connection.recvmsg(2, 512, socket.MSG_ERRQUEUE)
        except OSError:  # nothing is queued: it was no ICMP error
            return None
        if packet.startswith(own) and (icmp := read_icmp(ancillary)) is not None:
            return icmp
    return None


def has_peer(connection: socket.SocketType) -> bool:
    """Whether a connection is made."""
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def lives_on(connection: socket.SocketType) -> bool:
    """Whether an error of a connection that was made is no more than a hint.

    TCP goes on whatever ICMP says (RFC 1122, 4.2.3.9), but whoever wants to be told of errors is
    told once of each, by the next call that could have one.
    """
    return LINUX and tcp_info(connection)[:1] not in (b"", _CLOSED)


def met_itself(connection: socket.SocketType) -> bool:
    """Whether both ends of a connection are one."""
    try:
        return bool(connection.getpeername() == connection.getsockname())
    except OSError:
        return False


def _plain(attempt: Attempt) -> bool:
    """Whether connecting to a check's address changed nothing about the socket for good."""
    if len(attempt.own) == 2:
        return True
    # A link is named behind a percent sign or by its number; IPv4 within IPv6 is written with dots.
    names_link = "%" in attempt.address[0] or any(attempt.address[2:])
    return not (names_link or "." in attempt.own[0])


def _renew(spare: socket.SocketType) -> bool:
    """Make a socket as good as new, if that can be."""
    # SO_ERROR tells, and takes back, also what would only be told when the kernel's time is up.
    return not (
        spare.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _disconnect()(spare.fileno())
    )


def _close(connection: socket.SocketType, attempt: Attempt, farewell: bytes = b"") -> None:
    try:
        # What was refused is closed on both sides: there is nobody to take leave of.
        if attempt.transport is _TCP and attempt.verdict is not REFUSED:
            _take_leave(connection, attempt, farewell)
    except OSError:  # it may be broken
        pass
    try:  # noqa: SIM105  suppress() costs as much as closing does
        connection.close()
    except OSError:  # what became of the connection; the descriptor is free all the same
        pass


def _take_leave(connection: socket.SocketType, attempt: Attempt, farewell: bytes) -> None:
    if attempt.reset and not farewell:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return
    if farewell:
        connection.send(attempt.unsent + farewell)
    # Closing with something unread sends RST, before the other side has heard our last words.
    for _ in range(READS_A_TURN):
        if not connection.recv(MAX_READ):
            break


@functools.cache
def _disconnect() -> Callable[[int], int]:
    """Connects a descriptor to nowhere; not nothing when that fails.

    The socket module cannot: an address of its is one of the socket's family.
    """
    try:
        import ctypes

        connect = ctypes.PyDLL(None).connect  # it does not block, so it may keep the GIL
        nowhere = ctypes.create_string_buffer(16)  # struct sockaddr; AF_UNSPEC is 0
        address = ctypes.byref(nowhere)
    except (ImportError, AttributeError, OSError):  # a Python without libffi
        return lambda _: errno.ENOSYS
    return lambda descriptor: int(connect(descriptor, address, 16))
