"""Whoever connects, on real sockets: strangers cost little and keep nobody out."""

import asyncio
import contextlib
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from visitors import LISTENS, LOOPBACK, asked, connect, heard, is_reset, kernel_states

from reachmap_agent import streams as module
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.reception import Reception
from reachmap_agent.wire.exchange import StandIn
from reachmap_shared.vocabulary import AnsweredBy, Transport

STREAMS = sorted(set(REGISTRY) - {"udp", "ntp"})

RESET = struct.pack("ii", 1, 0)

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")

ipv6 = pytest.mark.ipv6


@ipv6
async def test_an_ipv6_network_counts_as_one(open_port: Any, port: int) -> None:
    """Whoever has 64 bits of addresses has no more places for that."""
    made = open_port("http", addresses=("::1",))
    with await connect(port, "::1"):
        while not made.open.visitors:
            await asyncio.sleep(0)
        [visitor] = made.open.visitors
        assert visitor.network == bytes(8)


async def test_an_idle_stranger_costs_no_exchange(
    open_port: Any, wire: Any, port: int, eventually: Any
) -> None:
    """One that says nothing has a place, and not even a generator; it is served when it speaks."""
    made = open_port("http")
    with contextlib.ExitStack() as clients:
        strangers = [clients.enter_context(await connect(port)) for _ in range(20)]
        await eventually(lambda: made.reception.connections == 20)
        assert all(visitor._exchange is None for visitor in made.open.visitors)
        for stranger in strangers:
            stranger.send(asked(wire))
            stranger.shutdown(socket.SHUT_WR)
        for stranger in strangers:
            assert (await heard(stranger) or b"").startswith(b"HTTP/1.1 200 OK")
        await eventually(lambda: made.answered == 20)


async def test_a_visitor_may_take_its_time(open_port: Any, wire: Any, port: int) -> None:
    """One byte after the other is as good as all at once."""
    made = open_port("http")
    with await connect(port) as visitor:
        for byte in asked(wire):
            await asyncio.get_running_loop().sock_sendall(visitor, bytes([byte]))
            await asyncio.sleep(0)
        visitor.shutdown(socket.SHUT_WR)
        assert (await heard(visitor) or b"").startswith(b"HTTP/1.1 200 OK")
    assert made.answered == 1


async def test_who_greets_and_then_listens_does_both(
    open_port: Any, port: int, eventually: Any
) -> None:
    """A stand-in may speak first and go on."""

    def stand_in() -> StandIn:
        word = yield b"hello "
        return b"you said " + word

    made = open_port(stand_in)
    for _ in range(2):
        with await connect(port) as first, await connect(port) as second:
            for visitor in (first, second):
                assert await asyncio.get_running_loop().sock_recv(visitor, 100) == b"hello "
                visitor.send(b"hi")
                assert await asyncio.get_running_loop().sock_recv(visitor, 100) == b"you said hi"
            assert made.open.is_busy
    await eventually(lambda: made.answered == 4)
    assert not made.open.is_busy


@pytest.mark.parametrize("protocol", ["http", "tcp", "tls"])
async def test_who_never_stops_talking_is_cut_short(
    open_port: Any, port: int, eventually: Any, protocol: str
) -> None:
    """Also after it was told all; what it says is not kept."""
    made = open_port(protocol)
    words = {"tls": b"\x16\x03\x01\x40\x00" + bytes(16_000)}.get(protocol, b"x" * 16_000)
    with await connect(port) as stranger:

        def is_cut() -> bool:
            with contextlib.suppress(BlockingIOError):
                stranger.send(words)
            return False

        async def talk() -> None:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                await eventually(is_cut)

        await asyncio.wait_for(talk(), 5)
        await eventually(lambda: made.reception.connections == 0)


async def test_who_does_not_read_is_not_waited_for(
    open_port: Any, port: int, eventually: Any
) -> None:
    """What a socket does not take at once is not kept."""

    def stand_in() -> StandIn:
        yield from ()
        return bytes(50_000_000)

    made = open_port(stand_in)
    with socket.create_connection((LOOPBACK, port)) as stranger:
        stranger.setblocking(False)
        await eventually(lambda: made.ends)
        await eventually(lambda: made.reception.connections == 0)
        assert await heard(stranger) is None


