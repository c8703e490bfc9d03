"""The map remembers what was told, in whatever order it was heard."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.bulk import FlowKeys, Numbering, WellFlows
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.lines import Lines
from reachmap_collector.flowmap.records import Counts, FlowRecord, Period, Source, Told
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.slots import Slots
from reachmap_shared import logscale
from reachmap_shared.messages import NamedCount
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport

PERIODS = 4
PAST = 8
OPEN, DOWN, REFUSED = Outcome.OPEN, Outcome.TIMEOUT, Outcome.REFUSED


def expected(address: str = "10.0.0.1", service: str = "web:80", **changes: Any) -> ExpectedFlow:
    name = ServiceName.parse(service)
    key = FlowKey("pc-1", "web-1", address, name.port, Transport.TCP)
    fields: dict[str, Any] = {"expect": Expectation.REACHABLE, "connections": (), "denies": ()}
    return ExpectedFlow(key, name, "http", **(fields | changes))


def slots(*addresses: str, revision: str = "r1") -> Slots:
    keys = tuple(expected(address).key for address in addresses)
    return Slots.of("pc-1", revision, keys, ("web:80",) * len(keys))


def period(ends: float, plan: Slots, sequence: int | None = None, **columns: Any) -> Period:
    number = int(ends) if sequence is None else sequence
    return Period(ends, "boot-1", number, plan, Counts(**columns))


@pytest.fixture
def record() -> FlowRecord:
    return FlowRecord(expected(), known_since=0.0)


# Changes.


def test_a_flow_begins_without_a_past(record: FlowRecord) -> None:
    """Nothing is claimed before the first check."""
    assert (record.last, record.checked, record.changed) == (None, 0, 0)
    assert (record.latency_ms, record.flips, record.checks_made) == (None, 0, 0)


def test_since_moves_only_when_the_checks_see_something_else(record: FlowRecord, told: Any) -> None:
    """Another certificate or word is a change that is told, and no change of the flow."""
    sights = [
        (told(10), 10),
        (told(20, certificate_until=9, evidence=("other words",), seen_as="10.0.0.1:1"), 10),
        (told(30, answered_by=AnsweredBy.LISTENER), 30),
        (told(40, answered_by=AnsweredBy.LISTENER, healthy=False), 40),
        (told(50, DOWN), 50),
        (told(60, DOWN, offender="10.0.0.9"), 50),
        (told(70, REFUSED), 70),
    ]
    for one, since in sights:
        record.fold(one)
        assert (record.checked, record.changed, record.last) == (one.at, since, one.seen)


def test_a_change_that_comes_late_finds_its_place(record: FlowRecord, told: Any) -> None:
    """It is no news of now, but tells since when it has been as it is."""
    record.fold(told(30, DOWN, number=3))
    record.fold(told(10, OPEN, number=1))
    assert (record.last.outcome, record.changed) == (DOWN, 30)
    record.fold(told(20, DOWN, number=2))
    assert (record.last.outcome, record.changed) == (DOWN, 20)


def test_numbers_tell_the_order_within_a_start(record: FlowRecord, told: Any) -> None:
    """Whatever delays on the way make of the times."""
    record.fold(told(10, OPEN, number=1))
    record.fold(told(9, DOWN, number=2))
    assert record.last.outcome is DOWN
    record.fold(told(11, OPEN, number=0))
    assert record.last.outcome is DOWN


def test_times_tell_the_order_between_starts(record: FlowRecord, told: Any) -> None:
    """What an earlier start left behind in its spool is history."""
    record.fold(told(20, OPEN, number=0, boot="second"))
    record.fold(told(10, DOWN, number=7, boot="first"))
    assert (record.last.outcome, record.changed) == (OPEN, 20)
    record.fold(told(30, REFUSED, number=0, boot="third"))
    assert record.last.outcome is REFUSED


def test_a_change_that_is_told_again_is_the_same(record: FlowRecord, told: Any) -> None:
    """It came about no later than any telling of it says."""
    for at in (12, 10, 15):
        record.fold(told(at, DOWN, number=1))
    assert (record.checked, record.changed) == (10, 10)


def test_since_outlasts_the_past_that_is_kept(record: FlowRecord, told: Any) -> None:
    """A flow that is told of anew every day has been open since the first of them."""
    record.fold(told(1, DOWN))
    for day in range(2, 30):
        record.fold(told(day, OPEN, certificate_until=day))
    assert record.changed == 2
    assert len(record._past) == PAST
    record.fold(told(30, DOWN))
    assert record.changed == 30


changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),  # starts, one after the other
        st.sampled_from([OPEN, DOWN, REFUSED]),
        st.booleans(),
    ),
    max_size=PAST,
)


@given(changes, st.randoms(use_true_random=False), st.data())
def test_no_order_of_delivery_makes_a_difference(
    told: Callable[..., Told], seen: list[tuple[str, Outcome, bool]], dice: Any, data: Any
) -> None:
    """Nor does how often a change comes: a flow is as the latest says, since it first was so."""
    seen = sorted(seen, key=lambda one: one[0])
    truth = [
        told(10.0 * at, outcome, number=at, boot=boot, healthy=healthy)
        for at, (boot, outcome, healthy) in enumerate(seen, 1)
    ]
    again = data.draw(st.lists(st.sampled_from(truth), max_size=5)) if truth else []
    delivered = [*truth, *again]
    dice.shuffle(delivered)
    record = FlowRecord(expected(), known_since=0.0)
    for one in delivered:
        record.fold(one)
    if not truth:
        assert record.last is None
        return
    since = truth[-1].at
    for one in reversed(truth):
        if (one.seen.outcome, one.seen.healthy) != (truth[-1].seen.outcome, truth[-1].seen.healthy):
            break
        since = one.at
    assert (record.last, record.checked, record.changed) == (truth[-1].seen, truth[-1].at, since)


@given(st.permutations(range(20)))
def test_the_past_of_a_flow_stays_small(told: Callable[..., Told], order: list[int]) -> None:
    """However often it changes; and the latest change is the one that counts."""
    record = FlowRecord(expected(), known_since=0.0)
    for number in order:
        record.fold(told(float(number), OPEN if number % 2 else DOWN, number=number))
    assert len(record._past) == PAST
    assert (record.checked, record.changed) == (19, 19)


# Pulses.


def test_a_pulse_refreshes_all_flows_of_its_plan(told: Any) -> None:
    """But the stale ones, which stay as old as they are; and no other plan's."""
    flows = FlowMap()
    flows.expect([expected(f"10.0.0.{n}") for n in range(10)], 0.0)
    plan = slots(*(f"10.0.0.{n}" for n in range(9)))
    for key in plan.flows:
        assert flows.tell(key, "web:80", told(10))
    flows.source("pc-1").pulse(100, 5, plan, b"")
    assert [record.checked for record in flows] == [95] * 9 + [0]
    flows.source("pc-1").pulse(200, 5, plan, bytes([0b00000010, 0b1]))
    assert [record.checked for record in flows] == [195, 95, *[195] * 6, 95, 0]
    flows.source("pc-1").pulse(300, 5, plan, bytes([0b00000010]))
    assert [record.checked for record in flows] == [295, 95, *[295] * 7, 0]


