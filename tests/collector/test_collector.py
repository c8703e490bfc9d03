"""The collector on a bus: plans down, reports up, and nothing wrong gets in."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reachmap_collector.collector import Collector
from reachmap_collector.plans import idle_plan
from reachmap_collector.views import timestamp
from reachmap_shared import codec, subjects
from reachmap_shared.messages import Hello, Plan, Report
from reachmap_shared.vocabulary import Outcome

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


@pytest.fixture
def collector(collector_of: Any, fake_bus: Any, topology: Any) -> Collector:
    return collector_of(bus=fake_bus)


def seen(collector: Collector, source: str, destination: str, port: int) -> Any:
    """The last observation of a flow, and when it was made."""
    [record] = [
        record
        for record in collector.flows
        if (record.key.source, record.key.destination, record.key.port)
        == (source, destination, port)
    ]
    return record.last, record.checked


def slot(plan: Plan, port: int) -> int:
    [found] = [index for index, check in enumerate(plan.checks) if check.port == port]
    return found


def report(plan: Plan, *observations: Any, agent: str | None = None, **changes: Any) -> Report:
    fields: dict[str, Any] = {"boot": "boot-1", "sequence": 0, "plan": plan.revision}
    return Report(agent=agent or plan.agent, observations=observations, **(fields | changes))


# Plans.


async def test_who_says_hello_gets_a_plan(
    collector: Collector, fake_bus: Any, running: Any, hello: Any
) -> None:
    """At once, and just its own."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
    [plan] = fake_bus.plans("pc-1")
    assert [check.service for check in plan.checks] == ["db:5432", "web:8080", "shop:9090"]
    assert {subject for subject, _ in fake_bus.sent} == {subjects.plan("pc-1")}


async def test_a_plan_is_sent_again_to_an_agent_that_lacks_it(
    collector: Collector, fake_bus: Any, running: Any, hello: Any
) -> None:
    """It was lost, refused or of another time; an agent that has it is left in peace."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        for has, sent in ((plan.revision, 1), ("", 2), ("of-old", 3), (plan.revision, 3)):
            await fake_bus.say(hello("pc-1", plan=has))
            assert fake_bus.plans("pc-1") == [plan] * sent


async def test_a_plan_that_cannot_be_sent_is_sent_after_the_next_hello(
    collector: Collector, fake_bus: Any, running: Any, hello: Any
) -> None:
    """A bus that is away for a moment does no harm."""
    async with running(collector, fake_bus):
        fake_bus.is_away = True
        await fake_bus.say(hello("pc-1"))
        fake_bus.is_away = False
        await fake_bus.say(hello("pc-1"))
    assert len(fake_bus.plans("pc-1")) == 1


async def test_an_agent_that_nobody_knows_gets_no_plan(
    collector: Collector, fake_bus: Any, running: Any, hello: Any
) -> None:
    """It is shown among the agents, so that someone may list it."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("stranger", roles=("browser",)))
    assert fake_bus.sent == []
    [row] = [row for row in collector.agents()["agents"] if row["agent"] == "stranger"]
    assert (row["state"], row["in_topology"]) == ("fresh", False)


async def test_what_agents_announce_makes_plans_for_others(
    collector_of: Any, fake_bus: Any, running: Any, eventually: Any, hello: Any
) -> None:
    """A server's address comes from its agent, and those who dial it are told."""
    collector = collector_of(OPEN_DOOR, fake_bus)
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-7", roles=("browser", "web")))
        await eventually(lambda: len(fake_bus.plans("pc-7")) == 1)
        assert fake_bus.plans("pc-7")[0].checks == ()
        await fake_bus.say(hello("web-1", addresses=("10.0.0.1",)))
        await eventually(lambda: len(fake_bus.plans("pc-7")) == 2)
    [check] = fake_bus.plans("pc-7")[1].checks
    assert (check.destination, check.address) == ("web-1", "10.0.0.1")


async def test_a_fleet_that_joins_together_is_planned_for_together(
    collector_of: Any, fake_bus: Any, running: Any, eventually: Any, hello: Any
) -> None:
    """A hundred servers that come at once do not mean a hundred plans for who dials them."""
    servers = "\n".join(f'[hosts.w{n}]\nroles = ["web"]' for n in range(100))
    collector = collector_of(f'{OPEN_DOOR}{servers}\n[hosts.pc-7]\nroles = ["browser"]', fake_bus)
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-7"))
        for n in range(100):
            await fake_bus.say(hello(f"w{n}", addresses=(f"10.0.0.{n}",)))
        await eventually(lambda: len(fake_bus.plans("pc-7")[-1].checks) == 100)
    assert len(fake_bus.plans("pc-7")) == 2


