"""Looking into a flow, with a real witness on loopback, and into many, as they fail."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from reachmap_agent.credentials import Contexts
from reachmap_agent.diagnosis import diagnoser, policy, walk
from reachmap_agent.diagnosis.diagnoser import Case, Diagnoser, Near
from reachmap_agent.diagnosis.policy import SETTLE_S
from reachmap_agent.diagnosis.runner import Runner
from reachmap_agent.diagnosis.witness import MAX_WATCHES, Witness
from reachmap_agent.prober import Job
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.exchange import Offer
from reachmap_agent.wire.proof import Identity
from reachmap_shared import codec, keys
from reachmap_shared.diagnosis import (
    Diagnosis,
    Met,
    Phase,
    Relation,
    Silenced,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.messages import CheckSpec, Observation, Plan
from reachmap_shared.vocabulary import ListenerState, Outcome, Transport

HOST_KEY = keys.host_key(b"secret", "b")
PAIR = keys.pair_key(HOST_KEY, keys.source_id("a"))


def job(port: int, slot: int = 0, key: bytes = PAIR) -> Job:
    plan = Plan("a", "1", 10, 3, "", keys.to_text(b"d"), "", (), ())
    text = keys.to_text(key) if key else ""
    spec = CheckSpec("b", f"x:{port}", "127.0.0.1", port, Transport.TCP, "tcp", text)
    return Job.of(slot, spec, plan, Contexts.from_pem(""))


def seen(slot: int, outcome: Outcome = Outcome.REFUSED, address: str = "") -> Observation:
    return Observation(slot, 0, outcome, None, True, 0, 0, 0, "", (), address=address)


async def no_window(_spec: CheckSpec, _seconds: float) -> None:
    raise AssertionError("no window is needed")


class Bus:
    """Carries requests to a witness as the bus would, in bytes."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.asked: list[Phase] = []

    async def ask(self, destination: str, request: bytes) -> bytes | None:
        assert destination == "b"
        self.asked.append(opened(WitnessRequest, request, PAIR).phase)
        return self.witness.answer("a", request, HOST_KEY)


@pytest.fixture
async def carried() -> AsyncIterator[Bus]:
    witness = Witness("b", lambda transport, port, seconds: ListenerState.READY)
    yield Bus(witness)
    witness.close()


async def diagnosed(ask: object, port: int, **changes: object) -> Diagnosis:
    made = Diagnoser(ask, random.Random(1), lambda: 5_000, no_window)
    return await made.diagnose(replace(Case("a", "rev", job(port)), **changes))


async def test_both_ends_are_in_one_diagnosis(carried: Bus, port: int) -> None:
    """A refusal: what met the check, its way, what the destination saw of it, under one id."""
    found = await diagnosed(carried.ask, port, others=7)
    assert (found.source, found.destination, found.plan, found.others) == ("a", "b", "rev", 7)
    assert found.at_ms == 5_000
    assert found.path.first.outcome is Outcome.REFUSED
    assert [hop.met for hop in found.path.walk] == [Met.RST]
    assert found.testimony is not None
    assert found.testimony.listens is False
    assert found.silenced is None
    assert found.path.last is not None
    used = {found.path.first.port, found.path.last.port, *(hop.port for hop in found.path.walk)}
    assert used <= set(found.path.drawn)
    assert carried.asked == [Phase.WATCH, Phase.TELL]
    assert codec.decode(Diagnosis, codec.encode(found)) == found


async def test_what_went_well_meanwhile_is_not_walked(carried: Bus, port: int) -> None:
    """A few packets, and the witness is let go."""
    with socket.create_server(("127.0.0.1", port)):
        found = await diagnosed(carried.ask, port)
    assert found.path.first.outcome is Outcome.OPEN
    assert (found.path.walk, found.path.last) == ((), None)
    assert carried.asked == [Phase.WATCH, Phase.TELL]


async def test_a_connection_that_stalls_is_looked_into_soon(carried: Bus, port: int) -> None:
    """All that needs patience is waited for at once: it is known before ten seconds are over."""
    stalls = job(port)
    stalls = replace(stalls, protocol=REGISTRY["http"])
    with (
        socket.create_server(("127.0.0.1", port)),
        socket.create_server(("127.0.0.1", port + 1)),
    ):
        began = time.monotonic()
        near = Near(Relation.SAME_HOST, job(port + 1, 1))
        found = await diagnosed(carried.ask, port, job=stalls, near=(near,))
        took_s = time.monotonic() - began
    assert found.path.first.outcome is Outcome.STALLED
    assert found.path.last is not None
    assert found.path.last.outcome is Outcome.STALLED
    assert [rung.outcome for rung in found.path.ladder] == [Outcome.STALLED]
    assert [hop.met for hop in found.path.payload_walk] == [Met.DATA]
    assert [one.outcome for one in found.path.related] == [Outcome.OPEN]
    # It began a second after the flow broke, and there are hops to wait for, where there is a way.
    assert took_s < 10 - SETTLE_S - 1.4


