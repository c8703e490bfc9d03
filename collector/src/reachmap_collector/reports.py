"""From what agents say to the map, the ledger, and what the store is to keep. Pure.

Everything may come late, twice, in any order, or be wrong: what cannot be used is refused whole,
counted, and kept as a dead letter. Whatever is taken goes to the map and to the store.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from reachmap_collector.diagnoses import KeptDiagnosis, recall
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import Counts, Period, Told
from reachmap_collector.ledger import Account, Ledger, Loss, Losses, Ranges
from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import KnownPlans, Slots
from reachmap_collector.store.api import (
    Batch,
    DeadLetter,
    Kept,
    Latest,
    PackedRollUp,
    PlanSlots,
    Received,
    Transition,
)
from reachmap_collector.well import well_flows
from reachmap_shared import codec, subjects
from reachmap_shared.diagnosis import Diagnosis
from reachmap_shared.errors import InvalidName, MalformedMessage
from reachmap_shared.messages import (
    Change,
    Changes,
    Closed,
    Observation,
    Pulse,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import Outcome

LOSSES: Final = "losses"
"""The store's area for what agents say is lost."""

LETTER: Final = 16 * 1024
"""Octets of a dead letter's payload that are kept: enough to see what it is."""

_MAX_PARTS: Final = 1000
"""Parts of a whole state: far above what a full plan of names comes to."""

_MAX_COUNT: Final = 1 << 20
"""Of one flow's checks in one period: far above what can be made."""


_NOTHING: Final = Batch()


class Taken(NamedTuple):
    """What became of one report."""

    batch: Batch
    """For the store."""
    account: Account | None
    """The account that it was booked on; None when it cannot even be told whose it is."""


class _Unusable(Exception):
    """A report that is refused: what is counted, and why in detail."""

    def __init__(self, what: str, reason: object) -> None:
        super().__init__(str(reason))
        self.what = what


