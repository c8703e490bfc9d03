"""What alerting costs where very much fails: 300,000 of a million flows, told alike or each apart.

The whole of it as in a collector: the look at the map, what causes it all, the book of alerts and
what people are told. What counts is the processor's time, and how much of it in one turn: so long
nobody else had one. Causes are found in a thread, which is no part of a turn.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context

import planning
from common import figure

from reachmap_collector.alerts.config import AlertsTable
from reachmap_collector.alerts.dispatch import Queue
from reachmap_collector.alerts.kept import Mirror
from reachmap_collector.alerts.load import Configuration
from reachmap_collector.alerts.notices import Notice, document
from reachmap_collector.alerts.outlets import BUS, Active
from reachmap_collector.alerts.service import Alerts
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import Told
from reachmap_collector.garbage import rarely_looked_for
from reachmap_collector.planner import Announcement, ExpectedFlow, Flows, Member, members
from reachmap_collector.plans import Plans
from reachmap_collector.roster import Roster
from reachmap_collector.topology.model import Topology
from reachmap_shared.messages import Hello, Observation, Presence
from reachmap_shared.vocabulary import AnsweredBy, Outcome

NOW = 1_800_000_000.0
LOOKS = 3
STEP_S = 600.0
"""Between two looks: after one that took long the next is not soon."""

GOAL_S = 0.2
"""In one turn. The command line gives up after four seconds, and a pulse comes each five."""


@dataclass(frozen=True)
class Case:
    """What fails."""

    what: str
    fails: Callable[[int, ExpectedFlow], bool]


def _behind(number: int, flow: ExpectedFlow) -> bool:
    return flow.key.destination < "server-060"


def _each_third(number: int, flow: ExpectedFlow) -> bool:
    return number % 3 == 0


CASES = (
    Case("all to 60 of 200 servers: a firewall before them drops", _behind),
    Case("every third, each for itself", _each_third),
)


class _Silent:
    """An outlet that says nothing."""

    tells_all = False
    repeat_s: float | None = None

    async def send(self, told: Notice, active: Active) -> str:
        """Take it."""
        return ""

    async def repeat(self, active: Active) -> None:
        """Take it."""

    async def close(self) -> None:
        """Nothing is held."""


class _Memory(Mirror):
    async def load(self) -> None:
        """Nothing was kept before."""


@dataclass
class _World:
    """What alerting looks at."""

    topology: Topology
    flows: FlowMap
    members: dict[str, Member]
    roster: Roster = field(default_factory=Roster)
    time: float = NOW

    @property
    def version(self) -> int:
        return self.flows.changes

    def now(self) -> float:
        return self.time


def main() -> None:
    """Let much of a map fail, and look at it."""
    for case in CASES:
        process = get_context("spawn").Process(target=measure, args=(case,))
        process.start()
        process.join()
        assert process.exitcode == 0, case.what


def measure(case: Case) -> None:
    """One case, in this process."""
    topology, flows, plans = planning.deployment()
    world = _World(topology, FlowMap(), members(topology, dict[str, Announcement]()))
    world.flows.expect(flows, NOW - 1000)
    failing = _tell(world.flows, flows, case)
    print(f"\nalerts of {len(world.flows):,} flows, {failing:,} fail: {case.what}")
    with rarely_looked_for() as set_aside:
        set_aside()
        asyncio.run(_look(world, plans))


def _tell(flow_map: FlowMap, flows: Flows, case: Case) -> int:
    failing = 0
    for number, flow in enumerate(flows):
        if not flow.key.address:
            continue
        fails = case.fails(number, flow)
        failing += fails
        seen = Observation(
            *(number % 100, 0, Outcome.TIMEOUT if fails else Outcome.OPEN),
            *(None if fails else AnsweredBy.SERVICE, True, 0, 400 + number % 100, 900),
            f"10.1.{number >> 14 & 255}.{number >> 6 & 255}:{40_000 + number % 20_000}",
            ("no answer",),
        )
        told = Told(NOW - (20 if fails else 500), "boot", number % 100, seen)
        flow_map.tell(flow.key, str(flow.service), told)
    return failing


def _report(world: _World, plans: Plans) -> None:
    """All agents are there, and all that they checked is as they told."""
    for name in world.members:
        hello = Hello(name, "boot", Presence.HERE, name, "1", "L", (), (), (), 5.0, 0)
        world.roster.hear(hello, world.time)
        source = world.flows.source(name)
        if name in plans.revisions:
            source.pulse(world.time, 10.0, plans.slots(name), b"")


async def _look(world: _World, plans: Plans) -> None:
    table = AlertsTable.model_validate({})
    alerts = Alerts(world, _Memory(lambda _: None), _Silent(), Configuration(table, {}))
    # Room for all: what is let go of is logged.
    alerts.queues = {BUS: Queue(BUS, _Memory(lambda _: None), len(world.flows))}
    held, turns = list[float](), list[float]()
    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch(held, done))
        for number in range(LOOKS):
            _report(world, plans)
            await asyncio.sleep(0)
            held.clear()
            worked = time.process_time()
            await alerts.turn(world.now())
            spent = time.process_time() - worked
            figure(f"look {number + 1}, all of it", f"{spent:.1f} s")
            turns.append(max(held))
            world.time += STEP_S
            world.flows.changes += 1
        held.clear()
        worked = time.process_time()
        page = alerts.book.active()[:500]
        for alert in page:
            document(alerts.notice(alert, world.now()))
        figure(f"the page of {len(page)} alerts", f"{time.process_time() - worked:.2f} s")
        await asyncio.sleep(0)
        turns.append(max(held))
        done.set()
    longest = max(turns)
    figure("the longest turn", f"{longest:.2f} s", f"under {GOAL_S:g} s", longest < GOAL_S)
    figure("alerts", f"{len(alerts.book.alerts):,}")


async def _watch(held: list[float], done: asyncio.Event) -> None:
    """Note how much of the processor's time this thread took between two turns of ours."""
    while not done.is_set():
        began = time.thread_time()
        await asyncio.sleep(0)
        held.append(time.thread_time() - began)


if __name__ == "__main__":
    main()
