"""What was found out about a flow stays with it, over restarts and new names, while it is broken."""

from dataclasses import replace
from typing import Any

import pytest
from reporting import DOWN, NAMED, NOW, OPEN, World, record_of, slot

from reachmap_collector.store.api import Latest
from reachmap_shared.vocabulary import Cause


@pytest.fixture
def world(topology: Any) -> World:
    return World(topology)


@pytest.fixture
def agent(world: World, agent_of: Any) -> Any:
    return agent_of(world.plans["pc-1"])


def diagnosed(world: World, port: int = 8080) -> Any:
    return record_of(world, port).diagnosed


def test_what_was_found_out_of_a_flow_stays_with_it(world: World, agent: Any) -> None:
    """The latest, over a restart too; twice told is told once, and it counts as nothing seen."""
    place = slot(agent.plan, 8080)
    agent.sees(place, DOWN)
    rows = world.take(agent.changes()).transitions
    agent.clock_ms += 3000
    early, late = agent.diagnosed(place), agent.diagnosed(place, others=9)
    late = replace(late, sent_ms=late.sent_ms + 2000)
    world.take(late, NOW + 9)
    world.take(early, NOW + 3)
    [kept] = world.take(agent.diagnosed(place, others=5), NOW + 20).kept
    assert world.take(late, NOW + 30).kept == ()
    found = diagnosed(world)
    assert (found.at, found.diagnosis.others) == (NOW + 20, 5)
    assert (found.finding.cause, found.finding.at) == (Cause.PATH, "10.0.1.254")
    assert sum(account.observations for account in world.ledger) == 0
    world.begin()
    assert world.reports.restore(Latest.of(rows), [], [], [kept]).kept == ()
    assert diagnosed(world) == found


def test_a_flow_that_is_well_again_lets_go_of_what_was_found_out(world: World, agent: Any) -> None:
    """On disk too; a check that went well before it was looked into changes nothing."""
    place = slot(agent.plan, 8080)
    agent.sees(place, OPEN)
    well_before = agent.changes()
    agent.sees(place, DOWN)
    world.take(agent.changes())
    agent.clock_ms += 3000
    [kept] = world.take(agent.diagnosed(place), NOW + 3).kept
    assert world.take(well_before).kept == ()
    assert diagnosed(world) is not None
    agent.clock_ms += 3000
    agent.sees(place, OPEN)
    [forgotten] = world.take(agent.changes(), NOW + 6).kept
    assert (forgotten.area, forgotten.key, forgotten.value) == (kept.area, kept.key, None)
    assert diagnosed(world) is None


def test_each_address_of_a_name_is_looked_into_by_itself(topology: Any, agent_of: Any) -> None:
    """What was found out of one says nothing of the other."""
    world = World(topology, NAMED)
    agent = agent_of(world.plans["pc-1"])
    both = ("10.0.0.1", "10.0.0.2")
    for address in both:
        agent.sees(0, DOWN, address=address, resolved=both)
    rows = world.take(agent.changes()).transitions
    agent.clock_ms += 3000
    [kept] = world.take(agent.diagnosed(0, address=both[1]), NOW + 3).kept

    def found() -> list[str]:
        return [one.key.address for one in world.flows if one.diagnosed is not None]

    assert found() == [both[1]]
    assert world.take(agent.diagnosed(0, address="10.9.9.9"), NOW + 3).kept == ()
    assert found() == [both[1]]
    world.begin()
    world.flows.expect(
        [one for one in world.expected if str(one.service) == "web:8080"], 0.0
    )  # with both, it could not be told which of them the address was seen of
    assert world.reports.restore(Latest.of(rows), [], [], [kept]).kept == ()
    assert found() == [both[1]]