async def test_heartbeats_cost_nobody_a_plan(
    collector: Collector, fake_bus: Any, running: Any, hello: Any
) -> None:
    """A fleet that only says that it is there makes no work."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        for done in range(20):
            await fake_bus.say(hello("pc-1", plan=plan.revision, checks_done=done))
    assert len(fake_bus.sent) == 1


async def test_another_topology_gives_new_plans_to_those_it_changes(
    collector: Collector,
    fake_bus: Any,
    running: Any,
    eventually: Any,
    hello: Any,
    topology: Any,
    observation: Any,
) -> None:
    """And an idle one to hosts that it has no more; flows that it keeps keep their past."""
    async with running(collector, fake_bus):
        for agent in ("pc-1", "web-1", "db-1"):
            await fake_bus.say(hello(agent))
        [before] = fake_bus.plans("pc-1")
        await fake_bus.say(report(before, *(observation(slot=index) for index in range(3))))
        collector.adopt(topology(GROWN))
        await eventually(lambda: len(fake_bus.plans("db-1")) == 2)
        assert fake_bus.plans("db-1")[1] == idle_plan("db-1")
        await eventually(lambda: len(fake_bus.plans("pc-1")) == 2)
        after = fake_bus.plans("pc-1")[1]
        assert [check.destination for check in after.checks] == ["web-1", "web-2"]
        assert seen(collector, "pc-1", "web-1", 8080)[0] is not None
        assert seen(collector, "pc-1", "web-2", 8080)[0] is None
        # Told once, an agent that is not of the deployment any more is left in peace.
        await fake_bus.say(hello("db-1", plan=idle_plan("db-1").revision))
        assert len(fake_bus.plans("db-1")) == 2
        # One that missed it, and still works by its old plan, is told again.
        await fake_bus.say(hello("db-1", plan="of-old"))
        assert fake_bus.plans("db-1")[2] == idle_plan("db-1")


async def test_a_host_that_comes_back_gets_its_plan_again(
    collector: Collector, fake_bus: Any, running: Any, eventually: Any, hello: Any, topology: Any
) -> None:
    """The same work has the same revision as before."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("db-1"))
        collector.adopt(topology(GROWN))
        await eventually(lambda: len(fake_bus.plans("db-1")) == 2)
        collector.adopt(topology())
        await eventually(lambda: len(fake_bus.plans("db-1")) == 3)
    first, _, last = fake_bus.plans("db-1")
    assert first == last


def test_two_collectors_of_one_deployment_make_the_same_plans(
    collector_of: Any, openuem: Any
) -> None:
    """One that restarts disturbs nobody."""
    one, other = collector_of(openuem()), collector_of(openuem())
    assert one._plans == other._plans


# Reports.


async def test_a_report_shows_on_the_map(
    collector: Collector, fake_bus: Any, running: Any, hello: Any, observation: Any
) -> None:
    """Under the flow whose slot it names, at the time that the check ended."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        now = collector.now()
        await fake_bus.say(
            report(
                plan,
                observation(slot=slot(plan, 8080)),
                observation(Outcome.TIMEOUT, slot=slot(plan, 9090), age_ms=1500),
            )
        )
    last, checked = seen(collector, "pc-1", "web-1", 8080)
    assert last.outcome is Outcome.OPEN
    assert checked == pytest.approx(now, abs=1)
    last, checked = seen(collector, "pc-1", "web-1", 9090)
    assert last.outcome is Outcome.TIMEOUT
    assert checked == pytest.approx(now - 1.5, abs=1)
    states = {one.record.key.port: one.state for one in collector.judgements()}
    assert (states[8080], states[9090]) == ("ok", "broken")
    assert collector.refused == {}


async def test_a_report_under_the_plan_before_is_still_understood(
    collector: Collector,
    fake_bus: Any,
    running: Any,
    eventually: Any,
    hello: Any,
    topology: Any,
    observation: Any,
) -> None:
    """It was under way when the plan changed: its slots mean what they meant then."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [before] = fake_bus.plans("pc-1")
        collector.adopt(topology(GROWN))
        await eventually(lambda: len(fake_bus.plans("pc-1")) == 2)
        await fake_bus.say(
            report(
                before,
                observation(slot=slot(before, 8080)),
                observation(slot=slot(before, 5432)),
            )
        )
    assert seen(collector, "pc-1", "web-1", 8080)[0] is not None
    assert collector.refused == {}


