"""The map remembers what was seen, and of what."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.fold import FlowMap, FlowRecord
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_shared.messages import Observation
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport

WINDOW = 20


def expected(address: str = "10.0.0.1", service: str = "web:80", **changes: Any) -> ExpectedFlow:
    name = ServiceName.parse(service)
    key = FlowKey("pc-1", "web-1", address, name.port, Transport.TCP)
    fields: dict[str, Any] = {"expect": Expectation.REACHABLE, "connections": (), "denies": ()}
    return ExpectedFlow(key, name, "http", **(fields | changes))


@pytest.fixture
def record() -> FlowRecord:
    return FlowRecord(expected(), known_since=0.0)


def test_a_flow_begins_without_a_past(record: FlowRecord) -> None:
    """Nothing is claimed before the first check."""
    assert (record.last, record.latency_ms, record.flips) == (None, None, 0)


def test_since_moves_only_when_the_checks_see_something_else(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """The same sight again is no change, whatever its times and words; another sight is."""
    sights = [
        (10, observation(), 10),
        (20, observation(connect_us=9000, evidence=("other words",), local="x"), 10),
        (30, observation(answered_by=AnsweredBy.LISTENER), 30),
        (40, observation(answered_by=AnsweredBy.LISTENER, healthy=False), 40),
        (50, observation(Outcome.TIMEOUT), 50),
        (60, observation(Outcome.TIMEOUT), 50),
        (70, observation(Outcome.REFUSED), 70),
    ]
    for at, sight, since in sights:
        record.fold(sight, at)
        assert (record.checked, record.changed, record.last) == (at, since, sight)


def test_what_is_older_than_the_last_is_passed_over(record: FlowRecord, observation: Any) -> None:
    """A report that was held up tells nothing about now."""
    record.fold(observation(), 20)
    record.fold(observation(Outcome.TIMEOUT), 10)
    assert record.last == observation()
    assert (record.checked, record.changed, record.flips) == (20, 20, 0)
    record.fold(observation(Outcome.TIMEOUT), 20)
    assert record.last == observation(Outcome.TIMEOUT)


def test_latency_is_the_median_of_the_open_checks_of_the_window(
    record: FlowRecord, observation: Any
) -> None:
    """One slow check is no slow flow, and one that did not connect has no time to connect."""
    for at, microseconds in enumerate((1000, 1200, 90_000)):
        record.fold(observation(connect_us=microseconds), at)
    record.fold(observation(Outcome.TIMEOUT), 3)
    assert record.latency_ms == 1.2
    for at in range(WINDOW):
        record.fold(observation(connect_us=4321), 10 + at)
    assert record.latency_ms == 4.321


@pytest.mark.parametrize(
    ("outcomes", "flips"),
    [
        ("o", 0),
        ("oooo", 0),
        ("xxxx", 0),
        ("ooxx", 1),
        ("oxo", 2),
        ("oxoxo", 4),
        ("oxrxo", 2),
        ("o" + "x" * WINDOW, 0),
        ("oxo" + "o" * WINDOW, 0),
        ("oleleo", 0),
    ],
)
def test_flips_count_the_ups_and_downs_of_the_window(
    record: FlowRecord, observation: Any, outcomes: str, flips: int
) -> None:
    """Down one way or another is down; an error of the prober's own is neither up nor down."""
    meaning = {
        "o": Outcome.OPEN,
        "x": Outcome.TIMEOUT,
        "r": Outcome.REFUSED,
        "l": Outcome.LOCAL_ERROR,
        "e": Outcome.LOCAL_ERROR,
    }
    for at, letter in enumerate(outcomes):
        record.fold(observation(meaning[letter]), at)
    assert record.flips == flips


@pytest.mark.parametrize(
    ("outcomes", "made", "opened", "local_errors"),
    [
        ("", 0, 0, 0),
        ("o", 1, 1, 0),
        ("x", 1, 0, 0),
        ("l", 1, 0, 1),
        ("oxrl", 4, 1, 1),
        ("o" * 19 + "l", 20, 19, 1),
        ("l" * 5 + "o" * WINDOW, WINDOW, WINDOW, 0),
        ("o" * WINDOW + "l" * WINDOW, WINDOW, 0, WINDOW),
    ],
)
def test_every_check_of_the_window_is_counted(
    record: FlowRecord,
    observation: Any,
    outcomes: str,
    made: int,
    opened: int,
    local_errors: int,
) -> None:
    """One that could not be made too: what a prober did not do is no success of the network's."""
    meaning = {
        "o": Outcome.OPEN,
        "x": Outcome.TIMEOUT,
        "r": Outcome.REFUSED,
        "l": Outcome.LOCAL_ERROR,
    }
    for at, letter in enumerate(outcomes):
        record.fold(observation(meaning[letter]), at)
    counts = record.checks_made, record.checks_open, record.checks_failed_locally
    assert counts == (made, opened, local_errors)


