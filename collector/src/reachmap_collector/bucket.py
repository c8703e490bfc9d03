"""The bucket of plans: brings it level with what the planner made, and puts no more than that.

A plan's revision is a digest of its content, so a collector that restarts finds its own plans
there, and disturbs nobody.
"""

import hashlib
import time
from typing import Final

from reachmap_collector.plans import Plans, idle_plan
from reachmap_collector.streams import Streams
from reachmap_shared import codec, log
from reachmap_shared.errors import InvalidName, MalformedMessage
from reachmap_shared.messages import Plan

_UNKNOWN: Final = ""
"""The revision of a plan that nobody can tell."""

_SETTLE_S: Final = 20.0
"""For agents to announce themselves, before one that is known by its plan alone is to rest."""

_log = log.get("plans")


class Bucket:
    """What is known of the bucket. Calls raise BusUnavailable and StreamRefused."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._made = ""
        self._there: dict[str, str] = {}
        """Revisions by agent."""
        self._put_last: dict[str, bytes] = {}
        """Digests of what was put last, by agent."""
        self._had_plans: set[str] = set()
        self._began = time.monotonic()

    async def level(self, plans: Plans) -> None:
        """Put what is missing or another; who has a plan and should have none gets an idle one."""
        await self._look()
        self._had_plans |= plans.keys()
        for agent, revision in plans.revisions.items():
            if self._there.get(agent) != revision:
                await self._put(plans[agent])
        has_settled = time.monotonic() - self._began > _SETTLE_S
        gone = self._there.keys() if has_settled else self._there.keys() & self._had_plans
        for idle in [idle_plan(agent) for agent in gone - plans.keys()]:
            if self._there.get(idle.agent) != idle.revision:
                await self._put(idle)

    def hear(self, agent: str, payload: bytes) -> bool:
        """Take note of what was put for an agent; returns whether it was put by somebody else.

        JetStream answers wherever it is asked to, so an agent can have it write into the bucket,
        though nothing of its own words: what we did not put is put right again.
        """
        if hashlib.sha256(payload).digest() == self._put_last.get(agent):
            return False
        _log.warning("a plan was overwritten, putting it right", agent=agent)
        self.doubt(agent)
        return True

    def doubt(self, agent: str) -> None:
        """An agent works by another plan than it should: put its own again."""
        self._there[agent] = _UNKNOWN
        self._had_plans.add(agent)

    async def _look(self) -> None:
        """Read what is there, unless it is known."""
        made = await self._streams.ensure_plans()
        if made == self._made:
            return
        there: dict[str, str] = {}
        for agent in await self._streams.planned():
            try:
                payload = await self._streams.get_plan(agent)
                there[agent] = codec.decode(Plan, payload).revision if payload else _UNKNOWN
            except MalformedMessage:  # of another version's
                there[agent] = _UNKNOWN
            except InvalidName:
                _log.warning("the bucket of plans has a name that no agent can have", name=agent)
        self._there, self._made = there, made

    async def _put(self, plan: Plan) -> None:
        try:
            payload = codec.encode(plan)
            self._put_last[plan.agent] = hashlib.sha256(payload).digest()
            await self._streams.put_plan(plan.agent, payload)
        except MalformedMessage as error:
            # It stays so until the topology changes; to try again would not help.
            _log.warning("plan not put", agent=plan.agent, reason=str(error))
        self._there[plan.agent] = plan.revision
