"""Flows, and everything known of them. Pure."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reachmap_collector.documents.base import Count, Document, Milliseconds, Moment, Port
from reachmap_collector.topology.schema import Basis
from reachmap_shared.vocabulary import (
    AnsweredBy,
    Cause,
    Confidence,
    Expectation,
    Outcome,
    State,
    Transport,
)


class TableRow(Document):
    """A row of a profile's port table."""

    profile: str
    row: Annotated[int, Field(ge=1)]
    """Its number, from 1."""
    text: str
    """Port, component, traffic and description, as people know the row."""


class Reason(Document):
    """Why the topology speaks of a flow."""

    role: str
    """The source's role."""
    service: str
    basis: Basis | Literal["deny"]
    row: TableRow | None
    note: str


class CheckCounts(Document):
    """Of the latest four roll-ups of the source's agent."""

    made: Count
    open: Count
    local_error: Count
    """How many could not be made."""


class Flow(Document):
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


class RuleRequests(Document):
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


class FlowPage(Document):
    """One page of flows."""

    flows: list[ExplainedFlow | Flow]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""
    total: Count
    """Flows on all pages."""
    rows: list[TableRow] | None
    """Rows of port tables that the filter `row` means; null without it."""


class Explanation(Document):
    """Everything known of some flows."""

    flows: list[ExplainedFlow]
    hosts: dict[str, str]
    """Whose the addresses are that hosts were asked for by."""