async def test_a_listener_that_hears_late_of_its_visitor_is_no_impostor(port: int) -> None:
    """As where the handshake's last packet was lost: the one before it comes again in a second."""
    identity = Identity("b", HOST_KEY, b"d")

    async def stand_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.0)
        exchange = REGISTRY["tcp"].stand_in(Offer(identity, writer.get_extra_info("peername")[:2]))
        try:
            writer.write(next(exchange))
            while True:
                writer.write(exchange.send(await reader.read(1000)))
        except StopIteration as stopped:
            writer.write(stopped.value)
        writer.close()

    witness = Witness("b", lambda transport, port, seconds: ListenerState.LISTENING)
    async with await asyncio.start_server(stand_in, "127.0.0.1", port):
        found = await diagnosed(Bus(witness).ask, port)
    witness.close()
    assert (found.path.first.outcome, found.path.first.proven) == (Outcome.OPEN, True)


async def test_where_no_agent_is_nobody_is_asked(carried: Bus, port: int) -> None:
    """And that is said."""
    found = await diagnosed(carried.ask, port, job=job(port, key=b""))
    assert (found.testimony, found.silenced) == (None, Silenced.NO_AGENT)
    assert carried.asked == []


async def test_a_witness_that_does_not_answer_holds_up_nothing(port: int) -> None:
    """Neither at first nor at last."""

    async def silent(_destination: str, _request: bytes) -> None:
        return None

    assert (await diagnosed(silent, port)).silenced is Silenced.NO_ANSWER


async def test_a_witness_that_is_late(carried: Bus, port: int) -> None:
    """It watched, and what it saw came too late."""

    async def ask(destination: str, request: bytes) -> bytes | None:
        if opened(WitnessRequest, request, PAIR).phase is Phase.WATCH:
            return await carried.ask(destination, request)
        return None

    assert (await diagnosed(ask, port)).silenced is Silenced.LATE


@pytest.mark.parametrize(("check", "key"), [("", b"x" * 16), ("another", PAIR)])
async def test_whoever_is_not_the_witness_is_not_believed(
    carried: Bus, port: int, check: str, key: bytes
) -> None:
    """By its key, and for this check."""

    async def ask(destination: str, request: bytes) -> bytes | None:
        payload = await carried.ask(destination, request)
        assert payload is not None
        reply = opened(WitnessReply, payload, PAIR)
        return seal(replace(reply, check=check or reply.check), key)

    found = await diagnosed(ask, port)
    assert (found.testimony, found.silenced) == (None, Silenced.FORGED)


