"""From what was seen of a flow to what it means: state, cause, confidence, and why. Pure.

Every judgement rests on sentences that state a fact and where it was observed. Where the facts
allow several explanations the cause is `unknown`, and it is only `proven` where no other fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from reachmap_collector.diagnose import Diagnosed, Finding
from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.planner import NO_ADDRESS, FlowKey
from reachmap_collector.roster import MISSED_HEARTBEATS, AgentState, Roster
from reachmap_collector.topology.schema import Checks
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import (
    Cause,
    Confidence,
    Expectation,
    ListenerState,
    Outcome,
    State,
    Transport,
)

if TYPE_CHECKING:  # the command line has no use for the map, and it is slow to load
    from reachmap_collector.flowmap.fold import FlowMap

MISSED_CHECKS: Final = 3
"""Intervals without a check after which the last one says nothing about now."""

_MAX_HEARTBEAT_S: Final = 60.0
"""Whatever an agent says: none may keep its flows green for ever."""

FLAPPING: Final = 4
"""Changes within the window that make an open flow degraded: one outage and its end are two."""


class Doubt(StrEnum):
    """Why a flow's state is unknown."""

    NO_ADDRESS = "no-address"
    """Nobody knows where to dial."""
    CONFLICT = "conflict"
    """Two agents check under one name."""
    NO_NEWS = "no-news"
    """The source's agent does not report."""
    NO_CHECK = "no-check"
    """It reports, but not on this flow."""
    LOCAL_ERROR = "local-error"
    """It could not make the check."""
    ASTRAY = "astray"
    """A forbidden flow's check did not get to the destination."""
    NOT_REACHED = "not-reached"
    """A forbidden flow's destination may be down."""
    NO_WINDOW = "no-window"
    """Nothing listened for the check, and no service was ever seen there."""
    NO_WITNESS = "no-witness"
    """Nobody says whether anything listens on a forbidden flow's port."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a flow is like at one moment."""

    record: FlowRecord
    state: State
    since: float
    """Seconds since the epoch."""
    cause: Cause | None = None
    at: str | None = None
    confidence: Confidence | None = None
    evidence: tuple[str, ...] = ()
    doubt: Doubt | None = None
    """Set when the state is unknown."""
    listened: bool | None = None
    """Of a broken flow: whether anything listened on its port; None where nobody can say."""
    diagnosed: Diagnosed | None = None
    """Of a broken flow: that both ends, or its source, looked into this very fault."""

    @property
    def seen(self) -> Observation | None:
        """What the last check saw."""
        return self.record.last


