"""How long a collector takes from its store to its map: a million flows, after a restart.

The store has the plan of each agent and one change of each flow. It is read, and the map filled, as
the collector does it; then every flow has to be known. Cases are those of the map's own benchmark:
where all is dialled by name, every other name has two addresses, so there are more flows.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import planning
from common import figure
from flow_map import CASES, Case, addresses

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
AT_ONCE = 20_000
GOAL_S = 10.0


def main() -> None:
    """Fill a store, and begin with it."""
    for case in CASES:
        _, flows, plans = planning.deployment(by_name=case.by_name)
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'store'}"
            number = _fill(url, flows, plans, case)
            print(f"\nrestart with {number:,} flows, {case.what}, SQLite")
            _restart(url, flows, number)


def _fill(url: str, flows: Flows, plans: Plans, case: Case) -> int:
    store = open_store(url)
    store.open()
    agents = iter(flows.targets)
    while some := [*islice(agents, 500)]:
        store.commit(Batch(plans=tuple(kept_slots(plans.slots(name), THEN) for name in some)))
    changes, number = _changes(flows, case), 0
    while batch := tuple(islice(changes, AT_ONCE)):
        number += len(batch)
        store.commit(Batch(transitions=batch))
    store.close()
    return number


def _changes(flows: Flows, case: Case) -> "Iterator[Transition]":
    numbers = count()
    for place, flow in enumerate(one for one in flows if one.key.address):
        outcome = Outcome.OPEN if place % case.broken_every else Outcome.TIMEOUT
        resolved = addresses(flow)
        for address in resolved or (flow.key.address,):
            number = next(numbers)
            seen = Observation(
                *(number % 100, 0, outcome, AnsweredBy.SERVICE, True, 0, 400 + number % 100, 900),
                f"10.1.{number >> 14 & 255}.{number >> 6 & 255}:{40_000 + number % 20_000}",
                ("connected in 0.4 ms", "answered as HTTP does"),
                address=address if resolved else "",
                resolved=resolved,
            )
            key = replace(flow.key, address=address)
            yield Transition(
                *(key.source, f"boot-{key.source}", number, key, str(flow.service)),
                *(THEN + number / 1000, outcome, outcome is Outcome.OPEN, codec.encode(seen)),
            )


def _restart(url: str, flows: Flows, number: int) -> None:
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
    each = took / number * 1_000_000
    figure("to a full map", f"{took:.1f} s")
    figure("  of a million flows", f"{each:.1f} s", f"under {GOAL_S:g} s", each < GOAL_S)
    figure("  the processor's time for all", f"{worked:.1f} s")
    figure("  of it to read the store", f"{read:.1f} s")
    missing = number - int((flow_map.every()["at"] > 0).sum())
    assert missing == 0, missing
