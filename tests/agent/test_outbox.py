"""Observations on their way: what was put in comes out once, in order, or is counted."""

from dataclasses import replace
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reachmap_agent.outbox import DEFAULT_ROOM, Outbox
from reachmap_shared import codec
from reachmap_shared.messages import Observation, Report
from reachmap_shared.vocabulary import Outcome

SEEN = Observation(
    slot=0,
    age_ms=0,
    outcome=Outcome.OPEN,
    answered_by=None,
    healthy=True,
    name_us=0,
    connect_us=0,
    answer_us=0,
    local="",
    evidence=(),
)


def seen(slot: int) -> Observation:
    return replace(SEEN, slot=slot)


def slots(report: Report | None) -> list[int]:
    return [] if report is None else [observation.slot for observation in report.observations]


def test_an_empty_outbox_has_no_report() -> None:
    """Nothing is sent for nothing."""
    outbox = Outbox("pc-17", "boot")
    assert outbox.next_report(0) is None
    assert len(outbox) == 0


def test_a_report_says_whose_it_is() -> None:
    """Agent, boot, plan and sequence, so that the collector knows what the slots mean."""
    outbox = Outbox("pc-17", "boot")
    outbox.put("r1", seen(7), 10.0)
    report = outbox.next_report(10.25)
    assert report == Report("pc-17", "boot", 0, "r1", (replace(seen(7), age_ms=250),))


def test_ages_are_taken_when_it_is_sent() -> None:
    """A report that waited for the bus is as old as it is; a clock that steps back is no age."""
    outbox = Outbox("pc-17", "boot")
    outbox.put("r1", seen(1), 10.0)
    outbox.put("r1", seen(2), 12.0)
    ages = [[o.age_ms for o in report.observations] for now in (12, 70.0004, 11)
            if (report := outbox.next_report(now))]  # fmt: skip
    assert ages == [[2000, 0], [60000, 58000], [1000, 0]]


def test_a_failed_attempt_loses_nothing() -> None:
    """The next report has it all again, and the newcomers too, under the same number."""
    outbox = Outbox("pc-17", "boot")
    outbox.put("r1", seen(1), 0)
    first = outbox.next_report(0)
    outbox.put("r1", seen(2), 0)
    second = outbox.next_report(0)
    assert first is not None and second is not None
    assert (slots(first), slots(second)) == ([1], [1, 2])
    assert first.sequence == second.sequence == 0


def test_a_report_is_all_of_one_plan() -> None:
    """Slots of two plans in one report would be nonsense."""
    outbox = Outbox("pc-17", "boot")
    for slot, plan in enumerate(["r1", "r1", "r2", "r1"]):
        outbox.put(plan, seen(slot), 0)
    reports = []
    while report := outbox.next_report(0):
        reports.append((report.plan, slots(report), report.sequence))
        outbox.sent(report)
    assert reports == [("r1", [0, 1], 0), ("r2", [2], 1), ("r1", [3], 2)]


def test_the_oldest_go_first_and_are_counted() -> None:
    """Memory is bounded, the present is worth more than the past, and the loss is told."""
    outbox = Outbox("pc-17", "boot", room=3)
    for slot in range(10):
        outbox.put("r1", seen(slot), 0)
    assert len(outbox) == 3
    assert outbox.dropped == 7
    assert slots(outbox.next_report(0)) == [7, 8, 9]


def test_what_makes_room_while_it_is_sent_takes_nobody_with_it() -> None:
    """Those that came meanwhile stay; those that went out count as sent, not as dropped."""
    outbox = Outbox("pc-17", "boot", room=3)
    for slot in range(3):
        outbox.put("r1", seen(slot), 0)
    report = outbox.next_report(0)
    assert report is not None
    for slot in (3, 4):
        outbox.put("r1", seen(slot), 0)
    outbox.sent(report)
    assert slots(report) == [0, 1, 2]
    assert slots(outbox.next_report(0)) == [3, 4]
    assert outbox.dropped == 0


@pytest.mark.parametrize("sentence", ["x" * 300, "short"])
def test_a_full_outbox_can_be_sent(sentence: str) -> None:
    """Every report fits into a message, even with evidence at its longest."""
    outbox = Outbox("a" * 63, "b" * 32)
    observation = replace(SEEN, slot=19_999, local="x" * 80, evidence=(sentence,) * 16)
    for _ in range(DEFAULT_ROOM):
        outbox.put("r" * 64, observation, 0)
    sent = 0
    while report := outbox.next_report(1e6):
        assert codec.decode(Report, codec.encode(report)) == report
        outbox.sent(report)
        sent += len(report.observations)
    assert sent == DEFAULT_ROOM


class Life(RuleBasedStateMachine):
    """An outbox through any sequence of checks, attempts, successes and outages."""

    ROOM = 7

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox("pc-17", "boot", self.ROOM)
        self.count = 0
        self.waiting: list[tuple[str, int]] = []
        self.arrived: list[int] = []
        self.lost: list[int] = []
        self.sequences: list[int] = []
        self.pending: Report | None = None

    @rule(plan=st.sampled_from(["r1", "r2"]), count=st.integers(1, 5))
    def check(self, plan: str, count: int) -> None:
        for _ in range(count):
            self.waiting.append((plan, self.count))
            self.outbox.put(plan, seen(self.count), 0.0)
            self.count += 1
        while len(self.waiting) > self.ROOM:
            self.lost.append(self.waiting.pop(0)[1])

    @rule()
    def attempt(self) -> None:
        self.pending = self.outbox.next_report(1000.0)
        assert (self.pending is None) is (not self.waiting)
        if self.pending is not None:
            oldest = takewhile(lambda entry: entry[0] == self.waiting[0][0], self.waiting)
            assert slots(self.pending) == [slot for _, slot in oldest]

    @precondition(lambda self: self.pending is not None)
    @rule()
    def succeed(self) -> None:
        assert self.pending is not None
        self.arrived += slots(self.pending)
        self.waiting = [entry for entry in self.waiting if entry[1] not in self.arrived]
        self.lost = [slot for slot in self.lost if slot not in self.arrived]
        self.sequences.append(self.pending.sequence)
        self.outbox.sent(self.pending)
        self.pending = None

    @invariant()
    def bounded_and_complete(self) -> None:
        assert len(self.outbox) == len(self.waiting) <= self.ROOM

    @invariant()
    def nothing_twice_and_in_order(self) -> None:
        assert self.arrived == sorted(set(self.arrived))

    @invariant()
    def losses_are_counted(self) -> None:
        assert self.outbox.dropped == len(self.lost)

    @invariant()
    def numbered_without_gap(self) -> None:
        assert self.sequences == list(range(len(self.sequences)))


TestLife = settings(max_examples=100, stateful_step_count=30)(Life).TestCase


@given(st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=600))
def test_everything_arrives_once_and_in_order(plans: list[str]) -> None:
    """With room enough and a bus that works, whatever plans came and went."""
    outbox = Outbox("pc-17", "boot")
    for slot, plan in enumerate(plans):
        outbox.put(plan, seen(slot), 0)
    arrived: list[int] = []
    while report := outbox.next_report(0):
        assert {plans[slot] for slot in slots(report)} == {report.plan}
        arrived += slots(report)
        outbox.sent(report)
    assert arrived == list(range(len(plans)))
    assert outbox.dropped == 0
