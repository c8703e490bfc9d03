"""The agent as a whole: what is composed of what, and how it starts, works and stops.

One TaskGroup holds everything that runs. A part that fails ends the process, and whoever started
it (systemd, most likely) starts it again: there is no supervisor in here. The bus is no such part:
the agent works from its first moment to its last, with a bus or without.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final

from reachmap_agent import clock, descriptors, identity
from reachmap_agent.ceded import Ceded
from reachmap_agent.checks import Checks
from reachmap_agent.clock import Clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.diagnosis.diagnoser import Diagnoser
from reachmap_agent.diagnosis.runner import Runner
from reachmap_agent.listeners import Listeners
from reachmap_agent.memory import ceded_path, spool_path
from reachmap_agent.plans import Plans
from reachmap_agent.presence import HEARTBEAT_S, Herald
from reachmap_agent.reporter import Reporter
from reachmap_agent.settings import Settings
from reachmap_agent.spool import Spool
from reachmap_agent.windows import Windows
from reachmap_agent.wire.proof import Identity
from reachmap_agent.witnesses import Witnesses
from reachmap_shared import bus, codec, keys, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, MalformedMessage
from reachmap_shared.messages import Ask, Observation, Plan, Presence, Question
from reachmap_shared.urls import without_password

_FAREWELL_S: Final = 2.0
"""For checks still in flight when the agent is told to stop."""

_LAST_REPORTS_S: Final = 1.0
"""For the stream's answer to the last reports; what is left then waits on disk."""

_REJOIN_S: Final = 5.0
"""Before another attempt with servers that threw us out: they may have changed their mind."""

Begun = Callable[[Callable[[], str]], None]
"""Is given what says in a line how the agent fares, once it works or waits for a plan."""

_log = log.get("agent")


