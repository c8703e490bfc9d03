"""The collector as a whole: plans down, observations up, queries answered.

It owns the state (roster, map, ledger) and the clock, has topology and plans from `planning`, and
leaves every decision to the pure modules. Whatever comes from the bus may be wrong: it is refused,
counted and kept aside.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from reachmap_collector import views
from reachmap_collector.attendance import Attendance
from reachmap_collector.credentials import Credentials
from reachmap_collector.errors import InvalidFile, StoreError
from reachmap_collector.flowmap.fold import FlowMap, renamed
from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.garbage import not_looked_for
from reachmap_collector.handed import Handed
from reachmap_collector.intake import Intake
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.keeper import Keeper
from reachmap_collector.ledger import Ledger
from reachmap_collector.overview import EVERYTHING, Filters, Overview
from reachmap_collector.planner import Member
from reachmap_collector.planning import Planning
from reachmap_collector.reader import Reader
from reachmap_collector.remains import HELLOS, Remains
from reachmap_collector.reports import (
    LETTER,
    Reports,
    Taken,
    check_sender,
    told_of,
)
from reachmap_collector.roster import Remembered, Roster
from reachmap_collector.slots import KnownPlans
from reachmap_collector.states import States
from reachmap_collector.store.api import (
    Batch,
    DeadLetter,
    Kept,
    Selection,
    Store,
    Transition,
)
from reachmap_collector.streams import Streams, StreamSettings
from reachmap_collector.topology.load import load_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, InvalidName, MalformedMessage
from reachmap_shared.messages import Ask, Hello, ListenerReport, Pulse, Question
from reachmap_shared.vocabulary import State

_ASK_AFTER_S: Final = 2.0
"""Changes that a pulse speaks of are often still under way."""

_ASK_EVERY_S: Final = 10.0

_RETRY_S: Final = 2.0

_SETTLE_EVERY_S: Final = 5.0
"""How often what agents say the bus has taken is compared with what came."""

_TELL_EVERY_S: Final = 60.0
"""How often the log tells of one sender's messages that are refused for one reason."""

_TOLD_KEPT: Final = 10_000
"""Senders and reasons that were told of, before all are forgotten."""

Result = TypeVar("Result")

_log = log.get("collector")