def test_what_was_found_out_of_a_renamed_host_stays_with_it(topology: Any, agent_of: Any) -> None:
    """Over a restart, and over the one after, when nobody speaks of the name before; the latest
    counts, and what is well again is let go under whichever name it was kept."""
    before = World(topology, NAMED.replace("web.example", "10.0.0.1"))
    agent = agent_of(before.plans["pc-1"])
    agent.sees(0, DOWN)
    before.take(agent.changes())
    [kept] = before.take(agent.diagnosed(0), NOW + 3).kept
    text = NAMED.replace("web.example", "10.0.0.1").replace("pc-1", "pc-9")
    world = World(topology, text)
    told = world.reports.restore(Latest.of([]), [], [], [kept], former={"pc-1": "pc-9"}).kept
    [record] = [one for one in world.flows if one.diagnosed is not None]
    assert record.diagnosed is not None
    assert record.diagnosed.diagnosis.source == record.key.source == "pc-9"
    gone, there = sorted(told, key=lambda one: one.value is not None)
    assert (gone.key, gone.value) == (kept.key, None)
    again = World(topology, text)
    assert again.reports.restore(Latest.of([]), [], [], [there]).kept == ()
    assert any(one.diagnosed is not None for one in again.flows)
    # A later one under the name of now is not undone by what is kept under that of before.
    agent = agent_of(again.plans["pc-9"])
    agent.clock_ms += 9000
    [later] = again.take(agent.diagnosed(0, others=7), NOW + 9).kept
    third = World(topology, text)
    told = third.reports.restore(Latest.of([]), [], [], [later, kept], former={"pc-1": "pc-9"}).kept
    assert [(one.key, one.value) for one in told] == [(kept.key, None)]
    [record] = [one for one in third.flows if one.diagnosed is not None]
    assert record.diagnosed is not None
    assert record.diagnosed.diagnosis.others == 7


def test_what_was_found_out_before_a_host_was_renamed_is_let_go_when_it_is_well(
    topology: Any, agent_of: Any
) -> None:
    """While the collector runs it is kept under the name of then."""
    world = World(topology, NAMED.replace("web.example", "10.0.0.1"))
    agent = agent_of(world.plans["pc-1"])
    agent.sees(0, DOWN)
    world.take(agent.changes())
    [kept] = world.take(agent.diagnosed(0), NOW + 3).kept
    after = World(topology, NAMED.replace("web.example", "10.0.0.1").replace("pc-1", "pc-9"))
    for name in after.plans:
        world.known.add(after.known.get(name, after.plans[name].revision))
    world.flows.expect(after.expected, NOW + 4, {"pc-1": "pc-9"})
    agent = agent_of(after.plans["pc-9"])
    agent.sees(0, OPEN)
    [forgotten] = world.take(agent.changes(), NOW + 9).kept
    assert (forgotten.key, forgotten.value) == (kept.key, None)


def test_what_is_no_use_any_more_is_let_go(world: World, agent: Any) -> None:
    """Of a flow that the topology has no more, or from another version."""
    place = slot(agent.plan, 8080)
    [kept] = world.take(agent.diagnosed(place), NOW).kept
    world.begin()
    world.flows.expect([], 0.0)
    useless = world.reports.restore(
        Latest.of([]), [], [], [kept, replace(kept, key="x", value=b"\x91\1")]
    )
    assert [(one.key, one.value) for one in useless.kept] == [(kept.key, None), ("x", None)]


@pytest.mark.parametrize(
    "lie", [{"slot": 99}, {"slot": -1}, {"port": 1}, {"destination": "db-1"}, {"source": "pc-2"}]
)
def test_a_diagnosis_of_another_flow_is_refused(world: World, agent: Any, lie: Any) -> None:
    """Whoever takes over an endpoint may lie about its own flows alone."""
    batch = world.take(agent.diagnosed(slot(agent.plan, 8080), **lie))
    [letter] = batch.dead_letters
    assert letter.reason.startswith("diagnosis of no flow")
    assert (batch.kept, diagnosed(world)) == ((), None)
