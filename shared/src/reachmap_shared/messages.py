"""What travels over the bus between agents and collector. Pure.

Each message is a frozen dataclass whose fields go over the wire in their order here (see
`reachmap_shared.codec`). Add new fields at the end, with a default, and never take one away: so
an agent and a collector of different ages understand each other.

Times are readings of the sender's clock that never jumps (milliseconds; CLOCK_BOOTTIME where there
is one), and each message that has any says what that clock reads as it is sent: so receivers know
ages, however wrong an endpoint's wall clock is.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from reachmap_shared.codec import Max, in_bulk
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, ListenMode, Outcome, Transport

Name = Annotated[str, Max(63)]
Sentence = Annotated[str, Max(300)]
Key = Annotated[str, Max(64)]
"""As text; see `reachmap_shared.keys`."""

Boot = Annotated[str, Max(32)]
"""Random, one for each start of an agent's process."""

Revision = Annotated[str, Max(64)]
"""Digest of a plan's content; empty before the first plan."""

Address = Annotated[str, Max(45)]
"""An IP address as text."""

MAX_CHECKS = 20_000
"""Checks in one plan: far above any real host, far below what would hurt one."""

MAX_RESOLVED = 8
"""Addresses of one name that are checked; more is a fleet, and no host."""

MAX_EARLIER = 32
"""Starts of an agent that it tells of besides its own."""

MAX_TARGETS = 32
"""Hosts of one role that a host says it is told to reach: many times a cluster."""

MAX_BODY = 512 * 1024
"""Bytes in a report's body: half of what a NATS server takes by default."""