class Judge:
    """Judges the flows of one map at one moment.

    Args:
        flows: The map; a forbidden flow is judged by its neighbours too.
        roster: What is known of the agents on both ends.
        checks: How often flows are checked.
        now: Seconds since the epoch.
    """

    def __init__(self, flows: "FlowMap", roster: Roster, checks: Checks, now: float) -> None:
        self.now = now
        self._flows = flows
        self._roster = roster
        self._checks = checks
        self.interval_s = checks.interval_s
        self._states: dict[str, AgentState] = {}
        self._patience: dict[str, float] = {}
        self._reached: dict[str, dict[str, float]] = {}

    def judge(self, record: FlowRecord) -> Judgement:
        """What this flow is like now."""
        if (blind := self._blind(record)) is not None:
            return blind
        assert record.last is not None  # or it would have been blind
        if record.last.outcome is Outcome.LOCAL_ERROR:
            return Judgement(
                record,
                State.UNKNOWN,
                record.changed,
                Cause.SOURCE_HOST,
                confidence=Confidence.PROVEN,
                evidence=(
                    *_seen(record, record.last),
                    f"{record.key.source} could not make the check: this says nothing of the path",
                ),
                doubt=Doubt.LOCAL_ERROR,
            )
        if record.expected.expect is Expectation.BLOCKED:
            return self._judge_forbidden(record, record.last)
        if record.last.outcome is Outcome.OPEN:
            return _judge_open(record, record.last)
        if (idle := self._nobody_yet(record, record.last)) is not None:
            return idle
        key, window = record.key, record.last.window
        listened, fact = self._listened(key, window=window)
        cause, confidence, facts = self._blame(key, record.last.outcome, window, listened, fact)
        at = None
        diagnosed = of_this_fault(record.diagnosed, record.changed)
        if diagnosed is not None:
            finding = diagnosed.finding
            if goes_before_a_check(finding):
                cause, at, confidence, facts = (
                    finding.cause,
                    finding.at,
                    finding.confidence,
                    (fact,),
                )
            facts = (*facts, *finding.evidence)
        return Judgement(
            record,
            State.BROKEN,
            record.changed,
            cause,
            at,
            confidence,
            (*_seen(record, record.last), *facts),
            listened=listened,
            diagnosed=diagnosed,
        )

    def _agent(self, name: str) -> AgentState:
        if name not in self._states:
            self._states[name] = self._roster.state(name, self.now)
        return self._states[name]

    def is_conflict(self, source: str) -> bool:
        """Whether several agents call themselves so."""
        return self._agent(source) is AgentState.CONFLICT

    def is_still_to_come(self, destination: str, port: int, transport: Transport) -> bool:
        """Whether a port's agent is there, could listen, and never saw a service on it."""
        report = self._roster.listener(destination, port, transport, self.now)
        return report is not None and not report.holder and report.state is ListenerState.READY

    def listens(self, destination: str, port: int, transport: Transport) -> bool | None:
        """Whether anything listens on a port, a check's window aside; None if nobody can say."""
        report = self._roster.listener(destination, port, transport, self.now)
        if report is None:
            return None
        return bool(report.holder) or report.state is ListenerState.LISTENING

    def _last_reached(self, source: str, destination: str) -> float | None:
        """When a source last reached a destination by any flow, of those that are fresh."""
        if source not in self._reached:
            reached = self._reached[source] = {}
            for record in self._flows.of(source):
                if self.reaches(record):
                    checked, where = record.checked, record.key.destination
                    reached[where] = max(checked, reached.get(where, checked))
        return self._reached[source].get(destination)

    def reaches(self, record: FlowRecord) -> bool:
        """Whether a flow's last check got to its destination, and lately."""
        if record.last is None or record.last.outcome is not Outcome.OPEN:
            return False
        return self.now <= record.checked + self.patience_s(record.key.source)

    def patience_s(self, source: str) -> float:
        """How old a flow's last check may be. Pulses tell of checks, so they may be missed too."""
        if source not in self._patience:
            heartbeat_s = min(self._roster.heartbeat_s(source), _MAX_HEARTBEAT_S)
            patience = max(MISSED_CHECKS * self._checks.interval_s, MISSED_HEARTBEATS * heartbeat_s)
            self._patience[source] = patience + self._checks.timeout_s
        return self._patience[source]

    def _blind(self, record: FlowRecord) -> Judgement | None:
        """The judgement on a flow of which nothing fresh is known; None when something is."""
        source, destination = record.key.source, record.key.destination
        if record.key.address == NO_ADDRESS:
            fact = f"{destination} has no address: the topology gives none, and no agent there has"
            return _unknown(record, record.known_since, Doubt.NO_ADDRESS, fact)
        state = self._agent(source)
        stale_since = record.checked + self.patience_s(source)
        if state is AgentState.CONFLICT:
            fact = f"two agents call themselves {source}: which of them saw what cannot be told"
            since = self._roster.living(source, self.now)[-1].first_heard
            return _unknown(record, since, Doubt.CONFLICT, fact)
        doubt = Doubt.NO_NEWS if state in _ABSENT else Doubt.NO_CHECK
        if record.last is None:
            said = _ABSENT.get(state, f"not checked yet by {source}")
            return _unknown(record, record.known_since, doubt, said.format(agent=source))
        if self.now > stale_since:
            said = _ABSENT.get(state, f"{source} reports, but no longer on this flow")
            return _unknown(record, stale_since, doubt, said.format(agent=source))
        return None

    def _judge_forbidden(self, record: FlowRecord, seen: Observation) -> Judgement:
        """A forbidden flow is fine only if it would have been seen open, had it been open."""
        key, facts = record.key, _seen(record, seen)
        if seen.outcome in CONNECTED:
            return Judgement(
                record,
                State.EXPOSED,
                record.changed,
                confidence=CONNECTED[seen.outcome],
                evidence=(*facts, "it connects, and the topology says that it must not"),
            )
        if seen.outcome in ASTRAY:
            fact = f"the check did not get to {key.destination}: this says nothing of it"
            return _unknown(record, record.changed, Doubt.ASTRAY, *facts, fact)
        reached = self._last_reached(key.source, key.destination)
        if reached is None:
            fact = f"nothing else of {key.destination} was reached from {key.source} either: "
            fact += "it may just be down"
            return _unknown(record, record.changed, Doubt.NOT_REACHED, *facts, fact)
        if reached < record.checked - self._checks.interval_s:
            fact = f"{key.destination} was reached from {key.source} before this check, and not "
            fact += "within an interval of it: it may have gone down since"
            return _unknown(record, record.changed, Doubt.NOT_REACHED, *facts, fact)
        listened, fact = self._listened(key, window=seen.window)
        if not listened:
            return _unknown(record, record.changed, Doubt.NO_WITNESS, *facts, fact)
        return Judgement(
            record,
            State.OK,
            record.changed,
            evidence=(
                *facts,
                f"{key.destination} was reached from {key.source} otherwise, and something listens",
            ),
        )

    def blame(self, key: FlowKey, outcome: Outcome, *, window: bool) -> Cause:
        """Where a flow goes wrong that should be open, as far as one check of it tells."""
        return self._blame(key, outcome, window, *self._listened(key, window=window))[0]

    def _blame(
        self, key: FlowKey, outcome: Outcome, window: bool, listened: bool | None, fact: str
    ) -> tuple[Cause, Confidence, tuple[str, ...]]:
        """Where a flow that should be open goes wrong, with the facts besides the check's own."""
        state = self._agent(key.destination)
        if outcome in _BY_OUTCOME:
            return _BY_OUTCOME[outcome]
        if state in _GONE and not window:  # one that opened a window was there all the same
            fact = _ABSENT[state].format(agent=key.destination)
            if outcome in _NOBODY_HOME:
                return Cause.DESTINATION_HOST, Confidence.LIKELY, (fact,)
        if outcome is Outcome.REFUSED and not listened:
            # Only who is up refuses. Whether it was the host itself, one end alone cannot tell.
            facts = (fact,) if listened is False else (_REFUSAL.format(key.destination), fact)
            return Cause.SERVICE, Confidence.LIKELY, facts
        return Cause.UNKNOWN, Confidence.UNKNOWN, (fact,)

    def _nobody_yet(self, record: FlowRecord, seen: Observation) -> Judgement | None:
        """The judgement on a refusal that only says that the service is still to come."""
        key = record.key
        if seen.outcome is not Outcome.REFUSED or seen.window:
            return None
        if not self.is_still_to_come(key.destination, key.port, key.transport):
            return None
        fact = f"no service was ever seen on port {key.port} of {key.destination}, and its agent"
        fact += " did not listen for this check: this says nothing of the path"
        return _unknown(record, record.changed, Doubt.NO_WINDOW, *_seen(record, seen), fact)

    def _listened(self, key: FlowKey, *, window: bool) -> tuple[bool | None, str]:
        """Whether anything listened on the flow's port, and who says so; None where nobody does."""
        place = f"port {key.port} of {key.destination}"
        if window:
            return True, f"the agent on {key.destination} listened on {place} for this check"
        report = self._roster.listener(key.destination, key.port, key.transport, self.now)
        if report is None:
            return None, f"no agent on {key.destination} can say whether anything listens there"
        if report.holder:
            return True, f"{place} is held by {report.holder}, says the agent there"
        if report.state is ListenerState.LISTENING:
            return True, f"the agent on {key.destination} listens on {place}"
        return False, f"{_SAYS[report.state].format(place=place)}, says the agent there"


