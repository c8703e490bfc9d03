"""Gets the spool's reports to the stream, many under way at once, and forgets what is acknowledged.

A report is published with an answer wanted; the stream's answers come to one inbox, so none is
waited for by itself. What is not answered in time is sent again: the collector knows each report
by its number and takes it once. While the stream takes nothing, for it is full or not there, all
waits in the spool.
"""

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from reachmap_agent.backlog import LANES, Lane
from reachmap_agent.spool import Record, Spool
from reachmap_shared import codec, log, subjects
from reachmap_shared.bus import Delivery as Message
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.waits import within

MAX_UNACKED: Final = 256
"""Reports under way at once: more than any path holds at the rate of a turn."""

MAX_UNACKED_BYTES: Final = 1 << 20
"""So that a slow path costs little memory, however large the reports are."""

ACK_TIMEOUT_S: Final = 5.0
"""Then a report is sent again; a stream that is there answers in milliseconds."""

TURN_S: Final = 0.05
HISTORY_A_TURN: Final = 64
HISTORY_BYTES_A_TURN: Final = 128 << 10
"""What waited is sent at this pace at most, 1,280 reports and 2.5 MB a second: the fresh ones
never stand behind more than a turn's, and a thousand agents that come back do not drown a server.
"""

BACK_OFF_S: Final = (1.0, 30.0)
"""The first pause and the longest, doubling, while the stream takes nothing."""

_TOO_LARGE: Final = 10054
"""The stream's error code for a message that it will never take."""

_log = log.get("delivery")


class Publisher(Protocol):
    """What is needed of the bus."""

    @property
    def is_connected(self) -> bool:
        """Whether a server is there."""

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send a message that is answered at `reply`."""


@dataclass(slots=True)
class _Flight:
    record: Record
    size: int
    due: float
    """When it is sent again if nobody has answered, in the loop's time."""


