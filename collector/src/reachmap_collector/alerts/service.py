"""Alerting at work: looks when something may have changed, remembers, and has people told.

Everything that decides is pure and elsewhere; this owns the clock's turns, the memory and the
queues. What is told is worked out from how things stand and what was told already, and never from
events that could be missed: a restart, another configuration or the end of a silence need nothing
of their own.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

from reachmap_collector.advice import what_to_do
from reachmap_collector.alerts import notices
from reachmap_collector.alerts.archive import Archive, Told
from reachmap_collector.alerts.causes import Cause, find_causes
from reachmap_collector.alerts.certificates import expiries
from reachmap_collector.alerts.dispatch import Queue, delivering
from reachmap_collector.alerts.groups import Sight
from reachmap_collector.alerts.kept import Memory
from reachmap_collector.alerts.lifecycle import (
    Alert,
    Book,
    Phase,
    Severity,
    Shares,
    Timing,
    face,
)
from reachmap_collector.alerts.load import Configuration, Place
from reachmap_collector.alerts.muting import muted_by
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets import BUS, Ongoing, Outlet
from reachmap_collector.alerts.rules import Rules, at_least
from reachmap_collector.alerts.sights import AT_ONCE, Look, agents
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.judge import Judge
from reachmap_collector.planner import FlowKey, Member
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.topology.model import Topology
from reachmap_shared import log

_TURN_S: Final = 0.25
"""How often it is seen whether there is anything to look at."""

_SHARE: Final = 10
"""Looks take at most about one part of so many of the time, however large the map is."""

_MANY: Final = 20_000
"""Flows from which on their causes are found in a thread."""

_CHECK_AGENTS_S: Final = 1.0

_GRACE_S: Final = 30.0
"""After a start, for agents to find the bus and to speak: some were last heard long before it."""

_ANYWAY_S: Final = 600.0
"""How long until the next look where nothing has changed: certificates end by themselves."""

_log = log.get("alerts")


class Watched(Protocol):
    """The map, as far as alerting looks at it."""

    roster: Roster
    flows: FlowMap

    @property
    def topology(self) -> Topology:
        """What should be."""

    @property
    def members(self) -> Mapping[str, Member]:
        """The hosts, as topology and announcements make them."""

    @property
    def version(self) -> int:
        """Another one whenever something on the map may look different."""

    def now(self) -> float:
        """Seconds since the epoch, by a clock that never jumps."""


@dataclass(slots=True)
class _Due:
    """When to look next, in the loop's time."""

    version: int = -1
    earliest: float = 0.0
    latest: float = 0.0
    agents: float = 0.0
    telling: float = 0.0
    """Not before: in between what is told may change by the clock alone, as maintenance ends."""
    wakes: float | None = None
    """When the book of alerts has something due; None when it has not."""
    states: dict[str, AgentState] = field(default_factory=dict)