def of_this_fault(diagnosed: Diagnosed | None, since: float) -> Diagnosed | None:
    """What was found out about a flow, unless it is about an earlier fault than its present one."""
    return diagnosed if diagnosed is not None and diagnosed.at > since else None


def goes_before_a_check(finding: Finding) -> bool:
    """Whether a look from both ends goes before what one check suggests: if it tells anything."""
    return finding.cause is not Cause.UNKNOWN


_ABSENT: Final[Mapping[AgentState, str]] = {
    AgentState.ABSENT: "no agent on {agent} has ever reported",
    AgentState.SILENT: "the agent on {agent} has gone silent",
    AgentState.LEFT: "the agent on {agent} was stopped",
}

_SAYS: Final[Mapping[ListenerState, str]] = {
    ListenerState.READY: "nothing listens on {place}",
    ListenerState.CEDED: "nothing listens on {place}, where a service was seen before",
    ListenerState.FAILED: "nothing listens on {place}, and it could not do so itself",
    ListenerState.NEVER: "nothing listens on {place}",
}

_GONE: Final = frozenset({AgentState.SILENT, AgentState.LEFT})

_NOBODY_HOME: Final = frozenset({Outcome.TIMEOUT, Outcome.UNREACHABLE})
"""Outcomes that a host which is down explains; a refusal is none: it needs somebody to send it."""

