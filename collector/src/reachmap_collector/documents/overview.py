"""The whole at a glance: the map and the status. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from reachmap_collector.documents.base import Count, Document, Moment, Port, States
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import State


class MatrixRow(Document):
    """A role or a host, with its flows to each service."""

    name: str
    cells: dict[str, States]


class Matrix(Document):
    """Roles or hosts against services."""

    by: Literal["role", "host"]
    columns: list[str]
    """Of all pages."""
    rows: list[MatrixRow]
    next: str | None = None
    """What to pass as `after` for the next page of hosts; null on the last."""


class PortTableRow(Document):
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


class PortTable(Document):
    """The profiles' port tables."""

    by: Literal["row"]
    rows: list[PortTableRow]


class DeliveryStatus(Document):
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


class StoreStatus(Document):
    """How the store does."""

    trouble: str | None
    waiting: Count
    """Reports that it has not committed yet."""
    dead_letters: Count
    """Messages that could not be used, and were kept as they came, since the collector's start."""


class Observations(Document):
    """Where all observations are that were made, as far as is known."""

    received: Count
    refused: Count
    waiting: Count
    dropped: Count
    vanished: Count


class Status(Document):
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
