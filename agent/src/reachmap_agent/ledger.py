"""What was told of each flow, and what the checks since then came to. Pure.

A flow is a slot of the plan; where the plan has a name, a slot and an address. An observation that
is confirmed and shows another face than the one told last is a change, and is told whole. Every
observation, changes included, also counts in the roll-up of its period. So a network in which
nothing happens costs an octet or two for each flow and period, however often it is checked.
"""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from reachmap_shared import logscale
from reachmap_shared.messages import Change, NamedCount, Observation, Plan, RollUp
from reachmap_shared.vocabulary import Outcome

PERIOD_INTERVALS: Final = 6
PERIOD_MS: Final = (5_000, 60_000)
"""A roll-up's period is six intervals, so that a median is one, but within these bounds: not so
short that its frame weighs more than its columns, nor so long that a crash costs much."""

PASSING: Final = ("open after ", "until now ")
"""What sentences begin with that tell of one check alone: by the next they are not true any more,
and neither their coming nor their going is news."""

_SAMPLES: Final = 8
"""Times to connect that a median is of: a period has six, and some more where checks are
repeated; then the latest are as good as any."""

_FULL: Final = 255
_MAX_NAMED: Final = 2_000
"""As an octet and `RollUp.named` hold."""

_NEVER: Final = -(1 << 62)
_UNSEEN, _OPEN, _NOT_OPEN = 0, 1, 2

_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of the plan is as told, for a pulse; see `reachmap_shared.messages.Pulse`."""

    span_ms: int
    stale: bytes


@dataclass(slots=True)
class _Flow:
    """One address of a name."""

    told: Change | None = None
    checked_ms: int = _NEVER
    sight: int = _UNSEEN


@dataclass(slots=True)
class _Tally:
    """A period's checks of one address of a name."""

    made: int = 0
    failed: int = 0
    local_errors: int = 0
    flips: int = 0
    samples: list[int] = field(default_factory=list)


