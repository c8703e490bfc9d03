"""Agents: who reports, and how fresh. Pure."""

from typing import Annotated

from pydantic import Field

from reachmap_collector.documents.base import Count, Document, Moment
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import ListenerState, Transport


class Listener(Document):
    """One port of an agent."""

    service: str
    port: int
    transport: Transport
    state: ListenerState
    detail: str


class AbsentAgent(Document):
    """An agent that was never heard of."""

    agent: str
    state: AgentState
    in_topology: bool
    expected: bool
    """Whether an agent is to run there."""
    roles: list[str]
    notes: list[str]


class Agent(AbsentAgent):
    """An agent that was heard of."""

    heard: Moment
    age_s: Annotated[float, Field(ge=0)]
    joined: Moment
    boot: str
    hostname: str
    addresses: list[str]
    announced_roles: list[str]
    announced_ports: dict[str, int]
    """Where it says that its host's services are."""
    announced_targets: dict[str, list[str]]
    """Whom its host is told to reach, by role: names or addresses."""
    version: str
    platform: str
    capabilities: list[str]
    plan: str
    plan_refused: str
    listeners: list[Listener]
    checks_done: Count
    """Observations made since its start."""
    checks_late_ms: Count
    observations_received: Count
    """Those of them that the collector has counted."""
    observations_refused: Count
    observations_waiting: Count
    """Those that wait for their delivery."""
    observations_dropped: Count
    """Those that nobody will ever hear of."""
    observations_vanished: Count
    """Those that the bus took, and lost with its storage."""
    changes_dropped: Count
    dropped_before: Count
    """Observations that earlier starts of it lost."""
    vanished_before: Count
    """Observations of earlier starts that the bus lost."""
    clock_skew_s: float | None
    """How far its wall clock is ahead of the bus's; null before its first pulse."""


class Agents(Document):
    """One page of who reports."""

    agents: list[Agent | AbsentAgent]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""
