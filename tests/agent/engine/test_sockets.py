"""Sockets on loopback: handed on where that is safe, closed where it is not, and never kept.

What the network can do to them on the way is tests/lab/handing_on.py's.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reachmap_agent.engine import engine, sockets
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.sockets import HANDS_ON
from reachmap_agent.wire.exchange import Exchange, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

hands_on = pytest.mark.skipif(not HANDS_ON, reason="no socket can be made as good as new here")


def waits() -> Exchange:
    """Take silence for an answer."""
    try:
        yield b""
    except Silence:
        return Verdict(Outcome.OPEN, ("silent",))
    return Verdict(Outcome.OPEN, ("a greeting",))


def asks() -> Exchange:
    """Say something first."""
    try:
        yield b"?"
    except Silence:
        return Verdict(Outcome.OPEN, ("silent",))
    return Verdict(Outcome.OPEN, ("an answer",))


def says_good_bye() -> Exchange:
    """Have a last word."""
    return Verdict(Outcome.OPEN, farewell=b"good bye")
    yield b""


class Chain:
    """Checks that each start while the end of the one before is told."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench
        self.sockets: list[int] = []
        """The kernel's number of each one's socket; no two sockets have the same."""

    async def run(self, *checks: dict[str, Any]) -> list[Attempt]:
        """Run them all; what became of each."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempts: list[Attempt] = []

        def start(*left: dict[str, Any]) -> None:
            def done(attempt: Attempt) -> None:
                attempts.append(attempt)
                if before := left[0].get("first"):
                    before()
                if left[1:]:
                    start(*left[1:])
                else:
                    ended.set_result(None)

            how = {name: value for name, value in left[0].items() if name != "first"}
            self._bench.start(**how, also=done)
            self.sockets.append(number_of(self._bench))

        start(*checks)
        async with asyncio.timeout(20):
            await ended
        return attempts


def number_of(bench: Any) -> int:
    """Of the socket of the attempt that was started last."""
    connection = bench._keep[-1].connection
    return os.fstat(connection.fileno()).st_ino if connection is not None else 0


@pytest.fixture
def chain(bench: Any) -> Chain:
    """On each poller."""
    return Chain(bench)


def outcomes(attempts: list[Attempt]) -> list[Outcome]:
    """What they came to."""
    return [attempt.verdict.outcome for attempt in attempts if attempt.verdict is not None]


@hands_on
async def test_one_socket_for_many(chain, neighbours) -> None:
    """Each check sees its own connection and no other's, whatever the ones before have seen."""
    server = neighbours.listening()
    refused = {"address": neighbours.nobody()}
    opened = {"address": neighbours.address(server)}
    silent = {**opened, "exchange": waits(), "patience_s": 0.05}
    unanswered = {"address": neighbours.crowd(), "timeout_s": 0.1}
    attempts = await chain.run(
        refused, opened, opened, refused, refused, silent, opened, unanswered
    )
    assert len(set(chain.sockets)) == 1
    assert outcomes(attempts) == [
        Outcome.REFUSED,
        Outcome.OPEN,
        Outcome.OPEN,
        Outcome.REFUSED,
        Outcome.REFUSED,
        Outcome.OPEN,
        Outcome.OPEN,
        Outcome.TIMEOUT,
    ]
    for attempt, outcome in zip(attempts, outcomes(attempts), strict=True):
        info = attempt.info
        assert info is not None
        assert (info.retransmits, info.segments_out, info.segments_in) == {
            Outcome.REFUSED: (0, 1, 1),
            Outcome.OPEN: (0, 2, 1),
            Outcome.TIMEOUT: (0, 1, 0),
        }[outcome]
        if outcome is Outcome.OPEN:
            accepted, peer = server.accept()
            with accepted:
                assert attempt.own[:2] == peer[:2]
                with pytest.raises(ConnectionResetError):
                    accepted.recv(1)


