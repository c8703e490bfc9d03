"""From what checks saw to what the collector is told of it: changes soon, roll-ups by period.

It ties the ledger (what is news), the spool (nothing is lost) and the delivery (on its way)
together, and knows when what is due.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from reachmap_agent.clock import Clock
from reachmap_agent.delivery import Delivery
from reachmap_agent.ledger import Ledger, Standing
from reachmap_agent.spool import Spool
from reachmap_shared import codec, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.diagnosis import Diagnosis
from reachmap_shared.messages import (
    Change,
    Changes,
    Observation,
    Plan,
    Report,
    ReportKind,
    RollUp,
)

COMPANY_S: Final = 0.02
"""How long the first change after a quiet time waits for those that come with it."""

BATCH_S: Final = 0.5
"""From one report of changes to the next; the map is at most about this much behind the checks."""

_MOST_BYTES: Final = 256 << 10
"""In one report, before it is deflated: half of what its body may have."""

_LEAST_COST: Final = 1_000
"""What a change takes at most but for its evidence, whose characters may have four octets each."""


class Reporter:
    """Reports of one start of an agent."""

    def __init__(self, agent: str, boot: str, spool: Spool, clock: Clock) -> None:
        self._agent = agent
        self._boot = boot
        self._spool = spool
        self._account = spool.account
        self._clock = clock
        self._ledger = Ledger()
        self._pending: list[Change] = []
        self._news = asyncio.Event()
        self.delivery = Delivery(spool, agent)

    def take_up(self, plan: Plan, names: Sequence[int]) -> None:
        """Report by this plan from now on; `names` are the slots whose address is a name."""
        self._put_changes()
        self._put_roll_up(self._ledger.take_up(plan, names, self._clock.steady_ms()))

    def see(self, revision: str, seen: Observation, confirmed: bool) -> None:
        """A check has ended. One of a plan that is no more is nobody's: its slot is another's."""
        ledger = self._ledger
        if revision != ledger.revision:
            return
        change = ledger.see(seen, confirmed=confirmed)
        if change is not None:
            self._account.told = ledger.told
            self._pending.append(change)
            self._news.set()
        self._counted()

    def see_again(self, revision: str, slot: int, at_ms: int, connect_us: int) -> None:
        """Likewise, and it came to just what was told of its slot: open, and no name's."""
        if revision == self._ledger.revision:
            self._ledger.see_again(slot, at_ms, connect_us)
            self._counted()

    def _counted(self) -> None:
        ledger = self._ledger
        self._account.made = ledger.made
        if ledger.is_full:
            self._put_roll_up(ledger.close_period(self._clock.steady_ms()))

    async def run(self) -> None:
        """Put into the spool what is due, until cancelled; sleep where nothing is."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._left_s()):
                    await self._news.wait()
                await asyncio.sleep(COMPANY_S)
            self._news.clear()
            self.put_due()
            await asyncio.sleep(BATCH_S)

    def _left_s(self) -> float:
        """Until the period is over."""
        ends_ms = self._ledger.began_ms + self._ledger.period_ms
        return max(0, ends_ms - self._clock.steady_ms()) / 1000

    def diagnosed(self, found: Diagnosis) -> None:
        """Put what was found out about a broken flow into the spool: it counts as nothing seen.

        The change that it is about comes before it.
        """
        self._put_changes()
        self.delivery.put(self._spool.put(ReportKind.DIAGNOSIS, codec.pack(found)))

    def put_due(self) -> None:
        """Put changes into the spool, and the roll-up of a period that is over."""
        self._put_changes()
        now_ms = self._clock.steady_ms()
        if now_ms - self._ledger.began_ms >= self._ledger.period_ms:
            self._put_roll_up(self._ledger.close_period(now_ms))

    def put_all(self) -> None:
        """Put all there is into the spool: the agent is about to end."""
        self._put_changes()
        self._put_roll_up(self._ledger.close_period(self._clock.steady_ms()))

    def _put_changes(self) -> None:
        pending, self._pending = self._pending, []
        for changes in _split(pending):
            body = codec.pack(Changes(self._ledger.revision, tuple(changes)))
            self.delivery.put(self._spool.put(ReportKind.CHANGES, body, changes=len(changes)))

    def _put_roll_up(self, roll_up: RollUp | None) -> None:
        if roll_up is not None:
            made = sum(roll_up.made) + sum(line.made for line in roll_up.named)
            body = codec.pack(roll_up)
            self.delivery.put(self._spool.put(ReportKind.ROLL_UP, body, made=made))

    async def tell_whole(self, connection: Bus) -> None:
        """Tell the latest change of every flow again, past the spool: so the map is right at once.

        What is still pending is among them, and comes by itself as well. Raises BusUnavailable.
        """
        ledger = self._ledger
        parts = _split(ledger.whole()) or [[]]
        subject = subjects.report(self._agent)
        told = ledger.told
        for part, changes in enumerate(parts):
            body = Changes(ledger.revision, tuple(changes), len(parts), part, told)
            now_ms, wall_ms = self._clock.steady_ms(), self._clock.wall_ms()
            report = Report(
                self._agent, self._boot, -1, now_ms, wall_ms, ReportKind.CHANGES, codec.pack(body)
            )
            await connection.publish(subject, codec.encode(report))

    @property
    def revision(self) -> str:
        """Of the plan at work; empty before the first."""
        return self._ledger.revision

    @property
    def told(self) -> int:
        """Changes so far."""
        return self._ledger.told

    @property
    def made(self) -> int:
        """Observations so far."""
        return self._ledger.made

    @property
    def waiting(self) -> int:
        """Observations that wait for their delivery, or for their period's end."""
        return self._spool.waiting + self._ledger.made - self._ledger.rolled

    def standing(self) -> Standing:
        """How much is as told."""
        return self._ledger.standing(self._clock.steady_ms())


def _split(changes: list[Change]) -> list[list[Change]]:
    """In as few reports as they surely fit into."""
    parts: list[list[Change]] = []
    room = 0
    for change in changes:
        cost = _LEAST_COST + 4 * sum(map(len, change.seen.evidence))
        if cost > room:
            parts.append([])
            room = _MOST_BYTES
        parts[-1].append(change)
        room -= cost
    return parts
