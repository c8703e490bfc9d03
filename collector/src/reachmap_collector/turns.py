"""What it means that a check saw one thing, and then another. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from reachmap_shared.vocabulary import Expectation, Outcome


class Turn(StrEnum):
    """What a change means for whoever relies on the flow; the gravest first."""

    BROKE = "broke"
    """It was open, should be, and is not."""
    EXPOSED = "exposed"
    """It should be blocked, and is open now."""
    UNSEEN = "unseen"
    """It could not be checked any more."""
    CHANGED = "changed"
    """It is as good or bad as before, in another way."""
    APPEARED = "appeared"
    """It was checked for the first time, or again after it could not be."""
    PASSING = "passing"
    """It changed in between, and is as it was."""
    CLOSED = "closed"
    """It should be blocked, and is so again."""
    HEALED = "healed"
    """It should be open, and is so again."""


def turn(before: Outcome | None, after: Outcome, expect: Expectation | None) -> Turn:
    """What it means that a check saw one thing, and then another."""
    was, now = _kind(before), _kind(after)
    if was == now:
        return Turn.PASSING if before is after else Turn.CHANGED
    return _TURNS[was, now, expect is Expectation.BLOCKED]


class _Kind(StrEnum):
    """What an outcome comes to."""

    OPEN = "open"
    SHUT = "shut"
    NOTHING = "nothing"


def _kind(outcome: Outcome | None) -> _Kind:
    if outcome in (None, Outcome.LOCAL_ERROR):
        return _Kind.NOTHING
    return _Kind.OPEN if outcome is Outcome.OPEN else _Kind.SHUT


_TURNS: Final[Mapping[tuple[_Kind, _Kind, bool], Turn]] = {
    (_Kind.OPEN, _Kind.SHUT, False): Turn.BROKE,
    (_Kind.OPEN, _Kind.SHUT, True): Turn.CLOSED,
    (_Kind.SHUT, _Kind.OPEN, False): Turn.HEALED,
    (_Kind.SHUT, _Kind.OPEN, True): Turn.EXPOSED,
    (_Kind.NOTHING, _Kind.OPEN, False): Turn.APPEARED,
    (_Kind.NOTHING, _Kind.OPEN, True): Turn.EXPOSED,
    (_Kind.NOTHING, _Kind.SHUT, False): Turn.APPEARED,
    (_Kind.NOTHING, _Kind.SHUT, True): Turn.APPEARED,
    (_Kind.OPEN, _Kind.NOTHING, False): Turn.UNSEEN,
    (_Kind.OPEN, _Kind.NOTHING, True): Turn.UNSEEN,
    (_Kind.SHUT, _Kind.NOTHING, False): Turn.UNSEEN,
    (_Kind.SHUT, _Kind.NOTHING, True): Turn.UNSEEN,
}
"""By what it was, what it is, and whether it must be blocked."""
