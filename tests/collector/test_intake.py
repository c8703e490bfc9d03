"""Reports come from a real stream to the map and the store: none is lost, and none counts twice."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.collector import Collector
from reachmap_collector.intake import Intake, Origin
from reachmap_collector.queries import Queries
from reachmap_collector.streams import StreamSettings
from reachmap_shared import codec, subjects
from reachmap_shared.bus import Bus, Delivery
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Report
from reachmap_shared.vocabulary import Outcome

OPEN, DOWN = Outcome.OPEN, Outcome.TIMEOUT


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its time in earnest is to come about at once."""
    monkeypatch.setattr("reachmap_collector.intake._LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("reachmap_collector.intake._RETRY_S", 0.05)
    monkeypatch.setattr("reachmap_collector.intake._EXPIRES_S", 0.5)
    monkeypatch.setattr("reachmap_collector.intake._GRACE_S", 0.5)
    monkeypatch.setattr("reachmap_collector.keeper._RETRY_S", 0.05)


@pytest.fixture
def agent(collector_of: Any, agent_of: Any) -> Any:
    """The agent on pc-1, with three flows."""
    return agent_of(collector_of().planning.plans["pc-1"])


async def send(bus: Bus, *reports: Report) -> None:
    """Publish reports, each until the stream has it, as an agent does."""
    for report in reports:
        await send_raw(bus, report.agent, codec.encode(report))


async def send_raw(bus: Bus, agent: str, payload: bytes) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                answer = await bus.request(subjects.report(agent), payload, 1)
            except BusUnavailable:
                await asyncio.sleep(0.02)
            else:
                if "error" not in json.loads(answer.payload):
                    return


def busy(agent: Any, rounds: int = 10) -> list[Report]:
    """What an agent sends that sees flows come and go."""
    reports = []
    for number in range(rounds):
        for index in range(3):
            agent.clock_ms += 100
            agent.sees(index, DOWN if (number + index) % 2 else OPEN)
        reports += [agent.changes(), agent.roll_up()]
    return reports


def received(collector: Collector) -> int:
    return sum(account.observations for account in collector.ledger)


def last_seen(collector: Collector) -> list[Outcome]:
    records = [record for record in collector.flows if record.key.source == "pc-1"]
    return [record.last.outcome for record in records if record.last is not None]


def is_done(collector: Collector) -> bool:
    """Whether all was acknowledged and purged."""
    lag = collector._intake.lag
    return (lag.messages, lag.pending, lag.unacknowledged) == (0, 0, 0) and lag.floor > 0


@pytest.fixture
def serving(jetstream: Any, store: Any, running: Any, eventually: Any) -> Callable[[], Any]:
    """A collector at work, which has what it needs of the stream; each time another."""

    @asynccontextmanager
    async def serve() -> AsyncIterator[Any]:
        async with running(jetstream.url, store) as (collector, bus):
            await eventually(lambda: store.is_away or collector._intake._is_set_up)
            yield collector, bus

    return serve


def status_of(collector: Collector) -> Any:
    """What `reachmap status` is told."""
    return Queries(collector).moment().status


def is_kept(kept: Any, agent: Any) -> bool:
    """Whether the store has every change and every observation of an agent, once."""
    changes = sum(1 for row in kept.history(limit=5000).transitions if row.boot == agent.boot)
    counted = sum(row.observations for row in kept.received())
    told = max((change.number + 1 for change in agent.told.values()), default=0)
    return bool(changes == told and counted == agent.made)


async def test_reports_come_to_the_map_and_into_the_store(
    serving: Any, kept: Any, eventually: Any, agent: Any
) -> None:
    """They are acknowledged, and the stream lets go of them."""
    async with serving() as (collector, bus):
        await send(bus, *busy(agent))
        await eventually(lambda: is_kept(kept, agent))
        assert last_seen(collector) == [DOWN, OPEN, DOWN]
        assert received(collector) == agent.made
        await eventually(lambda: is_done(collector))
        assert len(list(kept.rollups("pc-1", 0, time.time()))) == 10
        assert status_of(collector)["delivery"]["lag"] == 0
        assert collector.refused == {}


async def test_times_are_as_of_the_sending(
    serving: Any, eventually: Any, agent: Any, on_bus: Bus
) -> None:
    """However long a report lay in the stream, and whatever the agent's clocks say."""
    async with serving():
        await send(on_bus)
        await eventually(lambda: streams_there(on_bus))
    agent.sees(0)
    agent.clock_ms += 5000
    before = time.time()
    await send(on_bus, replace(agent.changes(), wall_ms=0))
    sent = time.time()
    await eventually(lambda: time.time() > sent + 1.5)
    async with serving() as (collector, _):
        await eventually(lambda: last_seen(collector))
        [checked] = {record.checked for record in collector.flows if record.last}
    assert before - 5.2 <= checked <= sent - 5 + 0.2


async def streams_there(bus: Bus) -> bool:
    answer = await bus.request(f"$JS.API.STREAM.INFO.{subjects.REPORT_STREAM}", b"", 5)
    return "error" not in json.loads(answer.payload)


async def test_reports_that_come_twice_or_out_of_order_count_once(
    serving: Any, kept: Any, eventually: Any, agent: Any
) -> None:
    """An agent that did not hear that its report was taken sends it again."""
    reports = busy(agent)
    async with serving() as (collector, bus):
        await send(bus, *reports[::-1], *reports[::3], *agent.state(2))
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert last_seen(collector) == [DOWN, OPEN, DOWN]
        assert received(collector) == agent.made
        assert status_of(collector)["delivery"]["duplicates"] == len(reports[::3])


async def test_what_is_wrong_stops_nothing(
    serving: Any, store: Any, kept: Any, eventually: Any, agent: Any
) -> None:
    """It is counted and kept aside, and the stream lets go of it: what comes after is taken."""
    good = busy(agent, 2)
    whole = codec.encode(good[0])
    wrong = [
        b"",
        os.urandom(1000),
        whole[: len(whole) // 2],
        os.urandom(900_000),
        b"\x98\x63" + whole[2:],  # a schema of the future
        codec.encode(replace(good[1], agent="web-1")),
    ]
    async with serving() as (collector, bus):
        for payload, report in zip(wrong, [*good, *good], strict=False):
            await send_raw(bus, "pc-1", payload)
            await send(bus, report)
        await send_raw(bus, "evil", codec.encode(good[0]))
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert collector.refused == {"malformed report": 7}
        assert status_of(collector)["refused_messages"] == {"malformed report": 7}
        letters = kept.dead_letters()
        assert len(letters) == 7
        assert status_of(collector)["store"]["dead_letters"] == 7
        assert {letter.subject for letter in letters} == {
            "reachmap.report.pc-1",
            "reachmap.report.evil",
        }
        assert any("schema 99" in letter.reason for letter in letters)
        assert sum("it claims to be from" in letter.reason for letter in letters) == 2
        assert max(len(letter.payload) for letter in letters) == 16 * 1024
        assert last_seen(collector) == [DOWN, OPEN, DOWN]


@pytest.mark.parametrize(
    "headers",
    [
        b"NATS/1.0\r\nno header\r\n\r\n",
        b"NATS/1.0\r\n: \r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\n\r\n",
        b"NATS/1.0 503\r\nStatus: 409\r\n\r\n",
        b"rubbish\r\n\r\n",
        b"NATS/1.0\r\n" + b"a: \xff\xfe\r\n\r\n",
    ],
)
async def test_headers_that_are_none_stop_nothing(
    serving: Any, jetstream: Any, kept: Any, eventually: Any, agent: Any, headers: bytes
) -> None:
    """Whoever may publish may send any octets as headers, and a status as if it were the bus's."""
    async with serving() as (collector, bus):
        reader, writer = await asyncio.open_connection("127.0.0.1", jetstream.port)
        with contextlib.closing(writer):
            size = len(headers)
            writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
            writer.write(b"HPUB reachmap.report.pc-1 %d %d\r\n" % (size, size + 1))
            writer.write(headers + b"x\r\nPING\r\n")
            async with asyncio.timeout(5):
                while (await reader.readline()) not in (b"PONG\r\n", b""):
                    pass
        await send(bus, *busy(agent, 2))
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))


