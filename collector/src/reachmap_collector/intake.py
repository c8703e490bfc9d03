"""Brings what the stream of reports holds to the map and into the store.

A report is folded as it comes, and acknowledged once the store has committed it; so a collector
that dies in between finds it again. One acknowledgement speaks for all up to its report, so it must
not speak for one that never came: the consumer counts what it delivers, and where a number is
missing, all that is not acknowledged is delivered again. While the store is away reports wait in
memory, up to a bound, above which they stay where they are: in the stream, and then with agents.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from reachmap_collector.errors import StreamRefused
from reachmap_collector.keeper import Keeper
from reachmap_collector.reports import Taken
from reachmap_collector.store.api import Batch
from reachmap_collector.streams import Lag, Streams
from reachmap_shared import log, subjects
from reachmap_shared.bus import Bus, Delivery
from reachmap_shared.errors import BusUnavailable

_BATCH: Final = 1000
_BATCH_OCTETS: Final = 16 << 20
"""Of one request for more, so that no burst takes much memory."""

_EXPIRES_S: Final = 5.0
_GRACE_S: Final = 2.0
"""For the bus to say that a request has expired; after that it is taken as lost."""

_MAX_WAITING_OCTETS: Final = 64 << 20
"""Of reports that wait for the store."""

_LOOK_EVERY_S: Final = 5.0
_PROBE_EVERY_S: Final = 10.0
_RETRY_S: Final = 1.0

_NOTHING_NOW: Final = frozenset({"404", "408"})
"""Status of a request that ended without, or with less than it asked for."""

_FULL: Final = ("Batch Completed", "MaxBytes")
"""What a request that brought all it could says at its end, with status 409."""

_NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.REPORT_STREAM}.{subjects.REPORT_CONSUMER}"

_log = log.get("intake")


class Origin(NamedTuple):
    """Where in the stream a report is, as the subject for its acknowledgement says."""

    sequence: int
    delivery: int
    """Which of its consumer's deliveries this is, from 1; one that comes again has another."""
    arrived_s: float
    """By the bus's clock."""
    pending: int
    """How many more there are."""

    @classmethod
    def parse(cls, reply: str) -> "Origin | None":
        """Read `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.n.sequence.n.time.pending[.token]`."""
        if not reply.startswith("$JS.ACK."):
            return None
        parts = reply.split(".")
        own = parts[5:9] if len(parts) < 11 else parts[7:11]
        try:
            sequence, delivery, arrived_ns, pending = map(int, own)
            return cls(sequence, delivery, arrived_ns / 1e9, pending)
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
        self.refusal = ""
        """Why the stream takes no reports from agents; empty while it does."""
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
        self._is_set_up = False
        self._epoch = 0
        """Which of the consumers it is that were made: each counts from 1."""
        self._delivered = 0
        """How many deliveries of this consumer came, none of them missing."""
        self._reached = 0
        """Sequence in the stream up to which all that there was has come."""
        self._kept = 0
        """Up to which all is committed."""
        self._ack = ""
        """Where to say so."""
        self._is_to_ack = asyncio.Event()
        self._requests = 0
        self._asked = 0.0
        """When the last request was made, by our clock."""
        self._place = ""
        """Where words on the last request come."""
        self._left = 0
        """What that one may still bring."""
        self._over: asyncio.Future[None] | None = None
        """Done when it has brought all that it will."""

    async def run(self) -> None:
        """Take in reports until cancelled."""
        inbox = self._bus.new_inbox()
        await self._bus.listen(f"{inbox}.*", self._hear)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._acknowledge())
            tasks.create_task(self._watch())
            tasks.create_task(self._probe())
            tasks.create_task(self._pull(inbox))

    def look_again(self) -> None:
        """The bus was away: what was asked of it is lost, and so may be all that it had."""
        self._is_set_up = False
        self._end()

    async def _pull(self, inbox: str) -> None:
        while True:
            try:
                if not self._is_set_up:
                    await self._start_over()
                await self._room()
                if self._is_set_up:  # the bus may have gone and come back meanwhile
                    await self._pull_once(inbox)
            except (BusUnavailable, StreamRefused) as error:
                self._stumbled(error)
                self._is_set_up = False
                await asyncio.sleep(_RETRY_S)

    async def _start_over(self) -> None:
        """Have all that the stream holds delivered again; what came already is known."""
        await self._streams.restart_consumer()
        # It may be another stream by now, whose sequences mean other reports.
        self._epoch += 1
        self._delivered = self._reached = self._kept = 0
        self._ack = ""
        self._is_set_up = True
        self.trouble = ""

    async def _pull_once(self, inbox: str) -> None:
        """Ask for some, and wait until they have come or the request has expired."""
        body = {
            "batch": _BATCH,
            "max_bytes": _BATCH_OCTETS,
            "expires": int(_EXPIRES_S * 1e9),
        }
        self._asked = self._streams.clock.now()
        self._requests += 1
        self._place = f"{inbox}.{self._requests}"
        self._left = _BATCH
        self._over = over = asyncio.get_running_loop().create_future()
        try:
            await self._bus.publish(_NEXT, json.dumps(body).encode(), self._place)
            async with asyncio.timeout(_EXPIRES_S + _GRACE_S):
                await over
        except TimeoutError:
            _log.debug("no word on a request for reports")

    def _end(self, error: Exception | None = None) -> None:
        """The request under way brings no more."""
        if self._over is None or self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    def _hear(self, delivery: Delivery) -> None:
        """A report, or a word on a request for them."""
        if not self._is_set_up:
            return  # it comes again
        try:
            if (origin := Origin.parse(delivery.reply)) is not None:
                self._receive(delivery, origin)
                self._left -= 1
                if self._left == 0:
                    self._end()
            elif self._is_over(delivery):
                self._end()
        except Exception as error:  # noqa: BLE001  the client would swallow it, and we the report
            self._is_set_up = False
            self._end(error)

    def _is_over(self, delivery: Delivery) -> bool:
        """Whether a request has ended, by a word that is no report and may be on another one."""
        if delivery.subject != self._place:
            return False
        status = delivery.headers.get("Status", "")
        if status in _NOTHING_NOW:
            self.caught_up = True
            # With some unacknowledged the server may have held the rest back.
            if self._kept == self._reached:
                self.drained = self._asked
            return True
        if status.startswith("1"):  # a heartbeat, or flow control
            return False
        why = delivery.headers.get("Description", "") or "nobody serves the stream of reports"
        if any(full in why for full in _FULL):
            return True
        raise StreamRefused(f"{status} {why}")

    def _receive(self, delivery: Delivery, origin: Origin) -> None:
        if origin.delivery != self._delivered + 1:
            raise StreamRefused("some reports got lost on their way here, and have to come again")
        self._delivered = origin.delivery
        self.caught_up = origin.pending == 0
        if self.caught_up:
            self.drained = self._asked
        if origin.sequence <= self._reached:
            self.redelivered += 1
            if origin.sequence <= self._kept:  # the bus did not hear of it
                self._is_to_ack.set()
            return
        arrived = min(self._streams.clock.ours(origin.arrived_s), self._streams.clock.now())
        if delivery.subject == subjects.PROBE:
            taken = Taken(Batch(), None)
        else:
            taken = self._take(delivery.subject, delivery.payload, arrived)
            self.taken += 1
        self._reached = origin.sequence
        kept = partial(self._is_kept, self._epoch, origin.sequence, delivery.reply)
        self._keeper.add(taken.batch, taken.account, len(delivery.payload), kept)

    def _is_kept(self, epoch: int, sequence: int, reply: str) -> None:
        """A report is committed, and with it all that came before it."""
        if epoch == self._epoch:
            self._kept, self._ack = sequence, reply
            self._is_to_ack.set()

    async def _room(self) -> None:
        while self._keeper.octets > _MAX_WAITING_OCTETS:
            await self._keeper.next_commit()

    async def _acknowledge(self) -> None:
        while True:
            await self._is_to_ack.wait()
            self._is_to_ack.clear()
            if self._ack:
                with contextlib.suppress(BusUnavailable):  # all comes again, and is known by then
                    await self._bus.publish(self._ack, b"+ACK")

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

    async def _probe(self) -> None:
        """A stream whose disk was full stores nothing any more, and says so to nobody."""
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            if not self._is_set_up or not self._bus.is_connected:
                continue
            try:
                await self._streams.probe()
            except StreamRefused as error:
                self._refuse(f"the stream takes no reports: {error}")
            except BusUnavailable:
                self._refuse(_MUTE)
            else:
                self.refusal = ""

    def _refuse(self, reason: str) -> None:
        if not self.refusal:
            _log.warning("agents keep their reports", reason=reason)
        self.refusal = reason

    def _stumbled(self, error: Exception) -> None:
        if not self.trouble:
            _log.warning("no reports come in", reason=str(error))
        self.trouble = str(error)


_MUTE: Final = (
    "the stream takes no reports, and does not say why: "
    "a NATS server whose disk was full has to be started again"
)
