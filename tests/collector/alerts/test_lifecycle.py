"""One outage, one alert: told after a while, followed through its causes, ended after a while."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.alerts.causes import Cause
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import (
    Alert,
    Book,
    Event,
    Phase,
    Ruling,
    Severity,
    Timing,
    What,
)
from reachmap_collector.planner import FlowKey
from reachmap_shared.vocabulary import Transport

TIMING = Timing(hold_s=12, clear_s=12, flap_s=600, flaps=3)


def flow(number: int, host: str = "web") -> FlowKey:
    return FlowKey(f"pc-{number}", host, "10.0.0.1", 443, Transport.TCP)


def cause(
    kind: Kind = Kind.SERVICE_DOWN, subject: str = "web:443/tcp", flows: Any = (1, 2)
) -> Cause:
    return Cause(kind, subject, "web:443", frozenset(flow(number) for number in flows))


@pytest.fixture
def book() -> Book:
    return Book(TIMING)


def told(events: list[Event]) -> list[tuple[What, str]]:
    return [(event.what, event.alert.cause.subject) for event in events]


def test_a_cause_has_to_stand_before_it_is_told(book: Book) -> None:
    """A hiccup is nobody's business."""
    assert book.update([cause()], 100) == []
    assert book.next_due() == 112
    assert book.update([], 105) == []
    assert book.alerts == {} and book.next_due() is None
    book.update([cause()], 200)
    assert book.update([cause()], 211.9) == []
    assert told(book.update([cause()], 212)) == [(What.FIRED, "web:443/tcp")]
    assert [alert.phase for alert in book.active()] == [Phase.FIRING]


def test_what_was_told_is_not_told_again(book: Book) -> None:
    """However long it goes on."""
    book.update([cause()], 0)
    book.update([cause()], 12)
    assert [event for now in range(13, 1000) for event in book.update([cause()], now)] == []


def test_an_outage_that_shows_itself_bit_by_bit_is_one(book: Book) -> None:
    """One flow, then a port, then the host: the alert tells the last of it, once."""
    steps = [
        (0.0, cause(Kind.FLOW, "pc-1 -> web:443/tcp", [1])),
        (4.0, cause(Kind.PORT_BLOCKED, "web:443/tcp", [1, 2])),
        (8.0, cause(Kind.HOST_DOWN, "web", [1, 2, 3, 4])),
        (12.0, cause(Kind.HOST_DOWN, "web", [1, 2, 3, 4])),
    ]
    events = [event for now, one in steps for event in book.update([one], now)]
    assert told(events) == [(What.FIRED, "web")]
    assert events[0].alert.began == 0


def test_a_better_explanation_is_a_change_of_the_same_alert(book: Book) -> None:
    """What was told already gets its new cause, and stays the same outage."""
    book.update([cause(flows=[1, 2])], 0)
    [fired] = book.update([cause(flows=[1, 2])], 12)
    [changed] = book.update([cause(Kind.HOST_DOWN, "web", [1, 2, 3])], 20)
    assert (changed.what, changed.alert.cause.kind) == (What.CHANGED, Kind.HOST_DOWN)
    assert changed.alert.id == fired.alert.id
    assert book.update([cause(Kind.HOST_DOWN, "web", [1, 2, 3, 4])], 21) == []


def test_an_end_has_to_stand_too(book: Book) -> None:
    """One check that got through does not end an outage."""
    book.update([cause()], 0)
    book.update([cause()], 12)
    assert book.update([], 20) == []
    assert book.next_due() == 32
    assert book.update([cause()], 25) == []
    assert book.update([], 30) == []
    assert told(book.update([], 42)) == [(What.RESOLVED, "web:443/tcp")]
    assert book.active() == []


def test_what_comes_back_soon_is_the_same_outage(book: Book) -> None:
    """And is told at once: nobody has to be patient twice."""
    book.update([cause()], 0)
    [fired] = book.update([cause()], 12)
    book.update([], 20)
    [resolved] = book.update([], 32)
    [again] = book.update([cause()], 100)
    assert (again.what, again.alert.id) == (What.FIRED, fired.alert.id)
    assert again.alert.returns == 1 and again.alert.began == 0
    assert resolved.alert.ended == 32 and again.alert.ended is None


