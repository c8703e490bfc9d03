"""Sockets of every temper on loopback, and an engine that is looked over when a test is done."""

import asyncio
import contextlib
import gc
import os
import resource
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.engine.poller import EpollPoller, LoopPoller
from reachmap_agent.wire.exchange import Exchange
from reachmap_shared.vocabulary import Transport

POLLERS = [
    pytest.param(
        EpollPoller,
        id="epoll",
        marks=pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's"),
    ),
    pytest.param(LoopPoller, id="loop"),
]

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: close sends RST."""


HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)]


class Bench:
    """An engine with all that a test wants to know about it.

    `told` counts how often each attempt's end was told: once is right.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: dict[int, int] = {}
        self._keep: list[Attempt] = []

    def start(
        self,
        address: Any,
        exchange: Exchange | None = None,
        *,
        timeout_s: float = 5.0,
        patience_s: float | None = None,
        transport: Transport = Transport.TCP,
        reset: bool = True,
        also: Callable[[Attempt], None] | None = None,
    ) -> "asyncio.Future[Attempt]":
        """Start an attempt; the future holds it when it has ended."""
        ended: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def done(attempt: Attempt) -> None:
            self.told[id(attempt)] = self.told.get(id(attempt), 0) + 1
            if not ended.done():
                ended.set_result(attempt)
            if also is not None:
                also(attempt)

        attempt = Attempt(transport, address, exchange, patience_s, reset=reset, done=done)
        self._keep.append(attempt)
        self.engine.start(attempt, timeout_s)
        return ended

    async def check(self, address: Any, exchange: Exchange | None = None, **how: Any) -> Attempt:
        """Run an attempt to its end."""
        async with asyncio.timeout(20):
            return await self.start(address, exchange, **how)


def _open_descriptors() -> set[str]:
    """The numbers of this process's descriptors, with what they are; none where nobody says."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the folder's own, gone by now
                found.add(f"{entry.name} {entry.readlink()}")
    return found


@pytest.fixture
def open_descriptors() -> Callable[[], set[str]]:
    """What this process has open now."""
    return _open_descriptors


@pytest.fixture(params=POLLERS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """An engine on each poller; in the end each attempt was told once and no descriptor is left."""
    before = _open_descriptors()
    engine = Engine(asyncio.get_running_loop(), request.param)
    made = Bench(engine)
    yield made
    engine.close()
    assert set(made.told.values()) <= {1}
    # Servers of the test's own end a moment later than the test.
    deadline = time.monotonic() + 5
    while (left := _open_descriptors() - before) and time.monotonic() < deadline:
        gc.collect()
        await asyncio.sleep(0.01)
    assert left == set()


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """This machine, by each family that it has."""
    return str(request.param)


Serve = Callable[[socket.socket], Coroutine[Any, Any, None]]


class Neighbours:
    """What is there to dial, all on one address."""

    def __init__(self, host: str, stack: contextlib.ExitStack) -> None:
        self.host = host
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._stack = stack
        self._tasks: set[asyncio.Task[None]] = set()

    def bound(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that is bound to a port."""
        made = self._stack.enter_context(socket.socket(self._family, kind))
        made.setblocking(False)
        made.bind((self.host, 0))
        return made

    def nobody(self) -> tuple[str, int]:
        """Where nothing listens; the port stays taken, so that nothing else ever will."""
        return self.address(self.bound())

    def crowd(self) -> tuple[str, int]:
        """A socket whose queue is full, so that SYN goes unanswered, as behind a firewall."""
        server = self.listening(0)
        for _ in range(4):
            waiting = self._stack.enter_context(socket.socket(self._family))
            waiting.setblocking(False)
            waiting.connect_ex(self.address(server))
        return self.address(server)

    def listening(self, backlog: int = 100) -> socket.socket:
        """A socket that listens, and is accepted from by whoever wants to."""
        server = self.bound()
        server.listen(backlog)
        return server

    def serving(self, serve: Serve) -> tuple[str, int]:
        """A server that treats each connection as `serve` does."""
        server = self.listening()
        self._spawn(self._accept(server, serve))
        return self.address(server)

    async def end(self) -> None:
        """Away with all of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stack.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _accept(self, server: socket.socket, serve: Serve) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(server)
            self._spawn(self._serve(connection, serve))

    async def _serve(self, connection: socket.socket, serve: Serve) -> None:
        with connection, contextlib.suppress(OSError):
            await serve(connection)

    @staticmethod
    def address(bound: socket.socket) -> tuple[str, int]:
        """Where a socket is."""
        name = bound.getsockname()
        return name[0], name[1]

    @staticmethod
    def end_at_once(connection: socket.socket) -> None:
        """Close with RST."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.close()


@pytest.fixture
async def neighbours(host: str) -> AsyncIterator[Neighbours]:
    """Whatever a test wants to dial."""
    made = Neighbours(host, contextlib.ExitStack())
    yield made
    await made.end()


@pytest.fixture
def few_descriptors() -> Iterator[Callable[[], Callable[[], None]]]:
    """Call it to leave this process no descriptor to open; call what it returns to undo that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []

    def take_away() -> Callable[[], None]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        return give_back

    def give_back() -> None:
        while held:
            os.close(held.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield take_away
    give_back()