async def test_reports_under_plans_of_long_ago_are_refused(
    collector: Collector,
    fake_bus: Any,
    running: Any,
    eventually: Any,
    hello: Any,
    topology: Any,
    observation: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector remembers some plans, and not all."""
    monkeypatch.setattr("reachmap_collector.collector._COMPILE_AFTER_S", 0)
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [oldest] = fake_bus.plans("pc-1")
        for number in range(8):
            collector.adopt(topology(GROWN.replace("10.0.0.7", f"10.0.1.{number}")))
            await eventually(lambda wanted=number + 2: len(fake_bus.plans("pc-1")) == wanted)
        await fake_bus.say(report(oldest, observation()))
    assert collector.refused == {"report under an unknown plan": 1}


# What is refused.


def encoded(message: Hello | Report) -> bytes:
    return codec.encode(message)


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ("reachmap.hello.pc-1", "malformed hello"),
        ("reachmap.report.pc-1", "malformed report"),
    ],
)
@pytest.mark.parametrize("payload", [b"", b"not msgpack", b"\x90", b"\x91\x02", b"\xc1" * 99])
async def test_what_is_no_message_is_refused_and_counted(
    collector: Collector, fake_bus: Any, running: Any, subject: str, what: str, payload: bytes
) -> None:
    """And nothing else comes of it."""
    async with running(collector, fake_bus):
        await fake_bus.deliver(subject, payload)
    assert collector.refused == {what: 1}
    assert list(collector.roster.agents()) == []
    assert collector.status()["refused_messages"] == {what: 1}


async def test_an_agent_that_claims_another_s_name_is_refused(
    collector: Collector, fake_bus: Any, running: Any, hello: Any, observation: Any
) -> None:
    """The subject is what the server's permissions guard; the body may not say otherwise."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        await fake_bus.deliver(subjects.hello("evil"), encoded(hello("pc-1", boot="evil")))
        await fake_bus.deliver(subjects.report("evil"), encoded(report(plan, observation())))
    assert collector.refused == {"malformed hello": 1, "malformed report": 1}
    assert list(collector.roster.agents()) == ["pc-1"]
    assert collector.roster.current("pc-1").hello.boot == "boot-1"
    assert all(record.last is None for record in collector.flows)


async def test_one_agent_cannot_report_under_another_s_plan(
    collector: Collector, fake_bus: Any, running: Any, hello: Any, observation: Any
) -> None:
    """A plan's slots are its own agent's."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        await fake_bus.say(report(plan, observation(), agent="web-1"))
    assert collector.refused == {"report under an unknown plan": 1}
    assert all(record.last is None for record in collector.flows)


@pytest.mark.parametrize("wrong", [-1, 3, 2**53])
async def test_an_observation_of_no_flow_is_refused_and_the_others_taken(
    collector: Collector, fake_bus: Any, running: Any, hello: Any, observation: Any, wrong: int
) -> None:
    """One wrong slot does not cost the whole report."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        await fake_bus.say(report(plan, observation(slot=wrong), observation(slot=1)))
    assert collector.refused == {"observation of no flow": 1}
    assert sum(record.last is not None for record in collector.flows) == 1


@pytest.mark.parametrize("age_ms", [2**53, -(2**53), 10**12])
async def test_an_age_that_cannot_be_harms_nobody(
    collector: Collector, fake_bus: Any, running: Any, hello: Any, observation: Any, age_ms: int
) -> None:
    """The map can still be shown, and nothing was seen in the future."""
    async with running(collector, fake_bus):
        await fake_bus.say(hello("pc-1"))
        [plan] = fake_bus.plans("pc-1")
        await fake_bus.say(report(plan, observation(slot=slot(plan, 8080), age_ms=age_ms)))
    _, checked = seen(collector, "pc-1", "web-1", 8080)
    assert checked <= collector.now()
    for judgement in collector.judgements():
        assert timestamp(judgement.since)
        assert timestamp(judgement.record.checked)


@given(st.binary(max_size=200), st.sampled_from(["hello", "report"]), st.text(max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_bytes_at_all_bring_the_collector_down(
    collector: Collector, payload: bytes, kind: str, name: str
) -> None:
    """Whatever arrives under whatever name."""
    hear = {"hello": collector._hear_hello, "report": collector._hear_report}[kind]
    before = collector.refused.total()
    await hear(f"reachmap.{kind}.{name}", payload)
    assert collector.refused.total() == before + 1


# Topology files.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "topology.toml"


def write(path: Path, text: str) -> None:
    path.write_text(text)


def hosts(collector: Collector) -> set[str]:
    return {record.key.destination for record in collector.flows}


async def test_a_topology_can_be_read_again(
    collector: Collector, fake_bus: Any, running: Any, eventually: Any, path: Path
) -> None:
    """What has changed in the file is in force."""
    write(path, GROWN)
    async with running(collector, fake_bus):
        collector.reload(path)
        await eventually(lambda: hosts(collector) == {"web-1", "web-2"})
    assert set(collector.topology.hosts) == {"web-1", "web-2", "pc-1"}


@pytest.mark.parametrize("text", ["hosts = 7", "[hosts.x", '[hosts.x]\nroles = ["nobody"]', None])
async def test_a_wrong_topology_changes_nothing(
    collector: Collector, fake_bus: Any, running: Any, eventually: Any, path: Path, text: str | None
) -> None:
    """What ran before goes on, also after a file that is gone; a right one is taken later."""
    if text is not None:
        write(path, text)
    async with running(collector, fake_bus):
        before = collector.topology
        collector.reload(path)
        assert not collector._changed.is_set()
        assert collector.topology is before
        write(path, GROWN)
        collector.reload(path)
        await eventually(lambda: hosts(collector) == {"web-1", "web-2"})


def test_the_clock_is_the_time_of_day(collector: Collector) -> None:
    """Seconds since the epoch, that never go back."""
    one, other = collector.now(), collector.now()
    assert one <= other
    assert one == pytest.approx(time.time(), abs=1)
