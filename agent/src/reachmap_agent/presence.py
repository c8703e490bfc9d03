"""That the agent is there, and who it is: a hello when there is news, a pulse in any case."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from reachmap_agent import identity
from reachmap_agent.clock import Clock
from reachmap_agent.listeners import Listeners
from reachmap_agent.reporter import Reporter
from reachmap_agent.settings import Settings
from reachmap_agent.spool import Spool
from reachmap_shared import __version__, codec, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.messages import MAX_TARGETS, Hello, NamedTarget, OwnPort, Presence, Pulse

HEARTBEAT_S: Final = 5.0
"""Between two pulses: an agent that says nothing for three of them has gone silent."""

_LOOKUP_S: Final = 1.0
"""How long a hello waits for this host's own addresses; with a broken resolver they come late."""


class Herald:
    """Says hello and sends pulses for one start of an agent.

    Args:
        settings: What the agent is told on its own host.
        boot: This start.
        clock: What pulses give the time by.
        listeners: Whose states a hello tells.
        spool: Which counts what is lost.
        reporter: Which counts the rest.
        take_late_s: Says how late the latest-started check since the last call was, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        boot: str,
        clock: Clock,
        listeners: Listeners,
        spool: Spool,
        reporter: Reporter,
        take_late_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._boot = boot
        self._clock = clock
        self._listeners = listeners
        self._spool = spool
        self._reporter = reporter
        self._take_late_s = take_late_s
        self._said: Hello | None = None
        self._addresses: tuple[str, ...] = ()
        self._lookup: asyncio.Future[tuple[str, ...]] | None = None
        self._speaking = asyncio.Lock()
        self.plan_refused = ""
        """Why the last plan was refused; empty when it was not."""

    async def hello(
        self, connection: Bus, presence: Presence = Presence.HERE, *, again: bool = False
    ) -> None:
        """Say who this is if there is news in it, or `again` if not. Raises BusUnavailable."""
        async with self._speaking:
            hello = await self._composed(connection, presence)
            before = self._said
            if before is not None:
                if before.presence is Presence.LEAVING:  # that was the last word
                    return
                hello = replace(hello, number=before.number)
                if hello != before:
                    hello = replace(hello, number=before.number + 1)
            if again or hello != before:
                await connection.publish(subjects.hello(self._settings.id), codec.encode(hello))
                self._said = hello

    async def pulse(self, connection: Bus) -> None:
        """Say that all is as told. Raises BusUnavailable."""
        reporter = self._reporter
        standing = reporter.standing()
        pulse = Pulse(
            agent=self._settings.id,
            boot=self._boot,
            sent_ms=self._clock.steady_ms(),
            wall_ms=self._clock.wall_ms(),
            hello=self._said.number if self._said else 0,
            plan=reporter.revision,
            told=reporter.told,
            span_ms=standing.span_ms,
            stale=standing.stale,
            made=reporter.made,
            lost=self._spool.lost,
            waiting=reporter.waiting,
            late_ms=math.ceil(self._take_late_s() * 1000),
        )
        await connection.publish(subjects.pulse(self._settings.id), codec.encode(pulse))

    async def _composed(self, connection: Bus, presence: Presence) -> Hello:
        found = self._settings.found
        return Hello(
            agent=self._settings.id,
            boot=self._boot,
            presence=presence,
            hostname=identity.hostname(),
            version=__version__,
            platform=identity.describe_platform(),
            roles=self._settings.roles,
            addresses=self._settings.addresses or await self._own_addresses(connection),
            capabilities=identity.capabilities(),
            heartbeat_s=HEARTBEAT_S,
            number=0,
            plan_refused=self.plan_refused,
            listeners=self._listeners.reports(),
            changes_lost=self._spool.changes_lost,
            spool_failure=self._spool.failure[:300],
            ports=tuple(OwnPort(*own) for own in sorted(found.ports.items())),
            targets=tuple(
                NamedTarget(role, hosts[:MAX_TARGETS])
                for role, hosts in sorted(found.targets.items())
            ),
            earlier=self._spool.earlier,
        )

    async def _own_addresses(self, connection: Bus) -> tuple[str, ...]:
        """This host's addresses, as last found out.

        Where the bus is known by a name, in a thread, one at a time: a resolver that does not
        answer would hold up every check.
        """
        host = connection.server_host
        if self._lookup is None and (host is None or identity.is_address(host)):
            return identity.own_addresses(host)
        if self._lookup is None:
            loop = asyncio.get_running_loop()
            self._lookup = loop.run_in_executor(None, identity.own_addresses, host)
        await asyncio.wait({self._lookup}, timeout=_LOOKUP_S)
        if self._lookup.done():
            self._addresses, self._lookup = self._lookup.result(), None
        return self._addresses
