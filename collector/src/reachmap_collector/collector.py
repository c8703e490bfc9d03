"""The collector as a whole: plans down, observations up, queries answered.

It owns the state (topology, roster, map) and the clock, and leaves every decision to the pure
modules. Whatever comes from the bus may be wrong: it is refused, counted and forgotten.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reachmap_collector import views
from reachmap_collector.credentials import Credentials
from reachmap_collector.errors import InvalidFile
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.planner import (
    FlowKey,
    Flows,
    Member,
    expected_flows,
    members,
)
from reachmap_collector.plans import Plans, idle_plan
from reachmap_collector.roster import Roster
from reachmap_collector.topology.load import load_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, InvalidName, MalformedMessage
from reachmap_shared.messages import Hello, Plan, Report

_PLANS_KEPT: Final = 8
"""Revisions of an agent's plan whose reports are still understood: some are under way."""

_COMPILE_AFTER_S: Final = 0.2
"""A fleet that joins together is planned for together."""

_NO_PLANS: Final[OrderedDict[str, tuple[FlowKey, ...]]] = OrderedDict()

_log = log.get("collector")


class Collector:
    """The deployment's state, and what arrives of it."""

    def __init__(self, topology: Topology, credentials: Credentials, connection: Bus) -> None:
        self.topology = topology
        """The one that flows and plans were made from."""
        self.roster = Roster()
        self.flows = FlowMap()
        self.members: dict[str, Member] = {}
        self.refused: Counter[str] = Counter()
        """Messages that were not taken, by reason."""
        self._credentials = credentials
        self._bus = connection
        self._wanted = topology
        self._plans: Mapping[str, Plan] = {}
        self._revisions: Mapping[str, str] = {}
        self._expected: Flows | None = None
        self._slots: dict[str, OrderedDict[str, tuple[FlowKey, ...]]] = {}
        self._changed = asyncio.Event()
        self._wall = time.time() - time.monotonic()
        self._compile()

    async def run(self) -> None:
        """Listen to the agents until cancelled."""
        await self._bus.subscribe(subjects.ALL_HELLOS, self._hear_hello)
        await self._bus.subscribe(subjects.ALL_REPORTS, self._hear_report)
        while True:
            await self._changed.wait()
            await asyncio.sleep(_COMPILE_AFTER_S)
            self._changed.clear()
            await self._distribute(self._compile())

    def now(self) -> float:
        """Seconds since the epoch, by a clock that never jumps while this process runs."""
        return self._wall + time.monotonic()

    def adopt(self, topology: Topology) -> None:
        """Go on with another topology, in a moment; flows that it keeps keep their past."""
        self._wanted = topology
        self._changed.set()

    def reload(self, path: Path) -> None:
        """Read the topology again; a wrong one is reported and changes nothing."""
        try:
            self.adopt(load_topology(path))
        except InvalidFile as error:
            _log.error("topology refused, the last good one stays in force", reason=str(error))
        else:
            _log.info("topology reloaded", path=str(path))

    def judgements(self) -> list[Judgement]:
        """Every flow of the map as it is now, in the order of their keys."""
        judge = Judge(self.flows, self.roster, self.topology.checks, self.now())
        return [judge.judge(record) for record in self.flows]

    def agents(self) -> views.Json:
        """Every agent that reports or should."""
        return views.agents(self.roster, self.topology, self.members, self.now())

    def status(self) -> views.Json:
        """The whole in one line's worth."""
        return views.status(self.judgements(), self.agents()["agents"], dict(self.refused))

    def _compile(self) -> list[Plan]:
        """Bring flows and plans up to date; returns the plans that are new."""
        self.topology = self._wanted
        self.members = members(self.topology, self.roster.announcements())
        self._expected = flows = expected_flows(self.topology, self.members, self._expected)
        self.flows.expect(flows, self.now())
        plans = Plans(
            self.topology,
            self.members,
            flows,
            self._credentials.secret,
            self._credentials.certificate,
        )
        changed = [
            name
            for name, revision in plans.revisions.items()
            if self._revisions.get(name) != revision
        ]
        new = [plans[name] for name in changed]
        new += [idle_plan(name) for name in self._plans if name not in plans]
        for plan in new:
            kept = self._slots.setdefault(plan.agent, OrderedDict())
            kept[plan.revision] = plans.slots(plan.agent)
            kept.move_to_end(plan.revision)
            while len(kept) > _PLANS_KEPT:
                kept.popitem(last=False)
        self._plans, self._revisions = plans, plans.revisions
        return new

    async def _distribute(self, plans: list[Plan]) -> None:
        heard_of = frozenset(self.roster.agents())
        for plan in plans:
            if plan.agent in heard_of:
                await self._send(plan)

    async def _send(self, plan: Plan) -> None:
        try:
            await self._bus.publish(subjects.plan(plan.agent), codec.encode(plan))
        except (BusUnavailable, MalformedMessage) as error:
            # An agent that has no plan, or an old one, says so with its next hello.
            _log.warning("plan not sent", agent=plan.agent, reason=str(error))

    async def _hear_hello(self, subject: str, payload: bytes) -> None:
        try:
            hello = codec.decode(Hello, payload)
            _same_sender(subject, hello.agent)
        except (MalformedMessage, InvalidName) as error:
            return self._refuse("malformed hello", subject, error)
        if self.roster.hear(hello, self.now()):
            _log.info("agent announced itself", agent=hello.agent, roles=",".join(hello.roles))
            self._changed.set()
        revision = self._revisions.get(hello.agent)
        if revision is None and hello.plan:
            idle = idle_plan(hello.agent)
            if idle.revision != hello.plan:
                await self._send(idle)
        elif revision not in (None, hello.plan):
            await self._send(self._plans[hello.agent])
        return None

    async def _hear_report(self, subject: str, payload: bytes) -> None:
        now = self.now()
        try:
            report = codec.decode(Report, payload)
            _same_sender(subject, report.agent)
        except (MalformedMessage, InvalidName) as error:
            return self._refuse("malformed report", subject, error)
        flows = self._slots.get(report.agent, _NO_PLANS).get(report.plan)
        if flows is None:
            return self._refuse("report under an unknown plan", subject, report.plan)
        for observation in report.observations:
            if not 0 <= observation.slot < len(flows):
                self._refuse("observation of no flow", subject, observation.slot)
            else:
                at = max(0.0, now - max(0, observation.age_ms) / 1000)
                self.flows.observe(flows[observation.slot], observation, at)
        return None

    def _refuse(self, what: str, subject: str, reason: object) -> None:
        self.refused[what] += 1
        _log.warning("message refused", what=what, subject=subject, reason=str(reason))


def _same_sender(subject: str, agent: str) -> None:
    """The subject is what the server's permissions guard; a message may not claim another name."""
    if subjects.sender(subject) != agent:
        raise MalformedMessage(f"it claims to be from {agent!r}")