def test_what_is_passed_over_is_not_counted(record: FlowRecord, observation: Any) -> None:
    """A report that was held up may be one that was counted already; an unconfirmed check is one."""
    record.fold(observation(), 20)
    record.fold(observation(Outcome.TIMEOUT), 10)
    assert record.checks_made == 1
    record.fold(observation(Outcome.TIMEOUT, confirmed=False), 21)
    assert (record.checks_made, record.checks_open) == (2, 1)


def test_a_certificate_that_is_not_confirmed_is_not_taken(
    record: FlowRecord, observation: Any
) -> None:
    """As nothing else of such a check is: what is known stays."""
    record.fold(observation(certificate_until=1, seen_as="10.0.0.1:1"), 1)
    record.fold(observation(Outcome.TIMEOUT, confirmed=False), 2)
    assert record.last is not None
    assert (record.last.certificate_until, record.last.seen_as) == (1, "10.0.0.1:1")


def test_another_certificate_is_no_change_of_the_flow(record: FlowRecord, observation: Any) -> None:
    """It is renewed while the flow stays as it is; a port of the check's own says even less."""
    record.fold(observation(certificate_until=1, seen_as="10.0.0.1:1"), 1)
    renewed = observation(certificate_until=2, seen_as="10.0.0.1:2")
    record.fold(renewed, 2)
    assert (record.changed, record.last) == (1, renewed)