class Alerts:
    """All alerts of one collector."""

    def __init__(
        self, watched: Watched, memory: Memory, bus: Outlet, configuration: Configuration
    ) -> None:
        self.book = Book()
        self.archive = Archive(memory)
        self.queues: dict[str, Queue] = {}
        self.looks = 0
        """How often the whole map was looked at."""
        self._watched = watched
        self._memory = memory
        self._bus = bus
        self._due = _Due()
        self._judge: Judge | None = None
        self._configured = asyncio.Event()
        self.configuration = configuration
        self._rules = Rules(configuration.table, self.roles_of)
        self._began = watched.now()

    def roles_of(self, host: str) -> Sequence[str]:
        """The roles of a host; none of one that nobody knows."""
        member = self._watched.members.get(host)
        return member.roles if member else ()

    def configure(self, configuration: Configuration) -> None:
        """Go on by another configuration, in a moment."""
        self.configuration = configuration
        self._rules = Rules(configuration.table, self.roles_of)
        self._due.version = -1
        self._configured.set()

    async def run(self) -> None:
        """Look, and have people told, until cancelled."""
        await self._memory.load()
        self.archive.restore(self.book.alerts)
        self._began = self._watched.now()
        while True:
            self._configured.clear()
            async with delivering(self._places(), self._memory, self._actively) as self.queues:
                while not self._configured.is_set():
                    await self.turn(self._watched.now())
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TURN_S):
                            await self._configured.wait()

    async def turn(self, now: float) -> None:
        """See whether there is anything to look at, look, and put what is to be told in queues."""
        looks = self.looks
        if self._is_time(now):
            began = time.monotonic()
            await self.look(now)
            took_s = time.monotonic() - began
            self._due.earliest = now + took_s * _SHARE
        for ident, silence in [*self.archive.silences.items()]:
            if silence.until <= now:
                self.archive.keep_silence(ident, None)
        if self.looks != looks or now >= self._due.telling:
            began = time.monotonic()
            await _in_turns(self._tell(now))
            self._due.telling = now + (time.monotonic() - began) * _SHARE

    async def look(self, now: float) -> None:
        """Look at the whole map, and bring the book up to date."""
        watched, table = self._watched, self.configuration.table
        checks = watched.topology.checks
        self.looks += 1
        self._due.version = watched.version
        self._judge = None
        self.book.timing = self._timing(checks.interval_s)
        self.book.decide = self._rules.decide
        states = self._due.states = self._agents(now)
        look, seen = await self._see(now, now + table.certificate_warning_s)
        find = partial(find_causes, now=now, interval_s=checks.interval_s, rest=look.rest)
        needs = watched.topology.dependencies()
        warning_s, critical_s = table.certificate_warning_s, table.certificate_critical_s

        def share_out() -> Shares:
            causes = find(seen, states, needs)
            causes += expiries(seen, now, warning_s, critical_s)
            return self.book.share_out(causes)

        many = len(seen) > _MANY
        shares = await asyncio.to_thread(share_out) if many else share_out()
        before = dict(self.book.alerts)
        self.book.update(shares, now, look.knows(states))
        await _in_turns(self.archive.keep_alerts(before, self.book.alerts))
        self._due.wakes = self.book.next_due()
        pause_s = checks.interval_s if self._is_anything_open() else _ANYWAY_S
        self._due.latest = now + pause_s

    async def _see(self, now: float, until: float) -> tuple[Look, list[Sight]]:
        """The flows of which more is asked than how many they are, a part after the other."""
        watched = self._watched
        while True:
            look = Look(watched.flows, watched.roster, watched.topology.checks, now, until)
            seen: list[Sight] = []
            await _gather(look.sights(), seen)
            if not look.is_outdated:
                return look, seen

    def notice(self, alert: Alert, now: float) -> Notice:
        """An alert as it stands, with whatever keeps it from being told."""
        told = self.archive.told.get(alert.id)
        ack = self.archive.acknowledged.get(alert.id)
        return notices.notice(
            alert,
            told.labels if told else notices.labels(alert),
            self._advise,
            acknowledged_by=ack.by if ack else "",
            muted_by=self._muted(alert.cause, now),
        )

    def outlets(self) -> Mapping[str, Outlet]:
        """All outlets there are, by name."""
        return {name: place.outlet for name, place in self._places().items()}

    def _places(self) -> dict[str, Place]:
        return {**self.configuration.places, BUS: Place(self._bus)}

    def _is_time(self, now: float) -> bool:
        due = self._due
        if now < due.earliest:
            return False
        if due.version != self._watched.version or now >= due.latest:
            return True
        if due.wakes is not None and due.wakes <= now:
            return True
        return self._have_agents_changed(now)

    def _have_agents_changed(self, now: float) -> bool:
        """Whether one fell silent: that comes to pass without a word."""
        if now < self._due.agents:
            return False
        began = time.monotonic()
        states = self._agents(now)
        took_s = time.monotonic() - began
        self._due.agents = now + max(_CHECK_AGENTS_S, took_s * _SHARE)
        return states != self._due.states

    def _agents(self, now: float) -> dict[str, AgentState]:
        """How agents stand; at first, those that had no turn to speak are not called silent."""
        states = agents(self._watched.members, self._watched.roster, now)
        if now - self._began < _GRACE_S:
            for name, state in states.items():
                if state is AgentState.SILENT:
                    states[name] = AgentState.ABSENT
        return states

    def _is_anything_open(self) -> bool:
        return any(alert.phase is not Phase.RESOLVED for alert in self.book.alerts.values())

    def _timing(self, interval_s: float) -> Timing:
        table = self.configuration.table
        usual = Timing.for_checks(interval_s)
        return replace(
            usual,
            hold_s=usual.hold_s if table.hold_s is None else table.hold_s,
            doubt_s=max(usual.doubt_s, table.hold_s or 0.0),
            clear_s=usual.clear_s if table.clear_s is None else table.clear_s,
            flap_s=table.flap_s,
            flaps=table.flaps,
        )

    def _tell(self, now: float) -> Iterator[int]:
        """Put into the queues what people do not know yet; gives how much work each alert was."""
        for alert in [*self.book.alerts.values()]:
            if alert.phase is Phase.FIRING:
                self._tell_of(alert, now)
            elif alert.phase is Phase.RESOLVED and (told := self.archive.told.get(alert.id)):
                ended = self._notice_of(alert, told)
                for name in told.outlets:
                    if name in self.queues:
                        self.queues[name].put(ended)
                self.archive.keep_told(alert.id, None)
                self.archive.keep_acknowledgement(alert.id, None)
            yield len(alert.cause.explains)

    def _tell_of(self, alert: Alert, now: float) -> None:
        told = self.archive.told.get(alert.id)
        now_face = tuple(map(str, face(alert)))
        new = [name for name in self._audience(alert) if told is None or name not in told.outlets]
        is_other = told is not None and told.face != now_face
        if (not new and not is_other) or self._muted(alert.cause, now):
            return
        advice = notices.notice(alert, {}, self._advise).advice
        if told is None:
            told = Told(notices.labels(alert), now_face, advice=advice)
        got_worse = not at_least(Severity(told.labels["severity"]), alert.severity)
        replaces = dict(told.labels) if got_worse and told.outlets else None
        labels = notices.labels(alert) if got_worse else told.labels
        is_known = alert.id in self.archive.acknowledged and not got_worse
        again = told.outlets if is_other and not is_known else ()
        told = Told(labels, now_face, tuple(dict.fromkeys([*told.outlets, *new])), advice)
        self.archive.keep_told(alert.id, told)
        for name in (*new, *again):
            if name in self.queues:
                first = name in new
                told_now = self._notice_of(alert, told, None if first else replaces)
                self.queues[name].put(told_now)

    def _audience(self, alert: Alert) -> Iterator[str]:
        """The outlets that are to hear of an alert."""
        verdict = self._rules.verdict(alert.cause)
        if not verdict.tell:
            return
        for name, place in self._places().items():
            is_meant = verdict.outlets is None or name in verdict.outlets or name == BUS
            if is_meant and at_least(alert.severity, place.min_severity):
                yield name

    def _notice_of(
        self, alert: Alert, told: Told, replaces: Mapping[str, str] | None = None
    ) -> Notice:
        ack = self.archive.acknowledged.get(alert.id)
        return notices.notice(
            alert,
            told.labels,
            lambda _: told.advice,
            replaces=replaces,
            acknowledged_by=ack.by if ack else "",
        )

    def _actively(self, name: str) -> Any:
        return partial(self._active_for, name)

    def _active_for(self, name: str, most: int | None) -> Ongoing:
        """What goes on of all that an outlet was told."""
        those = [
            (alert, told)
            for alert in self.book.active()
            if (told := self.archive.told.get(alert.id)) and name in told.outlets
        ]
        severities = {alert.severity for alert, _ in those}
        return Ongoing(
            len(those),
            max(severities, key=[*Severity].index, default=None),
            frozenset(alert.cause.kind for alert, _ in those),
            [self._notice_of(alert, told) for alert, told in those[:most]],
        )

    def _muted(self, cause: Cause, now: float) -> str:
        windows = self.configuration.table.maintenance
        return muted_by(cause, windows, self.archive.silences.values(), self.roles_of, now)

    def _advise(self, key: FlowKey) -> str | None:
        record = self._watched.flows.get(key)
        if record is None:
            return None
        if self._judge is None:
            watched = self._watched
            checks, now = watched.topology.checks, watched.now()
            self._judge = Judge(watched.flows, watched.roster, checks, now)
        return what_to_do(self._judge.judge(record))


async def _gather(sights: Iterator[Sight], seen: list[Sight]) -> None:
    """Take up sights, and let others have their turn meanwhile."""
    for number, sight in enumerate(sights, 1):
        seen.append(sight)
        if not number % AT_ONCE:
            await asyncio.sleep(0)


async def _in_turns(work: Iterator[int]) -> None:
    """Do work whose parts say how many flows they were of, and let others have their turn."""
    done = 0
    for flows in work:
        done += flows
        if done >= AT_ONCE:
            done = 0
            await asyncio.sleep(0)
