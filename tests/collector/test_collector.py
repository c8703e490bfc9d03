"""The collector on a real bus: plans down, news up, and nothing wrong gets in."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from reachmap_collector.collector import Collector
from reachmap_collector.credentials import Credentials
from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.keeper import keeping
from reachmap_collector.planner import FlowKey
from reachmap_collector.plans import idle_plan
from reachmap_collector.queries import Queries
from reachmap_collector.remains import Remains
from reachmap_collector.store.api import Batch, PlanSlots, Transition
from reachmap_collector.topology.load import parse_topology
from reachmap_shared import bus, codec, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import QueryRefused
from reachmap_shared.messages import Ask, Hello, Plan, Pulse, Question, Report
from reachmap_shared.vocabulary import Outcome, Transport

GROWN = """
[roles.web]
listens = { "web:8080" = { protocol = "http" } }
[roles.browser]
connects = ["web:8080"]
[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1"]
[hosts.web-2]
roles = ["web"]
addresses = ["10.0.0.7"]
[hosts.pc-1]
roles = ["browser"]
"""
"""The office after a change: a second web server, no shop, and no database any more."""

OPEN_DOOR = """
admit = ["browser"]
[roles.web]
listens = { "web:8080" = {} }
[roles.browser]
connects = ["web:8080"]
[hosts.web-1]
roles = ["web"]
"""
"""A web server whose agent will say where it is, and browsers that come by themselves."""


SECRETS = Credentials(secret=b"s" * 32, certificate="")


class Office:
    """A collector on a bus, and a listener on that bus who hears what agents are told."""

    def __init__(self, collector: Collector, connection: Bus) -> None:
        self.collector = collector
        self.bus = connection
        self.plans: dict[str, list[Plan]] = {}
        self.asked: list[tuple[str, Question]] = []

    async def listen(self) -> None:
        await self.bus.subscribe("$KV.reachmap-plans.>", self._hear_plan)
        await self.bus.subscribe("reachmap.ask.*", self._hear_ask)

    async def _hear_plan(self, _subject: str, payload: bytes) -> None:
        plan = codec.decode(Plan, payload)
        self.plans.setdefault(plan.agent, []).append(plan)

    async def _hear_ask(self, subject: str, payload: bytes) -> None:
        self.asked.append((subjects.sender(subject), codec.decode(Ask, payload).question))

    async def say(self, message: Hello | Pulse | Report) -> None:
        """An agent says something in its own name."""
        await self.send(_PLACES[type(message)](message.agent), codec.encode(message))

    async def send(self, subject: str, payload: bytes) -> None:
        """Whoever says whatever; the collector has heard it by the end, unless it is a report."""
        await self.bus.publish(subject, payload)
        await self.bus.flush()


_PLACES: Any = {Hello: subjects.hello, Pulse: subjects.pulse, Report: subjects.report}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its time in earnest is to come about at once."""
    monkeypatch.setattr("reachmap_collector.planning._LEVEL_EVERY_S", 0.05)
    monkeypatch.setattr("reachmap_collector.planning._COMPILE_AFTER_S", 0.02)
    monkeypatch.setattr("reachmap_collector.intake._EXPIRES_S", 0.5)


@pytest.fixture
async def office(
    jetstream: Any, store: Any, running: Any, on_bus: Bus, eventually: Any
) -> AsyncIterator[Office]:
    async with open_office(jetstream, store, running, eventually) as made:
        yield made


@contextlib.asynccontextmanager
async def open_office(
    jetstream: Any, store: Any, running: Any, eventually: Any, *text: str
) -> AsyncIterator[Office]:
    async with (
        bus.connected([jetstream.url], "test") as connection,
        running(jetstream.url, store, *text) as (collector, _),
    ):
        made = Office(collector, connection)
        await made.listen()

        def is_level() -> bool:
            there = collector.planning.bucket._there
            plans = collector.planning.plans.values()
            return all(there.get(plan.agent) == plan.revision for plan in plans)

        await eventually(lambda: collector._intake._is_set_up and is_level())
        yield made


def seen(collector: Collector, source: str, destination: str, port: int) -> Any:
    """A flow's record."""
    [record] = [
        record
        for record in collector.flows
        if (record.key.source, record.key.destination, record.key.port)
        == (source, destination, port)
    ]
    return record


def slot(plan: Plan, port: int) -> int:
    [found] = [index for index, check in enumerate(plan.checks) if check.port == port]
    return found


# Plans.


async def test_every_host_finds_its_plan(office: Office) -> None:
    """Before its agent is there; and just its own."""
    for agent, services in (
        ("pc-1", ["db:5432", "web:8080", "shop:9090"]),
        ("web-1", ["db:5432"]),
        ("db-1", []),
    ):
        answer = await office.bus.request(subjects.last_plan(agent), b"", 5)
        plan = codec.decode(Plan, answer.payload)
        assert (plan.agent, [check.service for check in plan.checks]) == (agent, services)


async def test_a_server_that_is_slow_as_it_begins_is_waited_for(
    jetstream: Any,
    store: Any,
    running: Any,
    hello: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever speaks once it answers is heard."""
    with contextlib.ExitStack() as slow:
        # The task that runs it begins when the block does, and no sooner.
        async with running(jetstream.url, store) as (collector, connection):
            monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 0.05)
            slow.enter_context(jetstream.held_up())
            await eventually(lambda: any("slow" in one.getMessage() for one in caplog.records))
            monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 3)
            slow.close()
            await eventually(lambda: collector._intake._is_set_up)
            await connection.publish(subjects.hello("pc-1"), codec.encode(hello("pc-1")))
            await eventually(lambda: "pc-1" in collector.roster)


async def test_hellos_and_pulses_cost_nobody_a_plan(
    office: Office, hello: Any, pulse: Any, eventually: Any
) -> None:
    """A fleet that only says that it is there makes no work."""
    plan = office.collector.planning.plans["pc-1"]
    for number in range(20):
        await office.say(hello("pc-1", number=number))
    roster = office.collector.roster
    await eventually(
        lambda: "pc-1" in roster.agents() and roster.current("pc-1").hello.number == 19
    )
    for _ in range(20):
        await office.say(pulse("pc-1", hello=19, plan=plan.revision))
    await eventually(lambda: office.collector.agents().all()[1]["plan"] == plan.revision)
    assert [*map(len, office.plans.values())] in ([], [1] * len(office.plans))
    assert office.asked == []


async def test_an_agent_that_works_by_another_plan_for_long_gets_its_own_again(
    office: Office, hello: Any, pulse: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refused it does not: it would refuse it again; one that nobody lists is to rest."""
    monkeypatch.setattr("reachmap_collector.planning._OTHER_PLAN_S", 0.0)
    office.plans.clear()
    await office.say(hello("db-1", plan_refused="why"))
    for _ in range(3):
        for agent in ("pc-1", "db-1", "stranger"):
            await office.say(pulse(agent, plan="of-old"))
    await eventually(lambda: {"pc-1", "stranger"} <= office.plans.keys())
    assert office.plans["stranger"][0] == idle_plan("stranger")
    assert office.plans["pc-1"][0].revision == office.collector.planning.plans["pc-1"].revision
    assert "db-1" not in office.plans


async def test_an_agent_that_nobody_knows_gets_no_plan(
    office: Office, hello: Any, pulse: Any, eventually: Any
) -> None:
    """It is shown among the agents, so that someone may list it."""
    await office.say(hello("stranger", roles=("browser",)))
    await office.say(pulse("stranger"))

    def row() -> Any:
        return [row for row in office.collector.agents().all() if row["agent"] == "stranger"]

    await eventually(row)
    assert (row()[0]["state"], row()[0]["in_topology"]) == ("fresh", False)
    assert "stranger" not in office.plans


async def test_what_agents_announce_makes_plans_for_others(
    jetstream: Any, store: Any, running: Any, eventually: Any, hello: Any
) -> None:
    """A server's address comes from its agent, and those who dial it are told; also after a
    restart, before any agent has said anything again."""
    async with open_office(jetstream, store, running, eventually, OPEN_DOOR) as office:
        await office.say(hello("pc-7", roles=("browser", "web")))
        await eventually(lambda: office.plans.get("pc-7"))
        assert office.plans["pc-7"][-1].checks == ()
        await office.say(hello("web-1", addresses=("10.0.0.1",)))
        await eventually(lambda: office.plans["pc-7"][-1].checks)
        [check] = office.plans["pc-7"][-1].checks
        assert (check.destination, check.address) == ("web-1", "10.0.0.1")
        await eventually(lambda: office.collector._keeper.waiting == 0)
    async with open_office(jetstream, store, running, eventually, OPEN_DOOR) as office:
        assert [check] == [*office.collector.planning.plans["pc-7"].checks]
        assert office.plans == {}
        [row] = [row for row in office.collector.agents().all() if row["agent"] == "web-1"]
        assert row["addresses"] == ["10.0.0.1"]


async def test_an_address_that_nobody_dials_changes_nothing_on_the_map(
    office: Office, eventually: Any, hello: Any
) -> None:
    """Endpoints get other addresses all the time, and each would be a reason to look at all."""
    await office.say(hello("pc-1", addresses=("10.0.1.1",)))
    await eventually(lambda: "pc-1" in office.collector.roster)
    version, compiled = office.collector.version, office.collector.planning.plans
    await office.say(hello("pc-1", addresses=("10.0.1.9",)))
    await eventually(lambda: office.collector.planning.plans is not compiled)
    assert office.collector.version == version


async def test_a_fleet_that_joins_together_is_planned_for_together(
    jetstream: Any,
    store: Any,
    running: Any,
    eventually: Any,
    hello: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred servers that come at once do not mean a hundred plans for who dials them."""
    after_s = 0.5
    monkeypatch.setattr("reachmap_collector.planning._COMPILE_AFTER_S", after_s)
    servers = "\n".join(f'[hosts.w{n}]\nroles = ["web"]' for n in range(100))
    text = f'{OPEN_DOOR}{servers}\n[hosts.pc-7]\nroles = ["browser"]'
    async with open_office(jetstream, store, running, eventually, text) as office:
        began = time.monotonic()
        for n in range(100):
            await office.say(hello(f"w{n}", addresses=(f"10.0.0.{n}",)))
        joining_s = time.monotonic() - began  # a moment, on an idle machine
        await eventually(
            lambda: "pc-7" in office.plans and len(office.plans["pc-7"][-1].checks) == 100
        )
        assert len(office.plans["pc-7"]) <= 3 + joining_s / after_s


async def test_another_topology_gives_new_plans_to_those_it_changes(
    office: Office, eventually: Any, topology: Any, agent_of: Any
) -> None:
    """And an idle one to hosts that it has no more; flows that it keeps keep their past, and what
    is under way under the plan before is still understood."""
    collector = office.collector
    agent = agent_of(collector.planning.plans["pc-1"])
    for index in range(3):
        agent.sees(index)
    await office.say(agent.changes())
    await eventually(lambda: seen(collector, "pc-1", "web-1", 8080).last)
    office.plans.clear()
    collector.adopt(topology(GROWN))
    await eventually(lambda: office.plans.keys() >= {"pc-1", "web-1", "db-1"})
    assert office.plans["db-1"] == [idle_plan("db-1")]
    [after] = office.plans["pc-1"]
    assert [check.destination for check in after.checks] == ["web-1", "web-2"]
    assert seen(collector, "pc-1", "web-1", 8080).last is not None
    assert seen(collector, "pc-1", "web-2", 8080).last is None
    agent.sees(slot(agent.plan, 8080), Outcome.TIMEOUT)
    agent.sees(slot(agent.plan, 5432), Outcome.TIMEOUT)
    await office.say(agent.changes())
    await eventually(lambda: seen(collector, "pc-1", "web-1", 8080).last.outcome is Outcome.TIMEOUT)
    assert collector.refused == {}
    office.plans.clear()
    collector.adopt(topology())
    await eventually(lambda: office.plans.keys() >= {"pc-1", "web-1", "db-1"})
    assert office.plans["pc-1"] == [agent.plan]


def test_two_collectors_of_one_deployment_make_the_same_plans(
    collector_of: Any, openuem: Any
) -> None:
    """One that restarts disturbs nobody."""
    one, other = collector_of(openuem()), collector_of(openuem())
    assert one.planning.plans == other.planning.plans


# News.


@pytest.fixture
def agent(collector_of: Any, agent_of: Any) -> Any:
    """The agent on pc-1, with three flows."""
    return agent_of(collector_of().planning.plans["pc-1"])


async def test_who_is_not_known_is_asked_who_it_is(
    office: Office, hello: Any, agent: Any, eventually: Any
) -> None:
    """Once in a while, however often it pulses; who says another hello is known again."""
    for _ in range(5):
        await office.say(agent.pulse())
    await eventually(lambda: office.asked)
    await office.say(hello("pc-1"))
    await office.say(agent.pulse())
    await eventually(lambda: office.collector.roster.state("pc-1", time.time()) == "fresh")
    assert office.asked == [("pc-1", Question.HELLO)]


async def test_an_agent_whose_changes_got_lost_is_asked_for_its_state(
    office: Office, hello: Any, agent: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the changes had time to come; then its pulse counts for every flow at once."""
    monkeypatch.setattr("reachmap_collector.collector._ASK_AFTER_S", 0.2)
    collector = office.collector
    await office.say(hello("pc-1"))
    for index in range(3):
        agent.sees(index)
    agent.changes()  # lost
    await office.say(agent.pulse())
    assert office.asked == []

    async def is_asked() -> bool:
        await office.say(agent.pulse())
        return bool(office.asked)

    await eventually(is_asked)
    assert set(office.asked) == {("pc-1", Question.STATE)}
    for report in agent.state(2):
        await office.say(report)
    await eventually(lambda: all(one.last for one in collector.flows if one.key.source == "pc-1"))
    await office.say(agent.pulse())
    before = time.time()
    await office.say(agent.pulse())
    await eventually(
        lambda: all(
            one.checked > before - 0.5 for one in collector.flows if one.key.source == "pc-1"
        )
    )
    states = {one.record.key.port: one.state for one in collector.judgements()}
    assert (states[8080], states[9090]) == ("ok", "ok")


async def test_an_agent_s_clock_that_is_wrong_shows(
    office: Office, hello: Any, agent: Any, eventually: Any
) -> None:
    """By how much, against the bus's."""
    await office.say(hello("pc-1"))
    await office.say(agent.pulse(wall_ms=int(time.time() * 1000) + 3_600_000))

    def row() -> Any:
        [found] = [row for row in office.collector.agents().all() if row["agent"] == "pc-1"]
        return found

    await eventually(lambda: row().get("clock_skew_s"))
    assert row()["clock_skew_s"] == pytest.approx(3600, abs=2)
    assert "ahead of the bus's" in row()["notes"][0]


async def test_the_map_begins_where_it_ended(
    jetstream: Any, store: Any, running: Any, eventually: Any, hello: Any, agent_of: Any
) -> None:
    """Nobody has to say anything for it, and no agent is asked: the next pulse counts."""
    async with open_office(jetstream, store, running, eventually) as office:
        agent = agent_of(office.collector.planning.plans["pc-1"])
        for index in range(3):
            agent.sees(index, Outcome.TIMEOUT if index == 1 else Outcome.OPEN)
        await office.say(hello("pc-1", addresses=("10.0.1.1",)))
        for report in (agent.changes(), agent.roll_up()):
            await office.say(report)
        await eventually(
            lambda: [account.observations for account in office.collector.ledger] == [3]
        )
        await eventually(lambda: office.collector._keeper.waiting == 0)
        ours = [one for one in office.collector.flows if one.key.source == "pc-1"]
        before = [(one.key, one.last, round(one.changed, 1)) for one in ours]
    async with open_office(jetstream, store, running, eventually) as office:
        ours = [one for one in office.collector.flows if one.key.source == "pc-1"]
        assert [len(one.last.evidence) for one in ours if one.last.outcome is Outcome.OPEN] == [
            0,
            0,
        ]
        await office.collector.recall(ours)  # as an answer does that shows them
        assert [(one.key, one.last, round(one.changed, 1)) for one in ours] == before
        await office.say(agent.pulse())
        now = time.time()
        await eventually(lambda: all(one.checked > now - 1 for one in ours))
        assert office.asked == []
        assert [account.observations for account in office.collector.ledger] == [3]


@contextlib.asynccontextmanager
async def held_up(
    monkeypatch: pytest.MonkeyPatch, jetstream: Any, store: Any, on_bus: Bus, eventually: Any
) -> AsyncIterator[tuple[Office, threading.Event]]:
    """A collector that is still at the map which the store has for it, until it is let go on."""
    makes, go_on = Collector._begin, threading.Event()

    def begin(collector: Collector, remains: Remains) -> None:
        assert go_on.wait(10)
        makes(collector, remains)

    monkeypatch.setattr(Collector, "_begin", begin)
    async with (
        bus.connected([jetstream.url], "collector") as own,
        keeping(store, time.time) as keeper,
        asyncio.TaskGroup() as tasks,
    ):
        collector = Collector(parse_topology(OPEN_DOOR, Path("t.toml")), SECRETS, own, keeper)
        made = Office(collector, on_bus)
        await made.listen()
        running = tasks.create_task(collector.run())
        try:
            await eventually(lambda: not collector.is_settled)
            yield made, go_on
        finally:
            go_on.set()
            running.cancel()


async def test_what_is_said_while_the_map_is_made_is_heard_then(
    monkeypatch: pytest.MonkeyPatch,
    jetstream: Any,
    store: Any,
    on_bus: Bus,
    eventually: Any,
    hello: Any,
    pulse: Any,
) -> None:
    """Agents that the store knows are not asked who they are, and no plan rests on half of them."""
    async with held_up(monkeypatch, jetstream, store, on_bus, eventually) as (office, go_on):
        await office.say(hello("pc-1", roles=("browser",)))
        await office.say(pulse("pc-2"))
        assert not await office.collector.settled(0.05)
        assert (list(office.collector.roster.agents()), office.asked) == ([], [])
        go_on.set()
        await office.collector.restored()
        await eventually(lambda: "pc-1" in office.plans)
        assert list(office.collector.roster.agents()) == ["pc-1"]
        await office.say(pulse("pc-2"))
        await eventually(lambda: office.asked == [("pc-2", Question.HELLO)])


async def test_who_asks_while_the_map_is_made_hears_so(
    monkeypatch: pytest.MonkeyPatch, jetstream: Any, store: Any, on_bus: Bus, eventually: Any
) -> None:
    """At once, and not that everything is unknown; as soon as it is made, there is an answer."""
    async with held_up(monkeypatch, jetstream, store, on_bus, eventually) as (office, go_on):
        monkeypatch.setattr("reachmap_collector.queries._BEGINS_S", 0.01)
        for query in Queries(office.collector).endpoints().values():
            with pytest.raises(QueryRefused, match="has just started") as refused:
                await query({})
            assert refused.value.code == "503"
        monkeypatch.setattr("reachmap_collector.queries._BEGINS_S", 10)
        async with asyncio.TaskGroup() as tasks:
            status = tasks.create_task(Queries(office.collector).endpoints()["status"]({}))
            await asyncio.sleep(0)
            go_on.set()
        assert status.result()["state"] is None


async def test_a_restart_keeps_just_the_plans_that_are_new(
    collector_of: Any, store: Any, office_text: str
) -> None:
    """Ten thousand that the store has already are not written again; what changes later is."""

    async def kept(text: str) -> dict[str, list[PlanSlots]]:
        collector = collector_of(text, store=store)
        with contextlib.closing(collector._keeper):
            await collector.restore()
            assert await collector._keeper._commit()
        return {agent: store.plans(agent) for agent in ("pc-1", "web-1", "db-1")}

    before = await kept(office_text)
    assert [*map(len, before.values())] == [1, 1, 1]
    assert await kept(office_text) == before
    moved = await kept(office_text.replace("10.0.0.2", "10.0.0.9"))
    assert {agent: len(plans) for agent, plans in moved.items()} == {
        "pc-1": 2,
        "web-1": 2,
        "db-1": 1,
    }
    back = await kept(office_text)
    assert [*map(len, back.values())] == [2, 2, 1]
    # The one of before is the latest again, for it was taken up again.
    assert back["pc-1"][-1].revision == before["pc-1"][0].revision
    gone = office_text.replace("[hosts.pc-1]", "[hosts.pc-2]")
    collector = collector_of(gone, store=store)
    with contextlib.closing(collector._keeper):
        await collector.restore()
        collector.adopt(parse_topology(office_text, Path("topology.toml")))
        collector.planning.compile()
        assert await collector._keeper._commit()
    assert {row.agent for row in store.beginning().plans} == {"pc-1", "pc-2", "web-1", "db-1"}
    assert store.plans("pc-2")[-1].revision == idle_plan("pc-2").revision


async def test_a_store_that_cannot_be_read_is_told_of_once(
    collector_of: Any,
    store: Any,
    office_text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However long it takes; the map is made as soon as it can be."""
    monkeypatch.setattr("reachmap_collector.collector._RETRY_S", 0.0)
    collector = collector_of(office_text, store=store)
    read, left = Remains.read, iter(range(5))

    def fail(store: Any) -> Remains:
        if next(left, None) is not None:
            raise StoreUnavailable("the disk is full")
        return read(store)

    monkeypatch.setattr(Remains, "read", fail)
    with contextlib.closing(collector._keeper):
        await collector.restore()
    assert caplog.text.count("the store cannot be read") == 1
    assert [*left] == []


# What is refused.


@pytest.mark.parametrize(
    ("subject", "what"),
    [("reachmap.hello.pc-1", "malformed hello"), ("reachmap.pulse.pc-1", "malformed pulse")],
)
@pytest.mark.parametrize("payload", [b"", b"not msgpack", b"\x90", b"\x91\x02", b"\xc1" * 99])
async def test_what_is_no_message_is_refused_and_counted(
    collector_of: Any, subject: str, what: str, payload: bytes
) -> None:
    """And nothing else comes of it."""
    collector = collector_of()
    hear = collector._hear_hello if "hello" in subject else collector._hear_pulse
    await hear(subject, payload)
    assert collector.refused == {what: 1}
    assert list(collector.roster.agents()) == []


async def test_an_agent_that_claims_another_s_name_is_refused(
    collector_of: Any, hello: Any, pulse: Any
) -> None:
    """The subject is what the server's permissions guard; the body may not say otherwise."""
    collector = collector_of()
    await collector._hear_hello("reachmap.hello.pc-1", codec.encode(hello("pc-1")))
    await collector._hear_hello("reachmap.hello.evil", codec.encode(hello("pc-1", boot="evil")))
    await collector._hear_pulse("reachmap.pulse.evil", codec.encode(pulse("pc-1", made=7)))
    assert collector.refused == {"malformed hello": 1, "malformed pulse": 1}
    assert list(collector.roster.agents()) == ["pc-1"]
    current = collector.roster.current("pc-1")
    assert (current.hello.boot, current.pulse) == ("boot-1", None)


async def test_a_boot_that_no_store_can_keep_is_none(collector_of: Any, hello: Any) -> None:
    """It would fail every commit that it is in."""
    collector = collector_of()
    said = replace(hello("pc-1"), boot="a\0b")
    await collector._hear_hello("reachmap.hello.pc-1", codec.encode(said))
    assert collector.refused == {"malformed hello": 1}


@given(st.binary(max_size=200), st.sampled_from(["hello", "pulse"]), st.text(max_size=5))
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_bytes_at_all_bring_the_collector_down(
    collector_of: Any, payload: bytes, kind: str, name: str
) -> None:
    """Whatever arrives under whatever name."""
    collector = collector_of()
    hear = {"hello": collector._hear_hello, "pulse": collector._hear_pulse}[kind]
    await hear(f"reachmap.{kind}.{name}", payload)
    assert collector.refused.total() == 1


async def test_a_flood_of_rubbish_does_not_fill_the_log(
    collector_of: Any, logged: list[dict[str, Any]]
) -> None:
    """Every message is counted, and the first of a sender's is told of."""
    collector = collector_of()
    for number in range(300):
        await collector._hear_pulse(f"reachmap.pulse.pc-{number % 3}", b"rubbish")
    assert collector.refused == {"malformed pulse": 300}
    assert [told["event"] for told in logged] == ["message refused"] * 3


# Topology files.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "topology.toml"


def write(path: Path, text: str) -> None:
    path.write_text(text)


def hosts(collector: Collector) -> set[str]:
    return {record.key.destination for record in collector.flows}


async def test_a_topology_can_be_read_again(office: Office, eventually: Any, path: Path) -> None:
    """What has changed in the file is in force."""
    collector = office.collector
    write(path, GROWN)
    collector.reload(path)
    await eventually(lambda: hosts(collector) == {"web-1", "web-2"})
    assert set(collector.topology.hosts) == {"web-1", "web-2", "pc-1"}


@pytest.mark.parametrize("text", ["hosts = 7", "[hosts.x", '[hosts.x]\nroles = ["nobody"]', None])
async def test_a_wrong_topology_changes_nothing(
    office: Office, eventually: Any, path: Path, text: str | None
) -> None:
    """What ran before goes on, also after a file that is gone; a right one is taken later."""
    if text is not None:
        write(path, text)
    collector = office.collector
    await eventually(lambda: not collector.planning.is_due)
    before = collector.topology
    collector.reload(path)
    assert not collector.planning.is_due
    assert collector.topology is before
    write(path, GROWN)
    collector.reload(path)
    await eventually(lambda: hosts(collector) == {"web-1", "web-2"})


def test_the_clock_is_the_time_of_day(collector_of: Any) -> None:
    """Seconds since the epoch, that never go back."""
    collector = collector_of()
    one, other = collector.now(), collector.now()
    assert one <= other
    assert one == pytest.approx(time.time(), abs=1)


async def test_it_is_said_that_history_has_more(
    jetstream: Any, store: Any, running: Any, eventually: Any, hello: Any
) -> None:
    """Once it is kept, and only when something came; what is told again is nothing new."""
    async with open_office(jetstream, store, running, eventually) as office:
        said: list[int] = []
        key = FlowKey("pc-1", "web-1", "10.0.0.1", 8080, Transport.TCP)
        rows = [
            Transition("pc-1", "b", number, key, "web:8080", 1.0, Outcome.OPEN, True, b"")
            for number in range(2)
        ]

        async def hear(_subject: str, payload: bytes) -> None:
            said.append(json.loads(payload)["last"])

        await office.bus.subscribe(subjects.CHANGES, hear)
        office.collector._keeper.add(Batch(transitions=(rows[0],)))
        await eventually(lambda: said[-1:] == [1])
        for row in rows:
            office.collector._keeper.add(Batch(transitions=(row,)))
        await eventually(lambda: said[-1:] == [2])
        assert said in ([1, 2], [0, 1, 2])
