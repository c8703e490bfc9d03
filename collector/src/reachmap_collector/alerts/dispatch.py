"""Queues in front of outlets: each has its own, so that a dead one delays nobody else.

What waits is kept on disk, and there is at most one word on the beginning and one on the end of
each alert in it: a later one takes the place of an earlier one.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from reachmap_collector.alerts import kept, notices
from reachmap_collector.alerts.kept import Memory
from reachmap_collector.alerts.load import Place
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets import Active, Outlet, OutletFailed
from reachmap_shared import log

MAX_WAITING: Final = 10_000
"""Words that may wait for one outlet; then the oldest is let go, and counted."""

_RETRY_S: Final = (1.0, 60.0)
"""After the first failure, and at most; it doubles in between."""

_log = log.get("alerts")


@dataclass(slots=True)
class Queue:
    """What one outlet is still to be told, in order."""

    name: str
    memory: Memory
    limit: int = MAX_WAITING
    waiting: dict[str, Notice] = field(default_factory=dict)
    delivered: int = 0
    refused: int = 0
    """What the outlet would never take."""
    dropped: int = 0
    """What there was no room for."""
    trouble: str = ""
    """Why it takes nothing right now; empty when it does."""
    _number: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def restore(self) -> None:
        """Take up what an earlier process left."""
        found: list[tuple[int, str, Notice]] = []
        for key, value in self.memory.kept(kept.QUEUE).items():
            name, _, word = key.partition("/")
            if name != self.name:
                continue
            with contextlib.suppress(ValueError, KeyError, TypeError):  # of another version
                row = json.loads(value)
                told = notices.decode(json.dumps(row["notice"]).encode())
                found.append((int(row["number"]), word, told))
        for number, word, told in sorted(found, key=lambda one: one[0]):
            self.waiting[word] = told
            self._number = number + 1
        if self.waiting:
            self._news.set()

    def put(self, told: Notice) -> None:
        """Have something told."""
        word = f"{told.id}/{'on' if told.is_active else 'off'}"
        if word not in self.waiting and len(self.waiting) >= self.limit:
            oldest = next(iter(self.waiting))
            self._forget(oldest)
            self.dropped += 1
            _log.error("alert not told, too many wait", outlet=self.name, alert=oldest)
        before = self.waiting.get(word)
        if before is not None and before.replaces is not None:
            # It never heard of the labels in between: the oldest are those to end.
            told = replace(told, replaces=before.replaces)
        self.waiting[word] = told
        self._number += 1
        row = {"number": self._number, "notice": json.loads(notices.encode(told))}
        self.memory.keep(kept.QUEUE, f"{self.name}/{word}", json.dumps(row).encode())
        self._news.set()

    async def run(self, outlet: Outlet, active: Active) -> None:
        """Tell the outlet all that waits, and what it wants to hear again, until cancelled."""
        loop = asyncio.get_running_loop()
        repeat_at = loop.time()
        failures = 0
        while True:
            try:
                await self._send_all(outlet, active)
                if outlet.repeat_s is not None and loop.time() >= repeat_at:
                    await outlet.repeat(active)
                    repeat_at = loop.time() + outlet.repeat_s
            except OutletFailed as error:
                failures += 1
                wait_s = _wait_s(failures)
                if failures == 1 or self.trouble != str(error):
                    _log.warning(
                        "outlet fails", outlet=self.name, reason=str(error), again_in_s=wait_s
                    )
                self.trouble = str(error)
                await asyncio.sleep(wait_s)
                continue
            if failures:
                _log.info("outlet works again", outlet=self.name)
            failures, self.trouble = 0, ""
            pause = None if outlet.repeat_s is None else max(0.0, repeat_at - loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _send_all(self, outlet: Outlet, active: Active) -> None:
        self._news.clear()
        while self.waiting:
            those = (
                [*self.waiting.items()] if outlet.tells_all else [next(iter(self.waiting.items()))]
            )
            _, told = those[0]
            try:
                await outlet.send(told, active)
                self.delivered += len(those)
            except OutletFailed as error:
                if not error.is_final:
                    raise
                self.refused += len(those)
                _log.error(
                    "alert refused by its outlet",
                    outlet=self.name,
                    alert=told.id,
                    reason=str(error),
                )
            for word, told in those:
                if self.waiting.get(word) is told:  # nothing newer has come meanwhile
                    self._forget(word)

    def _forget(self, word: str) -> None:
        del self.waiting[word]
        self.memory.keep(kept.QUEUE, f"{self.name}/{word}", None)


@asynccontextmanager
async def delivering(
    places: Mapping[str, Place], memory: Memory, active: Callable[[str], Active]
) -> AsyncIterator[dict[str, Queue]]:
    """Queues to these outlets, which are worked off as long as the block lasts."""
    queues = {name: Queue(name, memory) for name in places}
    for key in memory.kept(kept.QUEUE):
        if key.partition("/")[0] not in places:  # an outlet that is no more
            memory.keep(kept.QUEUE, key, None)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = []
            for name, queue in queues.items():
                queue.restore()
                work = queue.run(places[name].outlet, active(name))
                running.append(tasks.create_task(work))
            try:
                yield queues
            finally:
                for task in running:
                    task.cancel()
    finally:
        for place in places.values():
            await place.outlet.close()


def _wait_s(failures: int) -> float:
    first, most = _RETRY_S
    usual = min(most, first * 2.0 ** min(failures - 1, 20))
    return usual * random.uniform(0.8, 1.2)  # noqa: S311  jitter, not secrets
