"""What a connection and a datagram can come to, on real sockets: told once, and nothing left."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
from typing import Any

import pytest
from talk import PATIENCE_S, ask, hear, linux, seen, silence

from reachmap_agent.engine import engine, sockets
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.wire.exchange import Exchange, Lost, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport


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
