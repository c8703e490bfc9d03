"""One check on real sockets: whatever happens, the answer is an observation, and it is in time."""

import asyncio
import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.prober import Job, Prober, _translated
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.proof import Reached
from reachmap_shared import codec
from reachmap_shared.messages import CheckSpec, Observation, Plan
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

NOW_MS = clock.system().steady_ms
LOOPBACK = "127.0.0.1"
TIMEOUT_S = 0.3
SLACK_S = 5.0
"""What a busy machine may add to a deadline; without one a check would take for ever."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")

Handler = Callable[["Peer"], Awaitable[None]]


def what_was_waited_for(fact: str) -> str:
    """In vain, for as long as was allowed; on a busy machine it was longer, and that is told."""
    what, _, seconds = fact.removesuffix(" s").rpartition(" within ")
    assert TIMEOUT_S <= float(seconds) < TIMEOUT_S + SLACK_S
    return what


both_families = pytest.mark.parametrize(
    "address",
    [
        LOOPBACK,
        pytest.param("::1", marks=pytest.mark.ipv6),
    ],
)


@pytest.fixture
def check(wire: Any) -> Callable[..., Awaitable[Observation]]:
    """Run one check; what it sees can always be reported."""

    async def run(
        port: int,
        protocol: str = "tcp",
        address: str = LOOPBACK,
        timeout_s: float = TIMEOUT_S,
        slot: int = 0,
    ) -> Observation:
        transport = Transport.UDP if protocol == "udp" else Transport.TCP
        spec = CheckSpec("d", "d:1", address, port, transport, protocol, "")
        started, started_ms = time.monotonic(), NOW_MS()
        seen = await wire.probe(spec, timeout_s, slot)
        took = time.monotonic() - started
        assert started_ms <= seen.at_ms <= NOW_MS()
        assert took < timeout_s + SLACK_S
        assert codec.decode(Observation, codec.encode(seen)) == seen
        assert seen.slot == slot and seen.evidence
        assert seen.name_us >= 0 and seen.connect_us >= 0 and seen.answer_us >= 0
        assert seen.name_us + seen.connect_us + seen.answer_us <= took * 1e6 + 1
        return seen

    return run


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    async def say(self, words: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, words)

    async def hear(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 5000)

    async def hear_out(self) -> None:
        while await self.hear():
            pass


@asynccontextmanager
async def server(handler: Handler, address: str = LOOPBACK) -> AsyncIterator[int]:
    """A TCP server, which ends with the block; yields its port."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    failure: BaseException | None = None

    async def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await handler(Peer(connection))
        connection.close()

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(bound)
            open_.enter_context(connection)
            serving.append(tasks.create_task(serve(connection)))

    with contextlib.ExitStack() as open_:
        bound = socket.create_server((address, 0), family=family, backlog=512)
        open_.enter_context(bound)
        bound.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(accept())]
            try:
                yield bound.getsockname()[1]
            except BaseException as error:  # noqa: BLE001  raised below, and not in a group
                failure = error
            for task in serving:
                task.cancel()
    if failure is not None:
        raise failure


def saying(words: bytes) -> Handler:
    """A server that says this and waits for the other side to close."""

    async def handler(peer: Peer) -> None:
        await peer.say(words)
        await peer.hear_out()

    return handler


async def resetting(peer: Peer) -> None:
    """A server that accepts, hears something and resets the connection."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.hear()


async def closing(_peer: Peer) -> None:
    """A server that accepts and closes at once."""


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nothing listens on, TCP or UDP, and that nothing else is given meanwhile."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((LOOPBACK, 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.2", port))
        yield port


@both_families
async def test_an_open_port(check: Any, address: str) -> None:
    """Open, with the times it took and the local end, as the firewall's log would have it."""
    async with server(saying(b"hello\r\n"), address) as port:
        seen = await check(port, address=address, slot=7)
    assert (seen.outcome, seen.answered_by, seen.healthy) == (
        Outcome.OPEN,
        AnsweredBy.SERVICE,
        True,
    )
    assert seen.connect_us > 0
    host, _, local_port = seen.local.rpartition(":")
    assert host == (f"[{address}]" if ":" in address else address)
    assert 0 < int(local_port) < 65536