class Collector:
    """The deployment's state, and what arrives of it."""

    def __init__(
        self,
        topology: Topology,
        credentials: Credentials,
        connection: Bus,
        keeper: Keeper,
        streams: StreamSettings | None = None,
        made_anew: Callable[[], None] = lambda: None,
        reader: Reader | None = None,
    ) -> None:
        """Make one.

        Args:
            topology: What should be.
            credentials: Of the deployment.
            connection: Where the agents are.
            keeper: The store's.
            streams: What the bus is to keep for us.
            made_anew: Is called whenever the map or the plans were, which live long.
            reader: Looks things up in the store; without, that waits for the keeper's commits.
        """
        self.roster = Roster()
        self.flows = FlowMap()
        self.ledger = Ledger()
        self._bus = connection
        self._keeper = keeper
        self._reader = reader
        known = KnownPlans()
        self._reports = Reports(self.flows, self.ledger, known)
        self._handed = Handed(self.ledger)
        self._streams = Streams(connection, self.now, streams)
        self._wall = time.time() - time.monotonic()
        self.planning = Planning(
            topology,
            credentials,
            self.flows,
            self.roster,
            known,
            self._reports,
            keeper,
            self._streams,
            self.now,
        )
        self._intake = Intake(connection, self._streams, keeper, self._take)
        self._news = 0
        """How often agents said something new of their listeners, which judgements rest on."""
        self._asked: dict[tuple[str, Question], float] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._made_anew = made_anew
        self._restored = asyncio.Event()
        self._settled = asyncio.Event()
        """Cleared while a thread reads what the store has, and makes the map of it."""
        self._settled.set()
        self._early: dict[str, bytes] = {}
        """Hellos that came before the ledger was there to book them, by their subjects."""

    @property
    def topology(self) -> Topology:
        """The one that flows and plans were made from."""
        return self.planning.topology

    @property
    def members(self) -> Mapping[str, Member]:
        """The hosts, as topology and announcements make them."""
        return self.planning.members

    @property
    def refused(self) -> Counter[str]:
        """Messages that were not taken, by reason."""
        return +self._reports.refused

    async def run(self) -> None:
        """Listen to the agents until cancelled."""
        self._settled.clear()
        async with asyncio.TaskGroup() as tasks:
            await self._bus.subscribe(subjects.ALL_HELLOS, self._hear_hello)
            await self._bus.subscribe(subjects.ALL_PULSES, self._hear_pulse)
            await self._bus.subscribe(subjects.ALL_PLANS, self._hear_plan)
            tasks.create_task(self.planning.run(self._restored, self._settled, self._made_anew))
            # Before that is done nothing may be booked, or it would count from nothing.
            await self.restore()
            tasks.create_task(self._keeper.run())
            tasks.create_task(self._intake.run())
            tasks.create_task(self._tell_news())
            tasks.create_task(self._settle())

    async def restore(self) -> None:
        """Begin where the collector before this one ended; wait for the store if need be."""
        while True:
            try:
                remains = await self._keeper.read(Remains.read)
            except StoreError as error:
                if not self._keeper.trouble:
                    _log.warning(
                        "the store cannot be read, the map waits for it", reason=str(error)
                    )
                self._keeper.trouble = str(error)
                self._settled.set()  # who asks hears of it
                await asyncio.sleep(_RETRY_S)
            else:
                break
        self._keeper.trouble = ""
        self._settled.clear()
        with not_looked_for():
            # In a thread, for it may take seconds, and whoever asks is to hear that it does.
            await asyncio.to_thread(self._begin, remains)
        self._made_anew()
        self._restored.set()
        self._settled.set()
        self.planning.change()
        _log.info("map restored", flows=len(remains.latest), agents=len(remains.hellos))
        for subject, payload in self._early.items():
            await self._hear_hello(subject, payload)
        self._early.clear()

    @property
    def is_settled(self) -> bool:
        """Whether the map can be looked at: not while it is made of what the store has."""
        return self._settled.is_set()

    async def settled(self, timeout_s: float) -> bool:
        """Wait until the map can be looked at, but not for long; returns whether it can."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        return self._settled.is_set()

    async def restored(self) -> None:
        """Wait until all that the store has is on the map."""
        await self._restored.wait()

    def _begin(self, remains: Remains) -> None:
        last_heard = {(row.agent, row.boot): row.last for row in remains.received}
        for kept in remains.hellos:
            with contextlib.suppress(MalformedMessage):  # kept by another version
                said = codec.decode(Remembered, kept.value or b"")
                heard = last_heard.get((said.hello.agent, said.hello.boot), 0.0)
                self.roster.restore(said, heard)
        self.planning.restore(remains.plans)
        useless = self._reports.restore(
            remains.latest.called(self.topology.former),
            remains.received,
            remains.losses,
            remains.diagnoses,
            self._now_called(remains.older),
            self.topology.former,
        )
        self._handed.restore()
        self._keeper.add(useless)

    def _now_called(self, changes: Sequence[Transition]) -> Iterable[Transition]:
        """The same changes, by what their hosts are called now."""
        former = self.topology.former
        if not former:
            return changes
        return (replace(one, flow=renamed(one.flow, former)) for one in changes)

    def bus_is_back(self) -> None:
        """The server was away, and may have lost all that it had."""
        self._intake.look_again()
        self.planning.change()

    @property
    def version(self) -> int:
        """Another one whenever something on the map may look different."""
        return self.flows.changes + self._news

    def now(self) -> float:
        """Seconds since the epoch, by a clock that never jumps while this process runs."""
        return self._wall + time.monotonic()

    def adopt(self, topology: Topology) -> None:
        """Go on with another topology, in a moment; flows that it keeps keep their past."""
        self.planning.adopt(topology)

    def reload(self, path: Path) -> None:
        """Read the topology again; a wrong one is reported and changes nothing."""
        try:
            self.adopt(load_topology(path))
        except InvalidFile as error:
            _log.error("topology refused, the last good one stays in force", reason=str(error))
        else:
            _log.info("topology reloaded", path=str(path))

    def judge(self) -> Judge:
        """The judge of how things are now."""
        return Judge(self.flows, self.roster, self.topology.checks, self.now())

    def states(self) -> States:
        """How every flow of the map stands now."""
        return States(self.flows, self.judge())

    def overview(self, filters: Filters = EVERYTHING) -> Overview:
        """The flows that fit, as they are now."""
        return Overview(self.states(), self.topology, filters)

    def judgements(self) -> list[Judgement]:
        """Every flow of the map as it is now, in the order of their keys: it takes its time."""
        judge = self.judge()
        return [judge.judge(record) for record in self.flows]

    async def recall(self, records: Sequence[FlowRecord]) -> None:
        """Have records, of which the map has no more than numbers, say all again.

        While the store cannot be read they stay as they are.
        """
        lacking = {record.key: record for record in records if record.has_but_numbers}
        if not lacking:
            return
        names = self.topology.names
        sources = {name for key in lacking for name in names(key.source)}
        destinations = {name for key in lacking for name in names(key.destination)}
        meant = Selection(sources=sources, destinations=destinations)
        with contextlib.suppress(StoreError):
            for one in await self.look_up(lambda store: [*store.at(self.now(), selection=meant)]):
                record = lacking.get(renamed(one.flow, self.topology.former))
                if record is not None and (told := told_of(one)) is not None:
                    record.remember(told)

    async def look_up(self, question: Callable[[Store], Result]) -> Result:
        """What the store says. Raises StoreError."""
        return await (self._reader or self._keeper).read(question)

    def agents(self) -> Attendance:
        """Every agent that reports or should."""
        return Attendance(self.roster, self.ledger, self.topology, self.members, self.now())

    def status(self, flows: Mapping[State, int], agents: views.Census) -> views.Json:
        """The whole in one line's worth: flows by state, and `agents` as they were then."""
        delivery = views.Delivery(
            trouble=self._intake.trouble or self._intake.refusal or self.planning.trouble,
            lag=self._intake.lag.pending,
            in_stream=self._intake.lag.messages,
            stream_octets=self._intake.lag.octets,
            redelivered=self._intake.lag.redelivered + self._intake.redelivered,
            taken=self._intake.taken,
            duplicates=self._reports.duplicates,
            clock_offset_s=self._streams.clock.offset_s,
            store_trouble=self._keeper.trouble,
            store_waiting=self._keeper.waiting,
            dead_letters=self._keeper.letters,
        )
        return views.status(flows, agents, dict(self.refused), delivery, self.ledger)

    async def _settle(self) -> None:
        """Note what vanished with the bus's storage."""
        while True:
            await asyncio.sleep(_SETTLE_EVERY_S)
            if kept := self._handed.settle(self._intake.drained):
                self._keeper.add(Batch(kept=kept))

    async def _tell_news(self) -> None:
        """Say that history has more, whenever it has; what it is, whoever watches asks."""
        last = -1
        while True:
            committed = self._keeper.transitions
            with contextlib.suppress(BusUnavailable, StoreError):  # who watches asks by itself too
                before, last = last, await self._keeper.read(lambda store: store.last_sequence())
                if last != before:
                    said = json.dumps({"last": last}).encode()
                    await self._bus.publish(subjects.CHANGES, said)
            while self._keeper.transitions == committed:
                await self._keeper.next_commit()

    async def _hear_hello(self, subject: str, payload: bytes) -> None:
        if not self._settled.is_set():
            self._early[subject] = payload
            return None
        try:
            hello = codec.decode(Hello, payload)
            check_sender(subject, hello.agent, hello.boot)
        except (MalformedMessage, InvalidName) as error:
            return self._refuse("malformed hello", subject, error)
        before = self._listeners(hello.agent)
        is_other = self.roster.hear(hello, self.now())
        self._news += before != self._listeners(hello.agent)
        if is_other:
            _log.info("agent announced itself", agent=hello.agent, roles=",".join(hello.roles))
            self.planning.change()
            said = codec.encode(self.roster.remembered(hello.agent))
            self._keeper.add(Batch(kept=(Kept(HELLOS, hello.agent, said),)))
        if not self._restored.is_set():
            self._early[subject] = payload
        elif kept := self._handed.hello(hello, self.now()):
            self._keeper.add(Batch(kept=kept))
        return None

    async def _hear_plan(self, subject: str, payload: bytes) -> None:
        """See that nobody else puts plans."""
        self.planning.hear(subject.rpartition(".")[2], payload)

    async def _hear_pulse(self, subject: str, payload: bytes) -> None:
        if not self._settled.is_set():
            return None  # the next one is soon
        try:
            pulse = codec.decode(Pulse, payload)
            check_sender(subject, pulse.agent, pulse.boot)
        except (MalformedMessage, InvalidName) as error:
            return self._refuse("malformed pulse", subject, error)
        now = self.now()
        skew_s = pulse.wall_ms / 1000 - (now + self._streams.clock.offset_s)
        if not self.roster.pulse(pulse, now, skew_s):
            await self._ask(pulse.agent, Question.HELLO)
        self.planning.compare(pulse, now)
        self._handed.pulse(pulse, now)
        if not self._reports.pulse(pulse, now):
            # What is still in the stream may be all that is missing.
            late = self._reports.behind_s(pulse.agent, now) >= _ASK_AFTER_S
            if late and self._intake.caught_up:
                await self._ask(pulse.agent, Question.STATE)
        return None

    async def _ask(self, agent: str, question: Question) -> None:
        now = self.now()
        if now - self._asked.get((agent, question), 0.0) < _ASK_EVERY_S:
            return
        self._asked[agent, question] = now
        with contextlib.suppress(BusUnavailable):  # the next pulse leads here again
            await self._bus.publish(subjects.ask(agent), codec.encode(Ask(question)))

    def _take(self, subject: str, payload: bytes, arrived: float) -> Taken:
        try:
            taken = self._reports.take(subject, payload, arrived)
        except Exception as error:  # noqa: BLE001  one bad report must not stop all others
            _log.exception("report failed", subject=subject)
            self._reports.refused["report that broke the collector"] += 1
            reason = f"it broke the collector: {type(error).__name__}"
            letter = DeadLetter(repr(subject), reason, payload[:LETTER], arrived)
            return Taken(Batch(dead_letters=(letter,)), None)
        for letter in taken.batch.dead_letters:
            self._tell(letter.reason.partition(":")[0], letter.subject, letter.reason)
        return taken

    def _listeners(self, agent: str) -> tuple[ListenerReport, ...] | None:
        return self.roster.current(agent).hello.listeners if agent in self.roster else None

    def _refuse(self, what: str, subject: str, reason: object) -> None:
        self._reports.refused[what] += 1
        self._tell(what, subject, reason)

    def _tell(self, what: str, subject: str, reason: object) -> None:
        """Log what is refused, but not each of a flood."""
        now = self.now()
        if now - self._told.get((what, subject), 0.0) >= _TELL_EVERY_S:
            if len(self._told) > _TOLD_KEPT:
                self._told.clear()
            self._told[what, subject] = now
            _log.warning("message refused", what=what, subject=subject, reason=str(reason))
