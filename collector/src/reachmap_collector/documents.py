"""What `--format json` and the HTTP API give, as pydantic models: the source of its JSON Schemas.

Readers must bear fields that a later version adds, so no schema here forbids them; tests hold what
reachmap itself gives to just these fields. Pure.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from reachmap_collector.roster import AgentState
from reachmap_collector.topology.schema import Basis
from reachmap_collector.turns import Turn
from reachmap_shared.vocabulary import (
    AnsweredBy,
    Cause,
    Confidence,
    Expectation,
    ListenerState,
    Outcome,
    State,
    Transport,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_MOMENT: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"

Moment = Annotated[
    str,
    Field(
        pattern=_MOMENT,
        description="RFC 3339, in UTC, to the millisecond",
        json_schema_extra={"format": "date-time"},
    ),
]
Count = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[float, Field(ge=0)]
States = Annotated[
    dict[State, Count], Field(description="how many flows there are of each state that occurs")
]


class _Document(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class TableRow(_Document):
    """A row of a profile's port table."""

    profile: str
    row: Annotated[int, Field(ge=1)]
    """Its number, from 1."""
    text: str
    """Port, component, traffic and description, as people know the row."""


class Reason(_Document):
    """Why the topology speaks of a flow."""

    role: str
    """The source's role."""
    service: str
    basis: Basis | Literal["deny"]
    row: TableRow | None
    note: str


class CheckCounts(_Document):
    """Of the latest four roll-ups of the source's agent."""

    made: Count
    open: Count
    local_error: Count
    """How many could not be made."""


class Flow(_Document):
    """One source host, one destination address, one port and transport."""

    source: str
    destination: str
    service: str
    """`ROLE:PORT`, by the service's default port."""
    address: str | None
    """What is dialled; null while nobody knows an address."""
    port: Port
    transport: Transport
    protocol: str
    expect: Expectation
    state: State
    outcome: Outcome | None
    """What the last check saw; null before the first."""
    answered_by: AnsweredBy | None
    cause: Cause | None
    """Where it goes wrong; null when all is well."""
    at: str | None
    """Address of the device that did it, when known."""
    confidence: Confidence | None
    evidence: list[str]
    """Facts observed, each with where."""
    since: Moment
    """When the state began."""
    checked: Moment | None
    """When it is known to have been checked last."""
    latency_ms: Milliseconds | None
    """Median time to connect over the latest roll-ups."""
    duration_ms: Milliseconds | None
    """How long the last check took, from the name to the verdict."""
    reasons: list[Reason]
    certificate_until: Moment | None
    """When the certificate that the last check was shown ends."""
    seen_as: str | None
    """Where the destination's listener saw the last check come from."""
    checks: CheckCounts
    rows: list[TableRow]
    """Rows of port tables that the flow stands for: of those who connect, and of who listens."""


class RuleRequests(_Document):
    """One firewall rule to ask for, in several forms."""

    plain: str
    nftables: str
    firewalld: str
    ufw: str
    windows: str
    csv: str
    """source, its address, destination, its address, transport, port, family, why."""


class ExplainedFlow(Flow):
    """A flow with what to do about it."""

    advice: str | None
    settled_by: str | None
    """What would tell a cause that is unknown."""
    requests: RuleRequests | None
    """Null where no rule would help, or an address is not known."""
    diagnosis: dict[str, Any] | None
    """What both ends found when they looked into it: the walk, the witness's word, the packets that
    were seen. Null before, and for flows that are well."""


class Listener(_Document):
    """One port of an agent."""

    service: str
    port: int
    transport: Transport
    state: ListenerState
    detail: str


class AbsentAgent(_Document):
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


class MatrixRow(_Document):
    """A role or a host, with its flows to each service."""

    name: str
    cells: dict[str, States]


class Matrix(_Document):
    """Roles or hosts against services."""

    by: Literal["role", "host"]
    columns: list[str]
    """Of all pages."""
    rows: list[MatrixRow]
    next: str | None = None
    """What to pass as `after` for the next page of hosts; null on the last."""


class PortTableRow(_Document):
    """A row of a port table, with the flows that it stands for."""

    profile: str
    row: Annotated[int, Field(ge=1)]
    port: Port
    component: str
    traffic: Literal["inbound", "outbound"]
    description: str
    flows: Count
    states: States
    state: State | None
    """The worst; null without flows."""


class PortTable(_Document):
    """The profiles' port tables."""

    by: Literal["row"]
    rows: list[PortTableRow]


class DeliveryStatus(_Document):
    """How reports come in."""

    trouble: str | None
    lag: Count
    """Reports in the stream that were not taken yet."""
    in_stream: Count
    stream_octets: Count
    redelivered: Count
    taken: Count
    duplicates: Count
    reports_missing: Count
    """Reports that agents numbered, and that did not come yet."""
    bus_clock_offset_s: float
    """How far the bus's clock is ahead of the collector's."""


class StoreStatus(_Document):
    """How the store does."""

    trouble: str | None
    waiting: Count
    """Reports that it has not committed yet."""
    dead_letters: Count
    """Messages that could not be used, and were kept as they came, since the collector's start."""


class Observations(_Document):
    """Where all observations are that were made, as far as is known."""

    received: Count
    refused: Count
    waiting: Count
    dropped: Count
    vanished: Count