@pytest.mark.parametrize("where", ["make", "first", "later", "answered"])
async def test_a_mistake_of_ours_costs_one_visit(
    open_port: Any, port: int, eventually: Any, where: str, logged: list[dict[str, Any]]
) -> None:
    """It is logged, once; the others are served, and the agent runs on."""
    broken = True

    def stand_in() -> StandIn:
        if broken and where == "first":
            raise RuntimeError("no idea")
        yield b""
        if broken and where == "later":
            raise RuntimeError("no idea")
        return b"well"

    def make() -> StandIn:
        if broken and where == "make":
            raise RuntimeError("no idea")
        return stand_in()

    made = open_port(make)
    if where == "answered":
        made.open.answered = lambda: 1 / 0
    for _ in range(3):
        with socket.create_connection((LOOPBACK, port)) as visitor:
            visitor.setblocking(False)
            with contextlib.suppress(OSError):
                visitor.send(b"?")
            if where != "answered":
                assert not await heard(visitor)
    await eventually(lambda: made.reception.connections == 0 and logged)
    assert len(logged) == 1
    assert "no idea" in logged[0]["error"] or "division" in logged[0]["error"]
    broken = False
    with await connect(port) as visitor:
        visitor.send(b"?")
        visitor.shutdown(socket.SHUT_WR)
        assert await heard(visitor) == b"well"


async def test_answered_may_close_the_port(
    open_port: Any, wire: Any, port: int, eventually: Any
) -> None:
    """As a window does, in the midst of a turn: the others are reset, and the port is free."""
    made = open_port("tcp")
    made.open.answered = made.open.close
    with contextlib.ExitStack() as clients:
        visitors = [
            clients.enter_context(socket.create_connection((LOOPBACK, port))) for _ in range(20)
        ]
        visitors[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        visitors[0].close()
        visitors[1].send(wire.challenge().text + b"\r\n")
        visitors[1].shutdown(socket.SHUT_WR)
        await eventually(lambda: not made.open.sockets)
        for visitor in visitors[2:]:
            visitor.setblocking(False)
            assert await heard(visitor) is None


@linux
@pytest.mark.parametrize("protocol", STREAMS)
async def test_visits_of_all_kinds_leave_nothing_on_the_port(
    open_port: Any, port: int, eventually: Any, protocol: str
) -> None:
    """No TIME_WAIT, whoever closes first and however: a port scan, a half close, garbage."""
    made = open_port(protocol)
    for number in range(60):
        with socket.create_connection((LOOPBACK, port)) as visitor:
            if number % 3 == 0:
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if number % 4 == 0:
                visitor.send(b"GET / HTTP/1.1\r\n\r\n")
            if number % 5 == 0:
                visitor.shutdown(socket.SHUT_WR)
            if number % 2 == 0:
                await asyncio.sleep(0)
    await eventually(lambda: made.reception.connections == 0)
    await eventually(lambda: kernel_states(port) == [LISTENS])
    made.open.close()
    with socket.socket() as service:  # without SO_REUSEADDR
        service.bind(("0.0.0.0", port))
        service.listen()


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        (LOOPBACK, LOOPBACK),
        pytest.param("0.0.0.0", "127.0.0.2", marks=linux),
        pytest.param("::", "::1", marks=ipv6),
        pytest.param("::1", "::1", marks=ipv6),
    ],
)
@pytest.mark.parametrize("transport", list(Transport))
async def test_a_stand_in_knows_both_ends(
    open_port: Any, port: int, check: Any, bound: str, asked: str, transport: Transport
) -> None:
    """Also where we listen everywhere; and a datagram's answer comes from the address asked."""
    protocol = "udp" if transport is Transport.UDP else "http"
    made = open_port(protocol, addresses=(bound,), transport=transport)
    assert await check(port, protocol, asked, transport) is AnsweredBy.LISTENER
    for local, peer in made.ends:
        assert local == (asked, port)
        assert peer[0] in {asked, LOOPBACK}
        assert 0 < peer[1] != port


HURRIED = ListenerLimits(idle_places=8, talking_places=8)


def crowd(clients: contextlib.ExitStack, port: int, count: int) -> list[socket.socket]:
    """Strangers of one network, who all wait to be accepted."""
    strangers = []
    for _ in range(count):
        stranger = socket.create_connection((LOOPBACK, port), source_address=("127.9.9.9", 0))
        strangers.append(clients.enter_context(stranger))
        stranger.setblocking(False)
    return strangers


@linux
@pytest.mark.parametrize("leaving", [0, 10, 4096])
@pytest.mark.parametrize("protocol", ["http", "tcp"])
async def test_when_many_wait_a_crowd_costs_little_and_no_other_its_place(
    open_port: Any, wire: Any, port: int, eventually: Any, protocol: str, leaving: int
) -> None:
    """Most are reset without a word; whoever comes from elsewhere is served, also behind them."""
    made = open_port(protocol, limits=replace(HURRIED, leaving=leaving))
    with contextlib.ExitStack() as clients:
        strangers = crowd(clients, port, 600)
        words = asked(wire) if protocol == "http" else wire.challenge().text + b"\r\n"
        with socket.create_connection((LOOPBACK, port)) as honest:
            honest.setblocking(False)
            honest.send(words)
            honest.shutdown(socket.SHUT_WR)
            assert (await heard(honest) or b"").startswith((b"HTTP/1.1 200 OK", b"reachmap"))
        await eventually(lambda: sum(map(is_reset, strangers)) >= 600 - 16)
        # One of each lot is received, to see who speaks first, and those at the end of the queue.
        assert len(made.ends) < 600 / 32 + 64
    await eventually(lambda: made.reception.connections == 0)
    assert made.answered == 1


