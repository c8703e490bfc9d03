"""How flows fared over a span of time: what the checks of each step of it came to. Pure.

It is added up from roll-ups, each of which counts in the step in which it begins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import PlanSlots
from reachmap_collector.views import timestamp
from reachmap_shared import logscale
from reachmap_shared.messages import NamedCount, RollUp

Json = dict[str, Any]

MAX_STEPS: Final = 500
"""Of one answer."""

_MOST_PARTS: Final = 200


@dataclass(frozen=True, slots=True)
class Span:
    """A time, cut into steps of one length."""

    since: float
    until: float
    steps: int

    @property
    def step_s(self) -> float:
        """How long a step is."""
        return (self.until - self.since) / self.steps

    def parts(self, longest_s: float, horizon: float) -> Iterator[tuple[float, float]]:
        """Its beginning and end, in parts that are no longer than this.

        What is from before the horizon, or so far after it that nothing can be there yet, is one
        part each, however long it is.
        """
        begins = max(self.since, min(self.until, horizon))
        if self.since < begins:
            yield self.since, begins
        most = _MOST_PARTS
        while begins < self.until:
            most -= 1
            ends = min(begins + longest_s, self.until) if most else self.until
            yield begins, ends
            begins = ends

    def place(self, moment: float) -> int | None:
        """The step that a moment is in; None for one outside."""
        if not self.since <= moment < self.until:
            return None
        return min(self.steps - 1, int((moment - self.since) / self.step_s))


@dataclass(slots=True)
class Step:
    """What the checks of one flow in one step came to."""

    made: int = 0
    failed: int = 0
    local_errors: int = 0
    flips: int = 0
    latencies: list[int] = field(default_factory=list)
    """Each roll-up's median, as `logscale` has it."""

    def add(self, line: NamedCount) -> None:
        """Count what one roll-up says."""
        self.made += line.made
        self.failed += line.failed
        self.local_errors += line.local_errors
        self.flips += line.flips
        if line.latency != logscale.NONE:
            self.latencies.append(line.latency)

    def include(self, other: "Step") -> None:
        """Count what another step does."""
        self.made += other.made
        self.failed += other.failed
        self.local_errors += other.local_errors
        self.flips += other.flips
        self.latencies += other.latencies

    def shown(self) -> Json:
        """As programs see it."""
        return {
            "made": self.made,
            "open": max(0, self.made - self.failed - self.local_errors),
            "local_error": self.local_errors,
            "flips": self.flips,
            "latency_ms": round(median(map(logscale.us, self.latencies)) / 1000, 3)
            if self.latencies
            else None,
        }


class Trend:
    """Adds up the roll-ups of some flows.

    Args:
        span: Of what time.
        wanted: What a flow is called now; None for one that nobody asked for.
    """

    def __init__(self, span: Span, wanted: Callable[[FlowKey], FlowKey | None]) -> None:
        self._span = span
        self._wanted = wanted
        self._steps: dict[tuple[FlowKey, str], list[Step]] = {}
        self._slots: dict[tuple[str, str], dict[int, tuple[FlowKey, str]]] = {}
        """Of each plan: the slots of flows that were asked for."""

    def know(self, plan: PlanSlots) -> None:
        """Take up what a plan's slots mean."""
        slots = enumerate(zip(plan.flows, plan.services, strict=True))
        self._slots[plan.agent, plan.revision] = {
            slot: (now, service)
            for slot, (flow, service) in slots
            if (now := self._wanted(flow)) is not None
        }

    def take(self, agent: str, begins: float, counts: RollUp) -> None:
        """Count a roll-up; one under a plan that nobody knows any more says nothing."""
        place = self._span.place(begins)
        if place is None:
            return
        slots = self._slots.get((agent, counts.plan), {})
        columns = (counts.made, counts.failed, counts.local_errors, counts.flips, counts.latency)
        for slot, flow in slots.items():
            line = NamedCount(slot, "", *(_at(column, slot) for column in columns))
            if line.made > 0:
                self._step(flow, place).add(line)
        for line in counts.named:
            if line.slot in slots:
                key, service = slots[line.slot]
                self._step((replace(key, address=line.address), service), place).add(line)

    def _step(self, flow: tuple[FlowKey, str], place: int) -> Step:
        if flow not in self._steps:
            self._steps[flow] = [Step() for _ in range(self._span.steps)]
        return self._steps[flow][place]

    def shown(self) -> Json:
        """As programs see it: the flows in the order of their keys."""
        return {
            "since": timestamp(self._span.since),
            "until": timestamp(self._span.until),
            "step_s": round(self._span.step_s, 3),
            "flows": [*self._flows()],
        }

    def _flows(self) -> Iterator[Json]:
        for (key, service), steps in sorted(self._steps.items(), key=lambda one: one[0]):
            whole = Step()
            for step in steps:
                whole.include(step)
            yield {
                "source": key.source,
                "destination": key.destination,
                "service": service,
                "address": key.address,
                "port": key.port,
                "transport": key.transport,
                **whole.shown(),
                "steps": [
                    {"at": timestamp(self._span.since + number * self._span.step_s), **step.shown()}
                    for number, step in enumerate(steps)
                ],
            }


def _at(column: bytes, slot: int) -> int:
    """A slot's octet; an empty column has nothing but zeros."""
    return column[slot] if slot < len(column) else 0
