"""What a store takes and gives, whatever it is made of. Pure.

Times are seconds since the epoch, UTC, and are kept to the millisecond. All calls block, and are
made from one thread at a time; an iterator is used up, or closed, before the next call.
Every call but `close` raises `StoreUnavailable` when the store cannot be read or written right
now: the next one tries anew, so nobody has to open a store that came back.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.bulk import FlowKeys, Numbering, Numbers
from reachmap_collector.planner import FlowKey
from reachmap_collector.store.shifts import Shifts
from reachmap_shared.vocabulary import Outcome

DAY_S: Final = 86_400.0


@dataclass(slots=True, unsafe_hash=True)  # as FlowKey, and for the same reason
class Transition:
    """One confirmed change of one flow. The same agent, boot and number is the same transition."""

    agent: str
    boot: str
    number: int
    flow: FlowKey
    service: str
    at: float
    outcome: Outcome
    is_open: bool
    detail: bytes
    """The observation whole, encoded; the store does not look into it."""


class PackedRollUp(NamedTuple):
    """One agent's checks in one period. The same agent, boot and sequence is the same roll-up."""

    agent: str
    boot: str
    sequence: int
    plan: str
    """Revision of the plan whose slots the blob counts."""
    begins: float
    ends: float
    blob: bytes
    """All flows at once: a row for each would cost ten times as much."""


@dataclass(frozen=True, slots=True)
class Received:
    """Which reports of a boot were taken; a later one of the same boot replaces it."""

    agent: str
    boot: str
    ranges: tuple[tuple[int, int], ...]
    """Of sequences, half-open: the first, and the one after the last."""
    observations: int
    """How many observations those reports count."""
    heard: int
    """How many of the changes that the boot told were heard."""
    last: float
    """When the last of them came."""


@dataclass(frozen=True, slots=True)
class PlanSlots:
    """What the slots of a plan mean, so that a report under it is understood after a restart."""

    agent: str
    revision: str
    flows: Sequence[FlowKey]
    """A tuple, or what is equal to one."""
    services: tuple[str, ...]
    """Each flow's, so there are as many."""
    at: float
    """When it was made, or taken up again: says which are an agent's latest."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used, and why."""

    subject: str
    reason: str
    payload: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Kept:
    """A small thing under a name, for those who need no table: acknowledgements, silences."""

    area: str
    key: str
    value: bytes | None
    """None forgets it."""


class Batch(NamedTuple):
    """What is committed at once. What the store has already is passed over."""

    transitions: tuple[Transition, ...] = ()
    rollups: tuple[PackedRollUp, ...] = ()
    received: tuple[Received, ...] = ()
    plans: tuple[PlanSlots, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Where a page of history ended; made by the store, and handed back to it as it was."""

    at_ms: int
    row: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of history, newest first."""

    transitions: tuple[Transition, ...]
    next: Cursor | None
    """Where older ones begin; None when there are no more."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of history is meant; what is None narrows nothing. Names are those of then."""

    since: float | None = None
    """From it on."""
    until: float | None = None
    """Before it."""
    sources: Collection[str] | None = None
    """Any of these hosts."""
    destinations: Collection[str] | None = None
    services: Collection[str] | None = None


EVERYTHING: Final = Selection()


@dataclass(frozen=True, slots=True)
class Entry:
    """A transition, and what it was a transition from."""

    sequence: int
    """Higher than that of all that was kept before it; some numbers are never given."""
    transition: Transition
    before: Transition | None
    """The flow's one before; None for its first."""

    @property
    def cursor(self) -> Cursor:
        """Where the older ones begin."""
        return Cursor(round(self.transition.at * 1000), self.sequence)


@dataclass(slots=True)  # as Transition
class Standing:
    """All that two moments are compared by: what a transition says of its flow, but for details."""

    flow: FlowKey
    service: str
    outcome: Outcome
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class Latest(Sequence[Transition]):
    """The last transition of each flow, by columns; one is made when somebody looks at it."""

    flows: FlowKeys
    boots: Sequence[tuple[str, str]]
    """Of which agent, and its name."""
    services: Sequence[str]
    boot: Numbers
    """Of each transition, as all that follow."""
    number: Numbers
    """Its own, among its boot's."""
    service: Numbers
    at: NDArray[np.float64]
    outcome: Sequence[Outcome]
    is_open: Sequence[bool]
    detail: Sequence[bytes]

    @classmethod
    def of(cls, given: Iterable[Transition]) -> "Latest":
        """From the transitions themselves."""
        rows = (*given,)
        boots, services = Numbering[tuple[str, str]](), Numbering[str]()
        boot = boots.of((one.agent, one.boot) for one in rows)
        service = services.of(one.service for one in rows)
        return cls(
            flows=FlowKeys.of([one.flow for one in rows]),
            boots=(*boots,),
            services=(*services,),
            boot=boot,
            number=np.array([one.number for one in rows], np.int64),
            service=service,
            at=np.array([one.at for one in rows], np.float64),
            outcome=[one.outcome for one in rows],
            is_open=[one.is_open for one in rows],
            detail=[one.detail for one in rows],
        )

    def called(self, current: Mapping[str, str]) -> "Latest":
        """The same by what hosts are called now; some may be of one flow then."""
        return replace(self, flows=self.flows.called(current)) if current else self

    def __len__(self) -> int:
        return len(self.detail)

    @overload
    def __getitem__(self, index: int) -> Transition: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Transition]: ...
    def __getitem__(self, index: int | slice) -> Transition | Sequence[Transition]:
        """By place."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        agent, boot = self.boots[self.boot[index]]
        return Transition(
            agent,
            boot,
            int(self.number[index]),
            self.flows[index],
            self.services[self.service[index]],
            float(self.at[index]),
            self.outcome[index],
            self.is_open[index],
            self.detail[index],
        )


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a map begins with."""

    plans: Sequence[PlanSlots]
    """The latest few of each agent, the oldest first."""
    latest: Latest


