"""The ledger: what is news, what only counts, and what a pulse may promise."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.checks import Checks
from reachmap_agent.ledger import PASSING, PERIOD_MS, Ledger, same_face
from reachmap_shared import codec, logscale
from reachmap_shared.messages import CheckSpec, Observation, Plan, RollUp
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

OPEN, REFUSED, LOCAL = Outcome.OPEN, Outcome.REFUSED, Outcome.LOCAL_ERROR

SEEN = Observation(
    slot=0,
    at_ms=1_000,
    outcome=OPEN,
    answered_by=AnsweredBy.LISTENER,
    healthy=True,
    name_us=0,
    connect_us=250,
    answer_us=90,
    local="10.0.0.7:40001",
    evidence=("answered in 12 steps",),
    certificate_until=2_000_000_000,
    seen_as="10.0.0.7:40001",
)


def plan(slots: int, interval_s: float = 10.0, revision: str = "r1") -> Plan:
    spec = CheckSpec("b", "web:80", "10.0.0.5", 80, Transport.TCP, "tcp", "")
    return Plan("a", revision, interval_s, 3.0, "", "", "", (), (spec,) * slots)


def ledger(slots: int = 4, names: tuple[int, ...] = (), interval_s: float = 10.0) -> Ledger:
    made = Ledger()
    assert made.take_up(plan(slots, interval_s), names, 0) is None
    return made


def seen(slot: int = 0, outcome: Outcome = OPEN, at_ms: int = 1_000, **its: Any) -> Observation:
    return replace(SEEN, slot=slot, outcome=outcome, at_ms=at_ms, **its)


def address(one: str, *others: str, slot: int = 1, **its: Any) -> Observation:
    return seen(slot, address=one, resolved=tuple(sorted((one, *others))), **its)


def unresolved(slot: int = 1, at_ms: int = 1_000) -> Observation:
    return seen(slot, Outcome.NAME_FAILURE, at_ms, evidence=("x does not resolve",))


def test_what_is_seen_first_is_told_and_then_only_what_differs() -> None:
    """Numbered through the start, over all slots and plans."""
    book = ledger()
    first = book.see(seen(), confirmed=True)
    assert first is not None and first.number == 0 and first.seen == SEEN
    assert book.see(seen(at_ms=2_000), confirmed=True) is None
    other = book.see(seen(1), confirmed=True)
    assert other is not None and other.number == 1
    refused = book.see(seen(0, REFUSED), confirmed=True)
    assert refused is not None and refused.number == 2
    assert [change.number for change in book.whole()] == [2, 1]
    book.take_up(plan(4, revision="r2"), (), 5_000)
    assert book.whole() == []
    again = book.see(seen(0, REFUSED), confirmed=True)
    assert again is not None and again.number == 3
    assert book.told == 4


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([OPEN, OPEN, OPEN, REFUSED, LOCAL]),
            st.integers(0, 3_000_000),
            st.booleans(),
        ),
        max_size=300,
    )
)
def test_short_work_is_the_same_work(sights: list[tuple[int, Outcome, int, bool]]) -> None:
    """What was told and is open needs no observation: changes, pulse and roll-up are the same."""
    long, short = ledger(3), ledger(3)
    last: dict[int, tuple[Outcome, bool]] = {}
    for at_ms, (slot, outcome, connect_us, confirmed) in enumerate(sights):
        one = seen(slot, outcome, at_ms, connect_us=connect_us)
        if confirmed and outcome is OPEN and last.get(slot) == (OPEN, True):
            assert long.see(one, confirmed=True) is None
            short.see_again(slot, at_ms, connect_us)
        else:
            assert long.see(one, confirmed=confirmed) == short.see(one, confirmed=confirmed)
        last[slot] = outcome, confirmed
        assert (long.made, long.told, long.is_full) == (short.made, short.told, short.is_full)
    assert long.standing(1_000) == short.standing(1_000)
    assert long.whole() == short.whole()
    assert long.close_period(1_000) == short.close_period(1_000)


MATTERS: list[dict[str, Any]] = [
    {"outcome": Outcome.TIMEOUT},
    {"answered_by": None},
    {"healthy": False},
    {"window": True},
    {"certificate_until": 2_000_000_001},
    {"certificate_until": None},
    {"seen_as": "10.0.0.8:40001"},
    {"seen_as": ""},
    {"offender": "10.0.1.1"},
    {"resolved": ("10.0.0.5",)},
    {"address": "10.0.0.5"},
    {"evidence": ()},
    {"evidence": ("answered in 12 steps", "and more")},
    {"evidence": ("answered in 12 leaps",)},
]
DOES_NOT: list[dict[str, Any]] = [
    {"at_ms": 99_000},
    {"name_us": 7},
    {"connect_us": 7},
    {"answer_us": 7},
    {"local": "10.0.0.7:51111"},
    {"seen_as": "10.0.0.7:51111"},
    {"evidence": ("answered in 7 steps",)},
    {"evidence": ("open after 2 lost SYN", "answered in 12 steps")},
    {"evidence": ("until now it resolved to 10.0.0.9", "answered in 12 steps")},
]


@pytest.mark.parametrize("its", MATTERS, ids=str)
def test_another_face_is_news(its: dict[str, Any]) -> None:
    """Whatever the map or `explain` would say otherwise."""
    assert not same_face(SEEN, replace(SEEN, **its))
    assert not same_face(replace(SEEN, **its), SEEN)


@pytest.mark.parametrize("its", DOES_NOT, ids=str)
def test_what_differs_from_check_to_check_is_none(its: dict[str, Any]) -> None:
    """Times, ports of a moment, numbers, and what is true of one check alone."""
    assert same_face(SEEN, replace(SEEN, **its))
    assert same_face(replace(SEEN, **its), SEEN)


def test_every_field_has_its_say_or_none() -> None:
    """A new field of an observation gets its line above."""
    named = {name for its in (*MATTERS, *DOES_NOT) for name in its}
    assert named | {"slot"} == set(Observation.__dataclass_fields__)


def test_what_passes_is_said_so_where_it_is_made() -> None:
    """The sentences that are passed over begin as those who make them say."""
    import inspect

    from reachmap_agent import prober

    made = inspect.getsource(Checks) + inspect.getsource(prober)
    assert all(f'"{beginning}' in made for beginning in PASSING)


def test_what_is_not_certain_counts_and_is_not_told() -> None:
    """And a pulse does not vouch for its slot until it is."""
    book = ledger(2)
    for slot in (0, 1):
        book.see(seen(slot), confirmed=True)
    assert book.see(seen(0, REFUSED), confirmed=False) is None
    assert book.standing(2_000).stale == b"\x01"
    assert book.standing(2_000).span_ms == 1_000
    book.see(seen(0, at_ms=1_500), confirmed=True)
    assert book.standing(2_000).stale == b""
    roll_up = book.close_period(2_000)
    assert roll_up == RollUp(
        "r1",
        0,
        2_000,
        made=b"\x03\x01",
        failed=b"\x01\x00",
        flips=b"\x02\x00",
        latency=bytes([logscale.code(250)] * 2),
    )


def test_a_period_s_counts() -> None:
    """All made, those not open, those that could not be made; a column of zeros is none."""
    book = ledger(3)
    for outcome in (OPEN, LOCAL, REFUSED, LOCAL, OPEN):
        book.see(seen(1, outcome), confirmed=True)
    roll_up = book.close_period(60_000)
    assert roll_up is not None
    assert roll_up.made == b"\x00\x05\x00"
    assert roll_up.failed == b"\x00\x01\x00"
    assert roll_up.local_errors == b"\x00\x02\x00"
    assert roll_up.flips == b"\x00\x02\x00", "what could not be made is no flip"
    assert (roll_up.begins_ms, roll_up.ends_ms, roll_up.named) == (0, 60_000, ())
    assert book.close_period(120_000) is None
    book.see(seen(2), confirmed=True)
    later = book.close_period(180_000)
    assert later is not None and (later.begins_ms, later.made) == (120_000, b"\x00\x00\x01")
    assert later.failed == later.flips == b""


def test_flips_go_on_over_periods() -> None:
    """Open at the end of one and not at the beginning of the next is one too."""
    book = ledger(1)
    book.see(seen(0), confirmed=True)
    book.close_period(1)
    book.see(seen(0, REFUSED), confirmed=True)
    roll_up = book.close_period(2)
    assert roll_up is not None and roll_up.flips == b"\x01"


def test_the_median_of_the_latest_times() -> None:
    """Those of open checks, the last eight of them."""
    book = ledger(1)
    for connect_us in (9, 9, 9, 100, 200, 300, 400, 500, 600, 700, 800):
        book.see(seen(0, connect_us=connect_us), confirmed=True)
        book.see(seen(0, REFUSED, connect_us=0), confirmed=True)
    roll_up = book.close_period(1)
    assert roll_up is not None and roll_up.latency == bytes([logscale.code(400)])


def test_a_full_octet_closes_the_period() -> None:
    """Before anything is counted wrongly."""
    book = ledger(1)
    for _ in range(254):
        book.see(seen(0, REFUSED), confirmed=True)
    assert not book.is_full
    book.see(seen(0, REFUSED), confirmed=True)
    assert book.is_full
    roll_up = book.close_period(1)
    assert roll_up is not None and (roll_up.made, roll_up.failed) == (b"\xff", b"\xff")
    assert not book.is_full


@pytest.mark.parametrize(
    ("interval_s", "period_ms"),
    [(0.1, 5_000), (1, 6_000), (5, 30_000), (10, 60_000), (600, 60_000)],
)
def test_a_period_is_six_intervals(interval_s: float, period_ms: int) -> None:
    """Within bounds."""
    assert ledger(interval_s=interval_s).period_ms == period_ms
    assert PERIOD_MS == (5_000, 60_000)


def test_each_address_of_a_name_is_a_flow() -> None:
    """With a line of its own in the roll-up; the slot's octets stay zero."""
    book = ledger(2, names=(1,))
    v4, v6 = "10.0.0.5", "fd00::5"
    assert book.see(address(v4, v6), confirmed=True) is not None
    assert book.see(address(v6, v4, outcome=REFUSED), confirmed=True) is not None
    assert book.see(address(v4, v6), confirmed=True) is None
    assert book.see(address(v6, v4, outcome=OPEN), confirmed=True) is not None
    roll_up = book.close_period(1)
    assert roll_up is not None and roll_up.made == b""
    lines = {line.address: line for line in roll_up.named}
    code = logscale.code(250)
    assert [(line.slot, line.made, line.failed, line.flips, line.latency) for line in
            (lines[v4], lines[v6])] == [(1, 2, 0, 0, code), (1, 2, 1, 1, code)]  # fmt: skip
    assert len(book.whole()) == 2


