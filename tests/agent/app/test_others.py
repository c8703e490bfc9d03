"""Of use to other agents: windows and witnesses for who has the flow; and what it looks into itself."""

import dataclasses
import socket
from typing import Any

import pytest
from agent_at_work import LOOPBACK, ME, OWN, FakeBus, check, plan, running

from reachmap_agent import app
from reachmap_agent.diagnosis import policy
from reachmap_shared import codec, keys
from reachmap_shared.diagnosis import (
    Diagnosis,
    Phase,
    Silenced,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.messages import (
    Hello,
    ListenerSpec,
    Report,
    ReportKind,
    WindowReply,
    WindowRequest,
)
from reachmap_shared.vocabulary import ListenerState, ListenMode, Outcome, Transport

pytestmark = pytest.mark.usefixtures("garbage_stays")


WINDOW = "reachmap.window.pc-17.pc-18"


PAIR = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-18"))


def request(proved: int, key: bytes = PAIR, source: str = "pc-18", **its: Any) -> bytes:
    said = ("window", source, "pc-17", proved, Transport.TCP)
    asked = WindowRequest(source, proved, Transport.TCP, 2.0, keys.request_mac(key, *said))
    return codec.encode(dataclasses.replace(asked, **its))


async def test_a_window_is_opened_for_those_who_have_the_flow(
    fake: FakeBus, eventually: Any, port: int
) -> None:
    """Their plan has the pair's key; nobody else gets a port opened, or learns who holds it."""
    on_demand = ListenerSpec("web:80", port, Transport.TCP, "tcp", ListenMode.ON_DEMAND)
    other = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-19"))
    refused = {
        "no MAC": (WINDOW, request(port, mac="")),
        "another's key": (WINDOW, request(port, other)),
        "no ASCII": (WINDOW, request(port, mac="ä")),
        "for another port": (WINDOW, request(port + 1, port=port)),
        "for UDP": (WINDOW, request(port, transport=Transport.UDP)),
        "in another's name": ("reachmap.window.pc-17.pc-19", request(port)),
    }
    async with running():
        await eventually(lambda: fake.said(Hello))
        ask = fake.handlers["reachmap.window.pc-17.*"]
        reply = codec.decode(WindowReply, await ask(WINDOW, request(port)))
        assert reply.state is ListenerState.FAILED, "there is no plan yet"
        fake.tell(plan("r1", listeners=(on_demand,)))
        for why, (subject, payload) in refused.items():
            reply = codec.decode(WindowReply, await ask(subject, payload))
            assert reply.state is ListenerState.FAILED, why
            assert "of no plan" in reply.detail
        for subject, payload in ((WINDOW, b"garbage"), ("reachmap.window", request(port))):
            reply = codec.decode(WindowReply, await ask(subject, payload))
            assert reply.state is ListenerState.FAILED
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port))
        reply = codec.decode(WindowReply, await ask(WINDOW, request(port)))
        assert reply.state is ListenerState.LISTENING
        with socket.create_connection((LOOPBACK, port)):
            pass


async def test_a_witness_watches_for_those_who_have_the_flow(
    fake: FakeBus, eventually: Any, port: int
) -> None:
    """By the key that its host's plan brings; others get no word."""
    pair = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-18"))
    subject = "reachmap.witness.pc-17.pc-18"
    asked = WitnessRequest(
        *("pc-18", "pc-17", "c0", Phase.WATCH, LOOPBACK, port, Transport.TCP, LOOPBACK),
        *(0, 1111, 9.0),
    )
    async with running():
        await eventually(lambda: fake.said(Hello))
        ask = fake.handlers["reachmap.witness.pc-17.*"]
        assert await ask(subject, seal(asked, pair)) is None, "there is no plan yet"
        fake.tell(plan("r1"))
        assert await ask(subject, seal(asked, b"x" * 16)) is None
        reply = opened(WitnessReply, await ask(subject, seal(asked, pair)), pair)
        assert reply.state is WitnessState.WATCHING


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_flow_that_breaks_is_looked_into(
    fake: FakeBus, eventually: Any, port: int, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """By itself, and reported like a change, unless that is switched off; the checks go on."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(policy, "SETTLE_S", 0.05)
    broken = dataclasses.replace(check(port), key="")

    def diagnoses() -> list[Report]:
        return [one for one in fake.said(Report) if one.kind is ReportKind.DIAGNOSIS]

    async with running(dataclasses.replace(ME, diagnosis=wanted)):
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", broken, interval_s=0.2))
        await eventually(diagnoses if wanted else lambda: fake.pulse().plan == "r1")
        await eventually(lambda: fake.pulse().made > 2)
    if not wanted:
        assert diagnoses() == []
        return
    [report] = diagnoses()
    found = codec.decode(Diagnosis, report.body)
    assert (found.plan, found.slot, found.silenced) == ("r1", 0, Silenced.NO_AGENT)
    assert found.path.first.outcome is Outcome.REFUSED
    assert 0 < found.at_ms <= report.sent_ms