class Status(_Document):
    """The whole in one line's worth."""

    flows: dict[State, Count]
    agents: dict[AgentState, Count]
    agents_missing: Count
    state: State | None
    """The worst of any flow; null when there is none."""
    refused_messages: dict[str, Count]
    """Messages that were not taken, by reason."""
    delivery: DeliveryStatus
    store: StoreStatus
    observations: Observations
    now: Moment
    """By the collector's clock."""


class Listens(_Document):
    """A service that a role listens on."""

    service: str
    protocol: str
    transport: Transport
    basis: Basis
    row: TableRow | None
    note: str


class Connects(_Document):
    """A service that a role connects to."""

    role: str
    service: str
    basis: Basis
    row: TableRow | None
    note: str


class Role(_Document):
    """What a host is in a deployment."""

    role: str
    title: str
    listens: list[Listens]
    connects: list[Connects]


class Host(_Document):
    """One machine of the deployment."""

    host: str
    roles: list[str]
    addresses: list[str]
    ports: dict[str, Port]
    agent: bool
    listed: bool
    """Whether it stands in the topology's file."""
    was: list[str]
    """What it was called before."""


class Deny(_Document):
    """Hosts of one role must not reach a service."""

    role: str
    service: str
    note: str


class CheckTimes(_Document):
    """How often and how patiently flows are checked."""

    interval_s: float
    timeout_s: float


class Topology(_Document):
    """The topology in force."""

    roles: list[Role]
    hosts: list[Host]
    deny: list[Deny]
    checks: CheckTimes
    next: str | None = None
    """What to pass as `after` for the next page of hosts; null on the last."""


class FlowPage(_Document):
    """One page of flows."""

    flows: list[ExplainedFlow | Flow]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""
    total: Count
    """Flows on all pages."""
    rows: list[TableRow] | None
    """Rows of port tables that the filter `row` means; null without it."""


class Explanation(_Document):
    """Everything known of some flows."""

    flows: list[ExplainedFlow]


class Agents(_Document):
    """One page of who reports."""

    agents: list[Agent | AbsentAgent]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""


class Transition(_Document):
    """One change of a flow."""

    sequence: Count
    """Higher than that of all that was kept before it."""
    at: Moment
    change: Turn
    """What it means for whoever relies on the flow."""
    source: str
    destination: str
    service: str
    address: str
    port: Port
    transport: Transport
    expect: Expectation | None
    """By the topology in force; null where it has no such flow."""
    was: Outcome | None
    """What was seen before; null where nothing was."""
    was_answered_by: AnsweredBy | None
    outcome: Outcome
    answered_by: AnsweredBy | None
    evidence: list[str]
    source_then: str
    """What the host was called then."""
    destination_then: str


class HistoryPage(_Document):
    """One page of what became of flows."""

    transitions: list[Transition]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""


class Changes(_Document):
    """What was kept after some change."""

    changes: list[Transition]
    last: Count
    """What to pass as `after` to go on from here."""
    more: bool
    """Whether there is more already."""
    reset: bool
    """Whether this store never gave the `after` that was asked with."""


class ChangedAlike(_Document):
    """Flows to one service of one host that changed alike."""

    change: Turn
    service: str
    destination: str
    was: Outcome | None
    outcome: Outcome
    flows: Count
    hosts: Count
    """How many sources these flows have."""
    sources: list[str]
    """Some of them."""
    first: Moment
    """When the earliest of these flows came to be so."""
    last: Moment


class Difference(_Document):
    """What changed between two times."""

    since: Moment
    until: Moment
    counts: dict[Turn, Count]
    """Of flows."""
    groups: list[ChangedAlike]
    """The gravest first."""


class DifferencePage(Difference):
    """One page of what changed between two times; the counts are of all pages."""

    next: str | None
    """What to pass as `after` for the next page; null on the last."""


class Fared(_Document):
    """What the checks of a flow in some time came to."""

    made: Count
    open: Count
    local_error: Count
    """How many could not be made: those are no losses."""
    flips: Count
    """How often it went from open to not open or back."""
    latency_ms: Annotated[float, Field(ge=0)] | None
    """Median time to connect of those that found it open."""


class Step(Fared):
    """One step of a span of time."""

    at: Moment
    """When it begins."""


class FlowTrend(Fared):
    """How one flow fared over the whole span, and step by step."""

    source: str
    destination: str
    service: str
    address: str
    port: Port
    transport: Transport
    steps: list[Step]


class Trend(_Document):
    """How flows fared over a span of time. A flow that nobody checked then is not there."""

    since: Moment
    until: Moment
    step_s: Annotated[float, Field(gt=0)]
    flows: list[FlowTrend]


class Problem(_Document):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str


DOCUMENTS: Final[Mapping[str, Any]] = {
    "agents": list[Agent | AbsentAgent],
    "diff": Difference,
    "explain": list[ExplainedFlow],
    "flows": list[Flow],
    "history": list[Transition],
    "map": Matrix | PortTable,
    "status": Status,
    "topology": Topology,
    "trend": Trend,
}
"""What each command prints with `--format json`."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints; `name` is one of DOCUMENTS."""
    made = TypeAdapter(DOCUMENTS[name]).json_schema()
    return {"$schema": DIALECT, "$id": f"urn:reachmap:{name}", **made}
