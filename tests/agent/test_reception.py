"""Whoever connects, on real sockets: strangers cost little and keep nobody out."""

import asyncio
import contextlib
import gc
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from reachmap_agent import reception as module
from reachmap_agent.protocols import REGISTRY, udp
from reachmap_agent.reception import OpenPort, Reception
from reachmap_agent.wire.exchange import StandIn
from reachmap_agent.wire.proof import Endpoint
from reachmap_shared.messages import CheckSpec
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

LOOPBACK = "127.0.0.1"
STREAMS = sorted(set(REGISTRY) - {"udp", "ntp"})
LISTENS = ["0A"]
RESET = struct.pack("ii", 1, 0)

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")


ipv6 = pytest.mark.ipv6


@pytest.fixture(params=["the best watcher", "asyncio's loop"])
def watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with an epoll of the reception's own, and without."""
    if request.param == "asyncio's loop":
        monkeypatch.delattr(select, "epoll", raising=False)


class Port:
    """An open port on a reception, and what it was asked and told."""

    def __init__(
        self,
        port: int,
        make: Callable[[], StandIn | None],
        *,
        addresses: tuple[str, ...] = (LOOPBACK,),
        transport: Transport = Transport.TCP,
        reception: Reception | None = None,
    ) -> None:
        self.ends: list[tuple[Endpoint, Endpoint]] = []
        self.answered = 0
        self.reception = reception or Reception()
        self.make = make
        self.open = OpenPort(addresses, port, transport, self.reception, self.made, self.tell)

    def made(self, local: Endpoint, peer: Endpoint) -> StandIn | None:
        self.ends.append((local, peer))
        return self.make()

    def tell(self) -> None:
        self.answered += 1


@pytest.fixture
async def open_port(port: int, wire: Any, watcher: None) -> AsyncIterator[Callable[..., Port]]:
    """Opens ports, whose stand-ins are those of a protocol or what the test makes."""
    opened: list[Port] = []
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))

    def make(protocol: str | Callable[[], StandIn | None], number: int = port, **its: Any) -> Port:
        if isinstance(protocol, str):
            offer = wire.offer(transport=its.get("transport", Transport.TCP))
            stand_in = REGISTRY[protocol].stand_in

            def between_its_ends() -> StandIn:
                local, peer = made.ends[-1]
                return stand_in(replace(offer, seen=peer, at=local))

            made = Port(number, between_its_ends, **its)
            opened.append(made)
        else:
            opened.append(Port(number, protocol, **its))
        return opened[-1]

    yield make
    for each in opened:
        each.open.close()
    for each in opened:
        assert not each.open.is_busy
        assert each.reception.connections == 0
        assert each.reception._watcher is None
    assert troubles == []


async def connect(port: int, address: str = LOOPBACK) -> socket.socket:
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
    try:
        return not connection.recv(100_000)
    except BlockingIOError:
        return False
    except OSError:
        return True


