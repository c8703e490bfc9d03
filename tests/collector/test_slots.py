"""What slots mean is remembered for as long as reports may be under way."""

from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import KnownPlans, Slots
from reachmap_shared.vocabulary import Transport


def slots(revision: str, agent: str = "pc-1", *ports: int) -> Slots:
    flows = tuple(FlowKey(agent, "web-1", "10.0.0.1", port, Transport.TCP) for port in ports)
    return Slots.of(agent, revision, flows, ("web:80",) * len(flows))


def test_a_flow_has_the_place_that_its_plan_gives_it() -> None:
    """And none in a plan without it."""
    plan = slots("r1", "pc-1", 80, 81)
    assert [plan.slot(flow) for flow in plan.flows] == [0, 1]
    assert (plan.flows[1], [*plan.flows[1:]]) == ([*plan.flows][1], [*plan.flows][1:])
    for other in (slots("r2", "pc-1", 82), slots("r1", "pc-2", 80)):
        assert plan.slot(other.flows[0]) is None


def test_flows_of_slots_are_equal_to_a_tuple_of_them() -> None:
    """So nobody sees whether they were made one by one."""
    flows = slots("r1", "pc-1", 80, 81).flows
    assert flows == (*flows,) == slots("r2", "pc-1", 80, 81).flows
    assert hash(flows) == hash((*flows,))
    assert flows != (*flows[:1],)
    assert flows != slots("r1", "pc-2", 80, 81).flows


def test_agents_that_dial_the_same_share_what_their_slots_mean() -> None:
    """Ten thousand plans are as large as one; and one that nobody has any more is gone."""
    known = KnownPlans()
    for agent in ("pc-1", "pc-2", "pc-3"):
        known.add(slots("r1", agent, 80, 81))
    held = [known.get(agent, "r1") for agent in ("pc-1", "pc-2", "pc-3")]
    assert len({id(plan.ends) for plan in held if plan}) == 1
    assert [plan.flows[0].source for plan in held if plan] == ["pc-1", "pc-2", "pc-3"]


def test_each_agent_s_plans_are_its_own() -> None:
    """Also where two have the same revision, as idle ones may."""
    known = KnownPlans()
    known.add(slots("r1", "pc-1"))
    known.add(slots("r1", "pc-2"))
    assert [known.get(agent, "r1").agent for agent in ("pc-1", "pc-2")] == ["pc-1", "pc-2"]
    assert known.get("pc-1", "r2") is known.get("pc-3", "r1") is None


def test_the_latest_plans_are_known() -> None:
    """One that was taken up again is among them; those of long ago are not."""
    known = KnownPlans()
    for number in range(8):
        known.add(slots(f"r{number}"))
    known.add(slots("r0"))
    known.add(slots("r8"))
    found = {number for number in range(9) if known.get("pc-1", f"r{number}") is not None}
    assert found == {0, 2, 3, 4, 5, 6, 7, 8}