class Ledger:
    """The account of one start of an agent, over all of its plans."""

    def __init__(self) -> None:
        self.made = 0
        """Observations since the start."""
        self.rolled = 0
        """Those of them that are in a roll-up that is closed."""
        self.told = 0
        """Changes since the start: the next one's number."""
        self.revision = ""
        """Of the plan at work."""
        self.is_full = False
        """Whether the period must be closed before anything else is seen."""
        self.period_ms = PERIOD_MS[1]
        self.began_ms = 0
        """When the open period began."""
        self._limit_ms = 0
        self._begin(0, ())

    def take_up(self, plan: Plan, names: Iterable[int], now_ms: int) -> RollUp | None:
        """Begin with a plan, whose flows all have to be told anew.

        Args:
            plan: Whose slots observations have from now on.
            names: Those slots whose address is a name.
            now_ms: The clock that never jumps.

        Returns:
            What was seen by the plan before, if anything.
        """
        last = self.close_period(now_ms)
        self.revision = plan.revision
        shortest, longest = PERIOD_MS
        interval_ms = round(plan.interval_s * 1000)
        self.period_ms = min(max(PERIOD_INTERVALS * interval_ms, shortest), longest)
        # A turn comes up to an interval and a half after the one before, and takes its time.
        self._limit_ms = 2 * interval_ms + 2 * round(plan.timeout_s * 1000)
        self._begin(len(plan.checks), names)
        return last

    def _begin(self, slots: int, names: Iterable[int]) -> None:
        self._slots = slots
        self._told: list[Change | None] = [None] * slots
        self._checked_ms = array("q", [_NEVER]) * slots
        self._sights = bytearray(slots)
        self._doubtful: set[tuple[int, str]] = set()
        self._names: dict[int, dict[str, _Flow]] = {slot: {} for slot in names}
        self._samples = bytearray(slots * _SAMPLES)
        self._clear()

    def _clear(self) -> None:
        self._made = bytearray(self._slots)
        self._failed = bytearray(self._slots)
        self._local_errors = bytearray(self._slots)
        self._flips = bytearray(self._slots)
        self._tallies: dict[tuple[int, str], _Tally] = {}
        self.is_full = False

    def see(self, seen: Observation, *, confirmed: bool) -> Change | None:
        """Count what a check saw, and return the change that it is, if it is one."""
        self.made += 1
        slot = seen.slot
        if slot in self._names:
            return self._see_address(seen, confirmed=confirmed)
        if seen.outcome is Outcome.OPEN:
            self._count_open(slot, seen.connect_us)
        else:
            self._count_other(slot, seen.outcome)
        if not confirmed:
            self._doubtful.add((slot, ""))
            return None
        if self._doubtful:
            self._doubtful.discard((slot, ""))
        self._checked_ms[slot] = seen.at_ms
        told = self._told[slot]
        if told is not None and same_face(told.seen, seen):
            return None
        change = self._told[slot] = self._change(seen)
        return change

    def see_again(self, slot: int, at_ms: int, connect_us: int) -> None:
        """Count a check that came to just what was told of its slot: open, and no name's."""
        self.made += 1
        self._count_open(slot, connect_us)
        self._checked_ms[slot] = at_ms

    def _count_open(self, slot: int, connect_us: int) -> None:
        opened = self._count_made(slot) - self._failed[slot] - self._local_errors[slot] - 1
        self._samples[slot * _SAMPLES + opened % _SAMPLES] = logscale.code(connect_us)
        self._note_sight(slot, _OPEN)

    def _count_other(self, slot: int, outcome: Outcome) -> None:
        self._count_made(slot)
        if outcome is Outcome.LOCAL_ERROR:
            self._local_errors[slot] += 1
        else:
            self._failed[slot] += 1
            self._note_sight(slot, _NOT_OPEN)

    def _count_made(self, slot: int) -> int:
        self._made[slot] = made = self._made[slot] + 1
        if made == _FULL:
            self.is_full = True
        return made

    def _note_sight(self, slot: int, sight: int) -> None:
        before = self._sights[slot]
        if before != sight:
            self._sights[slot] = sight
            if before:
                self._flips[slot] += 1

    def _change(self, seen: Observation) -> Change:
        self.told += 1
        return Change(self.told - 1, seen)

    def _see_address(self, seen: Observation, *, confirmed: bool) -> Change | None:
        key = seen.slot, seen.address
        flows = self._names[seen.slot]
        flow = flows.get(seen.address) or _Flow()
        self._count(key, flow, seen)
        if not confirmed:
            flows[seen.address] = flow
            self._doubtful.add(key)
            return None
        flows[seen.address] = flow
        # A name that does not resolve is one flow, with no address; and none to its addresses.
        for gone in [address for address in flows if address not in (seen.resolved or ("",))]:
            del flows[gone]
            self._doubtful.discard((seen.slot, gone))
        self._doubtful.discard(key)
        flow.checked_ms = seen.at_ms
        if flow.told is not None and same_face(flow.told.seen, seen):
            return None
        flow.told = self._change(seen)
        return flow.told

    def _count(self, key: tuple[int, str], flow: _Flow, seen: Observation) -> None:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
            if len(self._tallies) == _MAX_NAMED:
                self.is_full = True
        tally.made += 1
        if seen.outcome is Outcome.LOCAL_ERROR:
            tally.local_errors += 1
            return
        sight = _NOT_OPEN
        if seen.outcome is Outcome.OPEN:
            sight = _OPEN
            tally.samples = [*tally.samples[1 - _SAMPLES :], logscale.code(seen.connect_us)]
        else:
            tally.failed += 1
        if flow.sight not in (_UNSEEN, sight):
            tally.flips += 1
        flow.sight = sight

    def standing(self, now_ms: int) -> Standing:
        """How much is as told, seen from now."""
        oldest_ms = now_ms - self._limit_ms
        checked_ms = self._checked_ms
        for slot, flows in self._names.items():
            times = [flow.checked_ms for flow in flows.values()]
            checked_ms[slot] = min(times, default=_NEVER)
        earliest_ms = min(checked_ms, default=now_ms)
        if earliest_ms >= oldest_ms and not self._doubtful:
            return Standing(now_ms - earliest_ms, b"")
        stale = {slot for slot, at_ms in enumerate(checked_ms) if at_ms < oldest_ms}
        stale |= {slot for slot, _ in self._doubtful}
        fresh = [at_ms for slot, at_ms in enumerate(checked_ms) if slot not in stale]
        bits = bytearray((self._slots + 7) // 8)
        for slot in stale:
            bits[slot // 8] |= 1 << slot % 8
        return Standing(now_ms - min(fresh, default=now_ms), bytes(bits))

    def whole(self) -> list[Change]:
        """The latest change of every flow there is."""
        named = (flow.told for flows in self._names.values() for flow in flows.values())
        return [told for told in (*self._told, *named) if told is not None]

    def close_period(self, now_ms: int) -> RollUp | None:
        """What was seen since the last period, and begin another; None when that was nothing."""
        began_ms, self.began_ms = self.began_ms, now_ms
        if self.rolled == self.made:
            return None
        self.rolled = self.made
        closed = RollUp(
            self.revision,
            began_ms,
            now_ms,
            _column(self._made),
            _column(self._failed),
            _column(self._local_errors),
            _column(self._flips),
            _column(self._medians()),
            tuple(_line(*key, tally) for key, tally in self._tallies.items()),
        )
        self._clear()
        return closed

    def _medians(self) -> bytearray:
        medians = bytearray(self._slots)
        for slot, made in enumerate(self._made):
            if made and (opened := made - self._failed[slot] - self._local_errors[slot]):
                start = slot * _SAMPLES
                medians[slot] = _median(self._samples[start : start + min(opened, _SAMPLES)])
        return medians


def same_face(one: Observation, other: Observation) -> bool:
    """Whether all is the same that matters: not the times, ports of a moment, or mere numbers."""
    return (
        one.outcome is other.outcome
        and one.answered_by is other.answered_by
        and one.healthy == other.healthy
        and one.window == other.window
        and one.certificate_until == other.certificate_until
        and one.offender == other.offender
        and one.address == other.address
        and one.resolved == other.resolved
        and (one.seen_as == other.seen_as or _host(one.seen_as) == _host(other.seen_as))
        and (one.evidence == other.evidence or _words(one.evidence) == _words(other.evidence))
    )


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]


def _words(evidence: tuple[str, ...]) -> list[str]:
    return [_NUMBERS.sub("", fact) for fact in evidence if not fact.startswith(PASSING)]


def _column(octets: bytearray) -> bytes:
    return bytes(octets) if any(octets) else b""


def _median(samples: "bytearray | list[int]") -> int:
    return sorted(samples)[(len(samples) - 1) // 2] if samples else 0


def _line(slot: int, address: str, tally: _Tally) -> NamedCount:
    return NamedCount(
        slot,
        address,
        tally.made,
        tally.failed,
        tally.local_errors,
        tally.flips,
        _median(tally.samples),
    )