def test_addresses_that_a_name_has_no_more_are_forgotten() -> None:
    """What is seen at those it has is told anew, since the name's addresses are news."""
    book = ledger(2, names=(1,))
    book.see(address("10.0.0.5", "10.0.0.6"), confirmed=True)
    book.see(address("10.0.0.6", "10.0.0.5"), confirmed=True)
    assert book.see(address("10.0.0.6"), confirmed=True) is not None
    assert [change.seen.address for change in book.whole()] == ["10.0.0.6"]


def test_a_name_that_fails_is_one_flow_and_back_it_is_told_again() -> None:
    """The collector takes none of its addresses for reached meanwhile."""
    book = ledger(2, names=(1,))
    book.see(address("10.0.0.5"), confirmed=True)
    assert book.see(unresolved(), confirmed=True) is not None
    assert book.see(unresolved(), confirmed=True) is None
    assert [change.seen.outcome for change in book.whole()] == [Outcome.NAME_FAILURE]
    assert book.see(address("10.0.0.5"), confirmed=True) is not None
    assert [change.seen.outcome for change in book.whole()] == [OPEN]


def test_a_name_is_as_stale_as_its_stalest_address() -> None:
    """One in doubt, not seen yet, or too long ago: the pulse does not vouch for the slot."""
    book = ledger(2, names=(1,))
    book.see(seen(0, at_ms=90_000), confirmed=True)
    assert book.standing(90_000).stale == b"\x02", "not seen yet"
    book.see(address("10.0.0.5", "10.0.0.6", at_ms=90_000), confirmed=True)
    book.see(address("10.0.0.6", "10.0.0.5", at_ms=20_000), confirmed=True)
    assert book.standing(90_000).stale == b"\x02"
    assert book.standing(40_000).stale == b""
    book.see(address("10.0.0.6", "10.0.0.5", at_ms=90_000, outcome=REFUSED), confirmed=False)
    assert book.standing(90_000).stale == b"\x02"
    book.see(address("10.0.0.5", at_ms=90_000), confirmed=True)
    assert book.standing(90_000).stale == b"", "the address in doubt is none of its any more"


