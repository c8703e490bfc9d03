"""What became of flows: changes, differences and trends. Pure."""

from typing import Annotated

from pydantic import Field

from reachmap_collector.documents.base import Count, Document, Moment, Port
from reachmap_collector.turns import Turn
from reachmap_shared.vocabulary import AnsweredBy, Expectation, Outcome, Transport


class Transition(Document):
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


class HistoryPage(Document):
    """One page of what became of flows."""

    transitions: list[Transition]
    next: str | None
    """What to pass as `after` for the next page; null on the last."""


class Changes(Document):
    """What was kept after some change."""

    changes: list[Transition]
    last: Count
    """What to pass as `after` to go on from here."""
    more: bool
    """Whether there is more already."""
    reset: bool
    """Whether this store never gave the `after` that was asked with."""


class ChangedAlike(Document):
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


class Difference(Document):
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


class Fared(Document):
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


class Trend(Document):
    """How flows fared over a span of time. A flow that nobody checked then is not there."""

    since: Moment
    until: Moment
    step_s: Annotated[float, Field(gt=0)]
    flows: list[FlowTrend]