def test_a_pulse_under_another_plan_says_nothing_of_flows_that_it_lacks(told: Any) -> None:
    """What the plan before said of a stale flow stays with it, whatever its slot is now."""
    flows = FlowMap()
    flows.expect([expected("10.0.0.1"), expected("10.0.0.2"), expected("10.0.0.3")], 0.0)
    source = flows.source("pc-1")
    for record in flows:
        record.fold(told(1))
    source.pulse(100, 0, slots("10.0.0.1", "10.0.0.2"), b"")
    source.pulse(200, 0, slots("10.0.0.2", "10.0.0.3", revision="r2"), b"\x01")
    assert [record.checked for record in flows] == [1, 100, 200]


def test_a_pulse_that_is_late_changes_nothing() -> None:
    """Time does not run backwards."""
    source = Source()
    source.pulse(100, 0, slots("10.0.0.1"), b"")
    source.pulse(50, 0, slots("10.0.0.1"), b"\x01")
    assert source.checked(expected("10.0.0.1").key) == 100


def test_bits_beyond_the_plan_mean_nothing() -> None:
    """An agent may round up, or be wrong."""
    source = Source()
    source.pulse(100, 0, slots("10.0.0.1"), b"\xfe\xff")
    assert source.checked(expected("10.0.0.1").key) == 100


# Roll-ups.


