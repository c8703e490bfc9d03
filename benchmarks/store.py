"""What the collector's store takes on SQLite: transitions and roll-ups a second, space, a restart.

`python benchmarks/store.py` prints each figure with its goal. 10,000 agents have 100 flows each;
batches are of 20,000 transitions, as they come when many change at once. In the first pass, as
when a deployment comes up, all names are new; in the second every agent tells its flows again;
in the third the changes come from everywhere at once, which indexes like least: each touches pages
of its own, unless a batch is of what piled up meanwhile, here 100,000. Keys are as reports make
them: each change has its own, of texts that all of a plan share; and garbage is looked for as in a
collector. Wall time belongs to the machine and to whatever else runs on it, so the processor's time
is printed beside it.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from common import figure

from reachmap_collector.garbage import not_looked_for, rarely_looked_for
from reachmap_collector.planner import FlowKey
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, PackedRollUp, PlanSlots, Transition
from reachmap_collector.store.sql import SqlStore
from reachmap_shared.vocabulary import Outcome, Transport

AGENTS = 10_000
EACH = 100
AT_ONCE = 20_000
PILED_UP = 100_000
DETAIL = b"d" * 70
"""An observation, encoded, with two lines of evidence."""
REVISION = "0123456789abcdef"
MINUTES = 30
HOSTS = [f"host-{number:05}" for number in range(AGENTS)]
ADDRESSES = [f"10.{number >> 8}.{number & 255}.1" for number in range(AGENTS)]
SERVICES = [f"service:{4000 + place}" for place in range(EACH)]
GOAL_A_SECOND = 100_000
GOAL_OCTETS = 10
GOAL_RESTART_S = 10


def main() -> None:
    """Fill a store with a large deployment, and read it as a restart does."""
    print(f"\nstore of {AGENTS * EACH:,} flows, SQLite")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'store'}"
        store = open_store(url)
        store.open()
        with rarely_looked_for() as set_aside:
            _fill(store, Path(folder), set_aside)
        store.close()
        _restart(url)


def _fill(store: SqlStore, folder: Path, set_aside: Callable[[], None]) -> None:
    flows = [_flow(agent, place) for agent in range(AGENTS) for place in range(EACH)]
    set_aside()
    _transitions(store, "first of each, names and all", _told(flows, 0), goal=False)
    _transitions(store, "of known flows, by agent", _told(flows, 1))
    random.seed(1)
    some = random.sample(flows, 3 * PILED_UP)
    _transitions(store, "of known flows, from everywhere", _told(some, 2), PILED_UP)
    _rollups(store, flows, folder)


def _transitions(
    store: SqlStore,
    what: str,
    changes: Iterable[Transition],
    at_once: int = AT_ONCE,
    *,
    goal: bool = True,
) -> None:
    took = worked = 0.0
    count = 0
    remaining = iter(changes)
    while some := tuple(islice(remaining, at_once)):
        began, began_work = time.perf_counter(), time.process_time()
        store.commit(Batch(some))
        took += time.perf_counter() - began
        worked += time.process_time() - began_work
        count += len(some)
    rate = count / took
    wanted = f"{GOAL_A_SECOND:,} or more" if goal else ""
    figure(f"a second, {what}", f"{rate:,.0f}", wanted, rate >= GOAL_A_SECOND)
    figure("  by the processor's time", f"{count / worked:,.0f}")


def _rollups(store: SqlStore, flows: list[FlowKey], folder: Path) -> None:
    """A minute's roll-up of each agent, each minute in a batch of its own."""
    plans = tuple(
        PlanSlots(f"host-{agent:05}", REVISION, tuple(_of(flows, agent)), ("s",) * EACH, 0)
        for agent in range(AGENTS)
    )
    store.commit(Batch(plans=plans))
    dice = random.Random(2)
    before = _octets(folder)
    took = 0.0
    for minute in range(MINUTES):
        batch = tuple(
            PackedRollUp(
                f"host-{agent:05}",
                f"boot-{agent:05}",
                minute,
                REVISION,
                60.0 * minute,
                60.0 * minute + 60,
                dice.randbytes(2 * EACH),  # two octets a flow, and nothing to compress
            )
            for agent in range(AGENTS)
        )
        began = time.perf_counter()
        store.commit(Batch(rollups=batch))
        took += time.perf_counter() - began
    octets = (_octets(folder) - before) / (len(flows) * MINUTES)
    figure("roll-ups a second", f"{AGENTS * MINUTES / took:,.0f}")
    figure(
        "octets a flow and minute of roll-up",
        f"{octets:.2f}",
        f"{GOAL_OCTETS} or less",
        octets <= GOAL_OCTETS,
    )
    count = store.size().transitions
    figure("octets in all, a transition", f"{before / count:.0f}")
    figure("  of them the observation itself", f"{len(DETAIL)}")


def _restart(url: str) -> None:
    """All that a collector reads before it goes on, in a store that it opens anew."""
    began, began_work = time.perf_counter(), time.process_time()
    store = open_store(url)
    with not_looked_for():
        begins = store.beginning()
        sum(1 for _ in store.received())
    took, worked = time.perf_counter() - began, time.process_time() - began_work
    slots = sum(len(one.flows) for one in begins.plans)
    assert len(begins.latest) == slots == AGENTS * EACH
    wanted = f"{GOAL_RESTART_S} s or less"
    figure("restart: with all plans", f"{took:.1f} s", wanted, took <= GOAL_RESTART_S)
    figure("  the processor's time", f"{worked:.1f} s")
    store.close()


def _told(flows: Iterable[FlowKey], turn: int) -> Iterator[Transition]:
    for place, flow in enumerate(flows):
        # Its own place among its source's, so that numbers are unique within the boot.
        number = turn * EACH + flow.port - 4000
        boot = f"boot-{flow.source[5:]}"
        at = 10_000.0 * turn + place / 1000
        key, service = replace(flow), SERVICES[flow.port - 4000]
        yield Transition(flow.source, boot, number, key, service, at, Outcome.OPEN, True, DETAIL)


def _flow(agent: int, place: int) -> FlowKey:
    other = (agent * 7 + place) % AGENTS
    return FlowKey(HOSTS[agent], HOSTS[other], ADDRESSES[other], 4000 + place, Transport.TCP)


def _of(flows: list[FlowKey], agent: int) -> list[FlowKey]:
    return flows[agent * EACH : (agent + 1) * EACH]


def _octets(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if not file.name.endswith("-wal"))


if __name__ == "__main__":
    main()