@pytest.fixture
def mute(port: int) -> Iterator[int]:
    """A port where SYNs meet with silence: a queue of one, and one in it."""
    with socket.socket() as server, socket.socket() as first:
        server.bind(("127.0.0.1", port))
        server.listen(0)
        first.connect(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("walks", [True, False])
async def test_the_way_back_is_walked_where_nothing_is_heard(
    carried: Bus, mute: int, monkeypatch: pytest.MonkeyPatch, *, walks: bool
) -> None:
    """By a witness that says that it can; one of an older version is not asked what it cannot read."""
    monkeypatch.setattr(diagnoser, "_CHECK_S", 0.2)
    monkeypatch.setattr(diagnoser, "_QUICK_S", 0.1)
    monkeypatch.setattr(walk, "_LISTEN_S", 0.1)

    async def ask(destination: str, request: bytes) -> bytes | None:
        payload = await carried.ask(destination, request)
        assert payload is not None
        return seal(replace(opened(WitnessReply, payload, PAIR), walks=walks), PAIR)

    found = await diagnosed(ask, mute)
    assert found.path.first.met is Met.SILENCE
    between = [Phase.WALK] if walks else []
    assert carried.asked == [Phase.WATCH, *between, Phase.TELL]


async def test_a_busy_witness_is_spared(carried: Bus, port: int) -> None:
    """So many others look into that host already: no walk adds to it."""
    for number in range(MAX_WATCHES):
        request = WitnessRequest(
            "a", "b", str(number), Phase.WATCH, "127.0.0.1", port, Transport.TCP, "", 0, 0, 30.0
        )
        payload = await carried.ask("b", seal(request, PAIR))
        assert payload is not None
        assert opened(WitnessReply, payload, PAIR).state is WitnessState.WATCHING
    found = await diagnosed(carried.ask, port)
    assert (found.silenced, found.path.walk) == (Silenced.BUSY, ())


async def test_a_flow_that_fails_is_looked_into(
    carried: Bus, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, once; another flow of the host is compared with."""
    monkeypatch.setattr(policy, "SETTLE_S", 0.05)
    sent: asyncio.Queue[Diagnosis] = asyncio.Queue()
    runner = Runner(
        "a", Diagnoser(carried.ask, random.Random(1), lambda: 5_000, no_window), sent.put_nowait
    )
    with socket.create_server(("127.0.0.1", port + 1)):
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(runner.run())
            runner.apply("rev", [job(port), job(port + 1, 1)], 10.0)
            runner.saw("rev", seen(1, Outcome.OPEN))
            for _ in range(3):
                runner.saw("rev", seen(0))
            found = await sent.get()
            assert (found.slot, found.plan) == (0, "rev")
            assert [(one.port, one.outcome) for one in found.path.related] == [
                (port + 1, Outcome.OPEN)
            ]
            runner.saw("rev", seen(0))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sent.get(), 0.3)
            running.cancel()


async def test_a_flow_nearby_may_need_a_window(carried: Bus, port: int) -> None:
    """Where its own listener is all that is there: it is asked for, and the flow compared with."""
    listening = []

    async def window(spec: CheckSpec, seconds: float) -> None:
        assert seconds > 0
        listening.append(socket.create_server(("127.0.0.1", spec.port)))

    near = job(port + 1, 1)
    near = replace(near, spec=replace(near.spec, window=True))
    made = Diagnoser(carried.ask, random.Random(1), lambda: 5_000, window)
    found = await made.diagnose(Case("a", "rev", job(port), (Near(Relation.SAME_HOST, near),)))
    [server] = listening
    server.close()
    [compared] = found.path.related
    assert (compared.port, compared.outcome) == (port + 1, Outcome.OPEN)
    assert compared.walk


async def test_a_first_failure_may_be_a_lost_packet(
    carried: Bus, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing confirms it, where nothing was seen before; the next is looked into."""
    monkeypatch.setattr(policy, "SETTLE_S", 0.05)
    sent: asyncio.Queue[Diagnosis] = asyncio.Queue()
    runner = Runner(
        "a", Diagnoser(carried.ask, random.Random(1), lambda: 5_000, no_window), sent.put_nowait
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(runner.run())
        runner.apply("rev", [job(port)], 10.0)
        runner.saw("rev", seen(0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent.get(), 0.5)
        runner.saw("rev", seen(0))
        assert (await sent.get()).slot == 0
        running.cancel()


async def test_what_nobody_asks_about_is_not_looked_into(
    carried: Bus, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow that must not work, one of a plan that is no more, a name that leads nowhere."""
    monkeypatch.setattr(policy, "SETTLE_S", 0.05)
    sent: asyncio.Queue[Diagnosis] = asyncio.Queue()
    runner = Runner(
        "a", Diagnoser(carried.ask, random.Random(1), lambda: 5_000, no_window), sent.put_nowait
    )
    forbidden, named = job(port), job(port, 1)
    forbidden = replace(forbidden, spec=replace(forbidden.spec, forbidden=True))
    named = replace(named, spec=replace(named.spec, address="b.example"), address=None)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(runner.run())
        runner.apply("rev", [forbidden, named, job(port, 2)], 10.0)
        for _ in range(2):
            runner.saw("rev", seen(0))
            runner.saw("rev", seen(1, Outcome.UNREACHABLE))
            runner.saw("another", seen(2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent.get(), 0.5)
        for _ in range(2):
            runner.saw("rev", seen(1, address="127.0.0.1"))
        found = await sent.get()
        assert (found.slot, found.address) == (1, "127.0.0.1")
        running.cancel()


async def test_addresses_that_a_name_had_are_forgotten() -> None:
    """However often it moves, what is kept of it is what it has now."""
    runner = Runner("a", Diagnoser(no_window, random.Random(1), lambda: 0, no_window), print)
    named = job(80)
    named = replace(named, spec=replace(named.spec, address="b.example"), address=None)
    runner.apply("rev", [named, job(81, 1)], 10.0)
    runner.saw("rev", seen(1, Outcome.OPEN))
    for number in range(100):
        now = tuple(f"192.0.2.{number + one}" for one in (0, 1))
        for address in now:
            for outcome in (Outcome.REFUSED, Outcome.OPEN, Outcome.REFUSED):
                runner.saw("rev", replace(seen(0, outcome, address), resolved=now))
        kept = {(1, "127.0.0.1"), *((0, address) for address in now)}
        assert set(runner._works) == set(runner._flows) == kept
        assert set(runner._policy._known) == kept - {(1, "127.0.0.1")}
