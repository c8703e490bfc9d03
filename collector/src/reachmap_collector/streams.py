"""What the collector has on the bus: the stream of reports, its consumer, and the bucket of plans.

JetStream's API is requests with JSON (NATS architecture records 1 and 8), so all that this needs
of a client is to ask. Whatever is missing is made: a server that lost everything is as good as new.
"""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from reachmap_collector.errors import StreamRefused
from reachmap_shared import subjects
from reachmap_shared.bus import Bus, Delivery
from reachmap_shared.errors import BusUnavailable

_TIMEOUT_S: Final = 3.0

_STREAM_MISSING: Final = 10059
_CONSUMER_MISSING: Final = 10014
_NANO: Final = 1_000_000_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How much the stream of reports may hold."""

    max_octets: int = 1 << 30
    """What a collector that is away for days may find; a full stream refuses what is new, so
    agents hear of it and keep theirs. What the collector committed is purged."""
    max_each: int = 1_000_000
    """Reports of one agent. An honest one that never rests, with two reports of changes a second
    and a roll-up every five, gets there after five days without a collector, and keeps the rest.
    Whoever floods the stream with small ones is refused there, and others go on. Against large
    ones it does not help: JetStream bounds no subject's octets."""
    max_age_s: float | None = None
    """None, since an agent forgets what the stream took: nothing in it may vanish by itself."""
    replicas: int | None = None
    """Servers of a cluster that keep it, and the bucket of plans; None leaves it as it is, and to
    the server where there is none yet."""
    ack_wait_s: float = 60.0
    """After that a report that was not acknowledged comes again: longer than any commit takes."""
    max_waiting: int = 50_000
    """Reports that may wait for their acknowledgement while the store is away."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the collector is with what the stream holds."""

    messages: int = 0
    octets: int = 0
    pending: int = 0
    """Reports that were not delivered to the collector yet."""
    unacknowledged: int = 0
    redelivered: int = 0
    """Those of them that were delivered more than once."""
    floor: int = 0
    """Sequence in the stream up to which all was acknowledged."""


@dataclass(slots=True)
class Clock:
    """The bus's clock, learnt from its answers."""

    now: Callable[[], float]
    offset_s: float = 0.0
    """How far it is ahead of the collector's."""
    _spread_s: float = field(default=float("inf"))

    def learn(self, answer: Json, asked: float, answered: float) -> None:
        """Take up what an answer says of the time; a slow answer only if there was none better."""
        try:
            moment = _seconds(str(answer["ts"]))
        except (KeyError, ValueError):
            return
        # What was learnt long ago is worth less, for clocks drift and are set.
        self._spread_s *= _AGEING
        if answered - asked <= self._spread_s:
            self._spread_s = answered - asked
            self.offset_s = moment - (asked + answered) / 2

    def ours(self, bus_s: float) -> float:
        """A time by the bus's clock, by the collector's."""
        return bus_s - self.offset_s


_AGEING: Final = 1.5