def test_what_flaps_is_one_alert_that_stays(book: Book) -> None:
    """After a few returns it ends only when it has stayed away for long."""
    events = []
    for turn in range(20):
        events += book.update([cause()], turn * 60)
        events += book.update([cause()], turn * 60 + 13)
        events += book.update([], turn * 60 + 20)
        events += book.update([], turn * 60 + 40)
    assert [event.what for event in events].count(What.FIRED) == 1 + TIMING.flaps
    assert len({event.alert.id for event in events}) == 1
    assert [event.what for event in book.update([], 20 * 60 + 700)] == [What.RESOLVED]


def test_after_a_long_peace_it_is_another_outage(book: Book) -> None:
    """Months later nobody means the old one."""
    book.update([cause()], 0)
    [first] = book.update([cause()], 12)
    book.update([], 20)
    book.update([], 32)
    book.update([], 1000)
    assert book.alerts == {}
    book.update([cause()], 2000)
    [second] = book.update([cause()], 2012)
    assert second.alert.id != first.alert.id and second.alert.returns == 0


def test_two_alerts_that_turn_out_to_be_one_outage_become_one(book: Book) -> None:
    """The one told first goes on, the other ends."""
    one, other = cause(flows=[1, 2]), cause(Kind.SERVICE_DOWN, "web:80/tcp", [3, 4, 5])
    book.update([one], 0)
    book.update([one, other], 5)
    [first] = book.update([one, other], 12)
    [second] = book.update([one, other], 17)
    whole = cause(Kind.HOST_DOWN, "web", [1, 2, 3, 4, 5])
    events = [event for now in (20, 33) for event in book.update([whole], now)]
    assert [event.what for event in events] == [What.CHANGED, What.RESOLVED]
    assert {events[0].alert.id, events[1].alert.id} == {first.alert.id, second.alert.id}
    assert len(book.active()) == 1


def test_what_is_exposed_is_another_matter_than_what_is_broken(book: Book) -> None:
    """The same flow, opened and then cut, is two stories."""
    exposed = cause(Kind.EXPOSED, "web:443/tcp", [1])
    book.update([exposed], 0)
    [first] = book.update([exposed], 12)
    book.update([cause(flows=[1])], 13)
    [resolved, second] = book.update([cause(flows=[1])], 25)
    assert (resolved.what, second.what) == (What.RESOLVED, What.FIRED)
    assert first.alert.id == resolved.alert.id != second.alert.id


def test_severity_goes_by_what_is_wrong(book: Book) -> None:
    """One flow is a warning; a host that is down is not."""
    book.update([cause(Kind.FLOW, "a", [1]), cause(Kind.HOST_DOWN, "b", [2, 3])], 0)
    assert {alert.cause.subject: alert.severity for alert in book.alerts.values()} == {
        "a": Severity.WARNING,
        "b": Severity.CRITICAL,
    }


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 40),
            st.lists(
                st.tuples(
                    st.sampled_from([Kind.FLOW, Kind.SERVICE_DOWN, Kind.HOST_DOWN, Kind.EXPOSED]),
                    st.frozensets(st.integers(0, 9), min_size=1, max_size=5),
                ),
                max_size=4,
            ),
        ),
        max_size=30,
    )
)
def test_whatever_happens_every_alert_that_fired_is_resolved(steps: Any) -> None:
    """Fired before resolved, one after the other, and nothing is left once all is well."""
    book = Book(TIMING)
    now = 0.0
    firing: set[str] = set()

    def look(events: list[Event]) -> None:
        for event in events:
            match event.what:
                case What.FIRED:
                    assert event.alert.id not in firing
                    firing.add(event.alert.id)
                case What.RESOLVED:
                    firing.remove(event.alert.id)
                case What.CHANGED:
                    assert event.alert.id in firing

    for wait, wrong in steps:
        now += wait
        used: set[int] = set()
        causes = []
        for kind, flows in wrong:
            causes.append(cause(kind, f"{kind}-{min(flows)}", flows - used))
            used |= flows
        look(book.update([one for one in causes if one.explains], now))
        assert {alert.id for alert in book.active()} == firing
        assert {alert.id for alert in book.alerts.values()} >= firing
        due = book.next_due()
        assert due is None or due > now
    for _ in range(3):
        now += 700
        look(book.update([], now))
    assert not firing and book.alerts == {}


