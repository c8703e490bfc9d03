"""When a change is one: the table of what is seen in a row, and the bounds on every other row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.confirm import AGAIN_WITHIN_S, RECHECK_AFTER_S, Confirmation
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import AnsweredBy, Outcome

FACES = {
    "o": (Outcome.OPEN, AnsweredBy.SERVICE, True),
    "u": (Outcome.OPEN, AnsweredBy.SERVICE, False),
    "l": (Outcome.OPEN, AnsweredBy.LISTENER, True),
    "t": (Outcome.TIMEOUT, None, True),
    "r": (Outcome.REFUSED, None, True),
    "x": (Outcome.RESET, None, True),
}
FIRST_S, SECOND_S = RECHECK_AFTER_S


def observation(face: str, slot: int = 0, evidence: tuple[str, ...] = ()) -> Observation:
    outcome, answered_by, healthy = FACES[face]
    return Observation(slot, 0, outcome, answered_by, healthy, 0, 0, 0, "", evidence)


def judged(row: str) -> str:
    """One mark for each check: C confirmed, 1 or 2 for which repetition is asked for."""
    confirmation = Confirmation()
    marks = {(True, None): "C", (False, FIRST_S): "1", (False, SECOND_S): "2"}
    return "".join(marks[confirmation.judge(observation(face))] for face in row)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("o", "C"),
        ("t", "C"),
        ("ooo", "CCC"),
        # One lost packet, or two, confirm nothing.
        ("oto", "C1C"),
        ("otto", "C12C"),
        ("otootoot", "C1CC1CC1"),
        # Three that agree do.
        ("ottt", "C12C"),
        ("otttt", "C12CC"),
        ("ottttto", "C12CCC1"),
        ("otttooo", "C12C12C"),
        # Who answers, and how well, are news too.
        ("olll", "C12C"),
        ("ouuu", "C12C"),
        ("louuu", "C112C"),
        # Another doubt starts anew, but not for ever.
        ("otrrr", "C112C"),
        ("ottrrr", "C1212C"),
        ("otrtrtr", "C11111C"),
        ("ottrrxx", "C12121C"),
        ("otrxtrx", "C11111C"),
    ],
)
def test_what_is_seen_in_a_row(seen: str, expected: str) -> None:
    """o open, l by a listener, u open but not well, t timeout, r refused, x reset."""
    assert judged(seen) == expected


def test_what_is_no_news() -> None:
    """Evidence and times may differ from check to check without being a change."""
    confirmation = Confirmation()
    assert confirmation.judge(observation("o", evidence=("a",))) == (True, None)
    assert confirmation.judge(observation("o", evidence=("b",))) == (True, None)


def test_slots_are_judged_apart() -> None:
    """A doubt about one flow is none about another."""
    confirmation = Confirmation()
    for slot in (1, 2):
        assert confirmation.judge(observation("o", slot)) == (True, None)
    assert confirmation.judge(observation("t", 1)) == (False, FIRST_S)
    assert confirmation.judge(observation("o", 2)) == (True, None)
    assert confirmation.judge(observation("t", 2)) == (False, FIRST_S)
    assert confirmation.judge(observation("t", 1)) == (False, SECOND_S)


def test_only_the_repetition_of_a_timeout_hurries() -> None:
    """Whatever else is in doubt has all its time, and so has what is known to time out."""
    confirmation = Confirmation()
    assert confirmation.timeout_s(0, "", 3.5) == 3.5
    confirmation.judge(observation("o"))
    confirmation.judge(observation("r"))
    assert confirmation.timeout_s(0, "", 3.5) == 3.5
    confirmation.judge(observation("t"))
    assert confirmation.timeout_s(0, "", 3.5) == AGAIN_WITHIN_S
    assert confirmation.timeout_s(0, "", 0.5) == 0.5
    assert confirmation.timeout_s(1, "", 3.5) == confirmation.timeout_s(0, "10.0.0.9", 3.5) == 3.5
    confirmation.judge(observation("t"))
    confirmation.judge(observation("t"))
    assert confirmation.timeout_s(0, "", 3.5) == 3.5


@given(st.text("oltrux", min_size=1, max_size=60))
def test_no_doubt_lasts(seen: str) -> None:
    """Whatever is seen: a doubt ends after six checks, having waited less than two seconds."""
    confirmation = Confirmation()
    doubted, waited_s, known = 0, 0.0, ""
    for face in seen:
        confirmed, again_s = confirmation.judge(observation(face))
        assert confirmed == (again_s is None)
        if again_s is None:
            assert known in ("", face) or doubted >= 2
            doubted, waited_s, known = 0, 0.0, face
        else:
            assert face != known
            doubted += 1
            waited_s += again_s
            assert doubted < 6
            assert waited_s < 2
