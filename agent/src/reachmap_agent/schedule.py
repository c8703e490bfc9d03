"""When each check is due. Pure: the clock and the dice are the caller's.

Every flow has a place of its own in the interval, taken from a hash of what it dials, so that a
thousand agents do not dial one server at once and a restart does not bunch them; a small jitter on
top keeps any two from marching in step for ever.
"""

import hashlib
import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_JITTER = 0.05
"""Part of the interval: enough to break step, too little to matter to freshness."""

EARLY_S = 0.1
EARLY_PART = 0.1
"""What is due within so many seconds, and this part of the interval, may come along with what is
due now: to wake up for each costs more than a check does."""

MOST_ALONG = 48
"""So many come along at most, so that they hold up nothing else."""

MOST_ALIKE = 2
"""And so many of them to one host: no company may be a burst for anybody."""

_FIRST_ROUND_S = 2.0
"""A new plan's first round is this quick, so that the map is soon complete. All agents of a
deployment may get theirs at the same moment, when its topology changes."""

_AT_START_S = 0.3
_AT_START_EACH_S = 0.01
"""A start's first round is quicker where there is little to do: agents start one by one."""


def phase(key: str) -> float:
    """The place in the interval, from 0 to 1, that belongs to `key`; the same on every start."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


class Schedule:
    """The due times of a plan's checks, by slot.

    Args:
        keys: What each slot dials, in the plan's order; its hash spreads the slots.
        hosts: Whom each slot dials.
        interval_s: Time between two checks of one slot.
        now: The monotonic clock's reading, in seconds; all times are of this clock.
        rng: The dice for the jitter.
        at_start: Whether this is the first plan since the agent started.
    """

    def __init__(
        self,
        keys: Sequence[str],
        hosts: Sequence[str],
        interval_s: float,
        now: float,
        rng: "random.Random",
        *,
        at_start: bool = False,
    ) -> None:
        self._hosts = hosts
        self._interval_s = interval_s
        self._early_s = min(EARLY_S, EARLY_PART * interval_s)
        self._rng = rng
        self._start = now
        self._phases = [phase(key) for key in keys]
        first_round = min(interval_s, _FIRST_ROUND_S)
        if at_start:
            first_round = min(first_round, max(_AT_START_S, _AT_START_EACH_S * len(keys)))
        self._due = [
            (now + place * first_round, slot, True) for slot, place in enumerate(self._phases)
        ]
        heapq.heapify(self._due)
        self._along = 0
        self._alike: dict[str, int] = {}
        """How many came along since anybody looked what is due, and with which hosts."""

    def next_due(self) -> float | None:
        """When the next check is due; None when there is none at all."""
        return self._due[0][0] if self._due else None

    def pop_due(self, now: float) -> list[tuple[int, float]]:
        """The slots due by `now`, each with how many seconds late it is, and plan their next."""
        self._along = 0
        self._alike.clear()
        popped: list[tuple[int, float]] = []
        while self._due and self._due[0][0] <= now:
            popped.append(self._pop(now))
        return popped

    def pop_early(self, now: float) -> tuple[int, float] | None:
        """One that is due soon, to come along with what was due last; None for no more."""
        if not self._due or self._along >= MOST_ALONG:
            return None
        due, slot, in_turn = self._due[0]
        if due > now + self._early_s or not in_turn:  # a repetition has its time for a reason
            return None
        host = self._hosts[slot]
        alike = self._alike.get(host, 0)
        if alike >= MOST_ALIKE:
            return None
        self._along += 1
        self._alike[host] = alike + 1
        return self._pop(now)

    def _pop(self, now: float) -> tuple[int, float]:
        due, slot, in_turn = self._due[0]
        if in_turn:
            heapq.heapreplace(self._due, (self._following(slot, max(now, due)), slot, True))
        else:
            heapq.heappop(self._due)
        return slot, now - due

    def once_more(self, slot: int, at: float) -> None:
        """Check a slot at a time of its own, besides its turns."""
        heapq.heappush(self._due, (at, slot, False))

    def _following(self, slot: int, now: float) -> float:
        """The slot's next place on its grid, half an interval off or more; lost rounds are lost."""
        origin = self._start + self._phases[slot] * self._interval_s
        rounds = (now + self._interval_s / 2 - origin) // self._interval_s + 1
        jitter = (2 * self._rng.random() - 1) * _JITTER
        return origin + (rounds + jitter) * self._interval_s
