"""The bucket of plans: brings it level with what the planner made, and puts no more than that.

A plan's revision is a digest of its content, so a collector that restarts finds its own plans
there, and disturbs nobody.
"""

import time
from collections.abc import Mapping
from typing import Final

from reachmap_collector.planner import idle_plan
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
        self._had_plans: set[str] = set()
        self._began = time.monotonic()

    async def level(self, plans: Mapping[str, Plan]) -> None:
        """Put what is missing or another; who has a plan and should have none gets an idle one."""
        await self._look()
        self._had_plans |= plans.keys()
        has_settled = time.monotonic() - self._began > _SETTLE_S
        gone = self._there.keys() if has_settled else self._there.keys() & self._had_plans
        wanted = {agent: idle_plan(agent) for agent in gone - plans.keys()}
        for agent, plan in (wanted | dict(plans)).items():
            if self._there.get(agent) != plan.revision:
                await self._put(plan)

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
            await self._streams.put_plan(plan.agent, codec.encode(plan))
        except MalformedMessage as error:
            # It stays so until the topology changes; to try again would not help.
            _log.warning("plan not put", agent=plan.agent, reason=str(error))
        self._there[plan.agent] = plan.revision
