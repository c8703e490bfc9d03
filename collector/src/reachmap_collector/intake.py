"""Brings what the stream of reports holds to the map and into the store.

A report is folded as it comes, and acknowledged once the store has committed it; so a collector
that dies in between finds it again. While the store is away reports wait in memory, up to a bound,
above which they stay where they are: in the stream, and then with the agents.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reachmap_collector.errors import StreamRefused
from reachmap_collector.keeper import Keeper
from reachmap_collector.reports import Taken
from reachmap_collector.streams import Lag, Streams
from reachmap_shared import log, subjects
from reachmap_shared.bus import Bus, Delivery
from reachmap_shared.errors import BusUnavailable

_BATCH: Final = 500
_BATCH_OCTETS: Final = 16 << 20
"""Of one request for more, so that no burst takes much memory."""

_EXPIRES_S: Final = 5.0
_GRACE_S: Final = 2.0
"""For the bus to say that a request has expired; after that it is taken as lost."""

_MAX_WAITING_OCTETS: Final = 64 << 20
"""Of reports that wait for the store."""

_LOOK_EVERY_S: Final = 5.0
_RETRY_S: Final = 1.0

_NOTHING_NOW: Final = frozenset({"404", "408"})
"""Status of a request that ended without, or with less than it asked for."""

_FULL: Final = ("Batch Completed", "MaxBytes")
"""What a request that brought all it could says at its end, with status 409."""

_NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.REPORT_STREAM}.{subjects.REPORT_CONSUMER}"

_log = log.get("intake")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the stream a report is, as the subject for its acknowledgement says."""

    sequence: int
    arrived_s: float
    """By the bus's clock."""
    pending: int
    """How many more there are."""

    @classmethod
    def parse(cls, reply: str) -> "Origin | None":
        """Read `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.n.sequence.n.time.pending[.token]`."""
        parts = reply.split(".")
        if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
            return None
        own = parts[2:] if len(parts) < 11 else parts[4:]
        try:
            return cls(int(own[3]), int(own[5]) / 1e9, int(own[6]))
        except ValueError:
            return None


class Intake:
    """Pulls, folds, has kept, and acknowledges.

    Args:
        bus: Where the stream is.
        streams: Sees to it that there is one.
        keeper: The store's.
        take: Folds a report: its subject, payload, and when the bus got it by our clock.
    """

    def __init__(
        self,
        bus: Bus,
        streams: Streams,
        keeper: Keeper,
        take: Callable[[str, bytes, float], Taken],
    ) -> None:
        self.lag = Lag()
        self.trouble = ""
        """What keeps reports from coming right now; empty while nothing does."""
        self.caught_up = False
        """Whether all that the stream had at the last delivery has come."""
        self.drained = float("-inf")
        """By our clock: all that the stream had then has come, or never will."""
        self.taken = 0
        """Reports that came, those that were refused included."""
        self.redelivered = 0
        self._bus = bus
        self._streams = streams
        self._keeper = keeper
        self._take = take
        self._arrivals: asyncio.Queue[Delivery] = asyncio.Queue()
        self._held: set[int] = set()
        self._acks: list[str] = []
        self._is_set_up = False
        self._consumer = 0
        self._requests = 0

    async def run(self) -> None:
        """Take in reports until cancelled."""
        inbox = self._bus.new_inbox()
        await self._bus.listen(f"{inbox}.*", self._arrivals.put_nowait)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._acknowledge())
            tasks.create_task(self._watch())
            tasks.create_task(self._pull(inbox))

    def look_again(self) -> None:
        """The bus was away: what was asked of it is lost, and so may be all that it had."""
        self._is_set_up = False
        self._arrivals.put_nowait(_LOST)

    async def _pull(self, inbox: str) -> None:
        while True:
            try:
                if not self._is_set_up:
                    await self._start_over()
                await self._room()
                await self._pull_once(inbox)
            except (BusUnavailable, StreamRefused) as error:
                self._stumbled(error)
                self._is_set_up = False
                await asyncio.sleep(_RETRY_S)

    async def _start_over(self) -> None:
        """Have all that the stream holds delivered again; what came already is known."""
        await self._streams.restart_consumer()
        # It may be another stream by now, whose sequences mean other reports.
        self._consumer += 1
        self._held.clear()
        self._acks.clear()
        self._is_set_up = True
        self.trouble = ""

    async def _pull_once(self, inbox: str) -> None:
        """Ask for some, and take them until they have come or the request has expired."""
        body = {
            "batch": _BATCH,
            "max_bytes": _BATCH_OCTETS,
            "expires": int(_EXPIRES_S * 1e9),
        }
        asked = self._streams.clock.now()
        self._requests += 1
        place = f"{inbox}.{self._requests}"
        await self._bus.publish(_NEXT, json.dumps(body).encode(), place)
        left = _BATCH
        try:
            async with asyncio.timeout(_EXPIRES_S + _GRACE_S):
                while left:
                    delivery = await self._arrivals.get()
                    if (origin := Origin.parse(delivery.reply)) is not None:
                        self._receive(delivery, origin)
                        left -= 1
                        if not origin.pending:
                            self.drained = asked
                        await asyncio.sleep(0)  # pulses and questions get their turn in a backlog
                    elif delivery is _LOST:
                        return
                    elif self._is_over(delivery, place):
                        # With some unacknowledged the server may have held the rest back.
                        if self.caught_up and not self._held:
                            self.drained = asked
                        return
        except TimeoutError:
            _log.debug("no word on a request for reports")

    def _is_over(self, delivery: Delivery, place: str) -> bool:
        """Whether a request has ended, by a word that is no report and may be on another one."""
        if delivery.subject != place:
            return False
        status = delivery.headers.get("Status", "")
        if status in _NOTHING_NOW:
            self.caught_up = True
            return True
        if status.startswith("1"):  # a heartbeat, or flow control
            return False
        why = delivery.headers.get("Description", "") or "nobody serves the stream of reports"
        if any(full in why for full in _FULL):
            return True
        raise StreamRefused(f"{status} {why}")

    def _receive(self, delivery: Delivery, origin: Origin) -> None:
        self.caught_up = origin.pending == 0
        if origin.sequence in self._held:
            self.redelivered += 1  # it still waits for the store
            return
        arrived = min(self._streams.clock.ours(origin.arrived_s), self._streams.clock.now())
        taken = self._take(delivery.subject, delivery.payload, arrived)
        self.taken += 1
        self._held.add(origin.sequence)
        consumer = self._consumer

        def kept() -> None:
            if consumer == self._consumer:
                self._held.discard(origin.sequence)
                self._acks.append(delivery.reply)

        self._keeper.add(taken.batch, taken.account, len(delivery.payload), kept)

    async def _room(self) -> None:
        while self._keeper.octets > _MAX_WAITING_OCTETS:
            await self._keeper.next_commit()

    async def _acknowledge(self) -> None:
        while True:
            if not self._acks:
                await self._keeper.next_commit()
            acks, self._acks = self._acks, []
            try:
                for reply in acks:
                    await self._bus.publish(reply, b"+ACK")
            except BusUnavailable:
                pass  # they come again, and are known by then

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not self._is_set_up:
                continue
            try:
                self.lag = await self._streams.look()
                await self._streams.purge(self.lag.floor)
            except (BusUnavailable, StreamRefused) as error:
                self._stumbled(error)
                self.look_again()

    def _stumbled(self, error: Exception) -> None:
        if not self.trouble:
            _log.warning("no reports come in", reason=str(error))
        self.trouble = str(error)


_LOST: Final = Delivery("", b"", "", {})
