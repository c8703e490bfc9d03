"""Witnesses between two agents: heard is who has the flow, and nobody else gets a word."""

import pytest

from reachmap_agent.witnesses import Witnesses
from reachmap_shared import keys
from reachmap_shared.diagnosis import (
    Phase,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import WindowReply, WindowRequest
from reachmap_shared.vocabulary import ListenerState, Transport

HOST_KEY = keys.host_key(b"secret", "db-1")
PAIR = keys.pair_key(HOST_KEY, keys.source_id("pc-17"))
REQUEST = WitnessRequest(
    "pc-17", "db-1", "c0", Phase.WATCH, "127.0.0.1", 5432, Transport.TCP, "127.0.0.1", 0, 1111, 9.0
)


class Ports:
    """The listeners of the agent that is asked."""

    def __init__(self) -> None:
        self.asked: list[WindowRequest] = []

    def window(self, request: WindowRequest) -> WindowReply:
        self.asked.append(request)
        return WindowReply(ListenerState.LISTENING)


class Line:
    """A bus with just the other agent on it."""

    def __init__(self, other: Witnesses) -> None:
        self.is_connected = True
        self._other = other

    async def ask(self, subject: str, payload: bytes, timeout_s: float, answerer: str) -> bytes:
        assert (subject, answerer) == ("reachmap.witness.db-1.pc-17", "db-1")
        answer = await self._other.answer(subject, payload)
        if answer is None:
            raise BusUnavailable(f"no answer in {timeout_s:g} s")
        return answer


Pair = tuple[Witnesses, Witnesses, Ports]


@pytest.fixture
def pair() -> Pair:
    """Who asks, who is asked, and its listeners."""
    ports = Ports()
    asked = Witnesses("db-1", ports)  # type: ignore[arg-type]
    asks = Witnesses("pc-17", Ports())  # type: ignore[arg-type]
    asked.take_up(HOST_KEY)
    asks.connection = Line(asked)  # type: ignore[assignment]
    return asks, asked, ports


async def test_who_has_the_flow_is_heard(pair: Pair) -> None:
    """It watches, with its own listener open, and no longer than the agent is there."""
    asks, asked, ports = pair
    payload = await asks.ask("db-1", seal(REQUEST, PAIR))
    assert payload is not None
    reply = opened(WitnessReply, payload, PAIR)
    assert (reply.check, reply.state, reply.listens) == ("c0", WitnessState.WATCHING, True)
    assert [(one.port, one.transport) for one in ports.asked] == [(5432, Transport.TCP)]
    asked.close()
    assert asked.refused == 0


@pytest.mark.parametrize("why", ["another key", "another's name", "garbage", "no plan"])
async def test_who_has_not_gets_no_answer_and_is_counted(pair: Pair, why: str) -> None:
    """Not even that it was refused: a name that is no agent's included."""
    asks, asked, ports = pair
    payload = {
        "another key": seal(REQUEST, b"x" * 16),
        "another's name": seal(REQUEST, keys.pair_key(HOST_KEY, keys.source_id("pc-18"))),
        "garbage": b"garbage",
        "no plan": seal(REQUEST, PAIR),
    }[why]
    if why == "no plan":
        fresh = Witnesses("db-1", ports)  # type: ignore[arg-type]
        asks.connection = Line(fresh)  # type: ignore[assignment]
        asked = fresh
    assert await asks.ask("db-1", payload) is None
    assert await asked.answer("reachmap.witness.db-1.", payload) is None
    assert (asked.refused, ports.asked) == (2, [])


@pytest.mark.parametrize("why", ["no bus yet", "away"])
async def test_who_cannot_be_asked(pair: Pair, why: str) -> None:
    """Then the source goes by what it sees alone."""
    asks, asked, ports = pair
    line = Line(asked)
    line.is_connected = False
    asks.connection = None if why == "no bus yet" else line  # type: ignore[assignment]
    assert await asks.ask("db-1", seal(REQUEST, PAIR)) is None
    assert ports.asked == []
