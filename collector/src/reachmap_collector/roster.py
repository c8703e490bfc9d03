"""Who reports: the agents, how fresh they are, and who claims to be another. Pure.

Two processes under one name are both at work when each has spoken after the other first did; a
restart is not, since the old process falls silent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reachmap_collector.planner import Announcement
from reachmap_shared.messages import Hello, ListenerReport, Presence, Pulse
from reachmap_shared.vocabulary import Transport

MISSED_HEARTBEATS: Final = 3
"""Pulses that an agent may miss before it counts as silent."""


class AgentState(StrEnum):
    """How an agent stands."""

    FRESH = "fresh"
    SILENT = "silent"
    """It has not been heard of for longer than it promised."""
    LEFT = "left"
    """It said that it was told to stop."""
    CONFLICT = "conflict"
    """Two processes use its name."""
    ABSENT = "absent"
    """The topology expects it, and it has never been heard of."""


@dataclass(slots=True)
class Instance:
    """One start of an agent's process."""

    hello: Hello
    first_heard: float
    last_heard: float
    pulse: Pulse | None = None
    """The latest."""
    skew_s: float = 0.0
    """How far its wall clock is ahead of the bus's."""

    @property
    def has_left(self) -> bool:
        """Whether it said farewell."""
        return self.hello.presence is Presence.LEAVING

    def is_fresh(self, now: float) -> bool:
        """Whether it is there and keeps its promise to report."""
        patience = MISSED_HEARTBEATS * self.hello.heartbeat_s
        return not self.has_left and now - self.last_heard <= patience


@dataclass(frozen=True, slots=True)
class Remembered:
    """An agent's announcement, as it is kept over restarts: what plans were made from."""

    hello: Hello
    first_heard: float
    last_heard: float
    """By the time that it was kept."""


class Roster:
    """All agents that were ever heard of. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._instances: dict[str, dict[str, Instance]] = {}

    def hear(self, hello: Hello, now: float) -> bool:
        """Take note of a hello; returns whether what the agent announces has changed."""
        instances = self._instances.setdefault(hello.agent, {})
        before = self._announcement(hello.agent) if instances else None
        if (known := instances.get(hello.boot)) is not None:
            known.last_heard = now
            if hello.number >= known.hello.number:
                known.hello = hello
        else:
            instances[hello.boot] = Instance(hello, now, now)
        # One killed in a conflict is forgotten too, or it would speak for the name for ever.
        self._instances[hello.agent] = {
            boot: one for boot, one in instances.items() if boot == hello.boot or one.is_fresh(now)
        }
        return before != self._announcement(hello.agent)

    def restore(self, said: Remembered, last_heard: float) -> None:
        """Begin with an agent that was heard of before this process was."""
        heard = max(said.last_heard, last_heard)
        instances = {said.hello.boot: Instance(said.hello, said.first_heard, heard)}
        self._instances.setdefault(said.hello.agent, instances)

    def remembered(self, agent: str) -> Remembered:
        """What to begin with after a restart."""
        current = self.current(agent)
        return Remembered(current.hello, current.first_heard, current.last_heard)

    def pulse(self, pulse: Pulse, now: float, skew_s: float) -> bool:
        """Take note of a pulse; returns False when the hello that it names is not known."""
        known = self._instances.get(pulse.agent, {}).get(pulse.boot)
        if known is None:
            return False
        known.last_heard, known.pulse, known.skew_s = now, pulse, skew_s
        return known.hello.number == pulse.hello

    def __contains__(self, agent: str) -> bool:
        """Whether it was ever heard of."""
        return agent in self._instances

    def agents(self) -> Iterator[str]:
        """The names of all agents heard of."""
        yield from self._instances

    def current(self, agent: str) -> Instance:
        """The process that speaks for an agent: of two at once, the one that came first."""
        instances = [*self._instances[agent].values()]
        if len(instances) == 1:  # as of nearly every agent
            return instances[0]
        at_work = [one for one in _not_superseded(instances) if not one.has_left]
        return at_work[0] if at_work else max(instances, key=lambda one: one.last_heard)

    def heartbeat_s(self, agent: str) -> float:
        """How soon after one pulse of an agent the next is due; 0 when it never said so."""
        return self.current(agent).hello.heartbeat_s if agent in self._instances else 0.0

    def has_refused_a_plan(self, agent: str) -> bool:
        """Whether an agent says that it could not use the last plan."""
        return agent in self._instances and bool(self.current(agent).hello.plan_refused)

    def living(self, agent: str, now: float) -> list[Instance]:
        """The processes at work under a name right now, first come first; two are a conflict."""
        instances = [*self._instances.get(agent, {}).values()]
        if len(instances) > 1:
            instances = _not_superseded(instances)
        return [one for one in instances if one.is_fresh(now)]

    def standing(self, agent: str, now: float) -> tuple[AgentState, list[Instance]]:
        """How an agent stands at time `now`, and its processes at work."""
        if agent not in self._instances:
            return AgentState.ABSENT, []
        living = self.living(agent, now)
        if len(living) > 1:
            return AgentState.CONFLICT, living
        if living:
            return AgentState.FRESH, living
        left = self.current(agent).has_left
        return AgentState.LEFT if left else AgentState.SILENT, living

    def state(self, agent: str, now: float) -> AgentState:
        """How an agent stands at time `now`."""
        return self.standing(agent, now)[0]

    def listener(
        self, agent: str, port: int, transport: Transport, now: float
    ) -> ListenerReport | None:
        """What a fresh agent says of one of its ports; None when it says nothing."""
        living = self.living(agent, now)
        if len(living) == 1:
            for report in living[0].hello.listeners:
                if (report.port, report.transport) == (port, transport):
                    return report
        return None

    def announcements(self) -> dict[str, Announcement]:
        """What every agent says of its host, silent ones included: their hosts are still there."""
        return {agent: self._announcement(agent) for agent in self._instances}

    def _announcement(self, agent: str) -> Announcement:
        hello = self.current(agent).hello
        ports = tuple((own.service, own.port) for own in hello.ports)
        return Announcement(hello.roles, hello.addresses, ports)


def _not_superseded(instances: Sequence[Instance]) -> list[Instance]:
    """Those of some processes, first come first, after whose last word no other has begun.

    One that has begun since is a restart of theirs.
    """
    return [
        one
        for index, one in enumerate(instances)
        if all(later.first_heard < one.last_heard for later in instances[index + 1 :])
    ]
