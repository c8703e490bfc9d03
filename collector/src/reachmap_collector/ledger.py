"""What came from each start of each agent, so that nothing counts twice or is missed unseen. Pure.

Reports are numbered within a start, and so are changes. Numbers that came are kept as ranges, of
which there is one as long as nothing is missing.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from reachmap_shared.messages import MAX_EARLIER

_MAX_RANGES: Final = 4096
"""Above it the lowest gap counts as filled: what an agent's spool let go of never comes."""

_MAX_BOOTS: Final = 256
"""Starts of one agent that are remembered; one that crashes for ever must not fill memory."""

_RECENT_LOSSES: Final = 4 * MAX_EARLIER
"""More than an agent tells of again and again."""


class Ranges:
    """A set of whole numbers, as half-open ranges that neither touch nor overlap."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int | None = None) -> bool:
        """Add a number, or all from `start` to before `end`; returns whether any was new."""
        end = start + 1 if end is None else end
        if start >= end:
            return False
        if self._ends and start == self._ends[-1]:  # the next one, as nearly all are
            self._ends[-1] = end
            return True
        # The ranges that this one meets, those that it just touches included.
        first = bisect_right(self._starts, start)
        if first and self._ends[first - 1] >= start:
            first -= 1
        after = bisect_right(self._starts, end)
        if after > first:
            if self._starts[first] <= start and end <= self._ends[first]:
                return False
            start = min(start, self._starts[first])
            end = max(end, self._ends[after - 1])
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]
        if len(self._starts) > _MAX_RANGES:
            del self._ends[0], self._starts[1]
        return True

    def __contains__(self, number: int) -> bool:
        """Whether the number was added."""
        if self._ends and number >= self._ends[-1]:  # new, as nearly all are
            return False
        index = bisect_right(self._starts, number)
        return index > 0 and number < self._ends[index - 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, lowest first."""
        return zip(self._starts, self._ends, strict=True)

    @property
    def prefix(self) -> int:
        """How many numbers there are from 0 on without a gap."""
        return self._ends[0] if self._starts and self._starts[0] <= 0 else 0

    @property
    def gaps(self) -> int:
        """How many numbers from 0 on are missing below the highest."""
        if not self._ends:
            return 0
        return self._ends[-1] - sum(end - max(0, start) for start, end in self)


@dataclass(slots=True)
class Account:
    """What came from one start of an agent."""

    agent: str
    boot: str
    sequences: Ranges = field(default_factory=Ranges)
    """Of the reports that were taken, or refused for good."""
    heard: Ranges = field(default_factory=Ranges)
    """Of the changes that the map has, or that were superseded by ones that it has."""
    observations: int = 0
    """In the roll-ups that were taken."""
    refused: int = 0
    """Observations in roll-ups that could not be taken."""
    last: float = 0.0
    """When the last report came."""
    _telling: tuple[str, int, int] | None = None
    _parts: set[int] = field(default_factory=set)

    def hear_part(self, plan: str, told: int, parts: int, part: int) -> None:
        """Take note of a part of the whole state: with all of them, all that was told is heard."""
        telling = (plan, told, parts)
        if self._telling != telling:
            self._telling = telling
            self._parts = set()
        if 0 <= part < parts:
            self._parts.add(part)
        if len(self._parts) == parts:
            self.heard.add(0, told)

    def doubt(self) -> None:
        """Forget which changes were heard, so that the whole state is asked for."""
        self.heard = Ranges()
        self._telling = None


@dataclass(frozen=True, slots=True)
class Loss:
    """The final account of one start, as the agent gave it last."""

    boot: str
    made: int
    """Observations that it made."""
    lost: int
    """Those of them that nobody will ever hear of."""
    changes_lost: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """What of one start came, and could not be taken."""

    boot: str
    observations: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """What of one start a bus took, and lost before it came."""

    boot: str
    observations: int


