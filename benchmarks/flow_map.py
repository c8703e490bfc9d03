"""What the collector's map costs: a million flows of ten thousand agents, remembered and asked.

Every flow has been told of once, and each agent has sent the roll-ups that are kept. Once nearly
all is well, once an outage breaks every third, and once all is dialled by name, where every other
name has two addresses. Memory is what the process grew by, when all that was let go of has been
given back; so each case has a process of its own.
"""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import planning
from common import figure

from reachmap_collector.alerts.causes import find_causes
from reachmap_collector.alerts.sights import Look
from reachmap_collector.export.scrape import of_states
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import Counts, Period, Told
from reachmap_collector.judge import Judge
from reachmap_collector.overview import Filters, Overview
from reachmap_collector.planner import ExpectedFlow, Flows
from reachmap_collector.roster import Roster
from reachmap_collector.slots import Slots
from reachmap_collector.states import States
from reachmap_collector.topology.model import Topology
from reachmap_collector.views import By, matrix
from reachmap_shared.messages import Hello, NamedCount, Observation, Presence, RollUp
from reachmap_shared.vocabulary import AnsweredBy, Outcome, State

NOW = 1_800_000_000.0
BROKEN_EVERY = 1_000
PERIODS = 4
GOAL_OCTETS = 64
GOAL_S = 1.0


@dataclass(frozen=True)
class Case:
    """What the deployment is like."""

    what: str
    broken_every: int = BROKEN_EVERY
    by_name: bool = False


CASES = (
    Case("nearly all well"),
    Case("every third broken", broken_every=3),
    Case("all dialled by name", by_name=True),
    Case("all by name, every third broken", broken_every=3, by_name=True),
)


def main() -> None:
    """Fill a map, and ask it what people ask."""
    for case in CASES:
        process = get_context("spawn").Process(target=measure, args=(case,))
        process.start()
        process.join()
        assert process.exitcode == 0, case.what


def measure(case: Case) -> None:
    """One case, in this process."""
    topology, flows, plans = planning.deployment(by_name=case.by_name)
    agents = len(flows.targets)
    slots = {agent: plans.slots(agent) for agent in flows.targets}
    before = _resident()
    began = time.process_time()
    flow_map = FlowMap()
    flow_map.expect(flows, NOW - 1000)
    expecting = time.process_time() - began
    began = time.process_time()
    changes = _tell(flow_map, flows, case)
    telling = time.process_time() - began
    began = time.process_time()
    _roll_up(flow_map, slots)
    rolling = time.process_time() - began
    number = len(flow_map)
    print(f"\nmap of {number:,} flows from {agents:,} agents, {case.what}")
    figure("to expect them", f"{expecting:.1f} s")
    figure("changes folded in", f"{changes / telling:,.0f} a second")
    figure("roll-ups taken up", f"{PERIODS * agents / rolling:,.0f} a second")
    octets = (_resident() - before) / number
    figure(
        "memory of a flow", f"{octets:.0f} octets", f"at most {GOAL_OCTETS}", octets <= GOAL_OCTETS
    )
    roster = Roster()
    for agent in flows.targets:
        roster.hear(Hello(agent, "boot", Presence.HERE, agent, "1", "L", (), (), (), 5.0, 0), NOW)
    _ask(flow_map, roster, topology, case)


def addresses(flow: ExpectedFlow) -> tuple[str, ...]:
    """All that a name resolves to; nothing for an address."""
    name = flow.key.address
    if not name.endswith(".example"):
        return ()
    number = int(name.partition(".")[0].rpartition("-")[2])
    return (f"10.0.0.{number}", f"fd00::{number:x}")[: 1 + number % 2]