class Reports:
    """Takes what agents report, and knows how far behind each is with it."""

    def __init__(self, flows: FlowMap, ledger: Ledger, plans: KnownPlans) -> None:
        self.refused: Counter[str] = Counter()
        """Reports, or parts of them, that were not taken, by reason."""
        self.duplicates = 0
        """Reports that had come before."""
        self._flows = flows
        self._ledger = ledger
        self._plans = plans
        self._waiting: dict[str, tuple[Pulse, float]] = {}
        """By agent: a pulse that speaks of changes which did not come yet, and when it came."""
        self._behind_since: dict[str, float] = {}

    def take(self, subject: str, payload: bytes, arrived: float) -> Taken:
        """Take one report.

        Args:
            subject: Where it was sent, which is what the server's permissions guard.
            payload: Whatever came.
            arrived: When the bus got it, in seconds since the epoch by the collector's clock.
        """
        try:
            report = codec.decode(Report, payload)
            check_sender(subject, report.agent, report.boot)
            if report.sequence < (-1 if report.kind is ReportKind.CHANGES else 0):
                raise MalformedMessage(f"Report.sequence: {report.sequence} counts nothing")
        except (MalformedMessage, InvalidName) as error:
            letter = self._refuse("malformed report", subject, payload, str(error), arrived)
            return Taken(Batch(dead_letters=(letter,)), None)
        account = self._ledger.account(report.agent, report.boot)
        account.last = max(account.last, arrived)
        if report.sequence in account.sequences:
            self.duplicates += 1
            return Taken(_NOTHING, account)
        try:
            batch = _TAKERS[report.kind](self, report, account, arrived)
        except (MalformedMessage, _Unusable) as error:
            what = error.what if isinstance(error, _Unusable) else "malformed report"
            letter = self._refuse(what, subject, payload, str(error), arrived)
            batch = Batch(dead_letters=(letter,), kept=self._keep_refused(account))
        if report.sequence >= 0:
            account.sequences.add(report.sequence)
        return Taken(batch, account)

    def _keep_refused(self, account: Account) -> tuple[Kept, ...]:
        if not account.refused:
            return ()
        losses = self._ledger.losses.get(account.agent, Losses())
        return (self._kept_losses(account.agent, losses.refusing(account.boot, account.refused)),)

    def _kept_losses(self, agent: str, losses: Losses) -> Kept:
        self._ledger.losses[agent] = losses
        return Kept(LOSSES, agent, codec.encode(losses))

    def pulse(self, pulse: Pulse, now: float) -> bool:
        """Refresh all that an agent says stayed as told; returns False if we know too little.

        A pulse that speaks of changes which are still under way waits for them.
        """
        account = self._ledger.account(pulse.agent, pulse.boot)
        slots = self._plans.get(pulse.agent, pulse.plan)
        if slots is None:
            return False
        if account.heard.prefix < pulse.told:
            self._waiting[pulse.agent] = (pulse, now)
            self._behind_since.setdefault(pulse.agent, now)
            return False
        self._waiting.pop(pulse.agent, None)
        self._behind_since.pop(pulse.agent, None)
        source = self._flows.source(pulse.agent)
        source.pulse(now, max(0, pulse.span_ms) / 1000, slots, pulse.stale)
        return True

    def behind_s(self, agent: str, now: float) -> float:
        """For how long an agent has spoken of changes that did not come; 0 if it does not."""
        return now - self._behind_since.get(agent, now)

    def doubt(self, agents: Iterable[str]) -> None:
        """The map lacks what these agents told before: ask them for their whole state."""
        for agent in agents:
            for account in self._ledger.of(agent):
                account.doubt()

    def restore(
        self,
        latest: Latest,
        received: Iterable[Received],
        losses: Iterable[Kept],
        diagnoses: Iterable[Kept] = (),
        older: Iterable[Transition] = (),
        former: Mapping[str, str] | None = None,
    ) -> Batch:
        """Begin with what the store has. The plans that it knows have to be known already.

        Args:
            latest: Of each flow the last change, by what hosts are called now.
            received: What was booked.
            losses: What agents lost.
            diagnoses: What was found out of flows, by what hosts were called then.
            older: Some of the changes before the last, those themselves perhaps included.
            former: What hosts are called now that had another name.

        Returns:
            What the store need not keep any longer, or is to keep under another name.
        """
        for row in received:
            account = self._ledger.account(row.agent, row.boot)
            account.sequences = Ranges(row.ranges)
            account.heard = Ranges([(0, row.heard)])
            account.observations = row.observations
            account.last = row.last
        for kept in losses:
            if kept.value is not None:
                with contextlib.suppress(MalformedMessage):  # kept by another version
                    said = codec.decode(Losses, kept.value)
                    self._ledger.losses[kept.key] = said
                    for one in said.refused:
                        if (known := self._ledger.get(kept.key, one.boot)) is not None:
                            known.refused = one.observations
        rest = self._begin(latest)
        rest += (one for one in older if not self._flows.has(one.flow, one.boot, one.number))
        for change in sorted(rest, key=lambda one: one.at):
            told = told_of(change)
            if told is None:  # let the agent say it again
                self.doubt([change.agent])
                continue
            flows = [change.flow]
            if told.seen.resolved:
                flows = self._flows.names(change.flow)
            if len(flows) > 1:  # which of the names it was cannot be told
                self.doubt([change.agent])
            elif flows:
                self._flows.tell(flows[0], change.service, told)
        recalled = recall(diagnoses, former or {}, self._flows)
        # Of what the store does not know nobody may say that it is as told.
        self.doubt(self._flows.unheard())
        return Batch(kept=recalled)

    def _begin(self, latest: Latest) -> list[Transition]:
        """Fill the map with what rows say enough of; returns the changes that are to be told."""
        well, places = well_flows(latest)
        begun = self._flows.begin(well)
        unclear = latest.boot[places[begun.unclear]]
        self.doubt(latest.boots[boot][0] for boot in np.unique(unclear).tolist())
        rest = np.ones(len(latest), bool)
        rest[places] = False
        rest[places[begun.whole]] = True
        return [latest[place] for place in np.flatnonzero(rest).tolist()]

    def _take_changes(self, report: Report, account: Account, arrived: float) -> Batch:
        body = codec.decode(Changes, report.body)
        if body.parts > _MAX_PARTS:
            raise MalformedMessage(f"Changes.parts: {body.parts} are too many")
        slots = self._slots(report.agent, body.plan)
        taken = [
            self._take_change(report, change, slots, arrived)
            for change in body.changes
            if self._has_flow(change, slots)
        ]
        for change in body.changes:
            if change.number >= 0:
                account.heard.add(change.number)
        if body.parts > 0:
            account.hear_part(body.plan, max(0, body.told), body.parts, body.part)
        if report.agent in self._waiting:
            self.pulse(*self._waiting[report.agent])
        return Batch(
            transitions=tuple(transition for transition, _ in taken),
            kept=tuple(kept for _, healed in taken for kept in healed),
        )

    def _has_flow(self, change: Change, slots: Slots) -> bool:
        has = 0 <= change.seen.slot < len(slots.flows) and change.number >= 0
        self.refused["change of no flow"] += not has
        return has

    def _take_change(
        self, report: Report, change: Change, slots: Slots, arrived: float
    ) -> tuple[Transition, tuple[Kept, ...]]:
        """A change's row, and what is over with it."""
        seen = change.seen
        flow, service = slots.flows[seen.slot], slots.services[seen.slot]
        at = _moment(report, seen.at_ms, arrived)
        told = Told(at, report.boot, change.number, seen)
        self._flows.tell(flow, service, told)
        healed: tuple[Kept, ...] = ()
        if seen.outcome is Outcome.OPEN and (over := self._flows.heal(flow, service, told)):
            healed = (KeptDiagnosis(over.at, flow.address, service, over.diagnosis).over(),)
        transition = Transition(
            agent=report.agent,
            boot=report.boot,
            number=change.number,
            flow=replace(flow, address=seen.address) if seen.resolved else flow,
            service=service,
            at=at,
            outcome=seen.outcome,
            is_open=seen.outcome is Outcome.OPEN,
            detail=codec.encode(seen),
        )
        return transition, healed

    def _take_roll_up(self, report: Report, account: Account, arrived: float) -> Batch:
        body = codec.decode(RollUp, report.body)
        made = sum(body.made)
        if body.named:
            made += sum(max(0, line.made) for line in body.named)
        try:
            slots = self._slots(report.agent, body.plan)
            _check_shape(body, len(slots.flows))
        except (MalformedMessage, _Unusable):
            account.refused += made
            raise
        account.observations += made
        begins = _moment(report, body.begins_ms, arrived)
        ends = _moment(report, body.ends_ms, arrived)
        period = Period(ends, account.boot, report.sequence, slots, Counts.of(body))
        self._flows.source(report.agent).roll_up(period)
        packed = PackedRollUp(
            report.agent, report.boot, report.sequence, body.plan, begins, ends, report.body
        )
        return Batch(rollups=(packed,))

    def _take_closed(self, report: Report, _account: Account, _arrived: float) -> Batch:
        body = codec.decode(Closed, report.body)
        counts = (max(0, count) for count in (body.made, body.lost, body.changes_lost))
        losses = self._ledger.losses.get(report.agent, Losses())
        told = self._ledger.told.get(report.agent, ())
        after = losses.given(Loss(report.boot, *counts), told)
        return Batch(kept=(self._kept_losses(report.agent, after),))

    def _take_diagnosis(self, report: Report, _account: Account, arrived: float) -> Batch:
        body = codec.decode(Diagnosis, report.body)
        slots = self._slots(report.agent, body.plan)
        if not 0 <= body.slot < len(slots.flows):
            raise _Unusable("diagnosis of no flow", f"slot {body.slot} is none of the plan's")
        flow, service = slots.flows[body.slot], slots.services[body.slot]
        said = FlowKey(body.source, body.destination, flow.address, body.port, body.transport)
        if said != flow:
            raise _Unusable("diagnosis of no flow", f"slot {body.slot} is another flow")
        at = _moment(report, body.at_ms, arrived)
        found = KeptDiagnosis(at, flow.address, service, body)
        # The flow may be gone from the map meanwhile.
        return Batch(kept=(found.kept(),)) if found.told(self._flows) else Batch()

    def _slots(self, agent: str, plan: str) -> Slots:
        slots = self._plans.get(agent, plan)
        if slots is None:
            raise _Unusable("report under an unknown plan", f"plan {plan!r} is not known")
        return slots

    def _refuse(
        self, what: str, subject: str, payload: bytes, reason: str, at: float
    ) -> DeadLetter:
        self.refused[what] += 1
        return DeadLetter(_ascii(subject), _ascii(f"{what}: {reason}"), payload[:LETTER], at)