class Streams:
    """Makes and looks after them. All calls raise BusUnavailable, or StreamRefused with why."""

    def __init__(
        self, bus: Bus, now: Callable[[], float], settings: StreamSettings | None = None
    ) -> None:
        self.clock = Clock(now)
        self._bus = bus
        self._settings = settings or StreamSettings()
        self._purged = 0

    async def ensure_plans(self) -> str:
        """See that the bucket of plans is there.

        Returns:
            When it was made: one that was made at another time is another one.
        """
        return str((await self._ensure_stream(_PLANS | self._replicas()))["created"])

    async def ensure_reports(self) -> None:
        """See that agents find the stream of reports, whether or not anybody takes them yet."""
        await self._ensure_stream(self._reports())

    async def restart_consumer(self) -> None:
        """Have all that is in the stream delivered at once, whoever was given it before.

        What a collector that was killed did not acknowledge would else wait for `ack_wait_s`.
        """
        await self.ensure_reports()
        await self._find(f"CONSUMER.DELETE.{_PATH}", _CONSUMER_MISSING)
        await self._ensure_consumer()

    async def look(self) -> Lag:
        """How far the collector is; learns the bus's clock by the way."""
        stream = await self._info(subjects.REPORT_STREAM)
        if stream is None:
            raise StreamRefused(f"the stream {subjects.REPORT_STREAM} is gone")
        consumer = await self._ask(f"CONSUMER.INFO.{_PATH}")
        return Lag(
            messages=int(stream["state"]["messages"]),
            octets=int(stream["state"]["bytes"]),
            pending=int(consumer["num_pending"]),
            unacknowledged=int(consumer["num_ack_pending"]),
            redelivered=int(consumer["num_redelivered"]),
            floor=int(consumer["ack_floor"]["stream_seq"]),
        )

    async def purge(self, floor: int) -> None:
        """Let go of what was acknowledged, all up to the sequence `floor` in the stream."""
        if floor != self._purged:
            await self._ask(f"STREAM.PURGE.{subjects.REPORT_STREAM}", {"seq": floor + 1})
            self._purged = floor

    async def probe(self) -> None:
        """See that the stream takes reports, by one that is none."""
        _checked(await self._bus.request(subjects.PROBE, b"", _TIMEOUT_S))

    async def planned(self) -> list[str]:
        """The agents whose plans are in the bucket."""
        prefix = subjects.plan("x")[:-1]
        agents: list[str] = []
        while True:
            body = {"subjects_filter": f"{prefix}>", "offset": len(agents)}
            info = await self._ask(f"STREAM.INFO.{subjects.PLAN_STREAM}", body)
            found = info["state"].get("subjects") or {}
            agents += [subject.removeprefix(prefix) for subject in found]
            if not found or len(agents) >= int(info.get("total", 0)):
                return agents

    async def get_plan(self, agent: str) -> bytes | None:
        """The plan in the bucket; None when there is none."""
        answer = await self._bus.request(subjects.last_plan(agent), b"", _TIMEOUT_S)
        return None if "Status" in answer.headers else answer.payload

    async def put_plan(self, agent: str, plan: bytes) -> None:
        """Put a plan into the bucket, which tells it to the agent."""
        _checked(await self._bus.request(subjects.plan(agent), plan, _TIMEOUT_S))

    def _reports(self) -> Json:
        age = self._settings.max_age_s
        return {
            "name": subjects.REPORT_STREAM,
            "subjects": [subjects.ALL_REPORTS],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_bytes": self._settings.max_octets,
            "max_msgs_per_subject": self._settings.max_each,
            "discard_new_per_subject": True,
            "max_age": 0 if age is None else int(age * _NANO),
            **self._replicas(),
        }

    def _replicas(self) -> Json:
        replicas = self._settings.replicas
        return {} if replicas is None else {"num_replicas": replicas}

    async def _ensure_stream(self, wanted: Json) -> Json:
        info = await self._info(wanted["name"])
        if info is None:
            self._purged = 0
            return await self._ask(f"STREAM.CREATE.{wanted['name']}", wanted)
        config = info["config"] | wanted
        if config != info["config"]:
            await self._ask(f"STREAM.UPDATE.{wanted['name']}", config)
        return info

    async def _ensure_consumer(self) -> None:
        config = {
            "name": subjects.REPORT_CONSUMER,
            "durable_name": subjects.REPORT_CONSUMER,
            "deliver_policy": "all",
            # One speaks for all up to it. That takes those with it that were delivered into a
            # connection which broke, and that nobody ever saw: so the intake counts deliveries.
            "ack_policy": "all",
            "ack_wait": int(self._settings.ack_wait_s * _NANO),
            "max_ack_pending": self._settings.max_waiting,
            "max_deliver": -1,
        }
        await self._ask(
            f"CONSUMER.CREATE.{_PATH}", {"stream_name": subjects.REPORT_STREAM, "config": config}
        )

    async def _info(self, stream: str) -> Json | None:
        return await self._find(f"STREAM.INFO.{stream}", _STREAM_MISSING)

    async def _find(self, call: str, missing: int) -> Json | None:
        """What JetStream answers; None when it is the error `missing`."""
        try:
            return await self._ask(call)
        except StreamRefused as error:
            if error.code != missing:
                raise
            return None

    async def _ask(self, call: str, body: Json | None = None) -> Json:
        payload = json.dumps(body).encode() if body is not None else b""
        asked = self.clock.now()
        try:
            delivery = await self._bus.request(f"$JS.API.{call}", payload, _TIMEOUT_S)
        except BusUnavailable as error:
            raise BusUnavailable(f"the NATS server has no JetStream for us: {error}") from error
        answer = _checked(delivery)
        self.clock.learn(answer, asked, self.clock.now())
        return answer


_PATH: Final = f"{subjects.REPORT_STREAM}.{subjects.REPORT_CONSUMER}"

_PLANS: Final[Json] = {
    "name": subjects.PLAN_STREAM,
    "subjects": [f"$KV.{subjects.PLAN_BUCKET}.>"],
    "retention": "limits",
    "storage": "file",
    "discard": "new",
    "max_msgs_per_subject": 1,
    "allow_rollup_hdrs": True,
    "deny_delete": True,
    "allow_direct": True,
}


def _checked(delivery: Delivery) -> Json:
    try:
        answer: Json = json.loads(delivery.payload)
        error = answer.get("error")
    except (ValueError, AttributeError) as problem:
        raise StreamRefused("JetStream's answer is no JSON object") from problem
    if error is not None:
        raise StreamRefused(str(error.get("description", error)), int(error.get("err_code", 0)))
    return answer


def _seconds(timestamp: str) -> float:
    """RFC 3339 with nanoseconds, to seconds since the epoch."""
    head, dot, fraction = timestamp.removesuffix("Z").partition(".")
    whole = datetime.datetime.fromisoformat(f"{head}+00:00").timestamp()
    return whole + (float(f"0.{fraction}") if dot else 0.0)
