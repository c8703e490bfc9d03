"""Deadlines in virtual time: each attempt is out of time once, when it is, and no timer is left."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.deadlines import TICK_S, Deadlines
from reachmap_agent.wire.exchange import Verdict
from reachmap_shared.vocabulary import Outcome, Transport

EXACT = pytest.approx(TICK_S, abs=TICK_S)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when it is told so, and that may be held up."""

    now = 1000.0

    def time(self) -> float:
        """Its own."""
        return self.now

    def pass_by(self, seconds: float, *, held_up: bool = False) -> None:
        """Let time go by, in steps that miss no tick, or all at once."""
        end = self.now + seconds
        while self.now < end:
            self.now = end if held_up else min(end, self.now + TICK_S / 2)
            self.call_soon(self.stop)
            self.run_forever()


class Clock:
    """Deadlines, and who ran out of time when."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.out: dict[Attempt, float] = {}
        self.also: Callable[[], None] = lambda: None
        self.deadlines = Deadlines(loop, self._out)

    def start(self, after_s: float) -> Attempt:
        """One that has so much time."""
        made = Attempt(Transport.TCP, ("::", 1), None, None, reset=True, done=lambda _: None)
        self.deadlines.set(made, after_s)
        return made

    def _out(self, attempt: Attempt) -> None:
        assert attempt not in self.out
        attempt.verdict = Verdict(Outcome.TIMEOUT)
        self.out[attempt] = self.loop.now
        self.also()


@pytest.fixture
def clock() -> Iterator[Clock]:
    """In a loop of its own."""
    loop = Loop()
    yield Clock(loop)
    loop.close()


def test_each_when_its_time_is_up(clock: Clock) -> None:
    """Whatever was started before it; a tick late at most, and never early."""
    begun = clock.loop.now
    long, short = clock.start(3.0), clock.start(0.5)
    clock.loop.pass_by(1.0)
    assert list(clock.out) == [short]
    clock.loop.pass_by(3.0)
    for attempt, after_s in ((short, 0.5), (long, 3.0)):
        assert clock.out[attempt] - begun - after_s == EXACT


def test_time_that_is_set_anew(clock: Clock) -> None:
    """Counts from then on, whether it is more or less, and delays nobody else's."""
    begun = clock.loop.now
    more, less, other = (clock.start(1.0) for _ in range(3))
    clock.loop.pass_by(0.5)
    clock.deadlines.set(more, 2.0)
    clock.deadlines.set(less, 0.1)
    clock.loop.pass_by(4.0)
    assert [clock.out[one] - begun for one in (less, other, more)] == [
        pytest.approx(expected + TICK_S, abs=TICK_S) for expected in (0.6, 1.0, 2.5)
    ]


def test_what_has_ended_is_forgotten(clock: Clock) -> None:
    """At the next tick, and without a word; with nothing left to wait for, no timer is."""
    for _ in range(100):
        clock.start(3.0).verdict = Verdict(Outcome.OPEN)
    assert len(clock.deadlines) == 100
    clock.loop.pass_by(2 * TICK_S)
    assert len(clock.deadlines) == 0
    assert clock.deadlines._tick is None
    assert not clock.out
    late = clock.start(0.1)
    clock.loop.pass_by(0.2)
    assert list(clock.out) == [late]


def test_a_loop_that_was_held_up(clock: Clock) -> None:
    """Lost time is nobody's, but for the first quarter of a second."""
    begun = clock.loop.now
    attempt = clock.start(1.0)
    clock.loop.pass_by(0.5)
    clock.loop.pass_by(10.0, held_up=True)
    clock.loop.pass_by(0.2)
    assert not clock.out
    clock.loop.pass_by(1.0)
    assert clock.out[attempt] - begun == pytest.approx(10.75, abs=3 * TICK_S)
    later = clock.start(1.0)
    begun = clock.loop.now
    clock.loop.pass_by(2.0)
    assert clock.out[later] - begun - 1.0 == EXACT


def test_nobody_hears_after_the_end(clock: Clock) -> None:
    """All are forgotten, and no timer is left: who rests is woken by nothing."""
    clock.start(0.1)
    clock.deadlines.rest()
    assert clock.deadlines._tick is None
    clock.loop.pass_by(1.0)
    assert not clock.out
    assert len(clock.deadlines) == 0
    late = clock.start(0.1)
    clock.loop.pass_by(0.2)
    assert list(clock.out) == [late]


def test_one_timer_is_enough(clock: Clock) -> None:
    """Also where the last that is out of time is followed by another at once."""

    def go_on() -> None:
        clock.deadlines.rest()
        if len(clock.out) < 5:
            clock.start(0.05)

    clock.also = go_on
    clock.start(0.05)
    clock.loop.pass_by(1.0)
    assert len(clock.out) == 5
    assert clock.deadlines._tick is None
    assert not [timer for timer in clock.loop._scheduled if not timer.cancelled()]


def test_whoever_is_told_may_end_it_all(clock: Clock) -> None:
    """In the middle of a tick; nobody is told any more, and nothing fails."""
    complaints: list[object] = []
    clock.loop.set_exception_handler(lambda _, context: complaints.append(context))
    clock.start(0.1)
    clock.start(0.2)
    clock.also = clock.deadlines.rest
    clock.loop.pass_by(1.0)
    assert len(clock.out) == 1
    assert not complaints
    assert clock.deadlines._tick is None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.05, 0.5, 3.0]), st.floats(0, 1), st.booleans()),
        max_size=30,
    )
)
def test_none_is_missed(plays: list[tuple[float, float, bool]]) -> None:
    """Each that does not end before is out of time, once, within two ticks."""
    loop = Loop()
    clock = Clock(loop)
    begun: dict[Attempt, tuple[float, float]] = {}
    ended: list[Any] = []
    for after_s, wait_s, ends in plays:
        attempt = clock.start(after_s)
        begun[attempt] = loop.now, after_s
        loop.pass_by(wait_s)
        if ends and attempt not in clock.out:
            attempt.verdict = Verdict(Outcome.OPEN)
            ended.append(attempt)
    loop.pass_by(4.0)
    assert set(clock.out) == set(begun) - set(ended)
    for attempt, at in clock.out.items():
        since, after_s = begun[attempt]
        assert 0 <= at - since - after_s + 1e-6 <= 2 * TICK_S + 2e-6
    assert len(clock.deadlines) == 0
    loop.close()