class Agent:
    """One host's agent, from its first plan to its last report."""

    def __init__(
        self, settings: Settings, boot: str, spool: Spool, clocks: Clock, tasks: asyncio.TaskGroup
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._listeners = Listeners(
            settings.addresses, Ceded(ceded_path(settings)), settings.listeners
        )
        self._news = asyncio.Event()
        self._windows = Windows(settings.id, self._listeners, self._news.set)
        self._witnesses = Witnesses(settings.id, self._listeners)
        self._reporter = Reporter(settings.id, boot, spool, clocks)
        diagnoser = Diagnoser(
            self._witnesses.ask,
            random.SystemRandom(),
            clocks.steady_ms,
            self._windows.ask,
        )
        self._diagnoses = Runner(settings.id, diagnoser, self._reporter.diagnosed)
        self._checks = Checks(
            settings.id,
            tasks,
            self._windows.ask,
            self._see,
            clocks,
            settings.listeners.descriptors,
            self._reporter.see_again,
        )
        self._herald = Herald(
            settings, boot, clocks, self._listeners, spool, self._reporter, self._checks.take_late_s
        )
        self._plans = Plans(settings, self._take_up, self._news.set)
        self._connection: Bus | None = None
        self._wants_plan = self._hello_again = self._tell_whole = False
        self._leaving = False
        self._works = "waits for a plan"

    @property
    def standing(self) -> str:
        """How it fares, in a line for people."""
        return f"{self._works}; {'on the bus' if self._connected() else 'no bus'}"

    def start(self) -> None:
        """Begin by the plan of the last start, if there is one."""
        self._plans.take_up_kept()
        for work in (self._reporter.run, self._reporter.delivery.run, self._beat):
            self._tasks.create_task(work())
        if self._settings.diagnosis:
            self._tasks.create_task(self._diagnoses.run())

    async def leave(self) -> None:
        """Stop in good order: let go of ports, finish what is in flight, say what is left."""
        self._leaving = True
        self._witnesses.close()
        self._listeners.close()
        await self._checks.stop(_FAREWELL_S)
        self._reporter.put_all()
        if (connection := self._connected()) is not None:
            await self._reporter.delivery.drained(_LAST_REPORTS_S)
            with contextlib.suppress(BusUnavailable):
                await self._herald.pulse(connection)  # what it made in all
                await self._herald.hello(connection, Presence.LEAVING)

    def _take_up(self, plan: Plan, contexts: Contexts) -> None:
        if self._leaving:
            return
        host_key = keys.from_text(plan.host_key)
        proof = Identity(plan.agent, host_key, keys.from_text(plan.deployment_key))
        self._windows.take_up(host_key)
        self._witnesses.take_up(host_key)
        self._listeners.apply(plan.listeners, contexts, proof)
        self._reporter.take_up(plan, _names(plan))
        self._checks.apply(plan, contexts)
        self._works = f"{len(plan.checks)} checks, {len(plan.listeners)} ports"
        if self._settings.diagnosis:
            self._diagnoses.apply(plan.revision, self._checks.jobs, plan.interval_s)

    def _see(self, revision: str, seen: Observation, confirmed: bool) -> None:
        self._reporter.see(revision, seen, confirmed)
        if self._settings.diagnosis and confirmed:
            self._diagnoses.saw(revision, seen)

    def _connected(self) -> Bus | None:
        connection = self._connection
        return connection if connection is not None and connection.is_connected else None

    async def stay(self) -> None:
        """Be on the bus whenever there is one, until cancelled."""
        name = f"reachmap-agent {self._settings.id}"
        while True:
            try:
                async with bus.staying(
                    self._settings.nats, name, self._came_back, access=self._settings.access
                ) as connection:
                    await self._join(connection)
                    await asyncio.Event().wait()
            except BusUnavailable as error:
                _log.warning("bus gave us up, trying again", reason=str(error), in_s=_REJOIN_S)
            finally:
                self._use(None)
            await asyncio.sleep(_REJOIN_S)

    async def _join(self, connection: Bus) -> None:
        agent = self._settings.id
        delivery = self._reporter.delivery
        inbox = connection.new_inbox()
        # A server that goes at this very moment is waited for like at any other.
        for subscribing in (
            connection.listen(f"{inbox}.*", delivery.answered),
            self._plans.listen(connection),
            connection.answer(subjects.all_windows(agent), self._windows.answer),
            connection.answer(subjects.all_witnesses(agent), self._witnesses.answer),
            connection.subscribe(subjects.ask(agent), self._be_asked),
        ):
            with contextlib.suppress(BusUnavailable):
                await subscribing
        self._use(connection)
        delivery.join(connection, inbox)
        await self._came_back()

    def _use(self, connection: Bus | None) -> None:
        self._connection = self._windows.connection = self._witnesses.connection = connection

    async def _came_back(self) -> None:
        """A server is there: it may know nothing of us, and we may have missed a plan."""
        self._reporter.delivery.begin_anew()
        self._wants_plan = self._hello_again = True
        self._tell_whole = self._reporter.told > 0
        self._news.set()

    async def _be_asked(self, _subject: str, payload: bytes) -> None:
        try:
            question = codec.decode(Ask, payload).question
        except MalformedMessage as error:
            _log.warning("question not understood", reason=str(error))
            return
        if question is Question.STATE:
            self._tell_whole = True
        self._hello_again = True
        self._news.set()

    async def _beat(self) -> None:
        while True:
            self._news.clear()
            if not self._leaving:
                self._listeners.look()
                if (connection := self._connected()) is not None:
                    with contextlib.suppress(BusUnavailable):
                        await self._speak(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()

    async def _speak(self, connection: Bus) -> None:
        self._herald.plan_refused = self._plans.refused
        await self._herald.hello(connection, again=self._hello_again)
        self._hello_again = False
        self._reporter.put_due()
        if self._tell_whole:
            self._tell_whole = False
            await self._reporter.tell_whole(connection)
        await self._herald.pulse(connection)
        if self._wants_plan:
            await self._plans.fetch(connection)
            self._wants_plan = False


def _names(plan: Plan) -> list[int]:
    """The slots whose address is a name."""
    return [
        slot for slot, check in enumerate(plan.checks) if not identity.is_address(check.address)
    ]


async def run(settings: Settings, begun: Begun = lambda _standing: None) -> None:
    """Run the agent until it is cancelled; `begun` is given what says how it fares.

    Raises:
        InvalidSettings: This host's certificate cannot be used.
    """
    Contexts.from_pem("", settings.certificate, settings.key)
    limits = settings.listeners
    descriptors.allow(limits.descriptors + limits.leaving)
    if (few := descriptors.allowed()) < limits.descriptors + descriptors.KEPT:
        _log.warning("fewer file descriptors than listeners.*_places need", allowed=few)
    _log.info("agent starting", id=settings.id, nats=",".join(map(without_password, settings.nats)))
    boot = identity.new_boot()
    clocks = clock.system()
    spool = Spool(spool_path(settings), settings.id, boot, clocks)
    try:
        # The bus outlives the rest, for a last word even when a part has failed.
        async with asyncio.TaskGroup() as company, asyncio.TaskGroup() as tasks:
            agent = Agent(settings, boot, spool, clocks, tasks)
            company.create_task(agent.stay())
            agent.start()
            begun(lambda: agent.standing)
            try:
                await asyncio.Event().wait()
            finally:
                await agent.leave()
                _log.info("agent stopped", id=settings.id)
    finally:
        spool.close()