Column = Annotated[bytes, Max(MAX_CHECKS)]
"""An octet for each slot of a plan."""


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
class OwnPort:
    """Where a service of the host's own is, by settings that were found there."""

    service: Name
    port: int


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """Whom the host is told to reach, by settings that were found there."""

    role: Name
    hosts: Annotated[tuple[Annotated[str, Max(255)], ...], Max(MAX_TARGETS)]
    """Names or addresses."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """How the account of an earlier start of the same agent stands."""

    boot: Boot
    made: int
    """Observations that it made."""
    lost: int
    """Those of them that nobody will ever hear of."""
    waiting: int
    """Those of them that wait for their delivery: all the rest the bus has taken."""
    changes_lost: int
    """Changes that nobody will ever hear of."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who an agent is; sent on joining, on change, and when asked."""

    agent: Name
    boot: Boot
    """Tells a restart from a namesake."""
    presence: Presence
    hostname: Annotated[str, Max(255)]
    version: Annotated[str, Max(32)]
    platform: Annotated[str, Max(120)]
    roles: Annotated[tuple[Name, ...], Max(64)]
    """What the host says it is; the topology has the last word."""
    addresses: Annotated[tuple[str, ...], Max(64)]
    capabilities: Annotated[tuple[Name, ...], Max(32)]
    heartbeat_s: float
    """How soon the next pulse is due, in seconds."""
    number: int
    """Which of this start's hellos it is: a pulse names the one that still holds."""
    plan_refused: Sentence = ""
    """Why the last plan was refused whole; empty when it was not."""
    listeners: Annotated[tuple[ListenerReport, ...], Max(1024)] = ()
    changes_lost: int = 0
    """Changes of this start that the spool had no room for."""
    spool_failure: Sentence = ""
    """Why what waits for delivery is kept in memory alone; empty when it is on disk."""
    ports: Annotated[tuple[OwnPort, ...], Max(64)] = ()
    """Where its services are; what others dial, unless the topology says."""
    targets: Annotated[tuple[NamedTarget, ...], Max(8)] = ()
    """Whom it is told to reach: for comparison with the topology."""
    earlier: Annotated[tuple[Earlier, ...], Max(MAX_EARLIER)] = ()
    """The starts before this one, as far as the agent remembers them: what a bus lost of their own
    last words is told again here."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """That all stayed as it was: a heartbeat, and what refreshes every steady flow at once."""

    agent: Name
    boot: Boot
    sent_ms: int
    """The sender's clock that never jumps, when this was sent."""
    wall_ms: int
    """The sender's wall clock then, in milliseconds since the epoch: it shows how wrong that is."""
    hello: int
    """Number of the hello that holds."""
    plan: Revision
    """Revision of the plan at work; empty before the first."""
    told: int
    """How many changes this start has told, those still under way included."""
    span_ms: int
    """Within so long before now every flow of the plan was checked, and found as told; but for
    those that are stale."""
    stale: Annotated[bytes, Max(MAX_CHECKS // 8 + 1)] = b""
    """A bit for each slot, lowest first: set where the flow was not checked in that time, or what
    was seen is not certain yet. Empty when none is."""
    made: int = 0
    """Observations made since the start."""
    lost: int = 0
    """Those of them that nobody will ever hear of."""
    waiting: int = 0
    """Those of them that wait for their delivery."""
    late_ms: int = 0
    """How late the latest-started check since the last pulse was."""


class Question(StrEnum):
    """What the collector asks of an agent that it does not understand yet."""

    HELLO = "hello"
    """Who are you?"""
    STATE = "state"
    """How does each of your flows stand?"""


@dataclass(frozen=True, slots=True)
class Ask:
    """The collector asks an agent to say something again."""

    question: Question


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """A port to listen on while no real service does."""

    service: Name
    port: int
    transport: Transport
    protocol: Name
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
    key: Key
    """By which the destination's listener proves to this source who it is; empty where no agent
    is."""
    window: bool = False
    """Whether to ask the destination's agent to listen for the moment of the check."""
    forbidden: bool = False
    """Whether it must not be open: then nobody looks into why it is not."""


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
    deployment_key: Key
    """Shows listeners that whoever asks belongs here."""
    host_key: Key
    """By which this host's own listeners prove who they are."""
    listeners: Annotated[tuple[ListenerSpec, ...], Max(1024)]
    checks: Annotated[tuple[CheckSpec, ...], Max(MAX_CHECKS)]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one check saw."""

    slot: int
    at_ms: int
    """When the check ended, by the sender's clock that never jumps."""
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
    window: bool = False
    """Whether the destination's agent listened for the moment of the check."""
    certificate_until: int | None = None
    """When the certificate that the service showed ends, in seconds since the epoch; None if none
    was shown."""
    seen_as: Annotated[str, Max(80)] = ""
    """Address and port that the destination's listener saw the check come from; empty when no
    listener proved itself."""
    address: Address = ""
    """What was dialled, where the plan has a name; empty when it did not resolve."""
    resolved: Annotated[tuple[Address, ...], Max(MAX_RESOLVED)] = ()
    """All that the name resolved to: each is a flow of its own."""
    offender: Address = ""
    """Whose ICMP error ended the check; empty when none did."""


@dataclass(frozen=True, slots=True)
class Change:
    """An observation that differs from what was told of its flow before."""

    number: int
    """Which of this start's changes it is, from 0: the same however often it is told."""
    seen: Observation


@dataclass(frozen=True, slots=True)
class Changes:
    """The body of a report: what is new, or all that holds."""

    plan: Revision
    changes: Annotated[tuple[Change, ...], Max(2000)]
    parts: int = 0
    """0 for what is new. Else this is one of so many parts that have the latest change of every
    flow there is, in place of any that got lost."""
    part: int = 0
    """Which of the parts, from 0."""
    told: int = 0
    """With parts: how many changes had been told by then."""


@dataclass(frozen=True, slots=True)
class NamedCount:
    """A roll-up's line on one address of a name."""

    slot: int
    address: Address
    made: int
    failed: int
    local_errors: int
    flips: int
    latency: int


@in_bulk
@dataclass(frozen=True, slots=True)
class RollUp:
    """The body of a report: all observations of a period, counted; an octet for each slot.

    A column is empty where it would have nothing but zeros; else it is as long as the plan. Slots
    with a name have zeros there, and lines of their own.
    """

    plan: Revision
    begins_ms: int
    ends_ms: int
    """By the sender's clock that never jumps."""
    made: Column = b""
    """Observations, those of changes included."""
    failed: Column = b""
    """Those of them that did not find it open, though the check could be made."""
    local_errors: Column = b""
    """Those of them that could not be made."""
    flips: Column = b""
    """How often it went from open to not open or back."""
    latency: Column = b""
    """Median time to connect of those that found it open; see `reachmap_shared.logscale`."""
    named: Annotated[tuple[NamedCount, ...], Max(2000)] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """The body of a report: the final account of a start, by the start after it."""

    made: int
    """Observations that it made."""
    lost: int
    """Those of them that nobody will ever hear of, a crash's included."""
    changes_lost: int
    """Changes that nobody will ever hear of."""


class ReportKind(StrEnum):
    """What a report's body is."""

    CHANGES = "changes"
    ROLL_UP = "roll-up"
    CLOSED = "closed"
    DIAGNOSIS = "diagnosis"


@in_bulk
@dataclass(frozen=True, slots=True)
class Report:
    """What an agent wants to be kept: delivered at least once, taken once."""

    agent: Name
    boot: Boot
    sequence: int
    """Which of this start's reports it is, from 0; -1 for one that may be taken again and again,
    since it only repeats."""
    sent_ms: int
    """The clock of the start that wrote the body, when this was sent."""
    wall_ms: int
    """The sender's wall clock then, in milliseconds since the epoch."""
    kind: ReportKind
    body: Annotated[bytes, Max(MAX_BODY)]
    """A `Changes`, `RollUp`, `Closed` or `Diagnosis`, packed: as the spool has it."""


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """One agent asks another to listen on a port of its for a moment."""

    source: Name
    port: int
    transport: Transport
    seconds: float
    mac: Key = ""
    """Proves that the source's plan has this flow; see `reachmap_shared.keys`."""


@dataclass(frozen=True, slots=True)
class WindowReply:
    """What the other agent says to that."""

    state: ListenerState
    """LISTENING when the window is open; else why it is not."""
    detail: Sentence = ""