async def test_a_report_that_breaks_the_collector_does_not_end_it(
    serving: Any, kept: Any, eventually: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug costs that report: else it would come again and again, and nothing after it."""
    reports = busy(agent, 3)
    async with serving() as (collector, bus):
        take = collector._reports.take

        def takes(subject: str, payload: bytes, arrived: float) -> Any:
            if payload == codec.encode(reports[3]):
                raise ZeroDivisionError
            return take(subject, payload, arrived)

        monkeypatch.setattr(collector._reports, "take", takes)
        await send(bus, *reports)
        await eventually(lambda: received(collector) == 6 and is_done(collector))
        assert collector.refused == {"report that broke the collector": 1}
        [letter] = kept.dead_letters()
        assert letter.payload == codec.encode(reports[3])


async def test_pulses_and_questions_get_their_turn_in_a_backlog(
    serving: Any,
    jetstream: Any,
    store: Any,
    kept: Any,
    running: Any,
    eventually: Any,
    agent: Any,
    on_bus: Bus,
) -> None:
    """However much is in the stream, the loop comes round after some hundred reports."""
    async with serving():
        await eventually(lambda: streams_there(on_bus))
    for report in busy(agent, 500):
        await on_bus.publish(subjects.report("pc-1"), codec.encode(report))
    await on_bus.flush()
    taken = [0]
    async with running(jetstream.url, store) as (collector, _):
        async with asyncio.timeout(30):
            while taken[-1] < 1000:
                await asyncio.sleep(0)
                taken.append(collector._intake.taken)
        await eventually(lambda: is_kept(kept, agent))
    assert max(after - before for before, after in pairwise(taken)) < 700


# The store.


async def test_a_store_that_is_away_stops_only_the_keeping(
    serving: Any, store: Any, kept: Any, eventually: Any, agent: Any
) -> None:
    """The map goes on, nothing is acknowledged, status says why; then all is caught up with."""
    reports = busy(agent)
    async with serving() as (collector, bus):
        await send(bus, *reports[:2])
        await eventually(lambda: is_done(collector))
        store.is_away = True
        await send(bus, *reports[2:])
        await eventually(lambda: received(collector) == agent.made)
        assert last_seen(collector) == [DOWN, OPEN, DOWN]
        await eventually(lambda: collector._intake.lag.unacknowledged == len(reports) - 2)
        await eventually(lambda: status_of(collector)["store"]["trouble"] == "the disk is full")
        status = status_of(collector)
        assert status["store"]["waiting"] >= len(reports) - 2
        assert status["delivery"]["in_stream"] == len(reports) - 2
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert status_of(collector)["store"]["trouble"] is None
        assert status_of(collector)["store"]["waiting"] == 0


async def test_what_is_delivered_again_meanwhile_is_known(
    serving: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bus repeats what is not acknowledged: it is neither folded nor kept twice."""
    settings = StreamSettings(ack_wait_s=0.2)
    monkeypatch.setattr("reachmap_collector.streams.StreamSettings", lambda: settings)
    async with serving() as (collector, bus):
        store.is_away = True
        await send(bus, *busy(agent, 3))
        await eventually(lambda: status_of(collector)["delivery"]["redelivered"] > 12)
        assert (received(collector), collector._intake.taken) == (agent.made, 6)
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))