class Delivery:
    """The way of one agent's reports."""

    def __init__(self, spool: Spool, agent: str) -> None:
        self._spool = spool
        self._subject = subjects.report(agent)
        self._bus: Publisher | None = None
        self._inbox = ""
        self._token = 0
        self._flights: dict[str, _Flight] = {}
        """By the last token of where the answer is expected; oldest first."""
        self._held: set[tuple[int, int]] = set()
        """All records that are under way or about to be: what waits in the spool is the rest."""
        self._bytes = 0
        self._fresh: dict[Lane, deque[Record]] = {lane: deque() for lane in Lane}
        self._again: deque[Record] = deque()
        self._has_history = False
        """Whether there may be some in the spool that are not held."""
        self._has_passed = False
        """Whether some came into the spool behind the place that is read."""
        self._history_at = 0.0
        """Before then no more of what waited is sent."""
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        """Set while nothing more can be done."""
        self._loop = asyncio.get_running_loop()
        self.refusal = ""
        """Why the stream takes nothing; empty when it does."""

    def join(self, connection: Publisher, inbox: str) -> None:
        """Deliver by this connection, with answers to `inbox` and a token, and begin anew."""
        self._bus = connection
        self._inbox = inbox
        self.begin_anew()

    def begin_anew(self) -> None:
        """Take nothing that is under way for granted: the server may be another."""
        self._flights.clear()
        self._bytes = 0
        self._pause_s = self._paused_until = 0.0
        self._read_from_start()

    def _read_from_start(self) -> None:
        """Hold no more than what is under way."""
        self._again.clear()
        for fresh in self._fresh.values():
            fresh.clear()
        self._held = {flight.record.key for flight in self._flights.values()}
        self._spool.rewind()
        self._has_history, self._has_passed = True, False
        self._wake.set()

    def put(self, record: Record) -> None:
        """A record is new in the spool."""
        fresh = self._fresh[LANES[record.entry.kind]]
        if self._is_open() and len(fresh) < MAX_UNACKED:
            self._held.add(record.key)
            fresh.append(record)
            self._wake.set()
        else:  # it is in the spool, and comes in its turn
            self._has_history = self._has_passed = True
        self._settled.clear()

    def _is_open(self) -> bool:
        return (
            self._bus is not None
            and self._bus.is_connected
            and self._loop.time() >= self._paused_until
        )

    def answered(self, message: Message) -> None:
        """The stream, or the server in its place, has answered."""
        flight = self._flights.pop(message.subject.rpartition(".")[2], None)
        if flight is None:
            return  # it was sent again meanwhile, and the other answer counts
        self._bytes -= flight.size
        self._held.discard(flight.record.key)
        code, reason = _refusal(message)
        if not reason:
            self._spool.forget(flight.record)
            self._pause_s, self.refusal = 0.0, ""
        elif code == _TOO_LARGE:
            _log.warning("stream will never take a report, dropped", reason=reason)
            self._spool.drop(flight.record)
        else:
            self._back_off(reason)
        self._wake.set()

    def _back_off(self, reason: str) -> None:
        now = self._loop.time()
        self._read_from_start()
        if now < self._paused_until:
            return  # it was under way with the one that was refused first
        if not self.refusal:
            _log.warning("stream takes no reports, they are kept", reason=reason)
        self.refusal = reason
        shortest, longest = BACK_OFF_S
        self._pause_s = min(max(2 * self._pause_s, shortest), longest)
        self._paused_until = now + self._pause_s

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._wake.clear()
            await self.turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_turn()):
                    await self._wake.wait()

    def _next_turn(self) -> float | None:
        """When there is something to do without being woken."""
        if self._bus is None:
            return None
        now = self._loop.time()
        if not self._is_open():  # a connection that comes back wakes us, a pause does not
            return self._paused_until if now < self._paused_until else now + ACK_TIMEOUT_S
        times = [flight.due for flight in self._flights.values()][:1]
        if self._has_history:
            times.append(max(self._history_at, now + TURN_S))
        return min(times, default=None)

    async def turn(self) -> None:
        """Send what there is room for: changes before roll-ups, fresh ones before what waited."""
        if self._is_open():
            await self._send_all()
        if self.is_idle or self.refusal:
            self._settled.set()

    async def _send_all(self) -> None:
        now = self._loop.time()
        self._take_back(now)
        with contextlib.suppress(BusUnavailable):
            while self._again and self._has_room():
                await self._send(self._again.popleft())
            for lane in Lane:
                fresh = self._fresh[lane]
                while fresh and self._has_room():
                    await self._send(fresh.popleft())
            if self._has_history and now >= self._history_at:
                self._history_at = now + TURN_S
                await self._send_history()

    async def _send_history(self) -> None:
        sent = size = 0
        for lane in Lane:
            while self._has_room():
                if sent >= HISTORY_A_TURN or size >= HISTORY_BYTES_A_TURN:
                    return
                record = self._spool.history(lane)
                if record is None:
                    break
                if record.key in self._held:
                    continue
                await self._send(record)
                sent += 1
                size += len(record.entry.body)
            else:
                return
        self._has_history, self._has_passed = self._has_passed, False
        if self._has_history:
            self._spool.rewind()

    def _has_room(self) -> bool:
        if self.refusal:  # one is enough to see whether it takes them again
            return not self._flights
        return len(self._flights) < MAX_UNACKED and self._bytes < MAX_UNACKED_BYTES

    def _take_back(self, now: float) -> None:
        """Send again what nobody has answered in time."""
        while self._flights:
            token = next(iter(self._flights))
            flight = self._flights[token]
            if flight.due > now:
                return
            del self._flights[token]
            self._bytes -= flight.size
            self._again.append(flight.record)

    async def _send(self, record: Record) -> None:
        segment = record.segment
        if self._bus is None or segment.dropped or segment.is_acked(record.place):
            self._held.discard(record.key)
            return
        payload = codec.encode(self._spool.report(record))
        self._token += 1
        token = f"{self._token:x}"
        due = self._loop.time() + ACK_TIMEOUT_S
        self._flights[token] = flight = _Flight(record, len(payload), due)
        self._held.add(record.key)
        self._bytes += flight.size
        await self._bus.publish(self._subject, payload, f"{self._inbox}.{token}")

    async def drained(self, patience_s: float) -> None:
        """Wait a moment for the stream to have all that it takes."""
        await within(patience_s, self._settled.wait())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, and nothing waits to be."""
        return not (self._flights or self._again or self._has_history or any(self._fresh.values()))


def _refusal(message: Message) -> tuple[int, str]:
    """The stream's error code and what is wrong; no reason when the stream has the report."""
    if message.headers.get("Status") == "503":
        return 503, "no stream is there for reports"
    try:
        answer = json.loads(message.payload)
        if "error" in answer:
            error = answer["error"]
            return int(error.get("err_code", 0)), str(error.get("description", "refused"))[:300]
        if answer["stream"] and answer["seq"]:
            return 0, ""
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        pass
    return 0, "an answer that no stream gives"