@linux
async def test_when_many_wait_those_who_have_spoken_are_heard(
    open_port: Any, wire: Any, port: int, eventually: Any
) -> None:
    """Also in a crowd: its checks speak at once, and those who do not are no check."""
    made = open_port("http", limits=HURRIED)
    with contextlib.ExitStack() as clients:
        strangers = crowd(clients, port, 400)
        for stranger in strangers[::2]:
            stranger.send(asked(wire))
        for stranger in strangers[::2]:
            word = await asyncio.get_running_loop().sock_recv(stranger, 1000)
            assert word.startswith(b"HTTP/1.1 200 OK")
            stranger.close()
        await eventually(lambda: made.answered == 200)


@linux
async def test_a_port_that_closes_leaves_none_of_those_turned_away(
    open_port: Any, port: int, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would hold it for the next one."""
    monkeypatch.setattr("reachmap_agent.reception._LEAVE_AT_ONCE", 0)
    made = open_port("tcp", limits=HURRIED)
    with contextlib.ExitStack() as clients:
        crowd(clients, port, 400)
        await eventually(lambda: made.reception._leaving)
        made.open.close()
        assert kernel_states(port) == []


@linux
async def test_those_who_leave_give_their_descriptors_to_those_who_come(
    open_port: Any,
    wire: Any,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[dict[str, Any]],
) -> None:
    """Nobody waits for the pause while some are only to be reset, though checks took all the rest."""
    monkeypatch.setattr("reachmap_agent.descriptors.allowed", lambda: 1 << 20)
    open_port("http", limits=HURRIED)
    with contextlib.ExitStack() as clients:
        crowd(clients, port, 200)
        honest = clients.enter_context(socket.create_connection((LOOPBACK, port)))
        honest.setblocking(False)
        honest.send(asked(wire))
        with descriptors(60):
            word = await asyncio.get_running_loop().sock_recv(honest, 100)
        assert word.startswith(b"HTTP/1.1 200 OK")
    assert "cannot accept" not in [line["event"] for line in logged]


@linux
@pytest.mark.parametrize(
    ("soft", "expected"), [(1 << 20, 4096), (5000, 520), (1024, 0), (-1, 4096)]
)
def test_those_who_leave_take_no_descriptors_from_checks(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    """Where there are few, they are reset at once."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert Reception(ListenerLimits())._room_to_leave() == expected


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """This process can open only so many more within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@linux
async def test_without_descriptors_it_pauses_and_says_so_once(
    open_port: Any,
    port: int,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[dict[str, Any]],
) -> None:
    """The loop is not spun, and those who waited are served afterwards."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.05)
    accept, tries = module._accept, []

    def counted(bound: socket.socket) -> Any:
        tries.append(asyncio.get_running_loop().time())
        return accept(bound)

    monkeypatch.setattr(module, "_accept", counted)
    open_port("tcp")
    with contextlib.ExitStack() as clients:
        visitors = [clients.enter_context(socket.socket()) for _ in range(3)]
        with descriptors(0):
            for visitor in visitors:
                visitor.setblocking(False)
                await asyncio.get_running_loop().sock_connect(visitor, (LOOPBACK, port))
            await eventually(lambda: len(tries) >= 4)
        assert tries[3] - tries[0] >= 0.14
        for visitor in visitors:
            assert await asyncio.get_running_loop().sock_recv(visitor, 100)
    assert [line["event"] for line in logged] == ["cannot accept"]


CHUNKS = st.lists(
    st.binary(max_size=400)
    | st.sampled_from(
        [b"GET / HTTP/1.1\r\n", b"\r\n\r\n", b"\x16\x03\x01\x00\x05", b"\0\0\0\x08\x04\xd2\x16\x2f"]
    ),
    max_size=12,
)


@pytest.mark.parametrize("protocol", sorted(REGISTRY))
@given(chunks=CHUNKS, transport=st.sampled_from(Transport))
def test_no_garbage_gets_more_than_a_few_words(
    wire: Any, protocol: str, chunks: list[bytes], transport: Transport
) -> None:
    """A stand-in ends or waits for more; nothing else comes out of it, and never much."""
    exchange = REGISTRY[protocol].stand_in(wire.offer(transport=transport))
    said = 0
    try:
        said += len(next(exchange))
        for chunk in filter(None, chunks):
            said += len(exchange.send(chunk))
        said += len(exchange.send(b""))
    except StopIteration as stop:
        said += len(stop.value)
    finally:
        exchange.close()
    assert said <= 4096