def kernel_states(port: int) -> list[str]:
    """The states of the kernel's TCP sockets with this local port."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, state = line.split()[1:4]
        if int(local.rpartition(":")[2], 16) == port:
            found.append(state)
    return found


def asked(wire: Any) -> bytes:
    """What an honest check says to an HTTP server."""
    return b"GET / HTTP/1.1\r\nReachmap-Challenge: " + wire.challenge().text + b"\r\n\r\n"


@pytest.fixture
def check(wire: Any) -> Callable[..., Any]:
    """Runs an honest check; returns who answered it."""

    async def run(
        port: int, protocol: str, address: str = LOOPBACK, transport: Transport = Transport.TCP
    ) -> AnsweredBy | None:
        asked = CheckSpec("d", "d:1", address, port, transport, protocol, "")
        seen = await wire.probe(asked, 5, challenge=wire.challenge())
        assert seen.outcome is Outcome.OPEN, seen
        return seen.answered_by

    return run


@pytest.mark.parametrize("words", [b"", b"\x16", b"GET / HTTP/1.1\r\nHost:"])
@pytest.mark.parametrize("protocol", ["http", "nats", "tls", "postgres"])
async def test_who_has_been_there_for_longest_makes_room(
    open_port: Any,
    port: int,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    check: Any,
    protocol: str,
    words: bytes,
) -> None:
    """Whatever strangers say or not, only so many have a place, and an honest check gets one."""
    monkeypatch.setattr(module, "_MAX_IDLE", 8)
    monkeypatch.setattr(module, "_MAX_TALKING", 8)
    made = open_port(protocol)
    with contextlib.ExitStack() as clients:
        strangers = []
        for _ in range(40):
            stranger = clients.enter_context(await connect(port))
            with contextlib.suppress(OSError):
                stranger.send(words)
            strangers.append(stranger)
        assert await check(port, protocol) is AnsweredBy.LISTENER
        assert made.reception.connections <= 16
        await eventually(lambda: all(is_reset(stranger) for stranger in strangers[:20]))


def bound_dialler(stack: contextlib.ExitStack, source: str, port: int) -> socket.socket:
    made = stack.enter_context(
        socket.create_connection((LOOPBACK, port), source_address=(source, 0))
    )
    made.setblocking(False)
    return made


@linux
async def test_a_flood_from_one_address_takes_no_place_of_others(
    open_port: Any, wire: Any, port: int, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest visitor who is slow keeps its place, silent or in conversation."""
    monkeypatch.setattr(module, "_MAX_IDLE", 16)
    monkeypatch.setattr(module, "_MAX_TALKING", 16)
    made = open_port("http")
    with contextlib.ExitStack() as clients:
        for _ in range(30):
            bound_dialler(clients, "127.9.9.9", port).send(b"G")
        honest = [bound_dialler(clients, LOOPBACK, port) for _ in range(2)]
        honest[0].send(b"GET")
        for words in (b"G", b""):
            for _ in range(60):
                bound_dialler(clients, "127.9.9.9", port).send(words)
                await asyncio.sleep(0)
        await eventually(lambda: len(made.reception._idle) == 16)
        await eventually(lambda: len(made.reception._talking) == 16)
        honest[0].send(asked(wire)[len(b"GET") :])
        honest[1].send(asked(wire))
        for visitor in honest:
            visitor.shutdown(socket.SHUT_WR)
            assert (await heard(visitor) or b"").startswith(b"HTTP/1.1 200 OK")


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
    open_port: Any, port: int, eventually: Any, where: str
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

    with capture_logs() as lines:
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
        await eventually(lambda: made.reception.connections == 0 and lines)
    assert len(lines) == 1
    assert "no idea" in lines[0]["error"] or "division" in lines[0]["error"]
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
    await eventually(lambda: kernel_states(port) == LISTENS)
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


def test_an_endpoint_has_neither_zone_nor_prefix() -> None:
    """As text it is the same for all who look at it."""
    assert module._endpoint(("fe80::1%eth0", 1, 0, 2)) == ("fe80::1", 1)
    assert module._endpoint(("::ffff:192.0.2.1", 1, 0, 0)) == ("192.0.2.1", 1)
    assert module._endpoint(("192.0.2.1", 1)) == ("192.0.2.1", 1)


