"""The engine on real sockets: every end that a check can come to, told once, and nothing left."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reachmap_agent.engine import engine, sockets
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.deadlines import TICK_S
from reachmap_agent.engine.engine import Engine
from reachmap_agent.engine.poller import LoopPoller, best_poller
from reachmap_agent.wire.exchange import Exchange, Lost, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

LINUX = sys.platform == "linux"
linux = pytest.mark.skipif(not LINUX, reason="only Linux tells so much")

PATIENCE_S = 15.0
"""For what takes milliseconds on an idle machine; nothing here waits for as long."""

NOWHERE = ("255.255.255.255", 9)
"""TCP has nothing to say to all at once, so connect fails before it returns."""


def hear(enough: int = 1) -> Exchange:
    """Wait for some bytes."""
    heard = 0
    while heard < enough:
        chunk = yield b""
        if not chunk:
            break
        heard += len(chunk)
    return Verdict(Outcome.OPEN, (f"{heard} bytes",))


def ask(question: bytes = b"?", enough: int = 1) -> Exchange:
    """Say something, then wait for an answer."""
    first = yield question
    if len(first) >= enough or not first:
        return Verdict(Outcome.OPEN, (f"{len(first)} bytes",))
    return (yield from hear(enough - len(first)))


async def silence(connection: socket.socket) -> None:
    """Accept and say nothing."""
    await asyncio.sleep(60)


async def echo(connection: socket.socket) -> None:
    """Send back what comes."""
    loop = asyncio.get_running_loop()
    while received := await loop.sock_recv(connection, 65536):
        await loop.sock_sendall(connection, received)


def seen(attempt: Attempt) -> tuple[Outcome, str]:
    """What became of an attempt, and why, as one text."""
    assert attempt.verdict is not None
    return attempt.verdict.outcome, "; ".join(attempt.verdict.evidence)


# What a connection can come to.


async def test_open(bench, neighbours) -> None:
    """Without an exchange the connection is the answer, and it is told from where it was made."""
    server = neighbours.listening()
    attempt = await bench.check(neighbours.address(server))
    assert seen(attempt) == (Outcome.OPEN, "")
    accepted, peer = server.accept()
    accepted.close()
    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    assert attempt.local == f"{host}:{peer[1]}"
    assert 0 < attempt.connect_us < 5_000_000
    assert attempt.started_ns < attempt.connected_ns <= attempt.ended_ns


async def test_refused(bench, neighbours) -> None:
    """Nothing listens: the other side says so by RST, and it is no timeout."""
    attempt = await bench.check(neighbours.nobody())
    assert seen(attempt) == (Outcome.REFUSED, "ECONNREFUSED: Connection refused")
    assert attempt.ended_ns - attempt.started_ns < 5e9, "before its time was up"


@linux
async def test_timeout(bench, neighbours) -> None:
    """Nobody answers: it ends when its time is up, and says what was sent."""
    attempt = await bench.check(neighbours.crowd(), ask(), timeout_s=0.2)
    outcome, why = seen(attempt)
    assert outcome is Outcome.TIMEOUT
    waited_s = (attempt.ended_ns - attempt.started_ns) / 1e9
    assert why.startswith(f"no answer to the connection within {waited_s:.1f} s; ")
    assert why.endswith(" SYN sent")
    assert 0.2 <= waited_s < PATIENCE_S
    assert attempt.local.startswith(("127.0.0.1:", "[::1]:"))


@linux
async def test_stalled(bench, neighbours) -> None:
    """Connected, and everything arrived, but the service says nothing."""
    attempt = await bench.check(neighbours.serving(silence), ask(), timeout_s=0.2)
    outcome, why = seen(attempt)
    assert outcome is Outcome.STALLED
    assert why.startswith("connected, but no answer within ")
    assert "; all that was sent was acknowl" in why


async def test_stalled_half_way(bench, neighbours) -> None:
    """An answer that stops is told from none at all."""

    async def half(connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(connection, b"hal")
        await silence(connection)

    attempt = await bench.check(neighbours.serving(half), hear(6), timeout_s=0.15)
    outcome, why = seen(attempt)
    assert outcome is Outcome.STALLED
    assert why.startswith("the answer stopped after 3 bytes")


async def test_patience_is_another_time_than_the_connections(bench, neighbours) -> None:
    """A check that waits a moment for a greeting ends after that moment; silence is its answer."""

    def moment() -> Exchange:
        try:
            yield b""
        except Silence:
            return Verdict(Outcome.OPEN, ("silent",))
        raise AssertionError

    attempt = await bench.check(neighbours.serving(silence), moment(), patience_s=0.2)
    assert seen(attempt) == (Outcome.OPEN, "silent")
    assert 0.2 <= (attempt.ended_ns - attempt.connected_ns) / 1e9 < PATIENCE_S


@linux
async def test_patience_may_outlast_the_time_to_connect(bench, neighbours) -> None:
    """Then it is had in full, and delays nobody else's end."""
    patient = bench.start(neighbours.serving(silence), ask(), timeout_s=0.2, patience_s=0.6)
    other = await bench.check(neighbours.crowd(), ask(), timeout_s=0.2)
    assert seen(other)[0] is Outcome.TIMEOUT
    attempt = await patient
    assert seen(attempt)[0] is Outcome.STALLED
    assert attempt.ended_ns > other.ended_ns
    assert 0.6 <= (attempt.ended_ns - attempt.connected_ns) / 1e9 < PATIENCE_S