def _tell(flow_map: FlowMap, flows: Flows, case: Case) -> int:
    changes = 0
    for number, flow in enumerate(flows):
        resolved = addresses(flow)
        for address in resolved or ("",):
            outcome = Outcome.OPEN if number % case.broken_every else Outcome.TIMEOUT
            evidence = ("connected in 0.4 ms", "answered as HTTP does")
            seen = Observation(
                *(number % 100, 0, outcome, AnsweredBy.SERVICE, True, 0, 400 + number % 100, 900),
                f"10.1.{number >> 14 & 255}.{number >> 6 & 255}:{40_000 + number % 20_000}",
                evidence,
                address=address,
                resolved=resolved,
            )
            told = Told(NOW - 500, "boot", changes % 100, seen)
            flow_map.tell(flow.key, str(flow.service), told)
            changes += 1
    return changes


def _roll_up(flow_map: FlowMap, slots: dict[str, Slots]) -> None:
    for agent, plan in slots.items():
        source = flow_map.source(agent)
        named = [*_named(flow_map.expected, agent, plan)]
        for number in range(PERIODS):
            lines = [
                NamedCount(slot, address, 6, 0, 0, 0, 90 + (slot + number) % 9)
                for slot, address in named
            ]
            counts = RollUp(
                *(plan.revision, 0, 60_000),
                made=b"" if lines else bytes([6]) * len(plan),
                latency=b""
                if lines
                else bytes(90 + (slot + number) % 9 for slot in range(len(plan))),
                named=tuple(lines),
            )
            held = Counts.of(counts)
            source.roll_up(Period(NOW - 60 * number, "boot", number, plan, held))
        source.pulse(NOW, 10.0, plan, b"")


def _named(flows: Flows, agent: str, plan: Slots) -> Iterator[tuple[int, str]]:
    """The lines that an agent's roll-up has for the addresses of names."""
    for target in flows.targets[agent]:
        flow = target.flow(agent)
        slot = plan.slot(flow.key)
        if slot is not None:
            # Each agent's roll-up came over the wire: its texts are its own.
            yield from ((slot, "".join([*one])) for one in addresses(flow))


def _ask(flow_map: FlowMap, roster: Roster, topology: Topology, case: Case) -> None:
    def overview(**filters: object) -> Overview:
        return Overview(states(), topology, Filters(**filters))  # type: ignore[arg-type]

    def states() -> States:
        return States(flow_map, Judge(flow_map, roster, topology.checks, NOW))

    def page(**filters: object) -> None:
        found = overview(**filters)
        judge = Judge(flow_map, roster, topology.checks, NOW)
        for one in islice(found.page(), 500):
            judge.judge(flow_map.at(one))

    def look() -> None:
        found = Look(flow_map, roster, topology.checks, NOW, NOW)
        find_causes([*found.sights()], {}, now=NOW, rest=found.rest)

    counts = overview().counts()
    wanted = sum(
        len(addresses(flow)) or 1
        for flow in islice(flow_map.expected, 0, None, case.broken_every)
        if flow.key.address
    )
    assert counts[State.BROKEN] == wanted, (counts, wanted)
    assert counts[State.UNKNOWN] == sum(flow.key.address == "" for flow in flow_map.expected)
    questions: dict[str, Callable[[], object]] = {
        "status": lambda: overview().counts(),
        "map by role": lambda: matrix(overview().tallies(By.ROLE), By.ROLE),
        "map by host": lambda: matrix(overview().tallies(By.HOST), By.HOST),
        "flows, the first page": page,
        "flows --state broken": lambda: page(state=State.BROKEN),
        "flows --destination": lambda: page(destination="server-009"),
        "flows --role": lambda: page(role="kind-07"),
        "metrics": lambda: of_states(states()),
        "explain": lambda: page(source="pc-00007", destination="server-008"),
    }
    if case.broken_every == BROKEN_EVERY:
        questions["alerts"] = look
    for name, ask in questions.items():
        took = []
        for _ in range(3):
            began = time.process_time()
            ask()
            took.append(time.process_time() - began)
        figure(name, f"{max(took):.2f} s", f"under {GOAL_S:g} s", max(took) < GOAL_S)


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
