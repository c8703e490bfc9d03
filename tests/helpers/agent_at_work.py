"""An agent at work in this process: what it is told, and the bus that is none on which it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from reachmap_agent import app
from reachmap_agent.settings import Settings
from reachmap_shared import codec, keys, subjects
from reachmap_shared.bus import Delivery
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import (
    Ask,
    Changes,
    CheckSpec,
    Closed,
    Hello,
    ListenerSpec,
    Observation,
    Plan,
    Pulse,
    Question,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import Outcome, Transport

LOOPBACK = "127.0.0.1"


ME = Settings(id="pc-17", roles=("agent", "web"), addresses=(LOOPBACK,))


Message = TypeVar("Message")


class FakeBus:
    """A bus with nobody else on it: keeps what is published, and says what the test says."""

    def __init__(self) -> None:
        self.is_connected = True
        self.server_host: str | None = LOOPBACK
        self.published: list[tuple[str, bytes]] = []
        self.under_way: list[str] = []
        """The subjects of what is being published."""
        self.heard: dict[str, Callable[[Delivery], None]] = {}
        self.handlers: dict[str, Callable[[str, bytes], Awaitable[Any]]] = {}
        self.broken = False
        """Whether it takes nothing, though it seems to be there."""
        self.deaf = False
        """Whether its stream answers nobody."""
        self.slow = asyncio.Event()
        """Cleared, publishing takes until it is set."""
        self.slow.set()
        self.on_connect: Callable[[], Awaitable[None]] | None = None
        self.kept: bytes | None = None
        """The plan in the bucket."""

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        await asyncio.sleep(0)
        self.under_way.append(subject)
        await self.slow.wait()
        self.under_way.remove(subject)
        if self.broken or not self.is_connected:
            raise BusUnavailable("it is broken")
        self.published.append((subject, payload))
        if reply and not self.deaf:
            answer = Delivery(reply, b'{"stream": "reachmap-reports", "seq": 1}', "", {})
            asyncio.get_running_loop().call_soon(self.heard["_INBOX.test.*"], answer)

    def new_inbox(self) -> str:
        return "_INBOX.test"

    async def listen(self, subject: str, heard: Callable[[Delivery], None]) -> None:
        self.heard[subject] = heard
        if self.broken:
            raise BusUnavailable("the server went away")

    async def subscribe(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        self.handlers[subject] = handler
        if self.broken:
            raise BusUnavailable("the server went away")

    answer = subscribe

    async def request(self, subject: str, payload: bytes, _timeout_s: float) -> Delivery:
        if self.broken or subject != subjects.last_plan("pc-17"):
            raise BusUnavailable("nobody there to ask")
        assert payload == b""
        if self.kept is None:
            return Delivery("_INBOX.1", b"", "", {"Status": "404", "Description": "Not Found"})
        return Delivery("_INBOX.1", self.kept, "", {"Nats-Sequence": "1"})

    async def come_back(self) -> None:
        self.is_connected = True
        assert self.on_connect is not None
        await self.on_connect()

    def tell(self, plan: Plan | bytes, **headers: str) -> None:
        """Put a plan into the bucket, as the collector does."""
        payload = plan if isinstance(plan, bytes) else codec.encode(plan)
        subject = subjects.plan("pc-17")
        self.heard[subject](Delivery(subject, payload, "", headers))

    async def be_asked(self, question: Question) -> None:
        await self.handlers["reachmap.ask.pc-17"]("reachmap.ask.pc-17", codec.encode(Ask(question)))

    def said(self, kind: type[Message]) -> list[Message]:
        subject = f"reachmap.{kind.__name__.lower()}.pc-17"
        return [codec.decode(kind, payload) for its, payload in self.published if its == subject]

    def hello(self) -> Hello:
        """The latest."""
        return self.said(Hello)[-1]

    def pulse(self) -> Pulse:
        """The latest; one that says nothing before the first."""
        return (self.said(Pulse) or [Pulse("pc-17", "", 0, 0, 0, "", 0, 0)])[-1]

    def bodies(self, kind: type[Message]) -> list[Message]:
        """Those of all reports of one kind, the whole state's apart."""
        name = {Changes: "changes", RollUp: "roll-up", Closed: "closed"}[kind]  # type: ignore[index]
        return [
            codec.decode(kind, report.body)
            for report in self.said(Report)
            if report.kind == name and report.sequence >= 0
        ]

    def changes(self) -> list[tuple[str, Observation]]:
        """All that were told as new, with their plans."""
        return [(body.plan, one.seen) for body in self.bodies(Changes) for one in body.changes]

    def whole(self) -> list[Changes]:
        """All that was told again."""
        reports = [report for report in self.said(Report) if report.sequence == -1]
        return [codec.decode(Changes, report.body) for report in reports]

    def counted(self) -> int:
        """Observations in all roll-ups, each taken once."""
        reports = {
            (report.boot, report.sequence): codec.decode(RollUp, report.body)
            for report in self.said(Report)
            if report.kind is ReportKind.ROLL_UP
        }
        return sum(sum(one.made) for one in reports.values())


@asynccontextmanager
async def running(settings: Settings = ME) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """An agent at work, which is told to stop with the block or before."""
    task = asyncio.get_running_loop().create_task(app.run(settings))

    async def stop() -> None:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await task

    try:
        yield stop
    finally:
        await stop()


def listener(port: int, protocol: str = "tcp") -> ListenerSpec:
    return ListenerSpec("web:80", port, Transport.TCP, protocol)


BELONGS = keys.to_text(keys.deployment_key(b"secret"))


OWN = keys.to_text(keys.host_key(b"secret", "pc-17"))


KEY = keys.to_text(keys.pair_key(keys.from_text(OWN), keys.source_id("pc-17")))


def check(port: int, protocol: str = "tcp", address: str = LOOPBACK) -> CheckSpec:
    return CheckSpec("pc-17", "web:80", address, port, Transport.TCP, protocol, KEY)


def plan(
    revision: str,
    *checks: CheckSpec,
    listeners: tuple[ListenerSpec, ...] = (),
    interval_s: float = 3600.0,
    **its: Any,
) -> Plan:
    """A plan whose first round is its only one, unless the interval says otherwise."""
    its = {
        "agent": "pc-17",
        "timeout_s": 2.0,
        "certificate": "",
        "deployment_key": BELONGS,
        "host_key": OWN,
        **its,
    }
    return Plan(revision=revision, interval_s=interval_s, listeners=listeners, checks=checks, **its)


class Checks:
    """Stands in for the prober: each check waits until the test lets it go."""

    def __init__(self) -> None:
        self.started: list[tuple[int, str]] = []
        self.go = asyncio.Event()
        self.quick: set[str] = set()
        """Where checks go that wait for nothing."""

    async def __call__(self, spec: CheckSpec, slot: int, target: Any, timeout_s: float) -> Any:
        assert target.host == spec.address and timeout_s == 2.0
        self.started.append((slot, spec.address))
        if spec.address not in self.quick:
            await self.go.wait()
        return Observation(slot, 0, Outcome.OPEN, None, True, 0, 0, 0, "", (spec.address,))