def test_an_unconfirmed_change_counts_as_loss_alone(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """It was a check, and what it saw is counted; what is known stays until it is confirmed."""
    lost = observation(Outcome.TIMEOUT, confirmed=False)
    record.fold(observation(), 10)
    for at, flips in ((20, 1), (21, 1)):
        record.fold(lost, at)
        assert (record.checked, record.changed, record.last) == (at, 10, observation())
        assert record.flips == flips
    record.fold(observation(Outcome.TIMEOUT), 22)
    assert (record.changed, record.last) == (22, observation(Outcome.TIMEOUT))
    assert record.flips == 1


def test_a_lost_packet_leaves_nothing_but_a_flip_and_back(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """The check after it sees what was seen before, and nothing has changed."""
    sights = [
        observation(),
        observation(Outcome.TIMEOUT, confirmed=False),
        observation(connect_us=3000),
    ]
    for at, sight in enumerate(sights):
        record.fold(sight, at)
    assert (record.checked, record.changed, record.last) == (2, 0, sights[-1])
    assert (record.flips, record.latency_ms) == (2, 2.0)


def test_an_unconfirmed_opening_is_not_measured(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """A flow that is down has no latency before it is known to be up."""
    record.fold(observation(Outcome.TIMEOUT), 0)
    record.fold(observation(confirmed=False), 1)
    assert (record.last, record.latency_ms) == (observation(Outcome.TIMEOUT), None)
    assert record.flips == 1


def test_the_first_sight_counts_though_unconfirmed(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """There is nothing better to be had, and it changes nothing that was known."""
    first = observation(Outcome.TIMEOUT, confirmed=False)
    record.fold(first, 10)
    assert (record.checked, record.changed, record.last) == (10, 10, first)


def test_an_unconfirmed_error_of_the_prober_is_no_loss(
    record: FlowRecord, observation: Callable[..., Observation]
) -> None:
    """It was not sent, so it cannot have been lost."""
    record.fold(observation(), 10)
    record.fold(observation(Outcome.LOCAL_ERROR, confirmed=False), 20)
    assert (record.checked, record.flips, record.last) == (20, 0, observation())


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.sampled_from(Outcome), st.booleans()),
        max_size=60,
    )
)
def test_the_past_of_a_flow_stays_small(
    observation: Callable[..., Observation], seen: list[tuple[float, Outcome, bool]]
) -> None:
    """However often it is checked; and what was seen last is what was seen latest."""
    record = FlowRecord(expected(), known_since=0.0)
    for at, outcome, confirmed in seen:
        record.fold(observation(outcome, confirmed=confirmed), at)
    assert max(len(record.sights), len(record.connect_us)) <= WINDOW
    assert record.checks_made == min(len(record.sights), WINDOW)
    assert record.checks_open + record.checks_failed_locally <= record.checks_made
    assert record.changed <= record.checked == max([at for at, *_ in seen], default=0.0)


# The map.


def test_the_map_holds_just_the_flows_that_are_expected(observation: Any) -> None:
    """Those that stay keep their past, those that go are forgotten, new ones begin."""
    flows = FlowMap()
    flows.expect([expected("10.0.0.1"), expected("10.0.0.2")], 5.0)
    for address in ("10.0.0.1", "10.0.0.2"):
        assert flows.observe(expected(address).key, observation(), 10.0)
    flows.expect([expected("10.0.0.2"), expected("10.0.0.3")], 20.0)
    assert [record.key.address for record in flows] == ["10.0.0.2", "10.0.0.3"]
    assert len(flows) == 2
    kept, new = flows
    assert (kept.known_since, kept.checked) == (5.0, 10.0)
    assert (new.known_since, new.last) == (20.0, None)
    flows.expect([expected("10.0.0.1")], 30.0)
    back = flows.get(expected("10.0.0.1").key)
    assert back is not None
    assert (back.known_since, back.last) == (30.0, None)


def test_a_flow_whose_expectation_changes_keeps_its_past(observation: Any) -> None:
    """What was seen is as true as before; what it means is judged anew."""
    flows = FlowMap()
    flows.expect([expected()], 0.0)
    flows.observe(expected().key, observation(), 10.0)
    flows.expect([expected(expect=Expectation.BLOCKED)], 20.0)
    [record] = flows
    assert record.expected.expect is Expectation.BLOCKED
    assert record.checked == 10.0


def test_another_service_on_the_same_port_begins_anew(observation: Any) -> None:
    """What one service answered is no news of another."""
    flows = FlowMap()
    flows.expect([expected(service="web:80")], 0.0)
    flows.observe(expected().key, observation(), 10.0)
    flows.expect([expected(service="shop:80")], 20.0)
    [record] = flows
    assert (record.last, record.known_since) == (None, 20.0)


def test_what_is_seen_of_no_flow_is_not_kept(observation: Any) -> None:
    """A report under an older plan may speak of flows that are gone."""
    flows = FlowMap()
    assert not flows.observe(expected().key, observation(), 10.0)
    assert len(flows) == 0
    assert flows.get(expected().key) is None


def test_each_address_of_a_name_is_a_flow_of_its_own(observation: Any) -> None:
    """Of both families; an address that the name has no more is none."""
    flows = FlowMap()
    named = expected("db.example")
    flows.expect([named], 1.0)
    assert [record.key.address for record in flows] == ["db.example"]
    both = ("10.0.0.5", "fd00::5")
    for address, outcome in zip(both, (Outcome.OPEN, Outcome.TIMEOUT), strict=True):
        seen = observation(outcome=outcome, address=address, resolved=both)
        assert flows.observe(named.key, seen, 2.0)
    assert [(record.key.address, record.last.outcome) for record in flows if record.last] == [
        ("10.0.0.5", Outcome.OPEN),
        ("fd00::5", Outcome.TIMEOUT),
    ]
    assert len(flows) == 2
    flows.observe(named.key, observation(address="10.0.0.6", resolved=("10.0.0.6",)), 3.0)
    assert [record.key.address for record in flows] == ["10.0.0.6"]


def test_a_name_that_does_not_resolve_breaks_the_flow_to_each_address(observation: Any) -> None:
    """They keep their past, for when it does again."""
    flows = FlowMap()
    named = expected("db.example")
    flows.expect([named], 1.0)
    flows.observe(named.key, observation(outcome=Outcome.NAME_FAILURE), 2.0)
    (record,) = flows
    assert record.key.address == "db.example" and record.last is not None
    flows.observe(named.key, observation(address="10.0.0.5", resolved=("10.0.0.5",)), 3.0)
    flows.observe(named.key, observation(outcome=Outcome.NAME_FAILURE), 4.0)
    (record,) = flows
    assert record.key.address == "10.0.0.5" and record.last is not None
    assert (record.last.outcome, record.flips) == (Outcome.NAME_FAILURE, 1)


def test_a_new_plan_keeps_what_is_known_of_a_name(observation: Any) -> None:
    """And drops it with the flow."""
    flows = FlowMap()
    named = expected("db.example")
    flows.expect([named], 1.0)
    flows.observe(named.key, observation(address="10.0.0.5", resolved=("10.0.0.5",)), 2.0)
    flows.expect([named, expected()], 3.0)
    assert {record.key.address for record in flows} == {"10.0.0.1", "10.0.0.5"}
    flows.expect([], 4.0)
    assert len(flows) == 0
    assert not flows.observe(named.key, observation(), 5.0)