@both_families
async def test_a_closed_port(check: Any, closed_port: int, address: str) -> None:
    """Refused, at once."""
    seen = await check(closed_port, address=address, timeout_s=10)
    assert seen.outcome is Outcome.REFUSED
    assert seen.evidence == ("ECONNREFUSED: Connection refused",)
    assert seen.connect_us == 0 and seen.answered_by is None


@linux
async def test_a_connection_that_is_never_answered(check: Any) -> None:
    """A time-out, when the deadline says so: here of a server whose backlog is full."""
    with socket.socket() as busy, socket.socket() as first:
        busy.bind((LOOPBACK, 0))
        busy.listen(0)
        first.connect(busy.getsockname())  # Linux lets one in, and drops the SYNs of all others
        started = time.monotonic()
        seen = await check(busy.getsockname()[1])
        assert time.monotonic() - started >= TIMEOUT_S
    assert seen.outcome is Outcome.TIMEOUT
    assert what_was_waited_for(seen.evidence[0]) == "no answer to the connection"
    assert (seen.connect_us, seen.answer_us) == (0, 0)
    assert seen.local.startswith("127.0.0.1:")


@pytest.mark.parametrize("protocol", sorted(set(REGISTRY) - {"tcp", "udp", "ntp"}))
async def test_a_server_that_says_nothing(check: Any, protocol: str) -> None:
    """Connected, and stalled: the path is fine and the service is not."""
    async with server(saying(b"")) as port:
        seen = await check(port, protocol)
    assert seen.outcome is Outcome.STALLED
    assert what_was_waited_for(seen.evidence[0]) == "connected, but no answer"
    assert seen.connect_us > 0 and seen.answer_us > 0 and seen.local


async def test_a_server_that_stops_half_way(check: Any) -> None:
    """Stalled as well: half an answer is none."""
    async with server(saying(b"HTTP/1.1 200 OK\r\nServer: ")) as port:
        seen = await check(port, "http")
    assert seen.outcome is Outcome.STALLED


async def test_silence_that_is_an_answer_is_not_waited_out(check: Any) -> None:
    """Plain TCP has nothing to wait for but a listener's greeting."""
    async with server(saying(b"")) as port:
        started = time.monotonic()
        seen = await check(port, "tcp", timeout_s=30)
        assert time.monotonic() - started < 10
    assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, None)


@pytest.mark.parametrize("protocol", ["http", "postgres"])
async def test_a_server_that_resets(check: Any, protocol: str) -> None:
    """Reset, with the system's own word for it."""
    async with server(resetting) as port:
        seen = await check(port, protocol)
    assert seen.outcome is Outcome.RESET
    assert "ECONNRESET" in seen.evidence[0]
    assert seen.connect_us > 0


@pytest.mark.parametrize("protocol", ["http", "nats", "postgres", "ssh"])
async def test_a_server_that_closes(check: Any, protocol: str) -> None:
    """Reset too, in words: nobody answers behind what accepts."""
    async with server(closing) as port:
        seen = await check(port, protocol)
    assert seen.outcome is Outcome.RESET


async def test_a_server_of_another_kind(check: Any) -> None:
    """At once, whatever the time allowed."""
    async with server(saying(b"220 mail ESMTP\r\n")) as port:
        seen = await check(port, "http", timeout_s=30)
    assert seen.outcome is Outcome.WRONG_SERVICE
    assert seen.evidence == ("expected an HTTP response, got '220 mail ESMTP'",)


async def test_a_server_that_never_stops_talking(check: Any) -> None:
    """It is heard for a moment, and left."""

    async def talk(peer: Peer) -> None:
        while True:
            await peer.say(b"x" * 10_000)

    async with server(talk) as port:
        for protocol in ("nats", "http", "ssh", "tcp", "tls"):
            assert (await check(port, protocol, timeout_s=30)).outcome is not Outcome.STALLED


