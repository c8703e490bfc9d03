"""Whoever connects to a port of the agent's, and what is left of it in the kernel."""

import asyncio
import socket
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
LISTENS, ESTABLISHED, TIME_WAIT = "0A", "01", "06"
"""States of a TCP socket, as the kernel writes them."""


async def connect(port: int, address: str = LOOPBACK) -> socket.socket:
    """A connection that the test looks after."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def heard(connection: socket.socket) -> bytes | None:
    """All that comes until the end in good order; None where that is a reset."""
    words = b""
    try:
        async with asyncio.timeout(15):
            while chunk := await asyncio.get_running_loop().sock_recv(connection, 100_000):
                words += chunk
    except (ConnectionResetError, BrokenPipeError):
        return None
    return words


def is_reset(connection: socket.socket) -> bool:
    """Whether it has ended, as far as can be seen without waiting."""
    try:
        return not connection.recv(100_000)
    except BlockingIOError:
        return False
    except OSError:
        return True


def asked(wire: Any) -> bytes:
    """What an honest check says to an HTTP server."""
    return b"GET / HTTP/1.1\r\nReachmap-Challenge: " + wire.challenge().text + b"\r\n\r\n"


def kernel_states(port: int) -> list[str]:
    """The states of the kernel's TCP sockets with this local port."""
    return [
        state
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
        for local, _, state in [line.split()[1:4]]
        if int(local.rpartition(":")[2], 16) == port
    ]