def test_counts_are_of_the_latest_periods(record: FlowRecord) -> None:
    """As the agent counted them; one that could not be made is a check too."""
    plan = slots("10.0.0.9", "10.0.0.1")
    for number in range(PERIODS + 2):
        record.source.roll_up(
            period(
                number, plan, made=b"\x06\x05", failed=b"\0\2", local_errors=b"\0\1", flips=b"\0\3"
            )
        )
    assert (record.checks_made, record.checks_open) == (5 * PERIODS, 2 * PERIODS)
    assert (record.checks_failed_locally, record.flips) == (PERIODS, 3 * PERIODS)


def test_latency_is_the_median_of_the_latest_periods(record: FlowRecord, told: Any) -> None:
    """Before the first of them it is that of the latest change, if that found it open."""
    record.fold(told(1, OPEN, connect_us=4321))
    assert record.latency_ms == 4.321
    for number, us in enumerate((1000, 90_000, 1200)):
        code = bytes([logscale.code(us)])
        record.source.roll_up(period(number, slots("10.0.0.1"), latency=code))
    assert record.latency_ms == pytest.approx(1.2, rel=0.04)
    record.fold(told(2, DOWN))
    assert record.latency_ms == pytest.approx(1.2, rel=0.04)


def test_a_flow_that_is_not_open_has_no_time_to_connect(record: FlowRecord, told: Any) -> None:
    """A time to nowhere is none."""
    record.fold(told(1, DOWN, connect_us=5))
    assert record.latency_ms is None


def test_periods_of_plans_before_count_by_their_own_slots(record: FlowRecord) -> None:
    """A flow that a plan did not have has no checks in it."""
    record.source.roll_up(period(1, slots("10.0.0.2", "10.0.0.1"), made=b"\1\2"))
    record.source.roll_up(period(2, slots("10.0.0.1", "10.0.0.2", revision="r2"), made=b"\4\1"))
    record.source.roll_up(period(3, slots("10.0.0.2", revision="r3"), made=b"\1"))
    assert record.checks_made == 6


@given(st.permutations(range(7)), st.lists(st.integers(0, 6), max_size=4))
def test_no_order_of_periods_makes_a_difference(order: list[int], again: list[int]) -> None:
    """A backlog that comes after an outage ends in the same counts, each counted once."""
    record = FlowRecord(expected(), known_since=0.0)
    for number in [*order, *again]:
        record.source.roll_up(period(number, slots("10.0.0.1"), made=bytes([1 << number])))
    assert record.checks_made == 0b1111000


# The map.


def test_the_map_holds_just_the_flows_that_are_expected(told: Any) -> None:
    """Those that stay keep their past, those that go are forgotten, new ones begin."""
    flows = FlowMap()
    assert flows.expect([expected("10.0.0.1"), expected("10.0.0.2")], 5.0) == {"pc-1"}
    for address in ("10.0.0.1", "10.0.0.2"):
        assert flows.tell(expected(address).key, "web:80", told(10))
    assert flows.expect([expected("10.0.0.1"), expected("10.0.0.2")], 15.0) == set()
    assert flows.expect([expected("10.0.0.2"), expected("10.0.0.3")], 20.0) == {"pc-1"}
    assert [record.key.address for record in flows] == ["10.0.0.2", "10.0.0.3"]
    assert len(flows) == 2
    kept, new = flows
    assert (kept.known_since, kept.checked) == (5.0, 10.0)
    assert (new.known_since, new.last) == (20.0, None)
    flows.expect([expected("10.0.0.1")], 30.0)
    back = flows.get(expected("10.0.0.1").key)
    assert back is not None
    assert (back.known_since, back.last) == (30.0, None)


def test_a_flow_whose_expectation_changes_keeps_its_past(told: Any) -> None:
    """What was seen is as true as before; what it means is judged anew."""
    flows = FlowMap()
    flows.expect([expected()], 0.0)
    flows.tell(expected().key, "web:80", told(10))
    flows.expect([expected(expect=Expectation.BLOCKED)], 20.0)
    [record] = flows
    assert record.expected.expect is Expectation.BLOCKED
    assert record.checked == 10.0


def test_another_service_on_the_same_port_begins_anew(told: Any) -> None:
    """What one service answered is no news of another, also when it comes late."""
    flows = FlowMap()
    flows.expect([expected(service="web:80")], 0.0)
    flows.tell(expected().key, "web:80", told(10))
    flows.expect([expected(service="shop:80")], 20.0)
    [record] = flows
    assert (record.last, record.known_since) == (None, 20.0)
    assert not flows.tell(expected().key, "web:80", told(11))
    assert record.last is None