def test_too_many_addresses_close_the_period() -> None:
    """A roll-up holds so many lines and no more."""
    book = ledger(2_000, names=tuple(range(2_000)))
    for slot in range(2_000):
        assert not book.is_full
        book.see(address("10.0.0.5", slot=slot), confirmed=True)
    assert book.is_full
    roll_up = book.close_period(1)
    assert codec.decode(RollUp, codec.pack(roll_up)) == roll_up


def test_what_a_pulse_vouches_for() -> None:
    """All that was checked within two intervals and timeouts; the span is exact."""
    book = ledger(10)
    assert book.standing(0).stale == b"\xff\x03"
    for slot in range(10):
        book.see(seen(slot, at_ms=100_000 + slot * 1_000), confirmed=True)
    assert (book.standing(110_000).span_ms, book.standing(110_000).stale) == (10_000, b"")
    assert (book.standing(126_000).span_ms, book.standing(126_000).stale) == (26_000, b"")
    assert (book.standing(126_001).span_ms, book.standing(126_001).stale) == (25_001, b"\x01\0")
    assert book.standing(500_000).stale == b"\xff\x03"


def test_without_checks_all_is_as_told() -> None:
    """An idle plan's pulse has nothing to be stale."""
    book = ledger(0)
    assert (book.standing(9).span_ms, book.standing(9).stale, book.whole()) == (0, b"", [])
    assert book.close_period(9) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([OPEN, REFUSED, LOCAL, Outcome.TIMEOUT]),
            st.booleans(),
            st.sampled_from(["", "10.0.0.5", "10.0.0.6"]),
        ),
        max_size=400,
    ),
    st.integers(1, 50),
)
def test_everything_is_counted_once(checks: list[Any], every: int) -> None:
    """Whatever is seen: roll-ups have all of it, changes are numbered without a gap, and who
    follows them knows just what the ledger would tell whole."""
    book = ledger(4, names=(3,))
    counted = 0
    known: dict[tuple[int, str], Observation] = {}
    numbers = []

    def close(now_ms: int) -> None:
        nonlocal counted
        roll_up = book.close_period(now_ms)
        if roll_up is not None:
            counted += sum(roll_up.made) + sum(line.made for line in roll_up.named)
            assert codec.decode(RollUp, codec.pack(roll_up)) == roll_up
        assert counted == book.made == book.rolled

    for now_ms, (slot, outcome, confirmed, where) in enumerate(checks):
        one = seen(slot, outcome, now_ms)
        if slot == 3:
            one = address(where, slot=3, outcome=outcome) if where else unresolved(3)
        change = book.see(one, confirmed=confirmed)
        assert confirmed or change is None
        if change is not None:
            numbers.append(change.number)
            if slot == 3:
                known = {key: value for key, value in known.items() if key[0] != 3}
            known[slot, one.address] = one
        if book.is_full or now_ms % every == 0:
            close(now_ms)
    close(len(checks))
    assert numbers == list(range(book.told))
    whole = {(told.seen.slot, told.seen.address): told.seen for told in book.whole()}
    assert whole == known
