"""What a row says of a flow is what was told of it last, but for the sentences."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.flowmap.written import Written
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport

KEY = FlowKey("pc-1", "web-1", "10.0.0.1", 80, Transport.TCP)
FLOW = ExpectedFlow(KEY, ServiceName.parse("web:80"), "http", Expectation.REACHABLE, (), ())


@given(
    st.sampled_from([*Outcome]),
    st.sampled_from([None, *AnsweredBy]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 1_900_000_000]),
    st.sampled_from(["", "10.1.0.1:4000", "[fd00::1]:80"]),
    st.sampled_from([(), ("10.0.0.1", "10.0.0.2")]),
)
def test_a_record_goes_on_where_its_row_ended(
    told: Any, outcome: Outcome, answered: Any, healthy: bool, window: bool, until: Any,
    local: str, resolved: tuple[str, ...],
) -> None:  # fmt: skip
    """It is the same change, and it is as long as it was."""
    written, record = Written(), FlowRecord(FLOW, 1.0)
    address = resolved[0] if resolved else ""
    more = {"address": address, "resolved": resolved}
    seen = {"answered_by": answered, "healthy": healthy, "window": window, "local": local}
    for at in (10.0, 20.0):
        record.fold(told(at, outcome, certificate_until=until, **seen, **more))
    assert record.newest is not None
    row = np.zeros(1, columns.ROW)
    row[0] = written.row(record, record.newest, columns.FORBIDDEN)
    assert row[0]["flags"] & columns.FORBIDDEN
    again = FlowRecord(FLOW, 1.0)
    written.go_on(again, row[0], **more)
    assert again.newest is not None and again.has_but_numbers
    assert (again.changed, again.checked, again.latency_ms) == (10.0, 20.0, record.latency_ms)
    assert written.has(row[0], record.newest.boot, record.newest.number)
    assert not written.has(row[0], "another", record.newest.number)
    left = replace(
        record.newest.seen,
        slot=0,
        at_ms=0,
        name_us=0,
        answer_us=0,
        evidence=(),
        seen_as="",
        local=f"{local.rpartition(':')[0]}:0" if local else "",
    )
    assert again.newest.seen == left
    again.remember(record.newest)
    assert again.last == record.last and not again.has_but_numbers


def test_nobody_goes_on_where_nothing_was_told() -> None:
    """The row of a flow that nobody checked yet has no change."""
    record = FlowRecord(FLOW, 1.0)
    Written().go_on(record, columns.blank(1, 5.0)[0])
    assert record.last is None and not record.has_but_numbers