@dataclass(frozen=True, slots=True)
class Losses:
    """The final accounts of an agent's starts that are over; what of any was refused, or vanished.

    `told`, where it is asked for, are starts that the agent goes on telling of: they are kept apart
    from the sums, or they would count twice.
    """

    recent: tuple[Loss, ...] = ()
    """Those that may be given anew, for what a spool still holds may have to go later."""
    lost_before: int = 0
    """Observations that starts before those lost."""
    refused: tuple[Refusal, ...] = ()
    """Of the starts that were refused something last."""
    vanished: tuple[Vanished, ...] = ()
    """Of the starts of which something vanished last."""
    vanished_before: int = 0
    """Observations of starts before those that vanished."""

    @property
    def lost(self) -> int:
        """Observations that all of them lost."""
        return self.lost_before + sum(one.lost for one in self.recent)

    def vanished_of(self, boot: str) -> int:
        """Observations of one start that vanished."""
        return sum(one.observations for one in self.vanished if one.boot == boot)

    @property
    def vanished_in_all(self) -> int:
        """Observations of all starts that vanished."""
        return self.vanished_before + sum(one.observations for one in self.vanished)

    def given(self, loss: Loss, told: Collection[str] = ()) -> "Losses":
        """With an account that was given, perhaps anew or late: it only ever grows."""
        known = {one.boot: one for one in self.recent}
        before = known.get(loss.boot, loss)
        known[loss.boot] = Loss(
            loss.boot,
            max(before.made, loss.made),
            max(before.lost, loss.lost),
            max(before.changes_lost, loss.changes_lost),
        )
        lost_before = self.lost_before
        for boot in _over(known, told):
            lost_before += known.pop(boot).lost
        return replace(self, recent=tuple(known.values()), lost_before=lost_before)

    def refusing(self, boot: str, observations: int) -> "Losses":
        """With so many refused of a start in all."""
        others = tuple(one for one in self.refused if one.boot != boot)
        refused = (*others, Refusal(boot, observations))
        return replace(self, refused=refused[-_RECENT_LOSSES:])

    def missing(self, boot: str, observations: int, told: Collection[str] = ()) -> "Losses":
        """With so many vanished of a start in all, perhaps none any more."""
        known = {one.boot: one for one in self.vanished}
        known[boot] = Vanished(boot, observations)
        if not observations:
            del known[boot]
        vanished_before = self.vanished_before
        for old in _over(known, {boot, *told}):
            vanished_before += known.pop(old).observations
        return replace(self, vanished=tuple(known.values()), vanished_before=vanished_before)


def _over(known: Iterable[str], told: Collection[str]) -> list[str]:
    """The oldest starts, as far as they are too many to be kept apart."""
    boots = list(known)
    old = [boot for boot in boots if boot not in told]
    return old[: max(0, len(boots) - _RECENT_LOSSES)]


class Ledger:
    """The accounts of all agents."""

    def __init__(self) -> None:
        self._accounts: dict[str, dict[str, Account]] = {}
        self.losses: dict[str, Losses] = {}
        """By agent."""
        self.told: dict[str, Collection[str]] = {}
        """By agent: starts that its hello tells of."""

    def account(self, agent: str, boot: str) -> Account:
        """The account of one start; opened if there is none."""
        boots = self._accounts.setdefault(agent, {})
        if boot not in boots:
            boots[boot] = Account(agent, boot)
            if len(boots) > _MAX_BOOTS:
                del boots[min(boots, key=lambda name: (name == boot, boots[name].last))]
        return boots[boot]

    def get(self, agent: str, boot: str) -> Account | None:
        """The account of one start, if anything came from it."""
        return self._accounts.get(agent, {}).get(boot)

    def of(self, agent: str) -> Iterable[Account]:
        """The accounts of all starts of an agent."""
        return self._accounts.get(agent, {}).values()

    def __iter__(self) -> Iterator[Account]:
        """All accounts."""
        for boots in self._accounts.values():
            yield from boots.values()