def test_what_is_told_of_no_flow_is_not_kept(told: Any) -> None:
    """A report under an older plan may speak of flows that are gone."""
    flows = FlowMap()
    assert not flows.tell(expected().key, "web:80", told(10))
    assert len(flows) == 0
    assert flows.get(expected().key) is None


# Beginnings.


def well(*told: tuple[ExpectedFlow, float]) -> WellFlows:
    """Flows that are open, and since when, as the store's last changes say it."""
    services, boots = Numbering[str](), Numbering[str]()
    rows = columns.blank(len(told), 0.0)
    rows["at"] = rows["since"] = [at for _, at in told]
    rows["boot"] = boots.of(f"boot-{at}" for _, at in told)
    rows["outcome"], rows["flags"] = columns.OUTCOME_CODES[OPEN], columns.HEALTHY
    service = services.of(str(flow.service) for flow, _ in told)
    return WellFlows(
        FlowKeys.of([flow.key for flow, _ in told]),
        (*services,),
        service,
        (*boots,),
        ("10.1.0.1:0",),
        ((),),
        np.zeros(len(told), np.int64),
        rows["number"].astype(np.int64),
        rows,
    )


def test_many_flows_begin_at_once() -> None:
    """Each with what is known of it and its own source's place, wherever they stand."""
    flows = FlowMap()
    a, b = expected("10.0.0.1"), expected("10.0.0.2", expect=Expectation.BLOCKED)
    others = [replace(one, key=replace(one.key, source="pc-2")) for one in (a, b)]
    flows.expect([a, b, *others], 1.0)
    flows.begin(well((others[1], 30.0), (a, 10.0), (b, 20.0)))
    found = {(one.key.source, one.key.address): one for one in flows}
    assert {key: one.checked for key, one in found.items()} == {
        ("pc-1", "10.0.0.1"): 10.0,
        ("pc-1", "10.0.0.2"): 20.0,
        ("pc-2", "10.0.0.1"): 0.0,
        ("pc-2", "10.0.0.2"): 30.0,
    }
    last = found["pc-2", "10.0.0.2"].newest
    assert last is not None
    assert (last.boot, last.seen.local, last.seen.healthy) == ("boot-30.0", "10.1.0.1:0", True)
    assert [bool(flag) for flag in flows.rows["flags"] & columns.FORBIDDEN] == [False, True] * 2
    assert flows.unheard() == {"pc-2"}


def test_no_flow_begins_with_what_is_another_s() -> None:
    """Of another source, place or service; none at all is no mistake."""
    flows = FlowMap()
    flows.expect([expected()], 1.0)
    elsewhere = expected("10.0.0.9")
    stranger = replace(expected(), key=replace(expected().key, source="pc-9"))
    flows.begin(well((elsewhere, 10.0), (stranger, 10.0), (expected(service="shop:80"), 10.0)))
    flows.begin(well())
    assert [record.last for record in flows] == [None]
    FlowMap().begin(well((expected(), 10.0)))


@given(st.permutations([(1, 30.0), (0, 10.0), (1, 20.0), (0, 40.0)]))
def test_of_a_flow_that_the_store_has_twice_the_later_counts(
    order: list[tuple[int, float]],
) -> None:
    """As it has one whose hosts were called otherwise for a time."""
    flows, both = FlowMap(), [expected("10.0.0.1"), expected("10.0.0.2")]
    flows.expect(both, 1.0)
    flows.begin(well(*((both[number], at) for number, at in order)))
    assert [record.checked for record in flows] == [40.0, 30.0]


# Names.

BOTH = ("10.0.0.5", "fd00::5")


objects = pytest.mark.parametrize("kept", [0, 9])
"""How many flows have one, though rows say enough of them."""


def named(kept: int = 9) -> tuple[FlowMap, FlowKey]:
    flows = FlowMap(kept)
    flows.expect([expected("db.example")], 1.0)
    return flows, expected("db.example").key