@pytest.mark.parametrize("question", [b"", b"?"])
async def test_reset_without_a_word(bench, neighbours, question: bytes) -> None:
    """Accepted and reset is not refused, whether or not the check had something to say."""

    async def reset(connection: socket.socket) -> None:
        neighbours.end_at_once(connection)

    attempt = await bench.check(neighbours.serving(reset), ask(question))
    outcome, why = seen(attempt)
    assert outcome is Outcome.RESET
    assert "connected" in why


@linux
async def test_reset_between_two_looks(bench, neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    """RST that comes just after the connection was seen to be made is not lost."""
    server = neighbours.listening()

    def look(connection: socket.socket) -> bytes:
        looked = sockets.tcp_info(connection)
        neighbours.end_at_once(server.accept()[0])
        return looked

    monkeypatch.setattr(engine, "tcp_info", look)
    outcome, why = seen(await bench.check(neighbours.address(server), ask()))
    assert outcome is Outcome.RESET
    assert why.startswith("ECONNRESET")


def unreachable(connection: socket.socket) -> None:
    """Have a router say that the host behind a connection is unreachable: it is believed at once.

    The message bears the beginning of a segment that might be under way (RFC 792, RFC 4443).
    """
    own, peer = connection.getsockname(), connection.getpeername()
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sequence = connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF)
    ends = [socket.inet_pton(connection.family, host) for host, *_ in (own, peer)]
    segment = struct.pack("!HHI", own[1], peer[1], sequence)
    if connection.family == socket.AF_INET6:
        packet = struct.pack("!IHBB", 6 << 28, 20, socket.IPPROTO_TCP, 64) + b"".join(ends)
        kind, protocol, message = socket.AF_INET6, socket.IPPROTO_ICMPV6, (1, 3)
    else:
        packet = struct.pack("!BxH4xBBxx", 0x45, 40, 64, socket.IPPROTO_TCP) + b"".join(ends)
        kind, protocol, message = socket.AF_INET, socket.IPPROTO_ICMP, (3, 1)
    words = struct.pack("!BB6x", *message) + packet + segment
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = 0xFFFF - ((total >> 16) + total & 0xFFFF)  # of ICMPv6 the kernel makes its own
    with socket.socket(kind, socket.SOCK_RAW, protocol) as router:
        router.sendto(words[:2] + struct.pack("!H", checksum) + words[4:], (own[0], 0))


TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
TCP_SEND_QUEUE, TCP_REPAIR_OFF = 2, -1


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can speak for a router")
async def test_a_connection_survives_what_icmp_says(bench, neighbours) -> None:
    """Once it is made, TCP goes on: neither what is read nor what is sent is lost by it."""

    def listens_and_asks() -> Exchange:
        greeting = yield b""
        answer = yield b"?"
        return Verdict(Outcome.OPEN, ((greeting + answer).decode(),))

    server = neighbours.listening()
    ended = bench.start(neighbours.address(server), listens_and_asks())
    attempt = bench._keep[-1]
    accepted, _ = await asyncio.get_running_loop().sock_accept(server)
    with accepted:
        accepted.setblocking(False)
        while not attempt.connected_ns:
            await asyncio.sleep(0)
        unreachable(attempt.connection)
        assert not await told_of_error(attempt)
        # And between what is read and what is sent.
        accepted.sendall(b"hello")
        unreachable(attempt.connection)
        assert await asyncio.get_running_loop().sock_recv(accepted, 10) == b"?"
        accepted.sendall(b", you")
        assert seen(await ended) == (Outcome.OPEN, "hello, you")