async def test_what_got_lost_on_its_way_is_not_acknowledged_with_what_came_after_it(
    serving: Any, kept: Any, eventually: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One acknowledgement speaks for all up to it: a gap in what is delivered is noticed, and all
    that is not acknowledged comes again."""
    lost: list[str] = []
    hear = Intake._hear

    def loses(intake: Intake, delivery: Delivery) -> None:
        origin = Origin.parse(delivery.reply)
        if origin is not None and origin.sequence in (1, 8, 20) and len(lost) < 3:
            lost.append(delivery.reply)
        else:
            hear(intake, delivery)

    monkeypatch.setattr(Intake, "_hear", loses)
    async with serving() as (collector, bus):
        await send(bus, *busy(agent))
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert len(lost) == 3
        assert received(collector) == agent.made
        assert status_of(collector)["delivery"]["trouble"] is None


async def test_an_acknowledgement_that_got_lost_is_given_again(
    serving: Any, kept: Any, eventually: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the bus delivers again what is kept already; it is not folded a second time."""
    settings = StreamSettings(ack_wait_s=0.2)
    monkeypatch.setattr("reachmap_collector.streams.StreamSettings", lambda: settings)
    lost: list[str] = []
    publish = Bus.publish

    async def loses(bus: Bus, subject: str, payload: bytes, reply: str = "") -> None:
        if payload == b"+ACK" and not lost:
            lost.append(subject)
        else:
            await publish(bus, subject, payload, reply)

    monkeypatch.setattr(Bus, "publish", loses)
    async with serving() as (collector, bus):
        await send(bus, *busy(agent, 1))
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert lost
        assert collector._intake.taken == 2
        assert collector._intake.redelivered >= 1


async def test_no_more_waits_in_memory_than_there_is_room_for(
    serving: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest stays in the stream until the store is back."""
    monkeypatch.setattr("reachmap_collector.intake._MAX_WAITING_OCTETS", 2000)
    monkeypatch.setattr("reachmap_collector.intake._BATCH", 2)
    async with serving() as (collector, bus):
        store.is_away = True
        await send(bus, *busy(agent, 30))
        await eventually(lambda: collector._keeper.octets > 2000)
        await eventually(lambda: collector._intake.lag.pending > 10)
        assert collector._keeper.octets < 5000
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert received(collector) == agent.made


async def test_a_bus_that_comes_back_while_there_is_no_room_is_asked_anew(
    serving: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As soon as there is some, and not when a request expires that nobody heard."""
    monkeypatch.setattr("reachmap_collector.intake._MAX_WAITING_OCTETS", 2000)
    monkeypatch.setattr("reachmap_collector.intake._BATCH", 2)
    monkeypatch.setattr("reachmap_collector.intake._EXPIRES_S", 60)
    async with serving() as (collector, bus):
        store.is_away = True
        await send(bus, *busy(agent, 30))
        await eventually(lambda: collector._keeper.octets > 2000)
        collector.bus_is_back()
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert received(collector) == agent.made


async def test_a_store_that_is_away_at_the_start_is_waited_for(
    serving: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who does not know what was taken must not take anything."""
    monkeypatch.setattr("reachmap_collector.collector._RETRY_S", 0.05)
    async with serving() as (collector, bus):
        await send(bus, *busy(agent, 2))
        await eventually(lambda: is_done(collector))
    more = busy(agent, 2)
    store.is_away = True
    async with serving() as (collector, bus):
        await send(bus, *more)
        await eventually(lambda: status_of(collector)["store"]["trouble"])
        assert received(collector) == 0
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))


# The bus.


async def test_a_stream_that_is_deleted_is_made_again(
    serving: Any, kept: Any, eventually: Any, agent: Any
) -> None:
    """Reports go on; what the collector had not taken yet is the agents' to send again."""
    reports = busy(agent)
    async with serving() as (collector, bus):
        await send(bus, *reports[:6])
        await eventually(lambda: received(collector) == 9)
        await bus.request(f"$JS.API.STREAM.DELETE.{subjects.REPORT_STREAM}", b"", 5)
        await send(bus, *reports[6:])
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert status_of(collector)["delivery"]["trouble"] is None


@pytest.mark.parametrize("empty", [False, True])
async def test_the_server_may_go_and_come_back(
    serving: Any,
    jetstream: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    tmp_path: Path,
    empty: bool,
) -> None:
    """Also as another one that is empty, while the store is away: no acknowledgement of the old
    stream's reports takes away one of the new."""
    reports = busy(agent)
    async with serving() as (collector, bus):
        await send(bus, *reports[:6])
        await eventually(lambda: is_done(collector))
        store.is_away = True
        await send(bus, *reports[6:12])
        await eventually(lambda: received(collector) == 18)
        jetstream.stop()
        if empty:
            jetstream.configure(f'jetstream {{ store_dir: "{tmp_path / "another"}" }}')
        await eventually(lambda: not bus.is_connected)
        jetstream.start()
        await eventually(lambda: bus.is_connected)
        await send(bus, *reports[12:])
        await eventually(lambda: received(collector) == agent.made)
        store.is_away = False
        await eventually(lambda: is_kept(kept, agent) and is_done(collector))
        assert last_seen(collector) == [DOWN, OPEN, DOWN]


async def test_a_stream_that_takes_nothing_is_told_of(
    serving: Any, store: Any, eventually: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it lasts: agents keep their reports, and nobody else would say so."""
    monkeypatch.setattr("reachmap_collector.intake._PROBE_EVERY_S", 0.05)
    small = partial(StreamSettings, max_octets=2000)
    monkeypatch.setattr("reachmap_collector.streams.StreamSettings", small)

    def trouble(collector: Collector) -> str:
        return status_of(collector)["delivery"]["trouble"] or ""

    async with serving() as (collector, bus):
        await send(bus, *busy(agent)[:1])
        store.is_away = True
        await eventually(lambda: "maximum bytes exceeded" in trouble(collector))
        store.is_away = False
        await eventually(lambda: trouble(collector) == "")
        assert (collector._intake.taken, collector.refused) == (1, {})


async def test_what_vanished_with_the_bus_is_counted(
    serving: Any, on_bus: Bus, eventually: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a collector that was away meanwhile, and by the one after it; what is under way is not."""
    monkeypatch.setattr("reachmap_collector.collector._SETTLE_EVERY_S", 0.05)
    reports = busy(agent)

    def counts(collector: Collector) -> tuple[int, int]:
        observations = status_of(collector)["observations"]
        return observations["received"], observations["vanished"]

    async with serving() as (collector, bus):
        await send(bus, *reports[:6])
        await eventually(lambda: is_done(collector))
        await bus.publish(subjects.pulse("pc-1"), codec.encode(agent.pulse()))
        # All that was made: the agent says that the bus has taken it, and so it does not yet.
        await eventually(lambda: counts(collector) == (9, 21))
        await send(bus, *reports[6:8])
        await eventually(lambda: counts(collector) == (12, 18))
    await send(on_bus, *reports[8:14])
    await on_bus.request(f"$JS.API.STREAM.DELETE.{subjects.REPORT_STREAM}", b"", 5)
    async with serving() as (collector, bus):
        await send(bus, *reports[14:])
        await eventually(lambda: counts(collector) == (21, 9))
        await bus.publish(subjects.pulse("pc-1"), codec.encode(agent.pulse()))
        drained = collector._intake.drained
        await eventually(lambda: collector._intake.drained > drained + 0.5)
        await eventually(lambda: counts(collector) == (21, 9))
    async with serving() as (collector, _):
        await eventually(lambda: is_done(collector) or collector._intake.caught_up)
        assert counts(collector) == (21, 9)


async def test_a_bus_without_jetstream_is_told_of(
    nats_server: Any, store: Any, running: Any, eventually: Any
) -> None:
    """In the status, for as long as it lasts."""
    async with running(nats_server.url, store) as (collector, _):
        await eventually(lambda: "JetStream" in (status_of(collector)["delivery"]["trouble"] or ""))


# Being killed.

DYING = Path(__file__).with_name("dying.py")


async def dies(url: str, store: str, when: str, topology: str) -> None:
    """A collector that is killed (SIGKILL) by its own store, at a chosen moment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DYING), url, store, when, stdin=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            await process.communicate(topology.encode())
        assert process.returncode == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_collector_that_is_killed_around_a_commit_loses_nothing(
    serving: Any,
    jetstream: Any,
    store: Any,
    kept: Any,
    eventually: Any,
    agent: Any,
    when: str,
    on_bus: Bus,
    office_text: str,
) -> None:
    """Between taking and committing, or between committing and acknowledging; again and again."""
    async with serving():
        await eventually(lambda: streams_there(on_bus))
    reports = busy(agent, 6)
    for number in range(0, 12, 4):
        await send(on_bus, *reports[number : number + 4])
        await dies(jetstream.url, store.url, when, office_text)
    async with serving() as (collector, _):
        await eventually(lambda: is_done(collector))
        assert is_kept(kept, agent)
        assert received(collector) == agent.made
        assert last_seen(collector) == [OPEN, DOWN, OPEN] or last_seen(collector) == [
            DOWN,
            OPEN,
            DOWN,
        ]
        numbers = [row.number for row in kept.history(limit=5000).transitions]
        assert sorted(numbers) == list(range(18))


# Pure.


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            "$JS.ACK.reports.collector.1.42.43.1700000000500000000.7",
            Origin(42, 43, 1_700_000_000.5, 7),
        ),
        (
            "$JS.ACK.hub.hash.reports.collector.2.42.43.1700000000500000000.0",
            Origin(42, 43, 1_700_000_000.5, 0),
        ),
        (
            "$JS.ACK._.hash.reports.collector.2.42.43.1700000000500000000.0.rnd",
            Origin(42, 43, 1_700_000_000.5, 0),
        ),
        ("", None),
        ("_INBOX.x", None),
        ("$JS.ACK.reports.collector", None),
        ("$JS.ACK.reports.collector.a.b.c.d.e", None),
    ],
)
def test_where_a_report_is_in_the_stream(reply: str, expected: Origin | None) -> None:
    """With and without a domain, as NATS architecture record 15 has it."""
    assert Origin.parse(reply) == expected