_Taker = Callable[[Reports, Report, Account, float], Batch]

_TAKERS: Final[Mapping[ReportKind, _Taker]] = {
    ReportKind.CHANGES: Reports._take_changes,
    ReportKind.ROLL_UP: Reports._take_roll_up,
    ReportKind.CLOSED: Reports._take_closed,
    ReportKind.DIAGNOSIS: Reports._take_diagnosis,
}


def check_sender(subject: str, agent: str, boot: str) -> None:
    """A message may not claim another name than the server's permissions let it send under.

    Raises:
        MalformedMessage: It does, or its boot is nothing that could be kept.
        InvalidName: The subject names nobody.
    """
    if subjects.sender(subject) != agent:
        raise MalformedMessage(f"it claims to be from {agent!r}")
    if not boot.isascii() or not boot.isprintable():
        raise MalformedMessage(f"boot: {boot!r} is none")


def kept_account(account: Account) -> Received:
    """What the store is to know of an account."""
    return Received(
        agent=account.agent,
        boot=account.boot,
        ranges=tuple(account.sequences),
        observations=account.observations,
        heard=account.heard.prefix,
        last=account.last,
    )


def told_of(change: Transition) -> Told | None:
    """A change as the store kept it; None for one that another version kept."""
    try:
        seen = codec.decode(Observation, change.detail)
    except MalformedMessage:
        return None
    return Told(change.at, change.boot, change.number, seen)