@hands_on
async def test_what_the_one_before_did_not_read(chain, neighbours) -> None:
    """A greeting that nobody waited for is not heard by the next check."""
    server = neighbours.listening()
    held: list[socket.socket] = []

    def greet_late() -> None:
        held.append(server.accept()[0])
        held[0].sendall(b"for the first one alone")

    first = {"address": neighbours.address(server), "first": greet_late}
    silent = {
        "address": neighbours.address(neighbours.listening()),
        "exchange": waits(),
        "patience_s": 0.05,
    }
    attempts = await chain.run(first, silent)
    held[0].close()
    assert len(set(chain.sockets)) == 1
    assert attempts[1].verdict is not None
    assert attempts[1].verdict.evidence == ("silent",)


@hands_on
async def test_no_news_of_the_connection_before(
    chain, neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old one has to tell still, and its end, wake nobody for the new one's sake."""
    looks: list[socket.socket] = []

    def look(connection: socket.socket) -> bytes:
        looks.append(connection)
        return sockets.tcp_info(connection)

    monkeypatch.setattr(engine, "tcp_info", look)
    opened = {"address": neighbours.address(neighbours.listening())}
    unanswered = {"address": neighbours.crowd(), "timeout_s": 0.1}
    for before in ({"address": neighbours.nobody()}, opened):
        looks.clear()
        await chain.run(before, unanswered)
        assert len(looks) == 2, "one when the first was ready, one when the second's time was up"


@hands_on
async def test_errors_are_reported_again(chain, neighbours, host: str) -> None:
    """ICMP errors are reported to each check that has the socket."""
    level, option = (41, 25) if ":" in host else (0, 11)
    reported: list[int] = []
    opened = {"address": neighbours.address(neighbours.listening())}
    silent = {**opened, "exchange": waits(), "patience_s": 0.05}
    started = chain._bench.start

    def start(**how: Any) -> Any:
        ended = started(**how)
        reported.append(chain._bench._keep[-1].connection.getsockopt(level, option))
        return ended

    chain._bench.start = start
    await chain.run(silent, opened, opened)
    assert len(set(chain.sockets)) == 1
    assert reported == [1, 1, 1]


async def silence(connection: socket.socket) -> None:
    """Accept and say nothing."""
    await asyncio.sleep(60)


async def greet(connection: socket.socket) -> None:
    """Speak first."""
    await asyncio.get_running_loop().sock_sendall(connection, b"hello")
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "how",
    [
        {"exchange": waits, "patience_s": 2.0, "serve": greet},
        {"exchange": asks, "patience_s": 0.05},
        {"exchange": says_good_bye},
        {"reset": False},
        {"exchange": asks, "timeout_s": 0.05},
        {"exchange": waits, "patience_s": 0.05, "reset": False},
    ],
)
async def test_what_said_or_heard_anything_is_closed(
    chain, neighbours, how: dict[str, Any]
) -> None:
    """And so is what must not end with RST: the next check gets a socket of its own."""
    makes = {"serve": silence, "exchange": lambda: None} | how
    where = neighbours.serving(makes.pop("serve"))
    exchange = makes.pop("exchange")()
    await chain.run({"address": where, "exchange": exchange, **makes}, {"address": where})
    assert len(set(chain.sockets)) == 2


async def test_a_timeout_is_closed(chain, neighbours) -> None:
    """Its answer may still come."""
    opened = {"address": neighbours.address(neighbours.listening())}
    attempts = await chain.run({"address": neighbours.crowd(), "timeout_s": 0.05}, opened)
    assert outcomes(attempts) == [Outcome.TIMEOUT, Outcome.OPEN]
    assert len(set(chain.sockets)) == 2


async def test_one_that_breaks_at_the_last_moment_is_closed(chain, neighbours) -> None:
    """RST that comes while the end is told is no error of the next check's."""
    server = neighbours.listening()
    where = neighbours.address(server)
    opened = {"address": where, "first": lambda: neighbours.end_at_once(server.accept()[0])}
    attempts = await chain.run(opened, {"address": where}, {"address": neighbours.nobody()})
    assert outcomes(attempts) == [Outcome.OPEN, Outcome.OPEN, Outcome.REFUSED]
    assert chain.sockets[0] not in chain.sockets[1:]


