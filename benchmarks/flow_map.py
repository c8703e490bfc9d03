"""What the collector's map costs: a million flows of ten thousand agents, remembered and asked for.

Every flow has been told of once, each agent has sent the roll-ups that are kept, and nearly all is
well. Memory is what the process grew by, when all that was let go of has been given back.
"""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import planning
from common import figure

from reachmap_collector.export.scrape import of_states
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import Judge
from reachmap_collector.overview import Filters, Overview
from reachmap_collector.planner import Flows
from reachmap_collector.records import Counts, Period, Told
from reachmap_collector.roster import Roster
from reachmap_collector.slots import Slots
from reachmap_collector.states import States
from reachmap_collector.topology.model import Topology
from reachmap_collector.views import By, matrix
from reachmap_shared.messages import Hello, Observation, Presence, RollUp
from reachmap_shared.vocabulary import AnsweredBy, Outcome, State

NOW = 1_800_000_000.0
BROKEN_EVERY = 1_000
PERIODS = 4
GOAL_OCTETS = 64
GOAL_S = 1.0


def main() -> None:
    """Fill a map, and ask it what people ask."""
    topology, flows, plans = planning.deployment()
    print(f"\nmap of {len(flows):,} flows from {len(flows.targets):,} agents")
    slots = {agent: plans.slots(agent) for agent in flows.targets}
    before = _resident()
    began = time.process_time()
    flow_map = FlowMap()
    flow_map.expect(flows, NOW - 1000)
    figure("to expect them", f"{time.process_time() - began:.1f} s")
    began = time.process_time()
    _tell(flow_map, flows)
    took = time.process_time() - began
    figure("changes folded in", f"{len(flows) / took:,.0f} a second")
    _roll_up(flow_map, slots)
    octets = (_resident() - before) / len(flows)
    figure(
        "memory of a flow", f"{octets:.0f} octets", f"at most {GOAL_OCTETS}", octets <= GOAL_OCTETS
    )
    roster = Roster()
    for agent in flows.targets:
        roster.hear(Hello(agent, "boot", Presence.HERE, agent, "1", "L", (), (), (), 5.0, 0), NOW)
    _ask(flow_map, roster, topology)


def _tell(flow_map: FlowMap, flows: Flows) -> None:
    for number, flow in enumerate(flows):
        outcome = Outcome.OPEN if number % BROKEN_EVERY else Outcome.TIMEOUT
        evidence = ("connected in 0.4 ms", "answered as HTTP does")
        seen = Observation(
            *(number % 100, 0, outcome, AnsweredBy.SERVICE, True, 0, 400 + number % 100, 900),
            f"10.1.{number >> 14 & 255}.{number >> 6 & 255}:{40_000 + number % 20_000}",
            evidence,
        )
        flow_map.tell(flow.key, str(flow.service), Told(NOW - 500, "boot", number % 100, seen))


def _roll_up(flow_map: FlowMap, slots: dict[str, Slots]) -> None:
    for agent, plan in slots.items():
        source = flow_map.source(agent)
        for number in range(PERIODS):
            counts = RollUp(
                *(plan.revision, 0, 60_000),
                made=bytes([6]) * len(plan),
                latency=bytes(90 + (slot + number) % 9 for slot in range(len(plan))),
            )
            held = Counts.of(counts)
            source.roll_up(Period(NOW - 60 * number, "boot", number, plan, held))
        source.pulse(NOW, 10.0, plan, b"")


def _ask(flow_map: FlowMap, roster: Roster, topology: Topology) -> None:
    def overview(**filters: object) -> Overview:
        return Overview(states(), topology, Filters(**filters))  # type: ignore[arg-type]

    def states() -> States:
        return States(flow_map, Judge(flow_map, roster, topology.checks, NOW))

    def page(**filters: object) -> None:
        found = overview(**filters)
        judge = Judge(flow_map, roster, topology.checks, NOW)
        rows = [row for row, _ in zip(found.page(), range(500), strict=False)]
        for row in rows:
            assert isinstance(row, int)
            judge.judge(flow_map.at(row))

    counts = overview().counts()
    assert counts[State.BROKEN] == -(-len(flow_map) // BROKEN_EVERY), counts
    assert counts[State.UNKNOWN] == sum(flow.key.address == "" for flow in flow_map.expected)
    questions: dict[str, Callable[[], object]] = {
        "status": lambda: overview().counts(),
        "map by role": lambda: matrix(overview().tallies(By.ROLE), By.ROLE),
        "map by host": lambda: matrix(overview().tallies(By.HOST), By.HOST),
        "flows, the first page": page,
        "flows --state broken": lambda: page(state=State.BROKEN),
        "flows --destination": lambda: page(destination="server-007"),
        "flows --role": lambda: page(role="kind-07"),
        "metrics": lambda: of_states(states()),
        "explain": lambda: page(source="pc-00007", destination="server-008"),
    }
    for name, ask in questions.items():
        took = []
        for _ in range(5):
            began = time.process_time()
            ask()
            took.append(time.process_time() - began)
        figure(name, f"{max(took):.2f} s", f"under {GOAL_S:g} s", max(took) < GOAL_S)


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
