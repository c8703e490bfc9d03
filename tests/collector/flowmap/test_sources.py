"""What is said of all flows at once is what is said of each."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap.lines import Lines
from reachmap_collector.flowmap.records import Counts, Period
from reachmap_collector.slots import Slots
from reachmap_shared.messages import NamedCount

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = { protocol = "http" } }
[roles.pc]
connects = ["web:8080"]
[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1", "one.example", "two.example"]
[hosts.pc-1]
roles = ["pc"]
[hosts.pc-2]
roles = ["pc"]
"""

ADDRESSES = ["10.9.0.1", "10.9.0.2", "10.9.0.3"]

resolved = st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True)
names = st.tuples(
    st.sampled_from(["pc-1", "pc-2"]), st.sampled_from(["one.example", "two.example"]), resolved
)
octets = st.sampled_from([0, 1, 90, 255])
periods = st.tuples(
    st.sampled_from(["pc-1", "pc-2"]),
    st.integers(0, 2),  # slots that the plan lacks
    st.lists(octets, min_size=3, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(ADDRESSES), octets, st.integers(0, 3)),
        max_size=5,
    ),
)


@given(st.lists(names, max_size=8), st.lists(periods, max_size=8), st.integers(0, 8))
def test_periods_are_read_for_all_as_for_one(
    scene: Any, told: Any, seen: Any, ends: Any, kept: int
) -> None:
    """Latencies and flips, of addresses and of names, whatever those resolve to at each agent."""
    stage = scene(TOPOLOGY)
    flows = stage.flows
    flows._kept = kept
    for at, (source, name, addresses) in enumerate(seen):
        flow = next(
            one.key for one in flows.expected if (one.key.source, one.key.address) == (source, name)
        )
        for address in addresses:
            change = told(float(at), address=address, resolved=tuple(addresses))
            assert flows.tell(flow, "web:8080", change)
    for number, (source, lacking, latency, lines) in enumerate(ends):
        keys = [one.key for one in flows.expected if one.key.source == source][lacking:]
        slots = Slots.of(source, f"r{lacking}", keys, ("web:8080",) * len(keys))
        named = Lines.of(
            [
                NamedCount(slot, address, 1, 0, 0, ups, octet)
                for slot, address, octet, ups in lines
                if slot < len(keys)
            ]
        )
        is_named = [not one.address[0].isdigit() for one in keys]
        plain = bytes(
            0 if by_name else one for by_name, one in zip(is_named, latency, strict=False)
        )
        counts = Counts(latency=plain, flips=plain and bytes([2]) * len(keys), named=named)
        flows.source(source).roll_up(Period(float(number), "boot-1", number, slots, counts))
    latencies = flows.latencies()
    flapping = {*flows.flapping(4)}
    for record in flows:
        octets = sorted(one.latency for one in record._counts() if one.latency)
        found = latencies[:, record.row]
        assert sorted(found[found > 0].tolist()) == octets
        assert (record.row in flapping) == (record.flips >= 4)