async def test_another_kind_of_check_gets_its_own(bench, neighbours, host: str) -> None:
    """Another family or transport cannot use it; one that comes then still can."""
    numbers: list[int] = []
    mute = neighbours.address(neighbours.bound(socket.SOCK_DGRAM))
    nobody = neighbours.nobody()
    other = ("127.0.0.1" if ":" in host else "::1", nobody[1])
    over: list[Any] = []

    def go_on(_: Attempt) -> None:
        for how in (
            {"address": mute, "exchange": waits(), "transport": Transport.UDP, "timeout_s": 0.05},
            {"address": other, "timeout_s": 0.1},
            {"address": nobody},
            {"address": nobody},
        ):
            over.append(bench.start(**how))
            numbers.append(number_of(bench))

    ended = bench.start(nobody, also=go_on)
    first = number_of(bench)
    await ended
    async with asyncio.timeout(5):
        seen = outcomes(await asyncio.gather(*over))
    assert seen[0] is Outcome.OPEN
    assert seen[2:] == [Outcome.REFUSED, Outcome.REFUSED]
    assert [number == first for number in numbers] == [False, False, HANDS_ON, False]


async def test_nothing_is_kept(bench, neighbours, open_descriptors) -> None:
    """A socket that nobody takes is closed as soon as the end is told, and the server sees RST."""
    server = neighbours.listening()
    for where in (neighbours.nobody(), neighbours.address(server)):
        before = open_descriptors()
        await bench.check(where)
        assert open_descriptors() == before
    accepted, _ = server.accept()
    with accepted, pytest.raises(ConnectionResetError):
        accepted.recv(1)


@hands_on
async def test_no_descriptor_is_needed(chain, neighbours, few_descriptors) -> None:
    """A check that takes a socket over starts where no other could."""
    give_back: list[Callable[[], None]] = []
    nobody = neighbours.nobody()
    first = {"address": nobody, "first": lambda: give_back.append(few_descriptors())}
    last = {"address": nobody, "first": lambda: give_back[0]()}
    assert outcomes(await chain.run(first, {"address": nobody}, last)) == [Outcome.REFUSED] * 3


async def test_the_end_of_the_engine_while_one_is_told(bench, neighbours, open_descriptors) -> None:
    """Whoever is told may close the engine, or fail: no descriptor is left either way."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail(_: Attempt) -> None:
        raise ValueError("cannot")

    before = open_descriptors()
    opened = neighbours.listening()
    with opened:
        for where in (neighbours.nobody(), neighbours.address(opened)):
            held = open_descriptors()
            await bench.check(where, also=fail)
            assert open_descriptors() == held
        await bench.check(neighbours.address(opened), also=lambda _: bench.engine.close())
    assert len(complaints) == 2
    assert open_descriptors() - before <= {entry for entry in held if "socket" in entry}


@pytest.fixture
def no_ctypes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Python that was built without libffi."""
    sockets._disconnect.cache_clear()
    monkeypatch.setitem(sys.modules, "ctypes", None)
    yield
    sockets._disconnect.cache_clear()


async def test_without_ctypes(chain, neighbours, no_ctypes: None) -> None:
    """Nobody can disconnect a socket, so each check has its own."""
    opened = {"address": neighbours.address(neighbours.listening())}
    nobody = {"address": neighbours.nobody()}
    attempts = await chain.run(opened, opened, nobody, opened)
    assert outcomes(attempts) == [Outcome.OPEN, Outcome.OPEN, Outcome.REFUSED, Outcome.OPEN]
    assert len(set(chain.sockets)) == 4


async def test_a_kernel_that_remembers(chain, neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where counts of the connection before may be left, each check has its own socket."""
    monkeypatch.setattr(sockets, "HANDS_ON", False)
    opened = {"address": neighbours.address(neighbours.listening())}
    nobody = {"address": neighbours.nobody()}
    attempts = await chain.run(nobody, opened, nobody, opened)
    assert outcomes(attempts) == [Outcome.REFUSED, Outcome.OPEN] * 2
    assert len(set(chain.sockets)) == 4


@hands_on
async def test_to_disconnect_in_vain() -> None:
    """It is told: then the socket is not taken for a new one."""
    assert sockets._disconnect()(-1) != 0