async def told_of_error(attempt: Attempt) -> int:
    """What a connection has to complain of once the engine had its turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return int(attempt.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@linux
async def test_a_connection_to_itself(bench, neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel picks the port that is dialled for this end too, nothing listens."""
    closed = neighbours.bound()
    where = neighbours.address(closed)
    closed.close()
    make = socket.SocketType

    def unlucky(family: int, kind: int) -> Any:
        made = make(family, kind)
        made.bind(where)
        return made

    monkeypatch.setattr(socket, "SocketType", unlucky)
    for exchange in (None, ask()):
        attempt = await bench.check(where, exchange)
        assert seen(attempt) == (Outcome.REFUSED, "it met itself: nothing listens there")


async def test_what_was_said_before_a_reset_counts(bench, neighbours) -> None:
    """An answer followed by RST at once is an answer, even if both came before anyone looked."""
    server = neighbours.listening()
    server.setblocking(True)
    ended = bench.start(neighbours.address(server), ask(b"?" * 10, enough=5))
    accepted, _ = server.accept()
    accepted.sendall(b"hello")
    neighbours.end_at_once(accepted)
    await asyncio.sleep(0)
    assert seen(await ended) == (Outcome.OPEN, "5 bytes")


async def test_what_was_said_counts_when_we_cannot_speak_any_more(bench, neighbours) -> None:
    """The rest of an answer is read, though the connection broke before we could go on."""
    server = neighbours.listening()
    server.setblocking(True)
    go, over = threading.Event(), threading.Event()

    def serve() -> None:
        accepted, _ = server.accept()
        accepted.sendall(b"an")
        go.wait(5)
        accepted.sendall(b"swer")
        neighbours.end_at_once(accepted)
        over.set()

    def slow_to_speak() -> Exchange:
        heard = yield b""
        go.set()
        over.wait(5)
        heard += yield b"go on"
        return Verdict(Outcome.OPEN, (heard.decode(),))

    thread = threading.Thread(target=serve)
    thread.start()
    attempt = await bench.check(neighbours.address(server), slow_to_speak())
    assert seen(attempt) == (Outcome.OPEN, "answer")
    thread.join()


async def test_half_an_answer_and_a_reset(bench, neighbours) -> None:
    """Not enough of an answer is none."""
    server = neighbours.listening()
    server.setblocking(True)
    ended = bench.start(neighbours.address(server), ask(b"?" * 10, enough=6))
    accepted, _ = server.accept()
    accepted.sendall(b"hello")
    neighbours.end_at_once(accepted)
    assert seen(await ended)[0] is Outcome.RESET


async def test_closed(bench, neighbours) -> None:
    """The end of the stream is told to the exchange, as no bytes."""

    async def close(connection: socket.socket) -> None:
        connection.close()

    attempt = await bench.check(neighbours.serving(close), hear())
    assert seen(attempt) == (Outcome.OPEN, "0 bytes")