def test_alerts_are_named_after_nothing_that_repeats(book: Book) -> None:
    """A name is a key in other people's systems."""
    names = set()
    for number in range(50):
        book.update([cause(subject=f"s{number}", flows=[number])], number)
        names |= set(book.alerts)
    assert len(names) == 50
    assert all(isinstance(alert, Alert) for alert in book.alerts.values())


def test_an_outage_that_heals_bit_by_bit_is_one_to_its_end(book: Book) -> None:
    """What is left of it is no outage of its own, and no other explanation."""
    whole = cause(Kind.HOST_DOWN, "web", range(10))
    book.update([whole], 0)
    book.update([whole], 12)
    rest = [cause(Kind.FLOW, f"pc-{n}", [n]) for n in (3, 7)]
    assert book.update(rest, 20) == []
    assert book.update(rest[:1], 40) == []
    assert [alert.cause.subject for alert in book.active()] == ["web"]
    book.update([], 41)
    assert told(book.update([], 53)) == [(What.RESOLVED, "web")]


def test_what_may_be_a_consequence_waits_longer() -> None:
    """The database's flow comes round a little later, and then it is one outage."""
    book = Book(Timing(hold_s=4, doubt_s=12))
    doubtful = replace(cause(flows=[1, 2]), in_doubt=True)
    book.update([doubtful], 0)
    assert book.next_due() == 12
    assert book.update([doubtful], 8) == []
    root = cause(Kind.SERVICE_DOWN, "db:5432/tcp", [1, 2, 9])
    assert told(book.update([root], 9)) == [(What.FIRED, "db:5432/tcp")]


def test_what_nobody_sees_neither_fails_nor_heals(book: Book) -> None:
    """An agent that is away, or a map that is still empty, ends no outage."""
    book.update([cause()], 0)
    book.update([cause()], 12)
    assert book.update([], 100, lambda _: False) == []
    assert book.next_due() is None
    assert book.update([], 200, lambda member: member == flow(1)) == []
    assert told(book.update([], 212)) == [(What.RESOLVED, "web:443/tcp")]


def test_a_decision_may_lower_it_and_let_it_wait() -> None:
    """But nothing is told sooner than it is sure."""
    book = Book(TIMING, decide=lambda _: Ruling(Severity.INFO, hold_s=60))
    book.update([cause()], 0)
    assert book.next_due() == 60
    [fired] = book.update([cause()], 60)
    assert fired.alert.severity is Severity.INFO
    hasty = Book(TIMING, decide=lambda _: Ruling(Severity.INFO, hold_s=0))
    hasty.update([cause()], 0)
    assert hasty.next_due() == 12


def test_a_certificate_is_another_matter_than_an_outage(book: Book) -> None:
    """Though it is of the same flows."""
    both = [cause(), cause(Kind.CERTIFICATE)]
    book.update(both, 0)
    assert len(book.update(both, 12)) == 2
    book.update([cause(Kind.CERTIFICATE)], 20)
    [ended] = book.update([cause(Kind.CERTIFICATE)], 32)
    assert (ended.what, ended.alert.cause.kind) == (What.RESOLVED, Kind.SERVICE_DOWN)


def test_patience_goes_by_how_often_is_checked() -> None:
    """With the usual interval it is the usual one; how long flaps are remembered is not changed."""
    assert Timing.for_checks(10) == Timing()
    slow = Timing.for_checks(60)
    assert (slow.hold_s, slow.doubt_s, slow.clear_s) == (24, 72, 72)
    assert slow.flap_s == Timing().flap_s
