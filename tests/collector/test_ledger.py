"""Whatever comes is counted once, and what is missing shows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.ledger import Account, Ledger, Loss, Losses, Ranges

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=40)


@given(spans)
def test_ranges_are_a_set_of_numbers(added: list[tuple[int, int]]) -> None:
    """Whatever is added in whatever order; as few ranges as there can be."""
    ranges, model = Ranges(), set[int]()
    for start, length in added:
        numbers = set(range(start, start + length))
        assert ranges.add(start, start + length) == bool(numbers - model)
        model |= numbers
    kept = list(ranges)
    assert {number for start, end in kept for number in range(start, end)} == model
    assert all(one[1] < other[0] for one, other in pairwise(kept))
    assert {number for number in range(-2, 80) if number in ranges} == model
    assert ranges.prefix == next(number for number in range(80) if number not in model)
    assert ranges.gaps == (max(model) + 1 - len(model) if model else 0)
    assert list(Ranges(kept)) == kept


def test_ranges_do_not_grow_without_end() -> None:
    """What never comes does not fill memory: the lowest gaps count as filled."""
    ranges = Ranges()
    for number in range(0, 20_000, 2):
        ranges.add(number)
    kept = list(ranges)
    assert len(kept) == 4096
    assert kept[0][0] == 0
    assert kept[-1] == (19_998, 19_999)
    assert all(one[1] < other[0] for one, other in pairwise(kept))


@given(st.permutations(range(3)), st.booleans())
def test_the_whole_state_is_heard_with_its_last_part(order: list[int], twice: bool) -> None:
    """Then all changes that had been told count as heard, those that got lost included."""
    account = Account("pc-1", "boot-1")
    account.heard.add(9)
    for part in [*order[:2], *(order[:2] if twice else [])]:
        account.hear_part("r1", 9, 3, part)
        assert account.heard.prefix == 0
    account.hear_part("r1", 9, 3, order[2])
    assert account.heard.prefix == 10


def test_parts_of_different_tellings_are_no_whole() -> None:
    """One that began anew in between says where things stand by then."""
    account = Account("pc-1", "boot-1")
    for telling, part in (((4, 2), 0), ((5, 2), 1), ((5, 3), 0), ((5, 2), 1), ((5, 2), 7)):
        account.hear_part("r1", telling[0], telling[1], part)
    assert account.heard.prefix == 0
    account.hear_part("r1", 5, 2, 0)
    assert account.heard.prefix == 5


@pytest.mark.parametrize("boots", [10, 2000])
def test_starts_without_end_are_forgotten(boots: int) -> None:
    """The latest are remembered, and the one that is spoken of."""
    ledger = Ledger()
    for number in range(boots):
        ledger.account("pc-1", f"boot-{number}").last = float(number)
    kept = list(ledger.of("pc-1"))
    assert len(kept) == min(boots, 256)
    assert max(account.last for account in kept) == boots - 1
    assert ledger.get("pc-1", f"boot-{boots - 1}") is kept[-1]
    assert len(list(ledger)) == len(kept)


def test_a_final_account_that_is_given_anew_is_the_same_start_s() -> None:
    """What its spool still held had to go later: the sum grows by that, and not by all."""
    losses = Losses()
    for boot, lost in (("a", 3), ("b", 1), ("a", 5), ("a", 4)):
        losses = losses.given(Loss(boot, 10, lost, 0))
    assert losses.lost == 6


def test_final_accounts_without_end_are_summed_up() -> None:
    """An agent that crashes for ever costs no more memory for it."""
    losses = Losses()
    for number in range(1000):
        losses = losses.given(Loss(f"boot-{number}", 10, 1, 0))
    assert (losses.lost, len(losses.recent)) == (1000, 128)
