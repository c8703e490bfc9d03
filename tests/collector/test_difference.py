"""Two moments compared by columns say what a look at each flow says."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.difference import EXAMPLES, Difference
from reachmap_collector.flowmap.bulk import Numbering
from reachmap_collector.past import Expectations
from reachmap_collector.planner import Announcement, FlowKey, members
from reachmap_collector.store.api import Standing
from reachmap_collector.store.shifts import NOTHING, OUTCOMES, Shifts
from reachmap_collector.turns import Turn, turn
from reachmap_collector.views import timestamp
from reachmap_shared.vocabulary import Outcome, Transport

T = 1_700_000_000.0

HOSTS = ["pc-1", "pc-2", "pc-0", "web-1", "db-1", "db-2", "gone-1"]
SERVICES = ["web:8080", "shop:9090", "db:5432", "old:1"]
ADDRESSES = ["10.0.0.1", "10.9.9.9", "fd00::1", "web.example", ""]

ends = st.tuples(
    *(st.sampled_from(HOSTS), st.sampled_from(HOSTS), st.sampled_from(ADDRESSES)),
    st.sampled_from(SERVICES),
)
outcomes = st.sampled_from([Outcome.OPEN, Outcome.OPEN, Outcome.TIMEOUT, *Outcome])
times = st.integers(0, 9).map(lambda number: T + number)
stood = st.dictionaries(ends, st.tuples(outcomes, times), max_size=12)
"""Each flow's outcome to a service, and since when; by what is dialled and which service."""

Stood = Mapping[tuple[str, str, str, str], tuple[Outcome, float]]


@given(stood, stood, st.sampled_from([None, "browser", "db", "web"]))
def test_it_is_what_a_look_at_each_flow_says(
    topology: Any, office_text: str, before: Stood, after: Stood, role: str | None
) -> None:
    """Also where hosts have other names or addresses now, or are gone; on all pages together."""
    renamed = office_text.replace("[hosts.pc-1]", '[hosts.pc-1]\nwas = ["pc-0"]')
    renamed = renamed.replace("[hosts.db-1]", '[hosts.db-2]\nroles = ["db"]\n[hosts.db-1]')
    one = topology(renamed)
    expectations = Expectations(one, members(one, {"pc-2": Announcement(("shop",), ())}))
    found = Difference(_shifts(before, after), _standings(before), expectations, role)
    counts, groups = _one_by_one(before, after, expectations, role)
    assert found.counts() == counts
    assert found.groups(0, len(found)) == groups
    assert [group for at in range(len(groups)) for group in found.groups(at, at + 1)] == groups
    assert found.groups(len(groups), len(groups) + 5) == []


def _shifts(before: Stood, after: Stood) -> Shifts:
    hosts, services = Numbering[str](), Numbering[str]()
    was = [before[flow][0] if flow in before else None for flow in after]
    return Shifts(
        source=hosts.of(source for source, _, _, _ in after),
        destination=hosts.of(destination for _, destination, _, _ in after),
        service=services.of(service for _, _, _, service in after),
        hosts=[*hosts],
        services=[*services],
        by_ipv6=np.array([":" in address for _, _, address, _ in after], bool),
        was=np.array([NOTHING if one is None else OUTCOMES.index(one) for one in was], np.int64),
        outcome=np.array([OUTCOMES.index(one) for one, _ in after.values()], np.int64),
        since=np.array([since for _, since in after.values()], np.float64),
    )


def _standings(stood: Stood) -> list[Standing]:
    return [
        Standing(FlowKey(source, destination, address, 1, Transport.TCP), service, outcome, at)
        for (source, destination, address, service), (outcome, at) in stood.items()
    ]


def _one_by_one(
    before: Stood, after: Stood, expectations: Expectations, role: str | None
) -> tuple[dict[Turn, int], list[dict[str, Any]]]:
    """The same by the plainest way."""
    named: dict[Any, tuple[Outcome, float]] = {}
    for flow, then in before.items():
        name = _name(flow, expectations)
        if name not in named or named[name][1] < then[1]:
            named[name] = then
    counts: Counter[Turn] = Counter()
    groups: dict[Any, list[tuple[str, float]]] = {}
    for flow, (outcome, since) in after.items():
        source, destination, service, _ = _name(flow, expectations)
        if role is not None and role not in expectations.roles(source, service):
            continue
        then = before.get(flow) or named.get(_name(flow, expectations))
        was = then[0] if then else None
        change = turn(was, outcome, expectations.of(source, destination, service))
        counts[change] += 1
        groups.setdefault((change, service, destination, was, outcome), []).append((source, since))
    return {change: counts[change] for change in Turn}, [*_in_order(groups)]


def _in_order(groups: Mapping[Any, list[tuple[str, float]]]) -> Iterable[dict[str, Any]]:
    for key in sorted(
        groups, key=lambda key: ([*Turn].index(key[0]), *(str(k or "") for k in key))
    ):
        change, service, destination, was, outcome = key
        sources = sorted({source for source, _ in groups[key]})
        yield {
            "change": change,
            "service": service,
            "destination": destination,
            "was": was,
            "outcome": outcome,
            "flows": len(groups[key]),
            "hosts": len(sources),
            "sources": sources[:EXAMPLES],
            "first": timestamp(min(since for _, since in groups[key])),
            "last": timestamp(max(since for _, since in groups[key])),
        }


def _name(
    flow: tuple[str, str, str, str], expectations: Expectations
) -> tuple[str, str, str, bool]:
    source, destination, address, service = flow
    ends = expectations.current(source), expectations.current(destination)
    return (*ends, service, ":" in address)