async def test_an_exchange_deaf_to_the_end(bench, neighbours) -> None:
    """One that waits on after the end of the stream neither hangs the loop nor waits for long."""

    async def close(connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(connection, b"bye")
        connection.close()

    def deaf() -> Exchange:
        while True:
            yield b""

    attempt = await bench.check(neighbours.serving(close), deaf())
    outcome, why = seen(attempt)
    assert outcome is Outcome.RESET
    assert "closed the connection after 3 bytes" in why


async def test_a_broken_connection_is_told_to_the_exchange(bench, neighbours) -> None:
    """It may have heard enough already; what it would still say cannot be said."""

    async def answer_and_reset(connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(connection, b"enough")
        await asyncio.get_running_loop().sock_recv(connection, 100)
        neighbours.end_at_once(connection)

    def content() -> Exchange:
        heard = yield b""
        try:
            yield b"QUIT"
        except Lost:
            return Verdict(Outcome.OPEN, (heard.decode(),))
        raise AssertionError

    def never_content() -> Exchange:
        while True:
            with contextlib.suppress(Lost):
                yield b"?"

    where = neighbours.serving(answer_and_reset)
    assert seen(await bench.check(where, content())) == (Outcome.OPEN, "enough")
    outcome, why = seen(await bench.check(where, never_content()))
    assert outcome is Outcome.RESET
    assert "sent 6 bytes before that" in why


# Exchanges.


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


def raises(error: BaseException, after: int) -> Exchange:
    """Fail at the given step: at the first, or when something was received."""
    for _ in range(after):
        yield b"?"
    raise error


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


# Datagrams.


async def answering(bound: socket.socket, answer: bytes) -> None:
    """Answer one datagram."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.sock_recvfrom(bound, 1000)
    await loop.sock_sendto(bound, answer, peer)


@pytest.mark.parametrize("answer", [b"hello", b""])
async def test_a_datagram_answered(bench, neighbours, answer: bytes) -> None:
    """Any answer counts; an empty datagram is one, and not the end of a stream."""
    bound = neighbours.bound(socket.SOCK_DGRAM)

    def ask_once() -> Exchange:
        heard = yield b"?"
        return Verdict(Outcome.OPEN, (repr(heard),))

    ended = bench.start(neighbours.address(bound), ask_once(), transport=Transport.UDP)
    await answering(bound, answer)
    assert seen(await ended) == (Outcome.OPEN, repr(answer))


@linux
async def test_a_datagram_refused(bench, neighbours) -> None:
    """The host's own word that nothing has the port, with its address."""
    bound = neighbours.bound(socket.SOCK_DGRAM)
    where = neighbours.address(bound)
    bound.close()
    attempt = await bench.check(where, ask(), transport=Transport.UDP)
    outcome, why = seen(attempt)
    assert outcome is Outcome.REFUSED
    assert f"{where[0]} (the host dialled) says: port unreachable" in why


async def test_a_datagram_unanswered(bench, neighbours) -> None:
    """Silence is no stalled connection: there is none."""
    where = neighbours.address(neighbours.bound(socket.SOCK_DGRAM))
    attempt = await bench.check(where, ask(), transport=Transport.UDP, timeout_s=0.2)
    waited_s = (attempt.ended_ns - attempt.started_ns) / 1e9
    assert seen(attempt) == (Outcome.TIMEOUT, f"no answer within {waited_s:.1f} s")
    assert 0.2 <= waited_s < PATIENCE_S


# What is this host's own doing.


async def test_no_descriptor_left(bench, neighbours, few_descriptors) -> None:
    """Out of descriptors is a local error, and when there are some again, all is well."""
    where = neighbours.address(neighbours.listening())
    give_back = few_descriptors()
    ended = bench.start(where)
    give_back()
    outcome, why = seen(await ended)
    assert outcome is Outcome.LOCAL_ERROR
    assert why == "EMFILE: Too many open files"
    assert seen(await bench.check(where))[0] is Outcome.OPEN


@pytest.mark.parametrize(
    "address",
    [("nonsense:", 1), ("127.0.0.1", 70_000), ("127.0.0.1", -1), ("127.0.0.1",), (":", 1)],
)
async def test_an_address_that_is_none(bench, address: Any) -> None:
    """It is told like any other end, and does not raise at whoever starts the check."""
    assert seen(await bench.check(address, ask()))[0] is Outcome.LOCAL_ERROR


async def test_thousands_fail_at_once(bench) -> None:
    """A check that fails as it starts is told later, so that one may start another, for ever."""
    left = 5_000
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def again(attempt: Attempt) -> None:
        nonlocal left
        assert seen(attempt)[0] is not Outcome.OPEN
        left -= 1
        if left:
            bench.start(NOWHERE, also=again)
        else:
            over.set_result(None)

    bench.start(NOWHERE, also=again)
    assert left == 5_000, "told from within start"
    async with asyncio.timeout(20):
        await over
    assert len(bench.engine) == 0


async def test_thousands_fail_side_by_side(bench) -> None:
    """Each is told, once."""
    async with asyncio.timeout(20):
        attempts = await asyncio.gather(*(bench.start(NOWHERE) for _ in range(5_000)))
    assert {seen(attempt)[0] for attempt in attempts} <= {Outcome.UNREACHABLE, Outcome.REJECTED}
    assert len(bench.told) == 5_000


async def test_a_stalled_loop_is_nobodys_timeout(bench, neighbours) -> None:
    """When this process itself was held up, the time does not count against the other side."""
    server = neighbours.listening()
    server.setblocking(True)

    def slow_but_there() -> None:
        accepted, _ = server.accept()
        with accepted:
            for _ in range(3):
                accepted.sendall(accepted.recv(10))

    def three_turns() -> Exchange:
        for _ in range(3):
            yield b"?"
        return Verdict(Outcome.OPEN)

    thread = threading.Thread(target=slow_but_there)
    thread.start()
    ended = bench.start(neighbours.address(server), three_turns(), timeout_s=0.4)
    time.sleep(0.8)  # noqa: ASYNC251  the stall itself
    assert seen(await ended)[0] is Outcome.OPEN
    thread.join()


async def test_one_who_cannot_be_told_stops_nobody(bench, neighbours) -> None:
    """A `done` that raises is complained of; all the others that ended with it are told still."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    def fail(_: Attempt) -> None:
        raise OSError(errno.ECONNRESET, "cannot")

    where = neighbours.address(neighbours.listening())
    crowd = neighbours.crowd()
    deaf = [
        *(bench.start(where, also=fail) for _ in range(20)),
        *(bench.start(crowd, timeout_s=0.2, also=fail) for _ in range(20)),
        *(bench.start(NOWHERE, also=fail) for _ in range(20)),
    ]
    others = [bench.start(where), bench.start(crowd, timeout_s=0.3), bench.start(NOWHERE)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*deaf, *others)
    assert len(complaints) == 60


# What is left behind.


TIME_WAIT = "06"


def kernel_states(attempt: Attempt) -> set[str]:
    """Of both ends of an attempt's connection, as far as the kernel still remembers them."""
    ports = [int(attempt.local.rpartition(":")[2]), attempt.address[1]]
    rows = [
        line.split()
        for line in Path("/proc/self/net", "tcp6" if ":" in attempt.address[0] else "tcp")
        .read_text()
        .splitlines()[1:]
    ]
    return {
        state
        for _, *ends, state in (row[:4] for row in rows)
        if sorted(int(end.rpartition(":")[2], 16) for end in ends) == sorted(ports)
    }


@linux
async def test_no_time_wait_is_left(bench, neighbours, eventually: Any) -> None:
    """A check that may end with RST leaves nothing in the kernel; one that may not does."""
    where = neighbours.serving(echo)
    politely = await bench.check(where, ask(), reset=False)
    at_once = await bench.check(where, ask())
    await eventually(lambda: kernel_states(politely) == {TIME_WAIT})
    await eventually(lambda: kernel_states(at_once) <= {TIME_WAIT})
    assert not kernel_states(at_once)


@linux
async def test_close_drops_what_is_under_way(bench, neighbours, eventually: Any) -> None:
    """No descriptor, no TIME_WAIT, no word to anyone, nor of what comes too late."""
    where = neighbours.serving(silence)
    mute = neighbours.address(neighbours.bound(socket.SOCK_DGRAM))
    going = [
        bench.start(where, ask()),
        bench.start(neighbours.crowd(), ask()),
        bench.start(mute, ask(), transport=Transport.UDP),
        bench.start(NOWHERE),
    ]
    first = next(iter(bench.engine._attempts.values()))
    await eventually(lambda: first.connected_ns and going[-1].done())
    going += [bench.start(NOWHERE), bench.start(where, ask())]
    bench.engine.close()
    bench.engine.close()
    going.append(bench.start(where, ask()))
    assert len(bench.engine) == 0
    await asyncio.sleep(4 * TICK_S)  # nobody is told of anything in them
    assert [ended.done() for ended in going] == [False, False, False, True, False, False, False]
    assert TIME_WAIT not in kernel_states(first)


@linux
async def test_a_number_that_was_anothers_before(bench, neighbours) -> None:
    """News of a closed socket that a forked process still holds is not taken for the next one's.

    The copy keeps the old registration alive, under a number that the next check has got since.
    """
    server = neighbours.listening()
    server.setblocking(True)
    crowd = neighbours.crowd()
    numbers: list[int] = []
    copies: list[int] = []

    def keep_a_copy() -> Exchange:
        numbers.extend(bench.engine._attempts)
        copies.append(os.dup(numbers[0]))
        return Verdict(Outcome.OPEN)
        yield b""

    await bench.check(neighbours.address(server), keep_a_copy(), reset=False)
    ended = bench.start(crowd, timeout_s=0.3)
    assert list(bench.engine._attempts) == numbers
    accepted, _ = server.accept()
    accepted.sendall(b"news of the one before")
    assert seen(await ended)[0] is Outcome.TIMEOUT
    accepted.close()
    os.close(copies[0])


# Many at once.


@pytest.mark.timeout(60)
async def test_five_thousand_at_once(bench, neighbours) -> None:
    """All are under way together, and all are told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        count = min(5_000, hard - 200)
        servers = [neighbours.address(neighbours.listening(1024)) for _ in range(10)]
        nobody = neighbours.nobody()
        async with asyncio.timeout(30):
            where = [servers[place % 10] if place % 2 else nobody for place in range(count)]
            ended = [bench.start(address, timeout_s=20) for address in where]
            assert len(bench.engine) == count
            outcomes = [seen(attempt)[0] for attempt in await asyncio.gather(*ended)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcomes.count(Outcome.OPEN) == outcomes.count(Outcome.REFUSED) == count / 2
    assert len(bench.told) == count
    assert len(bench.engine._deadlines) <= count


async def test_ended_attempts_are_forgotten(bench, neighbours, eventually: Any) -> None:
    """What has ended takes no room for longer than its time."""
    where = neighbours.address(neighbours.listening(1024))
    for _ in range(10):
        await asyncio.gather(*(bench.start(where, timeout_s=0.1) for _ in range(50)))
    await eventually(lambda: bench.engine._deadlines._tick is None)
    assert len(bench.engine._deadlines) == 0


# Whatever the other side does.

ACTIONS = st.sampled_from(["say", "shout", "wait", "hear", "end", "reset", "shut"])
EXCHANGES = st.sampled_from(["ask", "hear", "much", "fail", "none"])


def exchange_of(kind: str) -> Exchange | None:
    """One of several tempers."""
    match kind:
        case "ask":
            return ask()
        case "hear":
            return hear(3)
        case "much":
            return ask(bytes(300_000), 100_000)
        case "fail":
            return raises(ValueError("oops"), 2)
        case _:
            return None


async def behave(connection: socket.socket, script: list[str]) -> None:
    """Do as the script says, then end."""
    loop = asyncio.get_running_loop()
    for action in script:
        match action:
            case "say":
                await loop.sock_sendall(connection, b"!")
            case "shout":
                await loop.sock_sendall(connection, bytes(100_000))
            case "wait":
                await asyncio.sleep(0.005)  # its temper
            case "hear":
                await asyncio.wait_for(loop.sock_recv(connection, 100_000), 0.01)
            case "shut":
                connection.shutdown(socket.SHUT_WR)
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            case "end":
                return


@pytest.mark.parametrize("make_poller", [best_poller, LoopPoller])
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            EXCHANGES, st.lists(ACTIONS, max_size=5), st.booleans(), st.sampled_from([None, 0.01])
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_happens_each_is_told_once(make_poller: Any, plays: list[Any]) -> None:
    """Checks side by side against servers of any behaviour: one end each, and an honest one."""
    told: list[Attempt] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        its = Engine(loop, make_poller)
        over = asyncio.Event()

        def done(attempt: Attempt) -> None:
            told.append(attempt)
            if len(told) == len(plays):
                over.set()

        with contextlib.ExitStack() as stack:
            async with asyncio.TaskGroup() as tasks:
                for kind, script, reset, patience_s in plays:
                    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                    server.setblocking(False)
                    tasks.create_task(serve(server, script))
                    attempt = Attempt(
                        Transport.TCP,
                        server.getsockname(),
                        exchange_of(kind),
                        patience_s,
                        reset=reset,
                        done=done,
                    )
                    its.start(attempt, 0.1)
                async with asyncio.timeout(PATIENCE_S):
                    await over.wait()
            await asyncio.sleep(0)
            assert len(its) == 0
            its.close()

    async def serve(server: socket.socket, script: list[str]) -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(server)
        with connection, contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(behave(connection, script), 0.2)

    asyncio.run(main())
    assert len({id(attempt) for attempt in told}) == len(told) == len(plays)
    for attempt, (kind, _, _, _) in zip(
        sorted(told, key=lambda attempt: attempt.started_ns), plays, strict=True
    ):
        outcome, _ = seen(attempt)
        assert outcome in {Outcome.OPEN, Outcome.RESET, Outcome.STALLED, Outcome.LOCAL_ERROR}
        assert attempt.connection is None
        if kind != "fail":
            assert outcome is not Outcome.LOCAL_ERROR
