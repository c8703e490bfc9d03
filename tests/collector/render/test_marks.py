"""How states look: by a mark that needs no colour."""

import pytest

from reachmap_collector.render import marks
from reachmap_shared.vocabulary import State


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (State.OK, "✓ ok"),
        (State.DEGRADED, "~ degraded"),
        (State.BROKEN, "✗ broken"),
        (State.EXPOSED, "! exposed"),
        (State.UNKNOWN, "? unknown"),
    ],
)
def test_a_state_has_a_mark_and_a_name(name: State, text: str) -> None:
    """Colour is only for those who see it."""
    assert marks.state(name).plain == text
    assert marks.state(str(name)).plain == text


def test_every_state_has_a_mark_of_its_own() -> None:
    """And a style."""
    assert set(marks.MARKS) == set(marks.STYLES) == set(State)
    assert len(set(marks.MARKS.values())) == len(State)
    assert {len(mark) for mark in marks.MARKS.values()} == {1}


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({}, "·"),
        ({"ok": 0}, "·"),
        ({"ok": 3}, "✓3"),
        ({"broken": 3}, "✗3"),
        ({"ok": 2, "broken": 1}, "✗1/3"),
        ({"ok": 2, "unknown": 1, "degraded": 4}, "~4/7"),
        ({"ok": 10_000, "exposed": 1}, "!1/10001"),
        ({"ok": 2, "broken": 0}, "✓2"),
    ],
)
def test_a_cell_shows_the_worst_and_how_many(states: dict[str, int], text: str) -> None:
    """All of them, or so many of so many."""
    assert marks.count(states).plain == text


@pytest.mark.parametrize(
    ("present", "text"),
    [
        ([], ""),
        (["ok"], "✓ ok"),
        (["ok", "ok"], "✓ ok"),
        (["broken", "ok"], "✓ ok   ✗ broken   1/3: so many of so many flows"),
        (
            list(State),
            (
                "✓ ok   ? unknown   ~ degraded   ! exposed   ✗ broken   "
                "1/3: so many of so many flows"
            ),
        ),
    ],
)
def test_the_legend_explains_what_occurs(present: list[str], text: str) -> None:
    """Best first, and nothing that is not to be seen."""
    assert marks.legend(present).plain.rstrip() == text
