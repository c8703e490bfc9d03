"""The witness: who is heard, and what is told of a check on loopback."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from reachmap_agent.diagnosis import witness as module
from reachmap_agent.diagnosis.packets import Packet
from reachmap_agent.diagnosis.sight import Looking
from reachmap_agent.diagnosis.witness import MAX_WATCHES, Witness
from reachmap_shared import keys
from reachmap_shared.diagnosis import (
    Hop,
    Met,
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
    witness: Witness, windows: Windows, port: int, eventually: Any
) -> None:
    """However long was asked for: then the window is asked for no more, and nothing is told."""
    ask(witness, request(port, seconds=1e9))
    [watch] = witness._watches.values()
    assert watch.until == watch.began + module.MAX_WATCH_S
    await eventually(lambda: len(windows.asked) > 1)
    watch.until, asked = watch.began, len(windows.asked)  # its time is up
    await eventually(lambda: not witness._watches)
    assert len(windows.asked) == asked
    reply = ask(witness, request(port, phase=Phase.TELL))
    assert reply is not None
    assert reply.state is WitnessState.REFUSED


class Walk:
    """Stands where a way back is walked."""

    def __init__(self, answer: Packet) -> None:
        self.answer = answer
        self.goes_on = True

    def hops(self) -> tuple[Hop, ...]:
        return (Hop(1, Met.ICMP, "10.0.0.254"),)

    def close(self) -> None:
        self.goes_on = False


def answered(monkeypatch: pytest.MonkeyPatch, *peers: str) -> list[Walk]:
    """As if these had been answered; returns the walks that are made of it."""
    walks: list[Walk] = []

    def walk(answer: Packet) -> Walk:
        walks.append(Walk(answer))
        return walks[-1]

    packets = tuple(
        Packet(PacketKind.SYN_ACK, "127.0.0.1", peer, 80, BLOCK + 1, 0, "", 7, 8) for peer in peers
    )
    monkeypatch.setattr(Looking, "answers", lambda self: packets)
    monkeypatch.setattr(module, "BackWalk", walk)
    return walks


async def test_the_way_back_is_walked_of_an_answer_that_left(
    witness: Witness, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To whom it went, whatever else the request says; what is known by then is told."""
    walks = answered(monkeypatch, "10.0.0.1")
    ask(witness, request(port))
    reply = ask(witness, request(port, phase=Phase.WALK, local="192.0.2.9", address="192.0.2.8"))
    assert reply is not None
    assert reply.state is WitnessState.WALKING
    assert [walk.answer.destination for walk in walks] == ["10.0.0.1"]
    reply = ask(witness, request(port, phase=Phase.TELL))
    assert reply is not None
    assert reply.testimony is not None
    assert reply.testimony.back == walks[0].hops()
    assert not walks[0].goes_on


async def test_nobody_is_walked_to_who_was_not_answered(
    witness: Witness, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No packet came of the check, or it is not watched, or it is another's."""
    walks = answered(monkeypatch)
    ask(witness, request(port))
    for change in ({}, {"check": "d" * 32}):
        reply = ask(witness, request(port, phase=Phase.WALK, **change))
        assert reply is not None
        assert reply.state is WitnessState.REFUSED
    assert walks == []


async def test_walks_are_few(witness: Witness, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a check, and two to a source in a row."""
    walks = answered(monkeypatch, "10.0.0.1")

    def walk(check: str) -> WitnessState:
        ask(witness, request(port, check=check))
        reply = ask(witness, request(port, check=check, phase=Phase.WALK))
        assert reply is not None
        return reply.state

    assert walk("1") is WitnessState.WALKING
    assert [walk("1"), walk("2"), walk("3")] == [
        WitnessState.BUSY,
        WitnessState.WALKING,
        WitnessState.BUSY,
    ]
    assert len(walks) == 2
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.WALKS[1] + 1)
    assert walk("4") is WitnessState.WALKING
    assert len(walks) == 3
