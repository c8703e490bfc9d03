"""The engine and what is said: all of it gets through, and nobody's mistake is the network's."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest
from talk import PATIENCE_S, ask, echo, hear, raises, seen, silence

from reachmap_agent.wire.exchange import Exchange, Lost, Silence, Verdict
from reachmap_shared.vocabulary import Outcome


async def test_an_exchange_in_many_chunks(bench, neighbours) -> None:
    """Both sides speak in turns, a byte at a time."""

    def spell() -> Exchange:
        said = b""
        for letter in b"a long conversation":
            said += yield bytes([letter])
        return Verdict(Outcome.OPEN, (said.decode(),))

    attempt = await bench.check(neighbours.serving(echo), spell())
    assert seen(attempt) == (Outcome.OPEN, "a long conversation")


async def test_an_answer_larger_than_any_buffer(bench, neighbours) -> None:
    """All of it is read, and others get their turn meanwhile."""
    size = 5_000_000

    async def pour(connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(connection, bytes(size))
        await silence(connection)

    attempt = await bench.check(neighbours.serving(pour), hear(size), timeout_s=15)
    assert seen(attempt) == (Outcome.OPEN, f"{size} bytes")


async def test_a_question_larger_than_any_buffer(bench, neighbours) -> None:
    """What the kernel does not take at once is sent when it has room again."""
    size = 20_000_000

    async def listen(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        left = size
        while left:
            left -= len(await loop.sock_recv(connection, 1_000_000))
        await loop.sock_sendall(connection, b"heard you")

    attempt = await bench.check(neighbours.serving(listen), ask(bytes(size)), timeout_s=15)
    assert seen(attempt) == (Outcome.OPEN, "9 bytes")


async def test_one_who_never_stops_talking_does_not_keep_the_loop(bench, neighbours) -> None:
    """A stream without an end is heard until the time is up; others are served all the while."""
    server = neighbours.listening()
    server.setblocking(True)
    over = threading.Event()

    def pour() -> None:
        accepted, _ = server.accept()
        with accepted, contextlib.suppress(OSError):
            while not over.is_set():
                accepted.sendall(bytes(1_000_000))

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        endless = bench.start(neighbours.address(server), hear(1 << 60), timeout_s=0.4)
        turns = 0
        while not endless.done():
            await asyncio.sleep(0)
            turns += 1
        assert seen(await endless)[0] is Outcome.STALLED
        assert turns > 5
    finally:
        over.set()
        thread.join(5)


def says_nothing_at_all() -> Generator[Any, bytes, Any]:
    """Yield what is no bytes."""
    yield None


def has_no_verdict() -> Generator[bytes, bytes, Any]:
    """Return nothing."""
    yield b"?"


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: raises(ValueError("oops"), 0),
        lambda: raises(ValueError("oops"), 1),
        lambda: raises(OSError(errno.ECONNREFUSED, "oops"), 1),
        lambda: raises(BlockingIOError(errno.EAGAIN, "oops"), 1),
        lambda: raises(TimeoutError("oops"), 0),
        lambda: raises(RecursionError("oops"), 1),
        says_nothing_at_all,
        has_no_verdict,
    ],
)
async def test_a_protocols_mistake_is_not_the_networks(
    bench, neighbours, mistake: Callable[[], Exchange]
) -> None:
    """Whatever an exchange raises is a local error, at once, and others' checks go on."""
    where = neighbours.serving(echo)
    bad, good = bench.start(where, mistake()), bench.start(where, ask())
    async with asyncio.timeout(PATIENCE_S):
        outcome, why = seen(await bad)
        assert outcome is Outcome.LOCAL_ERROR
        assert "the check itself failed" in why
        assert seen(await good)[0] is Outcome.OPEN


async def test_an_exchange_that_does_not_let_go(bench, neighbours) -> None:
    """One that fails while it is put away has had its verdict; it is complained of, not lost."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    def clinging(error: Exception | None) -> Exchange:
        with contextlib.suppress(Silence):
            yield b"?"
        try:
            yield b"?"
        except GeneratorExit:
            if error is not None:
                raise error from None
            yield b"?"
        raise AssertionError

    where = neighbours.serving(silence)
    for error in (ValueError("never"), None):
        attempt = await bench.check(where, clinging(error), timeout_s=0.1)
        assert seen(attempt)[0] is Outcome.STALLED
    said = [str(complaint["exception"]) for complaint in complaints]
    assert said == ["never", "generator ignored GeneratorExit"]


@pytest.mark.parametrize("reset", [True, False])
async def test_a_last_word(bench, neighbours, reset: bool) -> None:
    """It reaches the other side, which then sees an orderly end."""
    heard = asyncio.get_running_loop().create_future()

    async def listen(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, b"hello")
        words = b""
        while received := await loop.sock_recv(connection, 100):
            words += received
        heard.set_result(words)

    def polite() -> Exchange:
        yield b"?"
        return Verdict(Outcome.OPEN, farewell=b"good bye")

    attempt = await bench.check(neighbours.serving(listen), polite(), reset=reset)
    assert seen(attempt) == (Outcome.OPEN, "")
    async with asyncio.timeout(PATIENCE_S):
        assert await heard == b"?good bye"


async def test_an_orderly_end_though_not_all_was_read(bench, neighbours) -> None:
    """Where a server would complain of RST, it gets none, however much more it had to say."""
    ended = asyncio.get_running_loop().create_future()

    async def talk(connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, bytes(60_000))
        try:
            ended.set_result(await loop.sock_recv(connection, 100))
        except ConnectionResetError as error:
            ended.set_result(error)

    attempt = await bench.check(neighbours.serving(talk), hear(), reset=False)
    assert seen(attempt)[0] is Outcome.OPEN
    async with asyncio.timeout(PATIENCE_S):
        assert await ended == b""


async def test_a_last_word_to_nobody(bench, neighbours) -> None:
    """The verdict stands, whether or not there was still someone to hear it."""

    async def reset(connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(connection, 1)
        neighbours.end_at_once(connection)

    def polite() -> Exchange:
        with contextlib.suppress(Lost):
            yield b"?"
        return Verdict(Outcome.OPEN, farewell=b"good bye")

    attempt = await bench.check(neighbours.serving(reset), polite())
    assert seen(attempt) == (Outcome.OPEN, "")
