"""The agent as a whole: what is composed of what, and how it starts, works and stops.

One TaskGroup holds everything that runs. A part that fails ends the process, and whoever started
it (systemd, most likely) starts it again: there is no supervisor in here.
"""

import asyncio
import contextlib
import ssl
from typing import Final

from reachmap_agent import descriptors, identity
from reachmap_agent.ceded import Ceded
from reachmap_agent.checks import Checks
from reachmap_agent.credentials import Contexts
from reachmap_agent.listeners import Listeners
from reachmap_agent.memory import ceded_path, save_plan
from reachmap_agent.outbox import Outbox
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.settings import Settings
from reachmap_agent.wire.proof import Identity
from reachmap_shared import __version__, bus, codec, keys, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, InvalidSettings, MalformedMessage
from reachmap_shared.messages import (
    CheckSpec,
    Hello,
    ListenerSpec,
    Observation,
    Plan,
    Presence,
    WindowReply,
    WindowRequest,
)
from reachmap_shared.vocabulary import ListenerState

HEARTBEAT_S: Final = 5.0
"""Between two hellos: an agent that says nothing for three of them has gone silent."""

_FLUSH_S: Final = 0.5
"""How long observations wait for company; the map is at most this much behind the checks."""

_WINDOW_ANSWER_S: Final = 1.0
"""For another agent's answer: it is a lookup and a bind away."""

_FAREWELL_S: Final = 2.0
"""For checks still in flight when the agent is told to stop."""

_LOOKUP_S: Final = 1.0
"""How long a hello waits for this host's own addresses; with a broken resolver they come late."""

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
        self._ceded = Ceded(ceded_path(settings))
        self._listeners = Listeners(settings.addresses, self._ceded, settings.listeners)
        self._outbox = Outbox(settings.id, self._boot)
        places = settings.listeners.descriptors
        self._checks = Checks(settings.id, tasks, self._ask_window, self._put_out, places)
        self._plan: Plan | None = None
        self._plan_refused = ""
        self._flushing = asyncio.Lock()
        self._addresses: tuple[str, ...] = ()
        self._lookup: asyncio.Future[tuple[str, ...]] | None = None
        self._news = news

    async def run(self) -> None:
        """Work until cancelled."""
        # A server that goes at this very moment is waited for like at any other.
        with contextlib.suppress(BusUnavailable):
            await self._bus.subscribe(subjects.plan(self._settings.id), self._receive_plan)
        with contextlib.suppress(BusUnavailable):
            await self._bus.answer(subjects.window(self._settings.id), self._open_window)
        self._tasks.create_task(self._report())
        await self._say_hello()

    async def leave(self) -> None:
        """Stop in good order: let go of ports, finish what is in flight, say what is left."""
        self._listeners.close()
        await self._checks.stop(_FAREWELL_S)
        if self._bus.is_connected:
            with contextlib.suppress(BusUnavailable):
                await self._flush()
                await self._publish_hello(Presence.LEAVING)

    async def _receive_plan(self, _subject: str, payload: bytes) -> None:
        """Take up a plan, or refuse it whole and go on with the one before."""
        try:
            plan = codec.decode(Plan, payload)
            contexts = self._accepted(plan)
        except (MalformedMessage, InvalidSettings, ssl.SSLError, ValueError, OSError) as error:
            self._plan_refused = f"plan refused: {error}"[:300]
            _log.warning("plan refused", reason=str(error))
        else:
            self._plan_refused = ""
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
        for key in (plan.deployment_key, plan.host_key, *(check.key for check in plan.checks)):
            keys.from_text(key)  # a ValueError when it is no such thing
        settings = self._settings
        return Contexts.from_pem(plan.certificate, settings.certificate, settings.key)

    def _take_up(self, plan: Plan, contexts: Contexts) -> None:
        self._plan = plan
        identity = Identity(
            plan.agent, keys.from_text(plan.host_key), keys.from_text(plan.deployment_key)
        )
        self._listeners.apply(plan.listeners, contexts, identity)
        self._checks.apply(plan, contexts)
        try:
            save_plan(self._settings, plan)
        except OSError as error:
            _log.warning("plan not kept", reason=str(error))
        _log.info(
            "plan taken up",
            revision=plan.revision,
            checks=len(plan.checks),
            listeners=len(plan.listeners),
        )

    async def _ask_window(self, spec: CheckSpec, seconds: float) -> WindowReply | None:
        question = WindowRequest(self._settings.id, spec.port, spec.transport, seconds)
        try:
            answer = await self._bus.request(
                subjects.window(spec.destination), codec.encode(question), _WINDOW_ANSWER_S
            )
            return codec.decode(WindowReply, answer)
        except (BusUnavailable, MalformedMessage):
            return None

    async def _open_window(self, payload: bytes) -> bytes:
        before = self._listeners.holders()
        try:
            reply = self._listeners.window(codec.decode(WindowRequest, payload))
        except MalformedMessage as error:
            reply = WindowReply(ListenerState.FAILED, str(error)[:300])
        if self._listeners.holders() != before:  # a service has come or gone: that is news
            self._news.set()
        return codec.encode(reply)

    def _put_out(self, revision: str, observation: Observation) -> None:
        self._outbox.put(revision, observation, asyncio.get_running_loop().time())

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._bus.is_connected:
                with contextlib.suppress(BusUnavailable):
                    await self._flush()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        subject = subjects.report(self._settings.id)
        async with self._flushing:  # or the farewell would send again what is just being sent
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
        self._listeners.look()
        hello = Hello(
            agent=self._settings.id,
            boot=self._boot,
            presence=presence,
            hostname=identity.hostname(),
            version=__version__,
            platform=identity.describe_platform(),
            roles=self._settings.roles,
            addresses=self._settings.addresses or await self._own_addresses(),
            capabilities=identity.capabilities(),
            heartbeat_s=HEARTBEAT_S,
            plan=self._plan.revision if self._plan else "",
            plan_refused=self._plan_refused,
            listeners=self._listeners.reports(),
            checks_done=self._checks.done,
            checks_late_ms=round(self._checks.late_s * 1000),
            observations_dropped=self._outbox.dropped,
        )
        self._checks.late_s = 0.0
        await self._bus.publish(subjects.hello(self._settings.id), codec.encode(hello))

    async def _own_addresses(self) -> tuple[str, ...]:
        """This host's addresses, as last found out.

        In a thread, one at a time: the bus may be known by a name, and a resolver that does not
        answer would hold up every check.
        """
        if self._lookup is None:
            loop = asyncio.get_running_loop()
            host = self._bus.server_host
            self._lookup = loop.run_in_executor(None, identity.own_addresses, host)
        await asyncio.wait({self._lookup}, timeout=_LOOKUP_S)
        if self._lookup.done():
            self._addresses, self._lookup = self._lookup.result(), None
        return self._addresses


async def run(settings: Settings) -> None:
    """Run the agent until it is cancelled.

    Raises:
        InvalidSettings: This host's certificate cannot be used.
        BusUnavailable: The NATS server will not have this agent.
    """
    Contexts.from_pem("", settings.certificate, settings.key)
    limits = settings.listeners
    descriptors.allow(limits.descriptors + limits.leaving)
    if (few := descriptors.allowed()) < limits.descriptors + descriptors.KEPT:
        _log.warning("fewer file descriptors than listeners.*_places need", allowed=few)
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
