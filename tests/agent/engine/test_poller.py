"""Both pollers keep the same promises, on real sockets."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reachmap_agent.engine.poller import EpollPoller, LoopPoller, Poller, best_poller


class Watched:
    """A poller, and the descriptors that it called ready."""

    def __init__(self, poller: type[EpollPoller] | type[LoopPoller]) -> None:
        self.ready: list[int] = []
        self.poller: Poller = poller(asyncio.get_running_loop(), self.ready.append)

    async def heard(self, descriptor: int) -> bool:
        """Whether it calls this one ready within a moment; forgets all calls before."""
        self.ready.clear()
        for _ in range(10):
            await asyncio.sleep(0.005)
            if descriptor in self.ready:
                return True
        return False


@pytest.fixture(
    params=[
        pytest.param(
            EpollPoller,
            marks=pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's"),
        ),
        LoopPoller,
    ]
)
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    """Each poller in turn."""
    made = Watched(request.param)
    yield made
    made.poller.close()


def dialling(address: object) -> socket.socket:
    """A socket whose connection is under way."""
    dialler = socket.socket()
    dialler.setblocking(False)
    dialler.connect_ex(address)
    return dialler


def until_it_blocks(step: Callable[[], object]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            step()


@pytest.mark.parametrize("listens", [True, False])
async def test_a_connection_that_ends_is_news(watched: Watched, listens: bool) -> None:
    """Made or refused: both are told, also when it ended before anyone watched."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        with dialling(server.getsockname()) as dialler:
            watched.poller.connecting(dialler.fileno())
            assert await watched.heard(dialler.fileno())
            watched.poller.forget(dialler.fileno())


async def test_something_to_read_is_news(watched: Watched) -> None:
    """Each arrival is told, and so is the end."""
    server = socket.create_server(("127.0.0.1", 0))
    with server, dialling(server.getsockname()) as dialler:
        watched.poller.connecting(dialler.fileno())
        assert await watched.heard(dialler.fileno())
        watched.poller.reading(dialler.fileno())
        await asyncio.sleep(0)
        accepted, _ = server.accept()
        for news in (lambda: accepted.sendall(b"!"), accepted.close):
            news()
            assert await watched.heard(dialler.fileno())
            dialler.recv(100)
        watched.poller.forget(dialler.fileno())


async def test_room_to_write_is_news_once_there_was_none(watched: Watched) -> None:
    """A socket whose buffer was full is told of when the other side has read."""
    server = socket.create_server(("127.0.0.1", 0))
    with server, dialling(server.getsockname()) as dialler:
        watched.poller.connecting(dialler.fileno())
        assert await watched.heard(dialler.fileno())
        watched.poller.reading(dialler.fileno())
        accepted, _ = server.accept()
        with accepted:
            until_it_blocks(lambda: dialler.send(bytes(1_000_000)))
            watched.poller.sending(dialler.fileno())
            await asyncio.sleep(0)
            accepted.setblocking(False)
            until_it_blocks(lambda: accepted.recv(1_000_000))
            assert await watched.heard(dialler.fileno())
        watched.poller.forget(dialler.fileno())


async def test_what_is_forgotten_is_news_no_more(watched: Watched) -> None:
    """Not even when its number is another's by now; and forgetting what is not watched is fine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialler = dialling(server.getsockname())
        number = dialler.fileno()
        watched.poller.forget(number)
        watched.poller.connecting(number)
        assert await watched.heard(number)
        watched.poller.reading(number)
        watched.poller.forget(number)
        dialler.close()
        accepted, _ = server.accept()
        accepted.sendall(b"!")
        accepted.close()
        with socket.socket() as other:
            assert other.fileno() == number
            assert not await watched.heard(number)


async def test_thousands_are_ready_at_once(watched: Watched) -> None:
    """None is lost, however many there are, and other work is done in between."""
    pairs = [socket.socketpair() for _ in range(2_000)]
    try:
        for left, right in pairs:
            left.setblocking(False)
            watched.poller.connecting(left.fileno())
            watched.poller.reading(left.fileno())
            right.sendall(b"!")
        async with asyncio.timeout(10):
            turns = 0
            while len(set(watched.ready)) < len(pairs):
                await asyncio.sleep(0)
                turns += 1
        assert turns > 1
        for left, _ in pairs:
            watched.poller.forget(left.fileno())
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


async def test_a_poller_ends_without_a_trace() -> None:
    """Its descriptor is closed, and the loop knows it no more."""
    before = descriptors()
    poller = best_poller(asyncio.get_running_loop(), lambda _: None)
    poller.close()
    assert descriptors() == before


async def test_the_best_is_epoll_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the loop itself will do."""
    loop = asyncio.get_running_loop()
    best = best_poller(loop, lambda _: None)
    assert isinstance(best, EpollPoller if hasattr(select, "epoll") else LoopPoller)
    best.close()
    monkeypatch.delattr(select, "epoll", raising=False)
    assert isinstance(best_poller(loop, lambda _: None), LoopPoller)
