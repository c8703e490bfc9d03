"""The agent as a whole: what is composed of what, and how it starts, works and stops.

One TaskGroup holds everything that runs. A part that fails ends the process, and whoever started
it (systemd, most likely) starts it again: there is no supervisor in here.
"""

import asyncio
import contextlib
import random
import ssl
from typing import Final

from reachmap_agent import identity, prober
from reachmap_agent.credentials import Contexts
from reachmap_agent.listeners import Listeners
from reachmap_agent.outbox import Outbox
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.schedule import Schedule
from reachmap_agent.settings import Settings
from reachmap_agent.wire.exchange import Target
from reachmap_shared import __version__, bus, codec, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, MalformedMessage
from reachmap_shared.messages import CheckSpec, Hello, ListenerSpec, Plan, Presence

HEARTBEAT_S: Final = 5.0
"""Between two hellos: an agent that says nothing for three of them has gone silent."""

_FLUSH_S: Final = 0.5
"""How long observations wait for company; the map is at most this much behind the checks."""

_MAX_IN_FLIGHT: Final = 256
"""Checks at once, so that descriptors do not run out under systemd's default limit of 1,024."""

_FAREWELL_S: Final = 2.0
"""For checks still in flight when the agent is told to stop."""

_log = log.get("agent")


class Agent:
    """One host's agent, from its first plan to its last report."""

    def __init__(
        self,
        settings: Settings,
        connection: Bus,
        tasks: asyncio.TaskGroup,
        news: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._bus = connection
        self._tasks = tasks
        self._boot = identity.new_boot()
        self._rng = random.Random()  # noqa: S311  jitter, not secrets
        self._listeners = Listeners(settings.addresses, tasks)
        self._outbox = Outbox(settings.id, self._boot)
        self._plan: Plan | None = None
        self._targets: tuple[Target, ...] = ()
        self._schedule = Schedule((), 1, 0, self._rng)
        self._plan_refused = ""
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._news = news
        self._replanned = asyncio.Event()
        self._done = 0
        self._late_s = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        await self._bus.subscribe(subjects.plan(self._settings.id), self._receive_plan)
        self._tasks.create_task(self._check_on_time())
        self._tasks.create_task(self._report())
        await self._say_hello()

    async def leave(self) -> None:
        """Stop in good order: let go of ports, finish what is in flight, say what is left."""
        self._listeners.close()
        self._schedule = Schedule((), 1, 0, self._rng)
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=_FAREWELL_S)
        if self._bus.is_connected:
            with contextlib.suppress(BusUnavailable):
                await self._flush()
                await self._publish_hello(Presence.LEAVING)

    async def _receive_plan(self, _subject: str, payload: bytes) -> None:
        """Take up a plan, or refuse it whole and go on with the one before."""
        try:
            plan = codec.decode(Plan, payload)
            contexts = self._accepted(plan)
        except (MalformedMessage, ssl.SSLError, ValueError, OSError) as error:
            self._plan_refused = f"plan refused: {error}"[:300]
            _log.warning("plan refused", reason=str(error))
        else:
            if self._plan is None or plan.revision != self._plan.revision:
                self._take_up(plan, contexts)
        self._news.set()

    def _accepted(self, plan: Plan) -> Contexts:
        if plan.agent != self._settings.id:
            raise MalformedMessage(f"it is for {plan.agent!r}")
        specs: list[CheckSpec | ListenerSpec] = [*plan.checks, *plan.listeners]
        for spec in specs:
            if spec.protocol not in REGISTRY:
                raise MalformedMessage(f"this agent does not speak {spec.protocol!r}")
            if not 1 <= spec.port <= 65535:
                raise MalformedMessage(f"{spec.port} is not a port")
        if not (plan.interval_s >= 0.1 and plan.timeout_s > 0):
            raise MalformedMessage("its interval or timeout is too short")
        return Contexts.from_pem(plan.certificate)

    def _take_up(self, plan: Plan, contexts: Contexts) -> None:
        self._plan_refused = ""
        self._plan = plan
        self._listeners.apply(plan.listeners, contexts)
        self._targets = tuple(
            Target(spec.address, spec.token, contexts.client, contexts.certificate)
            for spec in plan.checks
        )
        keys = [
            f"{self._settings.id}>{spec.address}:{spec.port}/{spec.transport}"
            for spec in plan.checks
        ]
        now = asyncio.get_running_loop().time()
        self._schedule = Schedule(keys, plan.interval_s, now, self._rng)
        self._in_flight = {}
        self._replanned.set()
        _log.info(
            "plan taken up",
            revision=plan.revision,
            checks=len(plan.checks),
            listeners=len(plan.listeners),
        )

    async def _check_on_time(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = self._schedule.next_due()
            self._replanned.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._replanned.wait()
                    continue
            for slot, late_s in self._schedule.pop_due(loop.time()):
                self._late_s = max(self._late_s, late_s)
                # One that still runs from its last turn is not run twice at once.
                running = self._in_flight.get(slot)
                if running is None or running.done():
                    self._in_flight[slot] = self._tasks.create_task(self._check(slot))

    async def _check(self, slot: int) -> None:
        plan = self._plan
        assert plan is not None  # its schedule has just said that the slot is due
        async with self._room:
            observation = await prober.check(
                plan.checks[slot], slot, self._targets[slot], plan.timeout_s
            )
        self._done += 1
        self._outbox.put(plan.revision, observation, asyncio.get_running_loop().time())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._bus.is_connected:
                with contextlib.suppress(BusUnavailable):
                    await self._flush()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        subject = subjects.report(self._settings.id)
        while (report := self._outbox.next_report(loop.time())) is not None:
            await self._bus.publish(subject, codec.encode(report))
            self._outbox.sent(report)

    async def _say_hello(self) -> None:
        while True:
            self._news.clear()
            if self._bus.is_connected:
                with contextlib.suppress(BusUnavailable):
                    await self._publish_hello(Presence.HERE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()

    async def _publish_hello(self, presence: Presence) -> None:
        hello = Hello(
            agent=self._settings.id,
            boot=self._boot,
            presence=presence,
            hostname=identity.hostname(),
            version=__version__,
            platform=identity.describe_platform(),
            roles=self._settings.roles,
            addresses=self._settings.addresses or identity.own_addresses(self._bus.server_host),
            capabilities=identity.capabilities(),
            heartbeat_s=HEARTBEAT_S,
            plan=self._plan.revision if self._plan else "",
            plan_refused=self._plan_refused,
            listeners=self._listeners.reports(),
            checks_done=self._done,
            checks_late_ms=round(self._late_s * 1000),
            observations_dropped=self._outbox.dropped,
        )
        self._late_s = 0.0
        await self._bus.publish(subjects.hello(self._settings.id), codec.encode(hello))


async def run(settings: Settings) -> None:
    """Run the agent until it is cancelled."""
    news = asyncio.Event()

    async def bus_is_back() -> None:
        news.set()

    _log.info(
        "agent starting", id=settings.id, nats=",".join(map(bus.without_password, settings.nats))
    )
    async with (
        bus.staying(settings.nats, f"reachmap-agent {settings.id}", bus_is_back) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        agent = Agent(settings, connection, tasks, news)
        try:
            await agent.run()
        finally:
            await agent.leave()
            _log.info("agent stopped", id=settings.id)
