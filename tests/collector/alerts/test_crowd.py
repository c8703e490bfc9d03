"""Causes are found by the rows of flows that are well as they are by a sight of each."""

from collections import Counter
from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.alerts.causes import find_causes
from reachmap_collector.alerts.sights import FAILING, Look, agents
from reachmap_collector.diagnose import Diagnosed, Finding
from reachmap_collector.flowmap.records import Told
from reachmap_collector.planner import Announcement
from reachmap_shared.vocabulary import Cause, Confidence, Outcome, State

NOW = 1_000.0

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = { protocol = "http" }, "web:81" = { protocol = "http" } }
connects = ["db:5432", "web:81"]
[roles.db]
listens = { "db:5432" = { protocol = "postgres" } }
connects = ["db:5432"]
[roles.pc]
connects = ["web:8080", "db:5432"]
[roles.guest]
connects = ["web:8080"]

[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1", "fd00::1"]
[hosts.web-2]
roles = ["web"]
addresses = ["web.example"]
[hosts.db-1]
roles = ["db"]
addresses = ["10.0.1.2"]
[hosts.pc-1]
roles = ["pc"]
[hosts.pc-2]
roles = ["pc"]
[hosts.guest-1]
roles = ["guest"]

[[deny]]
from = "guest"
to = "db:5432"
"""

NEEDS = {"web:8080": ["db:5432"], "db:5432": ["web:81"]}

agents_ = st.lists(
    st.tuples(
        st.sampled_from(["pc-1", "pc-2", "guest-1", "db-1", "web-1", "web-2"]),
        st.sampled_from([0.0, 500.0]),
    ),
    max_size=6,
)
sights = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from([Outcome.OPEN, Outcome.TIMEOUT, Outcome.TIMEOUT, *Outcome]),
        st.sampled_from([0.0, 1.0, 5.0, 20.0, 100.0]),
        st.sampled_from(["10.1.0.1:4000", "10.0.0.9:4000", "[fd00::9]:4000", "", "10.1.1.1:5"]),
        st.sampled_from([(), ("10.0.0.7",), ("10.0.0.7", "10.9.0.2"), ("10.9.0.2", "fd09::1")]),
        st.sampled_from([None, int(NOW) - 5, int(NOW) + 500]),
    ),
    max_size=60,
)


found_out = st.lists(
    st.tuples(
        *(st.integers(0, 40), st.sampled_from([0.0, 3.0, 50.0]), st.sampled_from([*Cause])),
        st.sampled_from([None, "10.0.1.254"]),
    ),
    max_size=5,
)


@examples(300)
@given(agents_, sights, found_out, st.integers(0, 3))
def test_causes_are_the_same(
    scene: Any, observation: Any, diagnosis: Any, heard: Any, seen: Any, found: Any, kept: int
) -> None:
    """Whatever fails, from and to where, by address or by name; and was looked into by then."""
    stage = scene(TOPOLOGY, **{"pc-1": Announcement((), ("10.1.0.1",))})
    stage.flows._kept = kept
    flows = [flow for flow in stage.flows.expected if flow.key.address]
    for agent, age in heard:
        stage.hear(agent, NOW - age)
    for number, (place, outcome, age, local, resolved, until) in enumerate(seen):
        flow = flows[place % len(flows)]
        more: dict[str, Any] = {"local": local, "certificate_until": until}
        if flow.key.address == "web.example" and resolved:
            more |= {"resolved": resolved, "address": resolved[-1]}
        change = Told(NOW - age, "boot-1", number, observation(outcome, **more))
        stage.flows.tell(flow.key, str(flow.service), change)
    for place, age, cause, at in found:
        flow = flows[place % len(flows)]
        finding = Finding(cause, at, Confidence.LIKELY, (), None)
        told = diagnosis(address=flow.key.address)
        stage.flows.diagnose(flow.key, str(flow.service), Diagnosed(NOW - age, told, finding))
    look = Look(stage.flows, stage.roster, stage.topology.checks, NOW, NOW)
    states = agents(stage.members, stage.roster, NOW)
    some, every = [*look.sights()], [look.sight(record) for record in stage.flows]
    failing = Counter(sight for sight in every if sight.state in FAILING)
    assert failing <= Counter(some) <= Counter(every)
    by_rows = find_causes(some, states, NEEDS, now=NOW, rest=look.rest)
    assert by_rows == find_causes(every, states, NEEDS, now=NOW)
    known = look.knows(states)
    for sight in every:
        assert known(sight.key) == (sight.state is not State.UNKNOWN)
