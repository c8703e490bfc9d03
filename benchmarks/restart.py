"""How long a collector takes from its store to its map: a million flows, after a restart.

The store has the plan of each agent and one change of each flow, nearly all well. It is read, and
the map filled, as the collector does it; then every flow has to be known.
"""

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import planning
from common import figure

from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.garbage import not_looked_for
from reachmap_collector.ledger import Ledger
from reachmap_collector.planner import Flows
from reachmap_collector.plans import Plans
from reachmap_collector.remains import Remains
from reachmap_collector.reports import Reports, kept_slots, slots_of
from reachmap_collector.slots import KnownPlans
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Transition
from reachmap_shared import codec
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import AnsweredBy, Outcome

THEN = 1_800_000_000.0
BROKEN_EVERY = 1_000
AT_ONCE = 20_000
GOAL_S = 10.0


def main() -> None:
    """Fill a store, and begin with it."""
    _, flows, plans = planning.deployment()
    print(f"\nrestart with {len(flows):,} flows, SQLite")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'store'}"
        _fill(url, flows, plans)
        _restart(url, flows)


def _fill(url: str, flows: Flows, plans: Plans) -> None:
    store = open_store(url)
    store.open()
    agents = iter(flows.targets)
    while some := [*islice(agents, 500)]:
        store.commit(Batch(plans=tuple(kept_slots(plans.slots(name), THEN) for name in some)))
    changes = _changes(flows)
    while batch := tuple(islice(changes, AT_ONCE)):
        store.commit(Batch(transitions=batch))
    store.close()


def _changes(flows: Flows) -> "Iterator[Transition]":
    dialled = (flow for flow in flows if flow.key.address)
    for number, flow in enumerate(dialled):
        outcome = Outcome.OPEN if number % BROKEN_EVERY else Outcome.TIMEOUT
        seen = Observation(
            *(number % 100, 0, outcome, AnsweredBy.SERVICE, True, 0, 400 + number % 100, 900),
            f"10.1.{number >> 14 & 255}.{number >> 6 & 255}:{40_000 + number % 20_000}",
            ("connected in 0.4 ms", "answered as HTTP does"),
        )
        yield Transition(
            *(flow.key.source, f"boot-{flow.key.source}", number, flow.key, str(flow.service)),
            *(THEN + number / 1000, outcome, outcome is Outcome.OPEN, codec.encode(seen)),
        )


def _restart(url: str, flows: Flows) -> None:
    began, began_work = time.perf_counter(), time.process_time()
    store = open_store(url)
    flow_map, known = FlowMap(), KnownPlans()
    reports = Reports(flow_map, Ledger(), known)
    remains = Remains.read(store)
    read = time.process_time() - began_work
    with not_looked_for():
        flow_map.expect(flows, THEN)
        for row in remains.plans:
            known.add(slots_of(row))
        reports.restore(
            *(remains.latest, remains.received, remains.losses, remains.diagnoses, remains.older)
        )
    took, worked = time.perf_counter() - began, time.process_time() - began_work
    store.close()
    figure("to a full map", f"{took:.1f} s", f"under {GOAL_S:g} s", took < GOAL_S)
    figure("  the processor's time", f"{worked:.1f} s")
    figure("  of it to read the store", f"{read:.1f} s")
    missing = sum(flow.key.address != "" for flow in flows) - int((flow_map.rows["at"] > 0).sum())
    assert missing == 0, missing