def slots_of(row: PlanSlots) -> Slots:
    """A plan as the store kept it."""
    return Slots.of(row.agent, row.revision, row.flows, row.services)


def kept_slots(slots: Slots, now: float) -> PlanSlots:
    """A plan for the store to keep."""
    return PlanSlots(slots.agent, slots.revision, slots.flows, slots.services, now)


def _moment(report: Report, at_ms: int, arrived: float) -> float:
    """When something was, by the age that it had when its report was sent; never in the future."""
    return min(arrived, max(0.0, arrived - (report.sent_ms - at_ms) / 1000))


def _check_shape(body: RollUp, slots: int) -> None:
    for column in (body.made, body.failed, body.local_errors, body.flips, body.latency):
        if column and len(column) != slots:
            raise MalformedMessage(f"RollUp: expected columns of {slots} octets")
    for line in body.named:
        counts = (line.made, line.failed, line.local_errors, line.flips)
        if not 0 <= line.slot < slots or not 0 <= line.latency < 256:
            raise MalformedMessage("RollUp.named: expected slots, and times of an octet")
        if any(not 0 <= count < _MAX_COUNT for count in counts):
            raise MalformedMessage("RollUp.named: expected counts")


def _ascii(text: str) -> str:
    """Text that any store can keep, whoever made it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")