async def test_a_trickle_does_not_put_off_the_deadline(check: Any) -> None:
    """A byte now and then is no reason to wait longer."""

    async def trickle(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.say(b"X")
            await asyncio.sleep(0.02)

    async with server(trickle) as port:
        assert (await check(port, "http")).outcome is Outcome.STALLED


@pytest.mark.parametrize("address", ["a..b", "x" * 200, ".example", "\udcff"])
async def test_a_name_that_is_none(check: Any, address: str) -> None:
    """Does not resolve, and says so."""
    seen = await check(80, address=address.encode("ascii", "replace").decode())
    assert seen.outcome in (Outcome.NAME_FAILURE, Outcome.LOCAL_ERROR)


@pytest.mark.parametrize("error", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_a_name_that_does_not_resolve(
    check: Any, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """With the resolver's own reason."""

    def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(error, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    seen = await check(80, address="nats-1.example")
    assert seen.outcome is Outcome.NAME_FAILURE
    assert seen.evidence == ("nats-1.example does not resolve: no such name",)
    assert seen.connect_us == 0 and seen.local == ""


async def test_a_name_that_takes_too_long(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline holds for the resolver too, and its time is told."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20))
    try:
        seen = await check(80, address="nats-1.example")
    finally:
        answered.set()
    assert seen.outcome is Outcome.NAME_FAILURE
    assert seen.evidence == ("nats-1.example does not resolve: no answer within 0.3 s",)
    assert seen.name_us >= TIMEOUT_S * 1e6


async def test_a_name_that_resolves(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To what it resolved is part of the evidence: it may be the fault."""
    async with server(saying(b"hello\r\n")) as port:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOOPBACK, port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        seen = await check(port, address="nats-1.example")
    assert seen.outcome is Outcome.OPEN
    assert seen.evidence[0] == "nats-1.example resolves to 127.0.0.1"


async def test_every_address_of_a_name_is_found(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both families, each once, in an order that does not change with the resolver's mood."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::5", 80, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", 80)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    spec = CheckSpec("d", "d:1", "d.example", 80, Transport.TCP, "tcp", "")
    engine = Engine(asyncio.get_running_loop())
    try:
        job = Job.of(0, spec, Plan("a", "1", 10, 3, "", "", "", (), ()), Contexts.from_pem(""))
        one, other = await Prober(engine, clock.system()).resolve(job, 3)
    finally:
        engine.close()
    assert [one.address, other.address] == [("10.0.0.5", 80), ("fd00::5", 80, 0, 0)]
    assert one.all == other.all == ("10.0.0.5", "fd00::5")
    assert one.facts == ("d.example resolves to 10.0.0.5 and fd00::5",)


@pytest.mark.parametrize(
    ("seen", "at", "facts"),
    [
        pytest.param(("10.0.0.7", 40_001), ("10.0.0.5", 443), (), id="nothing on the way"),
        pytest.param(("10.0.0.7", 40_001), None, (), id="it cannot tell where it arrived"),
        pytest.param(
            ("192.0.2.1", 1024),
            ("10.0.0.5", 443),
            ("the destination saw it come from 192.0.2.1:1024, and not 10.0.0.7:40001",),
            id="source translated",
        ),
        pytest.param(
            ("10.0.0.7", 40_001),
            ("fd00::9", 8443),
            ("it arrived at [fd00::9]:8443, and not 10.0.0.5:443 that was dialled",),
            id="destination translated",
        ),
    ],
)
async def test_what_is_translated_on_the_way_shows(
    seen: tuple[str, int], at: tuple[str, int] | None, facts: tuple[str, ...]
) -> None:
    """By what both ends say of one connection."""
    attempt = Attempt(Transport.TCP, ("10.0.0.5", 443), None, None, reset=True, done=lambda _: None)
    attempt.own = ("10.0.0.7", 40_001)
    told = _translated(Reached(seen, at), attempt)
    assert told == tuple(f"{fact}: address translation, or a proxy, on the way" for fact in facts)


@pytest.mark.parametrize(
    "address",
    ["", " ", "a b", "a\0b", "fe80::1%nosuch", "fe80::1%a\0b", "1.2.3.4.5", "[::1]", "\N{SNOWMAN}"],
)
async def test_an_address_that_makes_no_sense(check: Any, address: str) -> None:
    """A mistake in a topology is an observation, and no end of the agent."""
    seen = await check(9, address=address)
    assert seen.outcome in (Outcome.NAME_FAILURE, Outcome.LOCAL_ERROR, Outcome.UNREACHABLE)
    assert seen.answered_by is None


@linux
@both_families
async def test_a_closed_udp_port(check: Any, closed_port: int, address: str) -> None:
    """An ICMP error came back: refused, like a closed TCP port."""
    seen = await check(closed_port, "udp", address, timeout_s=10)
    assert seen.outcome is Outcome.REFUSED
    assert seen.offender == address


@both_families
async def test_a_udp_port_that_is_silent(check: Any, address: str) -> None:
    """Nobody knows whether anything listens: a time-out, after all the time there was."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as mute:
        mute.bind((address, 0))
        started = time.monotonic()
        seen = await check(mute.getsockname()[1], "udp", address)
        assert time.monotonic() - started >= TIMEOUT_S
    assert seen.outcome is Outcome.TIMEOUT


@linux
@pytest.mark.parametrize("protocol", ["http", "nats", "postgres", "ssh", "tcp"])
async def test_how_a_check_leaves(check: Any, eventually: Any, protocol: str) -> None:
    """By a reset where nothing shall be left on either host, in order where a server would log."""
    ends: list[str] = []

    async def handler(peer: Peer) -> None:
        await peer.say(words)
        try:
            await peer.hear_out()
        except ConnectionResetError:
            ends.append("reset")
        else:
            ends.append("order")

    answers = {"nats": b"INFO {}\r\n", "ssh": b"SSH-2.0-Go\r\n", "postgres": b"N"}
    words = answers.get(protocol, b"HTTP/1.1 200 OK\r\n\r\n")
    async with server(handler) as port:
        seen = await check(port, protocol)
        assert seen.outcome is Outcome.OPEN
        await eventually(lambda: ends)
        assert ends == ["reset" if REGISTRY[protocol].reset else "order"]
        local_port = int(seen.local.rpartition(":")[2])
        if REGISTRY[protocol].reset:
            await eventually(lambda: not left_behind(port, local_port))


def left_behind(port: int, local_port: int) -> list[str]:
    """The kernel's rows of a connection between these two ports."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        ports = {int(end.rpartition(":")[2], 16) for end in line.split()[1:3]}
        if ports == {port, local_port}:
            found.append(line)
    return found


async def test_a_check_that_is_cancelled_closes_its_socket(check: Any, eventually: Any) -> None:
    """An agent that stops lets go of what it holds."""
    ends: list[bytes] = []
    connected = asyncio.Event()

    async def handler(peer: Peer) -> None:
        connected.set()
        with contextlib.suppress(ConnectionResetError):
            await peer.hear_out()
        ends.append(b"")

    async with server(handler) as port:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(check(port, "nats", timeout_s=60))
            await connected.wait()
            task.cancel()
        assert task.cancelled()
        await eventually(lambda: ends)


async def test_many_checks_at_once_keep_their_deadlines(check: Any) -> None:
    """Two hundred stalled ones take no longer than one."""
    async with server(saying(b"")) as port:
        started = time.monotonic()
        seen = await asyncio.gather(*(check(port, "http") for _ in range(200)))
        assert time.monotonic() - started < SLACK_S + TIMEOUT_S
    # On a busy machine not all of them get as far as being connected.
    assert {observation.outcome for observation in seen} <= {Outcome.STALLED, Outcome.TIMEOUT}
