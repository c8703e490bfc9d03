"""Plans down: made anew whenever something changes that they rest on, and put into the bucket.

It owns the topology in force and what was made of it: members, expected flows and plans; the store
keeps what a plan's slots meant, for reports under it may come after a restart.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from reachmap_collector.bucket import Bucket
from reachmap_collector.credentials import Credentials
from reachmap_collector.errors import StreamRefused
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.keeper import Keeper
from reachmap_collector.planner import Flows, Member, expected_flows, members
from reachmap_collector.plans import Plans, idle_plan
from reachmap_collector.reports import Reports, kept_slots, slots_of
from reachmap_collector.roster import Roster
from reachmap_collector.slots import KnownPlans, Slots
from reachmap_collector.store.api import Batch, PlanSlots
from reachmap_collector.streams import Streams
from reachmap_collector.topology.model import Topology
from reachmap_shared import log
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Pulse

_COMPILE_AFTER_S: Final = 0.2
"""A fleet that joins together is planned for together."""

_LEVEL_EVERY_S: Final = 5.0
"""How often the bucket of plans is looked at: another server may be empty."""

_OTHER_PLAN_S: Final = 15.0
"""For an agent to take up its plan, before it is put again."""

_log = log.get("collector")


class Planning:
    """The plans of one deployment, and where they rest.

    Args:
        topology: What should be.
        credentials: Of the deployment.
        flows: The map, which is told what to expect.
        roster: What agents announced.
        known: What slots of plans mean, which is told of each new one.
        reports: Doubts what was told of flows before they were expected.
        keeper: The store's.
        streams: Where the bucket is.
        now: The collector's clock.
    """

    def __init__(
        self,
        topology: Topology,
        credentials: Credentials,
        flows: FlowMap,
        roster: Roster,
        known: KnownPlans,
        reports: Reports,
        keeper: Keeper,
        streams: Streams,
        now: Callable[[], float],
    ) -> None:
        self.topology = topology
        """The one that flows and plans were made from."""
        self.members: dict[str, Member] = {}
        self.plans: Plans | None = None
        self.trouble = ""
        """What keeps plans from being put; empty while nothing does."""
        self.bucket = Bucket(streams)
        self._wanted = topology
        self._credentials = credentials
        self._flows = flows
        self._roster = roster
        self._known = known
        self._reports = reports
        self._keeper = keeper
        self._streams = streams
        self._now = now
        self._expected: Flows | None = None
        self._changed = asyncio.Event()
        self._elsewhere: dict[str, float] = {}
        """Since when an agent has worked by another plan than it should."""
        self._kept: dict[str, str] | None = None
        """By agent: the revision that the store has as its latest; None before that is known."""
        self.compile()

    @property
    def is_due(self) -> bool:
        """Whether something changed that was not planned for yet."""
        return self._changed.is_set()

    def change(self) -> None:
        """Something is another that plans rest on, or the bucket may be."""
        self._changed.set()

    def adopt(self, topology: Topology) -> None:
        """Go on with another topology, in a moment; flows that it keeps keep their past."""
        self._wanted = topology
        self.change()

    def restore(self, kept: Iterable[PlanSlots]) -> None:
        """Know what the store has of plans, and plan by what is announced by now."""
        self._kept = {}
        for row in kept:
            self._known.add(slots_of(row))
            self._kept[row.agent] = row.revision
        self.compile()

    def compile(self) -> None:
        """Bring flows and plans up to date."""
        is_another, self.topology = self.topology is not self._wanted, self._wanted
        self.members = members(self.topology, self._roster.announcements())
        flows = expected_flows(self.topology, self.members, self._expected)
        if self._expected is None or is_another or not flows.are(self._expected):
            self._expected = flows
            # What was told of flows before they were expected is not on the map.
            self._reports.doubt(self._flows.expect(flows, self._now(), self.topology.former))
        plans = Plans(
            self.topology,
            self.members,
            flows,
            self._credentials.secret,
            self._credentials.certificate,
        )
        before = self.plans.revisions if self.plans is not None else {}
        for name, revision in plans.revisions.items():
            if before.get(name) != revision:
                self._known.add(plans.slots(name))
            if self._has_to_keep(name, revision):
                self._keep(plans.slots(name))
        for name in before.keys() - plans.revisions.keys():
            idle = Slots.of(name, idle_plan(name).revision, (), ())
            self._known.add(idle)
            if self._has_to_keep(name, idle.revision):
                self._keep(idle)
        self.plans = plans

    async def run(
        self, restored: asyncio.Event, settled: asyncio.Event, made_anew: Callable[[], None]
    ) -> None:
        """Plan anew when something changed, and keep the bucket of plans level, until cancelled.

        Args:
            restored: Set once it is known who announced what before.
            settled: Cleared while a thread makes the map.
            made_anew: Is called after each planning.
        """
        while True:
            try:
                await self._streams.ensure_reports()
                if restored.is_set() and self.plans is not None:
                    await self.bucket.level(self.plans)
                self.trouble = ""
            except (BusUnavailable, StreamRefused) as error:
                if not self.trouble:
                    _log.warning("plans not put", reason=str(error))
                self.trouble = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEVEL_EVERY_S):
                    await self._changed.wait()
                    await asyncio.sleep(_COMPILE_AFTER_S)
            if self._changed.is_set() and settled.is_set():
                self._changed.clear()
                self.compile()
                made_anew()

    def hear(self, agent: str, payload: bytes) -> None:
        """See that nobody else puts plans."""
        if self.bucket.hear(agent, payload):
            self.change()

    def compare(self, pulse: Pulse, now: float) -> None:
        """Put an agent's plan again if it goes on working by another for long."""
        wanted = self.plans.revisions.get(pulse.agent) if self.plans is not None else None
        if wanted is None and pulse.plan:
            wanted = idle_plan(pulse.agent).revision
        if wanted in (None, pulse.plan):
            self._elsewhere.pop(pulse.agent, None)
            return
        since = self._elsewhere.setdefault(pulse.agent, now)
        if now - since > _OTHER_PLAN_S and not self._roster.has_refused_a_plan(pulse.agent):
            self._elsewhere[pulse.agent] = now
            self.bucket.doubt(pulse.agent)

    def _has_to_keep(self, agent: str, revision: str) -> bool:
        """Whether reports under a plan would not be understood after a restart."""
        return self._kept is not None and self._kept.get(agent) != revision

    def _keep(self, slots: Slots) -> None:
        if self._kept is not None:
            self._kept[slots.agent] = slots.revision
        self._keeper.add(Batch(plans=(kept_slots(slots, self._now()),)))
