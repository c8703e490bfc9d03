"""The witness: who is heard, and what is told of a check on loopback."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from reachmap_agent.diagnosis import witness as module
from reachmap_agent.diagnosis.witness import MAX_WATCHES, Witness
from reachmap_shared import keys
from reachmap_shared.diagnosis import (
    PacketKind,
    Phase,
    RowState,
    TapState,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.vocabulary import ListenerState, Transport

HOST_KEY = keys.host_key(b"secret", "b")
PAIR = keys.pair_key(HOST_KEY, keys.source_id("a"))
BLOCK = 50_048


def request(port: int, **changes: object) -> WitnessRequest:
    made = WitnessRequest(
        "a",
        "b",
        "c" * 32,
        Phase.WATCH,
        "127.0.0.1",
        port,
        Transport.TCP,
        "127.0.0.1",
        BLOCK,
        1111,
        5.0,
    )
    return replace(made, **changes)


class Windows:
    """Stands where a host's listeners are, and says what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, transport: Transport, port: int, seconds: float) -> ListenerState:
        assert transport is Transport.TCP
        assert 0 < seconds <= 1
        self.asked.append(port)
        return ListenerState.CEDED


@pytest.fixture
def windows() -> Windows:
    return Windows()


@pytest.fixture
async def witness(windows: Windows) -> "Iterator[Witness]":
    made = Witness("b", windows)
    yield made
    made.close()


def ask(witness: Witness, asked: WitnessRequest, source: str = "a") -> WitnessReply | None:
    payload = witness.answer(source, seal(asked, PAIR), HOST_KEY)
    return opened(WitnessReply, payload, PAIR) if payload is not None else None


async def test_a_check_is_watched_and_told(witness: Witness, windows: Windows, port: int) -> None:
    """Its connection, that something listens, and the packets where it may see them."""
    with socket.create_server(("127.0.0.1", port)):
        reply = ask(witness, request(port))
        assert reply is not None
        assert reply.state is WitnessState.WATCHING
        with socket.socket() as dialler:
            dialler.bind(("127.0.0.1", BLOCK + 1))
            dialler.connect(("127.0.0.1", port))
            reply = ask(witness, request(port, phase=Phase.TELL))
    assert reply is not None
    told = reply.testimony
    assert told is not None
    assert told.is_local
    assert told.listens
    assert told.route_back == 0
    assert [(row.state, row.peer_port) for row in told.rows] == [(RowState.ESTABLISHED, BLOCK + 1)]
    assert windows.asked[0] == port
    if told.sight.tap is TapState.WORKS:
        assert (PacketKind.SYN, BLOCK + 1) in {(one.kind, one.port) for one in told.sight.packets}
    else:
        assert told.sight.tap is TapState.FORBIDDEN


async def test_nobody_listens(witness: Witness, port: int) -> None:
    """That is told as a fact."""
    ask(witness, request(port))
    reply = ask(witness, request(port, phase=Phase.TELL))
    assert reply is not None
    assert reply.testimony is not None
    assert reply.testimony.listens is False


@pytest.mark.parametrize(
    ("source", "change", "key"),
    [
        ("a", {}, b"x" * 16),
        ("x", {}, PAIR),
        ("a", {"source": "x"}, PAIR),
        ("a", {"destination": "x"}, PAIR),
        ("a", {"port": 0}, PAIR),
        ("a", {"port": 70_000}, PAIR),
        ("a", {"block": 7}, PAIR),
        ("a", {"block": 65_536}, PAIR),
        ("a", {"block": -64}, PAIR),
    ],
)
async def test_who_may_not_ask_is_not_heard(
    witness: Witness,
    windows: Windows,
    port: int,
    source: str,
    change: dict[str, object],
    key: bytes,
) -> None:
    """Neither another's request, nor one for another, nor nonsense: no window opens for them."""
    asked = seal(replace(request(port), **change), key)
    assert witness.answer(source, asked, HOST_KEY) is None
    assert windows.asked == []


async def test_only_so_many_are_watched(witness: Witness, port: int) -> None:
    """The rest hears that it is busy, and a place is free again when one is told."""
    for number in range(MAX_WATCHES):
        reply = ask(witness, request(port, check=str(number)))
        assert reply is not None
        assert reply.state is WitnessState.WATCHING
    more = ask(witness, request(port, check="more"))
    assert more is not None
    assert more.state is WitnessState.BUSY
    ask(witness, request(port, check="0", phase=Phase.TELL))
    again = ask(witness, request(port, check="more"))
    assert again is not None
    assert again.state is WitnessState.WATCHING


async def test_what_was_not_watched_is_not_told(witness: Witness, port: int) -> None:
    """Nor is anything told twice, nor watched twice."""
    ask(witness, request(port))
    states = [
        ask(witness, request(port)),
        ask(witness, request(port, check="d" * 32, phase=Phase.TELL)),
        ask(witness, request(port, phase=Phase.TELL)),
        ask(witness, request(port, phase=Phase.TELL)),
    ]
    assert [reply.state for reply in states if reply] == [
        WitnessState.REFUSED,
        WitnessState.REFUSED,
        WitnessState.TOLD,
        WitnessState.REFUSED,
    ]


async def test_a_watch_ends_by_itself(
    witness: Witness, windows: Windows, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long was asked for: then the window is asked for no more, and nothing is told."""
    monkeypatch.setattr(module, "MAX_WATCH_S", 0.3)
    ask(witness, request(port, seconds=1e9))
    while len(windows.asked) < 2:
        await asyncio.sleep(0.01)
    while witness._watches:
        await asyncio.sleep(0.01)
    reply = ask(witness, request(port, phase=Phase.TELL))
    assert reply is not None
    assert reply.state is WitnessState.REFUSED