@objects
def test_each_address_of_a_name_is_a_flow_of_its_own(told: Any, kept: int) -> None:
    """Of both families; an address that the name has no more is none."""
    flows, name = named(kept)
    assert [record.key.address for record in flows] == ["db.example"]
    for address, outcome in zip(BOTH, (OPEN, DOWN), strict=True):
        assert flows.tell(name, "web:80", told(2, outcome, address=address, resolved=BOTH))
    assert [(record.key.address, record.last.outcome) for record in flows if record.last] == [
        ("10.0.0.5", OPEN),
        ("fd00::5", DOWN),
    ]
    assert len(flows) == 2
    flows.tell(name, "web:80", told(3, address="10.0.0.6", resolved=("10.0.0.6",)))
    assert [record.key.address for record in flows] == ["10.0.0.6"]


@objects
def test_a_flow_to_an_address_of_a_name_is_found_by_it(told: Any, kept: int) -> None:
    """By the name as well: that is the first of its addresses. What it has no more is none."""
    flows, name = named(kept)
    for address in BOTH:
        flows.tell(name, "web:80", told(2, address=address, resolved=BOTH))
    for address in BOTH:
        found = flows.get(replace(name, address=address))
        assert found is not None and found.key.address == address
        assert flows.key(found.row) == found.key
    assert flows.number(name) == flows.number(replace(name, address=BOTH[0])) == 0
    assert flows.get(replace(name, address="10.0.0.99")) is None
    assert flows.get(replace(name, address=BOTH[1], port=81)) is None
    flows.tell(name, "web:80", told(3, address=BOTH[0], resolved=BOTH[:1]))
    assert flows.get(replace(name, address=BOTH[1])) is None
    assert flows.is_there(0) and not flows.is_there(1)


@objects
def test_a_name_that_does_not_resolve_breaks_the_flow_to_each_address(told: Any, kept: int) -> None:
    """They keep their past, for when it does again."""
    flows, name = named(kept)
    flows.tell(name, "web:80", told(2, Outcome.NAME_FAILURE))
    (record,) = flows
    assert record.key.address == "db.example" and record.last is not None
    flows.tell(name, "web:80", told(3, address="10.0.0.5", resolved=("10.0.0.5",)))
    (record,) = flows
    assert (record.last.outcome, record.changed) == (OPEN, 3)
    flows.tell(name, "web:80", told(4, Outcome.NAME_FAILURE))
    (record,) = flows
    assert record.key.address == "10.0.0.5" and record.last is not None
    assert (record.last.outcome, record.changed) == (Outcome.NAME_FAILURE, 4)


@objects
def test_a_new_plan_keeps_what_is_known_of_a_name(told: Any, kept: int) -> None:
    """And drops it with the flow."""
    flows, name = named(kept)
    flows.tell(name, "web:80", told(2, address="10.0.0.5", resolved=("10.0.0.5",)))
    flows.expect([expected("db.example"), expected()], 3.0)
    assert {record.key.address for record in flows} == {"10.0.0.1", "10.0.0.5"}
    flows.expect([], 4.0)
    assert len(flows) == 0
    assert not flows.tell(name, "web:80", told(5))


@objects
def test_pulses_and_counts_of_a_name_hold_for_each_address(told: Any, kept: int) -> None:
    """A pulse knows the slot alone; a roll-up has a line for each address."""
    flows, name = named(kept)
    for address in BOTH:
        flows.tell(name, "web:80", told(2, address=address, resolved=BOTH))
    source = flows.source("pc-1")
    source.pulse(100, 5, slots("db.example"), b"")
    lines = tuple(NamedCount(0, one, n, 0, 0, 0, 0) for n, one in enumerate(BOTH, 1))
    source.roll_up(period(1, slots("db.example"), made=b"\0", named=Lines.of(lines)))
    assert [(record.checked, record.checks_made) for record in flows] == [(95, 1), (95, 2)]


def test_addresses_without_end_are_forgotten(told: Any) -> None:
    """A name behind which machines come and go leaves no more than a few."""
    flows, name = named()
    for number in range(1000):
        address = f"10.0.{number // 250}.{number % 250}"
        flows.tell(name, "web:80", told(float(number), address=address, resolved=(address,)))
    assert len(flows) == 1
    [known] = flows._names.values()
    assert len(known.records) <= 33


lookups = st.lists(
    st.tuples(
        st.sampled_from([(), ("a",), ("b",), ("a", "b")]),
        st.integers(0, 1),
        st.sampled_from([OPEN, DOWN]),
    ),
    max_size=PAST,
)


