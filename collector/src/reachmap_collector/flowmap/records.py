"""What is known of one flow: its latest changes, and what its agent says of all at once. Pure.

What is kept is a function of the set of messages heard: in which order they come, and how often,
makes no difference. A pulse and a roll-up cost the same for one flow as for twenty thousand: what
they say of a flow is looked up when somebody asks.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

from reachmap_collector.diagnose import Diagnosed
from reachmap_collector.flowmap.lines import Lines, constant
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.slots import Slots
from reachmap_shared import logscale
from reachmap_shared.messages import NamedCount, Observation, RollUp
from reachmap_shared.vocabulary import Outcome

PERIODS: Final = 4
"""Roll-ups of an agent that latency, flapping and counts are taken from: some four minutes by
default."""

_PAST: Final = 8
"""Changes of a flow that are kept in memory, so that one which comes late finds its place."""


@dataclass(frozen=True, slots=True)
class Told:
    """One change of a flow. Those of one start are in the order of their numbers."""

    at: float
    """Seconds since the epoch."""
    boot: str
    number: int
    seen: Observation

    def is_newer(self, other: "Told") -> bool:
        """Whether this came about after the other."""
        if self.boot == other.boot:
            return self.number > other.number
        return (self.at, self.boot) > (other.at, other.boot)


@dataclass(slots=True)
class Counts:
    """The columns of a `RollUp`, for holding them long."""

    made: bytes = b""
    failed: bytes = b""
    local_errors: bytes = b""
    flips: bytes = b""
    latency: bytes = b""
    named: Lines | None = None

    @classmethod
    def of(cls, said: RollUp) -> "Counts":
        """What many roll-ups have in common is held once.

        In most of them each flow was checked as often as any other.
        """
        made = said.made
        if made and made.count(made[0]) == len(made):
            made = constant(made[0], len(made))
        named = Lines.of(said.named)
        return cls(made, said.failed, said.local_errors, said.flips, said.latency, named)


@dataclass(slots=True)
class Period:
    """A roll-up of one agent."""

    ends: float
    boot: str
    sequence: int
    slots: Slots
    counts: Counts

    def of(self, flow: FlowKey, address: str | None) -> NamedCount | None:
        """What it says of a flow, or of one address of the name that the flow has."""
        slot = self.slots.slot(flow)
        if slot is None:
            return None
        if address is not None:
            named = self.counts.named
            return named.on(slot, address) if named is not None else None
        counts = self.counts
        columns = (counts.made, counts.failed, counts.local_errors, counts.flips, counts.latency)
        return NamedCount(slot, "", *(column[slot] if column else 0 for column in columns))


_NONE: Final[Mapping[FlowKey, float]] = {}


class Source:
    """What one agent says of all its flows at once."""

    __slots__ = ("_at", "_behind", "_checked", "_periods", "_slots")

    def __init__(self) -> None:
        self._periods: list[Period] = []
        self._at = 0.0
        self._checked = 0.0
        self._slots: Slots | None = None
        self._behind = _NONE

    def pulse(self, at: float, span_s: float, slots: Slots, stale: bytes) -> None:
        """All flows of a plan but the stale ones were checked within a span, and are as told."""
        if at < self._at:
            return
        behind = [slots.flows[slot] for slot in _set_bits(stale) if slot < len(slots.flows)]
        # When those were checked, as far as pulses tell, an earlier one told.
        self._behind = {flow: self.checked(flow) for flow in behind} if behind else _NONE
        self._at, self._slots = at, slots
        self._checked = at - span_s

    def roll_up(self, period: Period) -> None:
        """Take up a period; only the latest few are kept."""
        periods = self._periods
        for one in periods:
            if one.sequence == period.sequence and one.boot == period.boot:
                return
        periods.append(period)
        if len(periods) > 1 and period.ends <= periods[-2].ends:  # late, as few are
            periods.sort(key=lambda one: (one.ends, one.boot, one.sequence))
        del periods[:-PERIODS]

    def checked(self, flow: FlowKey) -> float:
        """Since when at the latest the flow was checked and found as told; 0 if nobody says so."""
        if self._slots is None or self._slots.slot(flow) is None:
            return 0.0
        return self._behind.get(flow, self._checked)

    @property
    def behind(self) -> Mapping[FlowKey, float]:
        """The flows that the latest pulse leaves out, with when they were checked before."""
        return self._behind

    @property
    def pulsed(self) -> tuple[float, Slots | None]:
        """Since when all others of a plan's flows were checked at the latest, and which plan's."""
        return self._checked, self._slots

    def flapping(self, least: int) -> Iterator[tuple[FlowKey, str | None]]:
        """The flows with so many flips in the latest periods; those to names with the address."""
        flips: Counter[tuple[FlowKey, str | None]] = Counter()
        for period in self._periods:
            flows, named = period.slots.flows, period.counts.named
            if period.counts.flips:
                for flow, count in zip(flows, period.counts.flips, strict=True):
                    flips[flow, None] += count
            for slot, address, count in named.flipped() if named is not None else ():
                flips[flows[slot], address] += count
        return (flow for flow, count in flips.items() if count >= least)

    @property
    def periods(self) -> Sequence[Period]:
        """The latest few, the oldest first."""
        return self._periods

    def counts(self, flow: FlowKey, address: str | None) -> list[NamedCount]:
        """What the latest periods say of a flow, those that do not speak of it left out."""
        found = (period.of(flow, address) for period in self._periods)
        return [line for line in found if line is not None]


@dataclass(slots=True)
class FlowRecord:
    """One flow's past, as far as it matters now. Times are seconds since the epoch."""

    expected: ExpectedFlow
    known_since: float
    source: Source = field(default_factory=Source)
    name: "FlowRecord | None" = None
    """The flow to the name whose address this one leads to."""
    diagnosed: Diagnosed | None = None
    """When it was looked into last, and what was found; it may be about an earlier fault."""
    _past: list[Told] = field(default_factory=list)
    """Oldest first."""
    _began: float | None = None
    """When it first was as the oldest of these says, if that was before."""
    row: int = -1
    """Its number on the map; -1 for one that is not on it."""
    keep: "Callable[[FlowRecord], None] | None" = None
    """Is told of every change of it."""
    _of_numbers: Told | None = None
    """That of its changes of which only numbers are left."""

    @property
    def key(self) -> FlowKey:
        """What makes this flow this flow."""
        return self.expected.key

    @property
    def last(self) -> Observation | None:
        """What is known of it: the latest change."""
        told = self.latest
        return told.seen if told is not None else None

    @property
    def checked(self) -> float:
        """When it was checked last, as far as is known."""
        told = self.latest
        if told is None:
            return 0.0
        return max(told.at, self.source.checked((self.name or self).key))

    @property
    def changed(self) -> float:
        """When what the checks see last became something else."""
        past = self._past
        if self.name is not None and self.name._past:
            past = [*self._past]
            for told in self.name._past:
                _insert(past, told)
        if not past:
            return 0.0
        since = past[-1].at
        for told in reversed(past):
            if _face(told.seen) != _face(past[-1].seen):
                return since
            since = min(since, told.at)  # delays only add: it was no later than what came after
        return since if self._began is None else min(since, self._began)

    @property
    def latency_ms(self) -> float | None:
        """Median time to connect over the latest periods' open checks."""
        codes = [line.latency for line in self._counts() if line.latency != logscale.NONE]
        if codes:
            return round(median(map(logscale.us, codes)) / 1000, 3)
        told = self.latest
        if told is None or told.seen.outcome is not Outcome.OPEN:
            return None
        return round(max(0, told.seen.connect_us) / 1000, 3)

    @property
    def flips(self) -> int:
        """How often the latest periods' checks went from open to not open or back."""
        return sum(line.flips for line in self._counts())

    @property
    def checks_made(self) -> int:
        """How many checks the latest periods had: those that could not be made count too."""
        return sum(line.made for line in self._counts())

    @property
    def checks_open(self) -> int:
        """How many of them found it open."""
        return sum(max(0, one.made - one.failed - one.local_errors) for one in self._counts())

    @property
    def checks_failed_locally(self) -> int:
        """How many of them could not be made."""
        return sum(line.local_errors for line in self._counts())

    def fold(self, told: Told) -> bool:
        """Add a change where it belongs; returns False for one that is there already."""
        is_new = _insert(self._past, told)
        if len(self._past) > _PAST:
            oldest, next_ = self._past[0], self._past[1]
            del self._past[0]
            same = _face(oldest.seen) == _face(next_.seen)
            self._began = (self._began if self._began is not None else oldest.at) if same else None
        if self.keep is not None:
            self.keep(self)
        return is_new

    def go_on(self, told: Told, since: float) -> None:
        """Begin with the numbers of what was told last, and since when it has been so."""
        self._past = [told]
        self._began = since
        self._of_numbers = told

    @property
    def has_but_numbers(self) -> bool:
        """Whether only numbers are left of the latest change."""
        return self._of_numbers is not None and self.newest is self._of_numbers

    def remember(self, told: Told) -> None:
        """Take up all that the latest change said, of which only numbers were left."""
        mine = self._past[-1] if self._past else None
        if mine is not None and (mine.boot, mine.number) == (told.boot, told.number):
            self._past[-1] = replace(told, at=mine.at)

    @property
    def newest(self) -> Told | None:
        """The latest change of its own, whatever is known of a name above it."""
        return self._past[-1] if self._past else None

    @property
    def latest(self) -> Told | None:
        """The latest change, one of the name above it included."""
        own = self._past[-1] if self._past else None
        above = self.name.latest if self.name is not None else None
        if own is None or (above is not None and above.is_newer(own)):
            return above
        return own

    def _counts(self) -> list[NamedCount]:
        if self.name is not None:
            return self.source.counts(self.name.key, self.key.address)
        return self.source.counts(self.key, None)


def _insert(past: list[Told], told: Told) -> bool:
    """Put a change into its place among others; returns False when it is there already."""
    place = len(past)
    while place and past[place - 1].is_newer(told):
        place -= 1
    if place and (past[place - 1].boot, past[place - 1].number) == (told.boot, told.number):
        # Told again: it came about no later than any telling says, for delays only add.
        if told.at < past[place - 1].at:
            past[place - 1] = told
        return False
    past.insert(place, told)
    return True


def _set_bits(bits: bytes) -> Iterator[int]:
    """The numbers of the bits that are set, the lowest of each octet first."""
    for place, octet in enumerate(bits):
        if octet:
            yield from (place * 8 + bit for bit in range(8) if octet >> bit & 1)


def _face(observation: Observation) -> tuple[object, ...]:
    return observation.outcome, observation.answered_by, observation.healthy
