"""Names have the addresses that were told of last, each with a row that nobody else has."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap import columns, resolved
from reachmap_collector.flowmap.resolved import Resolved

ROWS = 6
SETS = [(), ("a",), ("b",), ("a", "b"), ("a", "b", "c"), ("b", "c", "d"), ("a", "b", "c", "d")]

steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, ROWS - 1), st.sampled_from(SETS)),
        st.permutations(range(ROWS)),
    ),
    max_size=40,
)


beginnings = st.dictionaries(st.integers(0, ROWS - 1), st.sampled_from(SETS[1:]))


@given(beginnings, steps, st.sets(st.integers(0, ROWS - 1)))
def test_each_address_has_its_row_whatever_comes_and_goes(
    beginning: dict[int, tuple[str, ...]], steps: Any, lost: set[int]
) -> None:
    """Also when many begin at once, get other places, or are none of the map's any more."""
    names = Resolved(ROWS)
    rows = columns.blank(ROWS, 0.0)
    truth: dict[int, tuple[str, ...]] = {}
    marks: dict[tuple[int, str], float] = {}

    def there(number: int) -> Any:
        return rows[number] if number < ROWS else names.rows[number - ROWS]

    def all_is_right() -> None:
        taken: list[int] = []
        for row in range(ROWS):
            assert names.of(row) == truth.get(row, ())
            numbers = names.numbers(row)
            for place, number in enumerate(numbers):
                assert names.owner(number) == (row, place)
            for address, number in zip(names.of(row), numbers, strict=False):
                assert there(number)["at"] == marks[row, address]
            taken += numbers
        assert len(taken) == len({*taken}) == ROWS + len(names)
        others = np.flatnonzero(names.taken) + ROWS
        assert {*others.tolist()} == {number for number in taken if number >= ROWS}
        if len(names.rows):
            every = names.with_others(np.arange(ROWS))
            assert all(every[number] == names.owner(number)[0] for number in taken)

    sets = [*{*beginning.values()}]
    which = np.array([sets.index(one) for one in beginning.values()], np.int64)
    numbers = iter(names.begin(np.array([*beginning], np.int64), sets, which).tolist())
    for row, addresses in beginning.items():
        truth[row] = addresses
        for address in addresses:
            number = next(numbers)
            assert number == names.number(row, address)
            marks[row, address] = there(number)["at"] = -number - 1
    assert next(numbers, None) is None
    all_is_right()
    for clock, step in enumerate(steps, 1):
        if len(step) == 2:
            row, addresses = step
            truth[row] = addresses
            for address, number in zip(addresses, names.hold(row, addresses), strict=False):
                marks[row, address] = clock
                there(number)["at"] = clock
        else:
            to = np.array([-1 if row in lost else step[row] for row in range(ROWS)])
            old, rows = rows, columns.blank(ROWS, 0.0)
            for row in range(ROWS):
                if to[row] >= 0:
                    rows[to[row]] = old[row]
            flags = np.arange(ROWS, dtype=np.uint8)
            names = names.moved(to, flags, 255)
            truth = {int(to[row]): held for row, held in truth.items() if to[row] >= 0}
            marks = {(int(to[row]), one): at for (row, one), at in marks.items() if to[row] >= 0}
            owners = names.owners.tolist()
            assert names.rows["flags"].tolist() == owners
        all_is_right()


def test_addresses_that_no_name_has_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have others each time, for years."""
    monkeypatch.setattr(resolved, "_SETS", 10)
    names = Resolved(3)
    names._most = 10
    names.hold(1, ("a", "b"))
    for number in range(1000):
        names.hold(0, (f"10.0.0.{number}",))
        assert len(names._tuples) <= 20
    assert (names.of(0), names.of(1), names.of(2)) == (("10.0.0.999",), ("a", "b"), ())


def test_many_names_share_what_they_resolve_to() -> None:
    """That is why they cost no more."""
    names = Resolved(1000)
    for row in range(1000):
        names.hold(row, ("10.0.0.1", "10.0.0.2"))
    assert len({*names.sets.tolist()}) == 1
    assert len(names) == 1000
    for row in range(1000):
        names.hold(row, ("10.0.0.1",))
    assert len(names) == 0
    names.hold(7, ("10.0.0.1", "10.0.0.2"))
    assert len(names.rows) == 1000  # it has the place of one that was given back