@given(lookups, st.randoms(use_true_random=False))
def test_no_order_makes_a_difference_to_a_name(
    told: Callable[..., Told], seen: list[tuple[tuple[str, ...], int, Outcome]], dice: Any
) -> None:
    """What a name resolves to, and how each address stands, is what the latest changes say."""
    truth = [
        told(
            float(at),
            outcome,
            number=at,
            address=resolved[which % len(resolved)],
            resolved=resolved,
        )
        if resolved
        else told(float(at), Outcome.NAME_FAILURE, number=at)
        for at, (resolved, which, outcome) in enumerate(seen, 1)
    ]

    def told_in(order: list[Told]) -> list[tuple[object, ...]]:
        flows, name = named()
        for one in order:
            flows.tell(name, "web:80", one)
        return [(one.key.address, one.last, one.checked, one.changed) for one in flows]

    shuffled = [*truth, *truth[:3]]
    dice.shuffle(shuffled)
    assert told_in(shuffled) == told_in(truth)
    if truth:
        assert max(checked for _, _, checked, _ in told_in(truth)) <= truth[-1].at


@given(lookups)
def test_names_need_no_object(
    told: Callable[..., Told], seen: list[tuple[tuple[str, ...], int, Outcome]]
) -> None:
    """What agents tell in order, rows tell as objects do; but of addresses that come back, since
    when they are as they are."""
    one, name = named(0)
    other, _ = named()
    numbers = count()
    for at, (resolved, which, outcome) in enumerate(seen, 1):
        # Each address is told of when the name has others than before.
        changes = [
            told(float(at), said, number=next(numbers), address=address, resolved=resolved)
            for place, address in enumerate(resolved)
            for said in (outcome if place == which % len(resolved) else OPEN,)
        ] or [told(float(at), Outcome.NAME_FAILURE, number=next(numbers))]
        for change in changes:
            one.tell(name, "web:80", change)
            other.tell(name, "web:80", change)

    def shown(flows: FlowMap) -> list[tuple[object, ...]]:
        return [
            (record.key, record.last and record.last.outcome, record.checked) for record in flows
        ]

    assert shown(one) == shown(other)
    assert len(one) == len(other) == len(shown(one))
    for record, there in zip(one, other, strict=True):
        assert record.changed >= there.changed


@objects
def test_a_name_of_hosts_with_other_names_keeps_its_past(told: Any, kept: int) -> None:
    """Each of its addresses; whether a record has it, or a row."""
    flows, name = named(kept)
    for change in (
        told(2, DOWN, address=BOTH[1], resolved=BOTH),
        told(3, address=BOTH[0], resolved=BOTH),
        told(4, DOWN, address=BOTH[1], resolved=BOTH, certificate_until=7),
    ):
        flows.tell(name, "web:80", change)
    key = FlowKey("pc-9", "www", "db.example", 80, Transport.TCP)
    new = ExpectedFlow(key, ServiceName.parse("web:80"), "http", Expectation.BLOCKED, (), ())
    assert flows.expect([new], 30.0, {"pc-1": "pc-9", "web-1": "www"}) == {"pc-9"}
    assert [
        (one.key.source, one.key.address, one.last.outcome, one.changed, one.checked)
        for one in flows
        if one.last is not None
    ] == [("pc-9", BOTH[0], OPEN, 3, 3), ("pc-9", BOTH[1], DOWN, 2, 4)]
    assert {record.source for record in flows} == {flows.source("pc-9")}
    assert all(row["flags"] & columns.FORBIDDEN for row in flows.every())


def test_a_flow_of_hosts_with_other_names_keeps_its_past(told: Any) -> None:
    """When the topology says what they were called; and the agents are asked to tell it again."""
    flows = FlowMap()
    flows.expect([expected()], 0.0)
    for one in (told(10.0), told(20.0, DOWN)):
        flows.tell(expected().key, "web:80", one)
    key = FlowKey("pc-9", "www", "10.0.0.1", 80, Transport.TCP)
    new = ExpectedFlow(key, ServiceName.parse("web:80"), "http", Expectation.REACHABLE, (), ())
    assert flows.expect([new], 30.0, {"pc-1": "pc-9", "web-1": "www"}) == {"pc-9"}
    [record] = flows
    assert record.last is not None
    assert (record.key, record.last.outcome, record.changed) == (key, DOWN, 20.0)
    assert record.known_since == 0.0
