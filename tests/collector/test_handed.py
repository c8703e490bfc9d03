"""What the bus took and lost is counted to the observation, and nothing that only is on its way."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.handed import Handed
from reachmap_collector.ledger import Ledger, Loss, Losses, Vanished
from reachmap_collector.reports import LOSSES
from reachmap_shared import codec
from reachmap_shared.messages import MAX_EARLIER, Earlier

AGENT, BOOT = "pc-1", "boot-1"


def vanished(ledger: Ledger) -> int:
    return ledger.losses.get(AGENT, Losses()).vanished_in_all


def test_what_does_not_come_once_all_has_come_has_vanished(pulse: Any) -> None:
    """Not before: what the agent speaks of may still be in the stream."""
    ledger = Ledger()
    handed = Handed(ledger)
    account = ledger.account(AGENT, BOOT)
    account.observations, account.refused = 60, 7
    handed.pulse(pulse(AGENT, made=100, lost=10, waiting=20), 100.0)
    assert (handed.settle(99.9), vanished(ledger)) == ((), 0)
    [kept] = handed.settle(100.0)
    assert (kept.area, kept.key) == (LOSSES, AGENT)
    said = codec.decode(Losses, kept.value or b"")
    assert said.vanished == (Vanished(BOOT, 3),) == ledger.losses[AGENT].vanished
    assert handed.settle(200.0) == (), "the store has it"


def test_what_comes_after_all_has_not_vanished(pulse: Any) -> None:
    """Whichever way it took, and without another word of the agent's."""
    ledger = Ledger()
    handed = Handed(ledger)
    handed.pulse(pulse(AGENT, made=10), 1.0)
    handed.settle(1.0)
    assert vanished(ledger) == 10
    ledger.account(AGENT, BOOT).observations = 8
    [kept] = handed.settle(1.0)
    assert vanished(ledger) == 2
    ledger.account(AGENT, BOOT).observations = 10
    [kept] = handed.settle(1.0)
    assert codec.decode(Losses, kept.value or b"") == Losses()


def test_a_pulse_does_not_put_off_the_one_before(pulse: Any) -> None:
    """However far behind the collector is: the first word holds once it can, and the last."""
    ledger = Ledger()
    handed = Handed(ledger)
    for second in range(60):
        handed.pulse(pulse(AGENT, made=second), float(second))
        if second > 5:
            handed.settle(second - 5.5)
            assert vanished(ledger) >= second - 12
    handed.settle(59.0)
    assert vanished(ledger) == 59


def test_earlier_starts_are_told_of_again_and_again(hello: Any) -> None:
    """What a bus lost of their own last words; and each counts once."""
    ledger = Ledger()
    handed = Handed(ledger)
    ledger.account(AGENT, "old").observations = 80
    earlier = (Earlier("old", made=100, lost=5, waiting=3, changes_lost=1),)
    [kept] = handed.hello(hello(AGENT, earlier=earlier), 10.0)
    assert codec.decode(Losses, kept.value or b"").recent == (Loss("old", 100, 5, 1),)
    assert handed.hello(hello(AGENT, earlier=earlier), 11.0) == ()
    handed.settle(11.0)
    assert (vanished(ledger), ledger.losses[AGENT].lost) == (12, 5)


@pytest.mark.parametrize("is_known", [True, False])
def test_another_collector_goes_on_with_it(pulse: Any, is_known: bool) -> None:
    """Also where the store let go of what came from that start: what vanished stays so."""
    ledger = Ledger()
    ledger.losses[AGENT] = Losses(vanished=(Vanished("old", 12),), vanished_before=1)
    if is_known:
        ledger.account(AGENT, "old").observations = 80
    handed = Handed(ledger)
    handed.restore()
    assert (handed.settle(0.0), vanished(ledger)) == ((), 13)
    if is_known:
        ledger.account(AGENT, "old").observations = 85
        handed.settle(0.0)
        assert vanished(ledger) == 8


def test_starts_without_end_cost_no_memory(pulse: Any, hello: Any) -> None:
    """They are summed up; and those that are told of still, by a liar or not, count once."""
    ledger = Ledger()
    handed = Handed(ledger)
    for number in range(1000):
        earlier = tuple(
            Earlier(f"boot-{before}", made=3, lost=1, waiting=0, changes_lost=0)
            for before in range(max(0, number - MAX_EARLIER), number)
        )
        handed.hello(hello(AGENT, earlier=earlier), float(number))
        if number % 10 == 0:
            handed.settle(float(number))
    handed.settle(1000.0)
    losses = ledger.losses[AGENT]
    assert (losses.vanished_in_all, losses.lost) == (2 * 999, 999)
    assert len(losses.vanished) == len(losses.recent) == 4 * MAX_EARLIER
    assert len(handed._missing[AGENT]) == 4 * MAX_EARLIER and not handed._said


def test_last_words_that_come_late_push_out_nobody_who_is_told_of(hello: Any) -> None:
    """A thousand of them, from the time that the bus was away."""
    ledger = Ledger()
    handed = Handed(ledger)
    earlier = tuple(Earlier(f"new-{number}", 3, 1, 0, 0) for number in range(MAX_EARLIER))
    for _ in range(3):
        handed.hello(hello(AGENT, earlier=earlier), 1.0)
        for number in range(1000):
            told = ledger.told[AGENT]
            ledger.losses[AGENT] = ledger.losses[AGENT].given(Loss(f"new-{number}", 3, 1, 0), told)
        assert ledger.losses[AGENT].lost == 1000
        break


@dataclass
class Way:
    """A bus that loses all that it has now and then, and a collector that is behind."""

    handed: Handed
    ledger: Ledger
    made: int = 0
    waiting: int = 0
    dropped: int = 0
    stream: list[int] = field(default_factory=list)
    lost: int = 0
    now: float = 0.0


steps = st.lists(
    st.tuples(
        st.sampled_from(["make", "drop", "publish", "take", "wipe", "say"]), st.integers(0, 9)
    ),
    max_size=60,
)


@given(steps)
def test_made_is_always_somewhere(pulse: Any, happens: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order: never too many, and exact once all is said and taken."""
    ledger = Ledger()
    way = Way(Handed(ledger), ledger)
    account = ledger.account(AGENT, BOOT)

    def say() -> None:
        said = pulse(AGENT, made=way.made, lost=way.dropped, waiting=way.waiting)
        way.handed.pulse(said, way.now)

    def take(count: int) -> None:
        taken, way.stream = way.stream[:count], way.stream[count:]
        account.observations += sum(taken)
        if not way.stream:
            way.handed.settle(way.now)

    for what, count in happens:
        way.now += 1.0
        match what:
            case "make":
                way.made, way.waiting = way.made + count, way.waiting + count
            case "drop":
                count = min(count, way.waiting)
                way.dropped, way.waiting = way.dropped + count, way.waiting - count
            case "publish":
                count = min(count, way.waiting)
                way.waiting -= count
                way.stream.append(count)
            case "take":
                take(count)
            case "wipe":
                way.lost += sum(way.stream)
                way.stream = []
            case "say":
                say()
        assert vanished(ledger) <= way.lost
    say()
    take(len(way.stream))
    assert vanished(ledger) == way.lost
    assert way.made == account.observations + way.waiting + way.dropped + vanished(ledger)