_REFUSAL: Final = (
    "a refusal is an answer: {} is up and nothing listens there, or a device on the way refuses "
    "in its stead"
)

CONNECTED: Final[Mapping[Outcome, Confidence]] = {
    Outcome.OPEN: Confidence.PROVEN,
    # A connection was made, but whatever made it did not answer as the service would.
    Outcome.WRONG_SERVICE: Confidence.LIKELY,
    Outcome.TLS_FAILURE: Confidence.LIKELY,
    Outcome.RESET: Confidence.LIKELY,
    Outcome.STALLED: Confidence.LIKELY,
}
"""Outcomes that show a forbidden flow to be open, and how surely."""

ASTRAY: Final = frozenset({Outcome.NAME_FAILURE, Outcome.WRONG_PEER})
"""Outcomes of checks that did not get to the destination, so that they show nothing of it."""

_BY_OUTCOME: Final[Mapping[Outcome, tuple[Cause, Confidence, tuple[str, ...]]]] = {
    Outcome.NAME_FAILURE: (Cause.NAME_RESOLUTION, Confidence.PROVEN, ()),
    Outcome.WRONG_SERVICE: (
        Cause.SERVICE,
        Confidence.LIKELY,
        ("the port is open, but what answers there is not the service that should",),
    ),
    Outcome.TLS_FAILURE: (
        Cause.SERVICE,
        Confidence.LIKELY,
        ("the port is open, but what answers there does not agree on TLS",),
    ),
    Outcome.WRONG_PEER: (
        Cause.MIDDLEBOX,
        Confidence.LIKELY,
        ("something on the way leads this address to another host",),
    ),
}
"""Outcomes that say where to look by themselves."""


def _judge_open(record: FlowRecord, seen: Observation) -> Judgement:
    troubles: tuple[str, ...] = ()
    if not seen.healthy:
        troubles = ("the service answers that it is not well",)
    elif record.flips >= FLAPPING:
        troubles = (f"it went up and down {record.flips} times in the last checks",)
    facts = _seen(record, seen)
    if not troubles:
        return Judgement(record, State.OK, record.changed, evidence=facts)
    return Judgement(
        record,
        State.DEGRADED,
        record.changed,
        Cause.UNKNOWN if seen.healthy else Cause.SERVICE,
        confidence=Confidence.UNKNOWN if seen.healthy else Confidence.PROVEN,
        evidence=(*facts, *troubles),
    )


def _unknown(record: FlowRecord, since: float, doubt: Doubt, *facts: str) -> Judgement:
    return Judgement(
        record,
        State.UNKNOWN,
        since,
        Cause.UNKNOWN,
        confidence=Confidence.UNKNOWN,
        evidence=facts,
        doubt=doubt,
    )


def _seen(record: FlowRecord, seen: Observation) -> tuple[str, ...]:
    """What the check itself saw, with where."""
    source = record.key.source
    return tuple(f"{source}: {fact}" for fact in seen.evidence) or (f"{source}: {seen.outcome}",)
