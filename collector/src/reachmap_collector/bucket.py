"""The bucket of plans: brings it level with what the planner made, and puts no more than that.

A plan's revision is a digest of its content, so a collector that restarts finds its own plans
there, and disturbs nobody.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from reachmap_collector.errors import StreamRefused
from reachmap_collector.plans import Plans, idle_plan
from reachmap_collector.streams import Streams
from reachmap_shared import codec, log
from reachmap_shared.errors import BusUnavailable, InvalidName, MalformedMessage
from reachmap_shared.messages import Plan

_UNKNOWN: Final = ""
"""The revision of a plan that nobody can tell."""

_SETTLE_S: Final = 20.0
"""For agents to announce themselves, before one that is known by its plan alone is to rest."""

_AT_ONCE: Final = 32
"""Plans on their way at once. One by one they cost a round trip each, which is all that they cost
with a server far away; with too many, the last wait for longer than a request may take."""

Item = TypeVar("Item")

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
        await _each(self._put, self._lacking(plans))
        has_settled = time.monotonic() - self._began > _SETTLE_S
        gone = self._there.keys() if has_settled else self._there.keys() & self._had_plans
        idle = [idle_plan(agent) for agent in gone - plans.keys()]
        await _each(self._put, (one for one in idle if self._there.get(one.agent) != one.revision))

    def _lacking(self, plans: Plans) -> Iterator[Plan]:
        """Those that are to be put, each made as its turn comes."""
        for agent, revision in plans.revisions.items():
            if self._there.get(agent) != revision:
                yield plans[agent]

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

        async def read(agent: str) -> None:
            try:
                payload = await self._streams.get_plan(agent)
                there[agent] = codec.decode(Plan, payload).revision if payload else _UNKNOWN
            except MalformedMessage:  # of another version's
                there[agent] = _UNKNOWN
            except InvalidName:
                _log.warning("the bucket of plans has a name that no agent can have", name=agent)

        await _each(read, await self._streams.planned())
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


async def _each(work: Callable[[Item], Awaitable[None]], items: Iterable[Item]) -> None:
    """Work on many at once; when that fails for one, no other is begun, and its error is raised."""
    waiting = iter(items)
    failures: list[BusUnavailable | StreamRefused] = []

    async def some() -> None:
        for item in waiting:
            try:
                await work(item)
            except (BusUnavailable, StreamRefused) as error:
                failures.append(error)
            if failures:
                return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(some())
    if failures:
        raise failures[0]