@linux
async def test_a_question_to_all_is_not_answered(open_port: Any, port: int, wire: Any) -> None:
    """A broadcast would have the answers of many come to one."""
    question = wire.feed(udp.check(wire.target())).sent
    made = open_port("udp", addresses=("0.0.0.0",), transport=Transport.UDP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asker.setblocking(False)
        for address in ("127.255.255.255", LOOPBACK):
            asker.sendto(question, (address, port))
        answer, peer = await asyncio.get_running_loop().sock_recvfrom(asker, 1000)
        assert answer.startswith(b"reachmap!") and peer == (LOOPBACK, port)
        assert made.answered == len(made.ends) == 1


async def test_where_the_system_does_not_tell_whom_a_datagram_asked(
    open_port: Any, port: int, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered as well as can be."""
    monkeypatch.setattr(module, "_LINUX", False)
    made = open_port("udp", addresses=("0.0.0.0",), transport=Transport.UDP)
    assert await check(port, "udp", LOOPBACK, Transport.UDP) is AnsweredBy.LISTENER
    assert made.ends[0][0] == ("", port)


async def test_a_flood_is_worth_one_line(
    open_port: Any, port: int, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers do not fill the log."""
    monkeypatch.setattr(module, "_MAX_IDLE", 2)
    with capture_logs() as lines:
        made = open_port("http")
        with contextlib.ExitStack() as clients:
            for _ in range(30):
                clients.enter_context(await connect(port))
            await eventually(lambda: made.reception.connections == 2)
    assert len(lines) == 1


FLOOD = r"""
import itertools, os, socket, struct, sys, time
ports = [int(port) for port in sys.argv[2:]]
words = [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n", os.urandom(2000), b"\0"]
held = []
print("ready", flush=True)
for number in itertools.count():
    if number == 400:
        print("flooding", flush=True)
    if number % 10 == 0:
        time.sleep(0.001)  # what is more than the kernel's queue takes is lost, whatever we do
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.bind(("127.9.9.9", 0))
    stranger.connect_ex(("127.0.0.1", ports[number % len(ports)]))
    held.append((stranger, words[number % len(words)]))
    if len(held) > 40:
        late, word = held[-20]
        try:
            late.send(word if sys.argv[1] != "silent" else b"")
        except OSError:
            pass
    if len(held) > 800:
        gone, _ = held.pop(0)
        if number % 2:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
"""


@asynccontextmanager
async def flood(kind: str, *ports: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Somebody who connects as fast as one can, until the block ends."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOOD, kind, *map(str, ports), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    try:
        for _ in range(2):
            assert await process.stdout.readline()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@linux
async def test_checks_go_on_in_a_flood(open_port: Any, port: int, check: Any) -> None:
    """Whoever speaks first, and inside TLS: of all that comes, the honest visitor is served too."""
    reception = Reception()
    ports = {name: port + number for number, name in enumerate(("http", "https", "nats", "tcp"))}
    for name, number in ports.items():
        open_port(name, number, reception=reception)
    async with flood("garbage", *ports.values()):
        for name in (*ports, *ports):
            await check(ports[name], name)
    assert reception.connections <= module._MAX_IDLE + module._MAX_TALKING


def memory_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/smaps_rollup").read_text().partition("Rss:")[2].split()[0])


@linux
@pytest.mark.parametrize("kind", ["silent", "garbage"])
async def test_memory_does_not_grow_with_strangers(
    open_port: Any, port: int, kind: str, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent ones cost less than 1 MB, however many; TLS sessions no more than their places."""
    counted = [0]
    accept = module._accept

    def count(bound: socket.socket) -> Any:
        counted[0] += 1
        return accept(bound)

    monkeypatch.setattr(module, "_accept", count)
    open_port("tls")
    with await connect(port) as first:
        first.send(b"GET / HTTP/1.1\r\n\r\n")
        assert not await heard(first)
    before = memory_kb()
    async with flood(kind, port):
        await eventually(lambda: counted[0] > 3000)
        grown = memory_kb() - before
    assert grown < (1024 if kind == "silent" else 12 * 1024)


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """This process can open only so many more within the block."""
    import resource

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
    open_port: Any, port: int, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is not spun, and those who waited are served afterwards."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.05)
    accept, tries = module._accept, []

    def counted(bound: socket.socket) -> Any:
        tries.append(asyncio.get_running_loop().time())
        return accept(bound)

    monkeypatch.setattr(module, "_accept", counted)
    with capture_logs() as lines:
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
    assert [line["event"] for line in lines] == ["cannot accept"]


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
