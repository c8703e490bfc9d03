"""What travels over the bus between agents and collector. Pure.

Each message is a frozen dataclass whose fields go over the wire in their order here (see
`reachmap_shared.codec`). Add new fields at the end, with a default, and never take one away: so
an agent and a collector of different ages understand each other.

Times are ages or durations, never a wall clock's reading, since endpoints' clocks are wrong.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from reachmap_shared.codec import Max
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, ListenMode, Outcome, Transport

Name = Annotated[str, Max(63)]
Sentence = Annotated[str, Max(300)]

MAX_CHECKS = 20_000
"""Checks in one plan: far above any real host, far below what would hurt one."""


class Presence(StrEnum):
    """Whether an agent that says hello means to stay."""

    HERE = "here"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class ListenerReport:
    """What became of one port that the plan asked the agent to listen on."""

    service: Name
    port: int
    transport: Transport
    state: ListenerState
    detail: Sentence = ""
    holder: Sentence = ""
    """The program that holds the port right now; empty when none does, or it is the agent."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who an agent is and how it fares; sent on joining, on change, and as a heartbeat."""

    agent: Name
    boot: Annotated[str, Max(32)]
    """Random, one for each start of the process: tells a restart from a namesake."""
    presence: Presence
    hostname: Annotated[str, Max(255)]
    version: Annotated[str, Max(32)]
    platform: Annotated[str, Max(120)]
    roles: Annotated[tuple[Name, ...], Max(64)]
    """What the host says it is; the topology has the last word."""
    addresses: Annotated[tuple[str, ...], Max(64)]
    capabilities: Annotated[tuple[Name, ...], Max(32)]
    heartbeat_s: float
    """How soon the next hello is due, in seconds."""
    plan: Annotated[str, Max(64)] = ""
    """Revision of the plan at work; empty before the first."""
    plan_refused: Sentence = ""
    """Why the last plan was refused whole; empty when it was not."""
    listeners: Annotated[tuple[ListenerReport, ...], Max(1024)] = ()
    checks_done: int = 0
    checks_late_ms: int = 0
    """How late the latest-started check of the last minute was."""
    observations_dropped: int = 0


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """A port to listen on while no real service does."""

    service: Name
    port: int
    transport: Transport
    protocol: Name
    token: Annotated[str, Max(64)]
    """Shown to whoever speaks the protocol, so that a check can tell who answered."""
    mode: ListenMode = ListenMode.ALWAYS


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One flow to check. Its place in the plan is its slot, which reports refer to."""

    destination: Name
    service: Name
    address: Annotated[str, Max(255)]
    """An IP address, or a name that is resolved at each check."""
    port: int
    transport: Transport
    protocol: Name
    token: Annotated[str, Max(64)]
    """What the destination's listener shows; any other token is another host's."""
    window: bool = False
    """Whether to ask the destination's agent to listen for the moment of the check."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one agent is to do."""

    agent: Name
    revision: Annotated[str, Max(64)]
    """A digest of all the rest: the same work always has the same revision."""
    interval_s: float
    timeout_s: float
    certificate: Annotated[str, Max(8192)]
    """PEM, certificate and key, for listeners that stand in for TLS services: throw-away."""
    listeners: Annotated[tuple[ListenerSpec, ...], Max(1024)]
    checks: Annotated[tuple[CheckSpec, ...], Max(MAX_CHECKS)]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one check saw."""

    slot: int
    age_ms: int
    """Between the check's end and the report's sending."""
    outcome: Outcome
    answered_by: AnsweredBy | None
    healthy: bool
    """False when the service answered that it is not well."""
    name_us: int
    connect_us: int
    """Time to the TCP handshake's end; 0 when it did not end well."""
    answer_us: int
    """Time from there to the verdict."""
    local: Annotated[str, Max(80)]
    """Local address and port of the check; empty when there was none."""
    evidence: Annotated[tuple[Sentence, ...], Max(16)]
    confirmed: bool = True
    """False for a sudden change that a repetition has not confirmed yet: perhaps a lost packet."""
    window: bool = False
    """Whether the destination's agent listened for the moment of the check."""
    certificate_until: int | None = None
    """When the certificate that the service showed ends, in seconds since the epoch; None if none
    was shown."""
    seen_as: Annotated[str, Max(80)] = ""
    """Address and port that the destination's listener saw the check come from; empty when no
    listener proved itself."""


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """One agent asks another to listen on a port of its for a moment."""

    source: Name
    port: int
    transport: Transport
    seconds: float


@dataclass(frozen=True, slots=True)
class WindowReply:
    """What the other agent says to that."""

    state: ListenerState
    """LISTENING when the window is open; else why it is not."""
    detail: Sentence = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A batch of observations, all under one plan."""

    agent: Name
    boot: Annotated[str, Max(32)]
    sequence: int
    plan: Annotated[str, Max(64)]
    observations: Annotated[tuple[Observation, ...], Max(5000)]