@dataclass(frozen=True, slots=True)
class Keep:
    """How long things are kept; None is for ever. Times are in seconds."""

    transitions_s: float | None = None
    """The last one of each flow stays however old it is: the map starts from it."""
    rollups_s: float | None = 90 * DAY_S
    received_s: float | None = 30 * DAY_S
    """Far above what agents keep for a collector that is away. The last boot of each agent stays
    however old it is."""
    dead_letters: int = 1000
    """How many; the latest."""
    plans: int = 4
    """How many of each agent, the latest, besides those that kept roll-ups refer to."""


@dataclass(frozen=True, slots=True)
class StoreSize:
    """How much there is."""

    octets: int
    """On disk."""
    transitions: int
    flows: int
    agents: int
    boots: int
    rollups: int
    plans: int
    dead_letters: int


class Store(Protocol):
    """A place that survives the collector. Made by `reachmap_collector.store.open_store`."""

    def commit(self, batch: Batch) -> None:
        """Keep all of a batch or nothing of it. Once this returned, only a lost disk undoes it."""

    def beginning(self, plans: int = 4) -> Beginning:
        """What a map begins with: so many plans of each agent, and where all flows stand."""

    def at(
        self,
        moment: float,
        *,
        changed: tuple[float, float] | None = None,
        selection: Selection = EVERYTHING,
    ) -> Iterator[Transition]:
        """The last transition of each flow at or before a moment, in no order.

        Args:
            moment: That moment.
            changed: Just of flows that have a transition after the first of these, and at or
                before the second: then it takes no longer than what changed is much.
            selection: Of which flows; its times and services are not heeded.
        """

    def standings(self, moment: float, *, selection: Selection = EVERYTHING) -> Iterator[Standing]:
        """As `at`, but for details: of many flows, in less time."""

    def shifts(self, since: float, until: float, selection: Selection = EVERYTHING) -> Shifts:
        """What became of the flows that have a transition after `since`, at or before `until`.

        The selection's times are not heeded; its services are those at the end.
        """

    def received(self) -> Iterator[Received]:
        """What was taken from each boot."""

    def plans(self, agent: str) -> list[PlanSlots]:
        """All that is kept of an agent's, the oldest first."""

    def history(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        source: str | None = None,
        destination: str | None = None,
        service: str | None = None,
        limit: int = 1000,
        before: Cursor | None = None,
    ) -> Page:
        """Transitions from `since` on and before `until`, newest first, a page at a time."""

    def entries(
        self, selection: Selection = EVERYTHING, *, limit: int = 1000, before: Cursor | None = None
    ) -> list[Entry]:
        """As `history`, with what was before each; at most `limit`, older than `before`."""

    def fitting(
        self,
        fits: Callable[[str, str], bool],
        selection: Selection = EVERYTHING,
        *,
        look_at: int,
        limit: int,
        before: Cursor | None = None,
    ) -> tuple[list[Entry], Cursor | None]:
        """As `entries`, but just those whose source and service fit.

        Args:
            fits: Says so of a source and a service, by the names that they had then.
            selection: Where to look.
            look_at: How many entries to look at, at most.
            limit: How many to find, at most.
            before: Where to begin.

        Returns:
            What was found, and where to look on; None for that if there is no more.
        """

    def entries_after(self, sequence: int, limit: int = 1000) -> list[Entry]:
        """What was kept after the entry of that sequence, in the order in which it was."""

    def last_sequence(self) -> int:
        """That of the latest entry; 0 when there is none."""

    def hosts(self) -> set[str]:
        """The names of all hosts that history speaks of."""

    def services(self) -> set[str]:
        """The names of all services that history speaks of."""

    def rollups(self, agent: str, since: float, until: float) -> Iterator[PackedRollUp]:
        """An agent's roll-ups that begin from `since` on and before `until`, oldest first."""

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """The latest, newest first."""

    def kept(self, area: str) -> Iterator[Kept]:
        """All that is kept in an area, by key."""

    def prune(self, now: float, keep: Keep) -> bool:
        """Let go of some of what is too old: a bounded part, so that commits need not wait long.

        Returns:
            Whether there is more; call again when there is time.
        """

    def backup(self, path: Path) -> None:
        """Write a copy of how things stand now, while others go on writing.

        Raises:
            StoreRefused: The file exists, or this kind of store has its own tool for that.
        """

    def size(self) -> StoreSize:
        """How much there is. It counts, so it takes its time: not for every second."""

    def close(self) -> None:
        """Let go of it. Whatever was committed is kept without, too."""
