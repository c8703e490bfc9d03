"""The checks of the plan at work: starts each when it is due, and again when what it saw is new."""

import asyncio
import gc
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from reachmap_agent import descriptors
from reachmap_agent.clock import Clock
from reachmap_agent.confirm import Confirmation
from reachmap_agent.credentials import Contexts
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.prober import AsBefore, Done, Found, Job, Prober
from reachmap_agent.schedule import Schedule
from reachmap_agent.wire.exchange import Verdict
from reachmap_shared.messages import CheckSpec, Observation, Plan, WindowReply
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome
from reachmap_shared.waits import within

AskWindow = Callable[[CheckSpec, float], Awaitable[WindowReply | None]]
"""Asks a check's destination to listen for so many seconds; None when it cannot be asked."""

See = Callable[[str, Observation, bool], None]
"""Is given the revision of the plan, what one of its checks saw, and whether that is certain."""

SeeAgain = Callable[[str, int, int, int], None]
"""Is given the revision of the plan, the slot, when and in how many microseconds it connected."""

_FOR_LISTENERS: Final = ListenerLimits().descriptors
_YOUNG: Final = 5_000
"""New objects until Python looks for garbage among them: checks under way are hundreds of objects
each time, and none of them is ever any."""

_ABREAST: Final = 8
"""Of what comes along early so many start at once. The others follow as one ends, and get its
socket: that is cheaper than one of their own, and nobody in between sees a burst."""

_WINDOW_SPARE_S: Final = 0.5
"""For the way from the answer that a window is open to the check that uses it."""


class Checks:
    """What one agent checks.

    Args:
        agent: Its name; with what is dialled it makes a flow's place in the interval.
        tasks: Where names are resolved.
        ask_window: How destinations are asked to listen.
        see: Is told of every check that ended.
        clock: Says when they ended.
        for_listeners: File descriptors that are not for checks.
        see_again: Is told in place of `see` of what is open, and was seen just so the time before;
            None has `see` told of these too.
    """

    def __init__(
        self,
        agent: str,
        tasks: asyncio.TaskGroup,
        ask_window: AskWindow,
        see: See,
        clock: Clock,
        for_listeners: int = _FOR_LISTENERS,
        see_again: SeeAgain | None = None,
    ) -> None:
        self._agent = agent
        self._tasks = tasks
        self._ask_window = ask_window
        self._see = see
        self._see_again = see_again
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(self._loop)
        self._prober = Prober(self._engine, clock)
        self._rng = random.Random()  # noqa: S311  jitter, not secrets
        self._timer: asyncio.TimerHandle | None = None
        self._round: _Round | None = None
        self._room = _room(for_listeners)
        self._flying = 0
        self._stopped = False
        self._garbage = gc.get_threshold()
        self._idle = asyncio.Event()
        self._idle.set()
        self.late_s = 0.0
        """How late the latest-started check was, since someone last took this."""

    def apply(self, plan: Plan, contexts: Contexts) -> None:
        """Check by this plan from now on; what is in flight still counts for the one before."""
        if self._stopped:
            return
        now, at_start = self._loop.time(), self._round is None
        current = _Round(self._agent, plan, contexts, now, self._rng, at_start)
        self._round = current
        current.ended = partial(self._ended, current)
        if self._see_again is not None:
            current.as_before = partial(self._as_before, current, self._see_again)
        # It lives until the next one comes: to look through it for garbage again and again would
        # hold up everything for tens of milliseconds at a time where it is a large one.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG)
        self._wake_at(self._round.schedule.next_due())

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Of the plan at work, by slot."""
        return self._round.jobs if self._round is not None else ()

    def take_late_s(self) -> float:
        """How late the latest-started check was, in seconds, since this was asked last."""
        late_s, self.late_s = self.late_s, 0.0
        return late_s

    async def stop(self, patience_s: float) -> None:
        """Start no more for good, and wait for those in flight."""
        self._stopped = True
        self._round = None
        self._wake_at(None)
        try:
            await within(patience_s, self._idle.wait())
        finally:
            self._engine.close()
            gc.unfreeze()
            gc.set_threshold(*self._garbage)

    def _wake_at(self, when: float | None) -> None:
        if self._timer is not None:
            if self._timer.when() == when:
                return
            self._timer.cancel()
        self._timer = None if when is None else self._loop.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        try:
            self._start_due()
        except Exception as error:  # noqa: BLE001  raised again where it ends the agent
            # Out of a timer it would only be logged, and the agent go on half alive.
            self._tasks.create_task(_fail(error))

    def _start_due(self) -> None:
        current = self._round
        if current is None:
            return
        now = self._loop.time()
        for slot, late_s in current.schedule.pop_due(now):
            if current.begin(slot):
                current.queue.append(_Due(slot, now - late_s))
        self._start_queued()
        for _ in range(_ABREAST):
            if not self._take_along(current):
                break
        self._wake_at(current.schedule.next_due())

    def _take_along(self, current: "_Round") -> bool:
        """Start one that is due soon, unless there is none, or no room even for what is due."""
        if current.queue or self._flying >= self._room:
            return False
        now = self._loop.time()
        early = current.schedule.pop_early(now)
        if early is None:
            return False
        slot, late_s = early
        if current.begin(slot):
            self._start(current, _Due(slot, now - late_s))
        return True

    def _start_queued(self) -> None:
        """Start what is due by the plan that holds now, as far as there is room."""
        current = self._round
        if current is None:
            return
        while current.queue and self._flying < self._room:
            self._start(current, current.queue.popleft())

    def _start(self, current: "_Round", due: "_Due") -> None:
        self._flying += 1
        self._idle.clear()
        job = current.jobs[due.slot]
        if job.address is None and due.found is None:
            self._tasks.create_task(self._resolve(current, job, due))
            return
        late_s = self._loop.time() - due.at
        if late_s > self.late_s:
            self.late_s = late_s
        if job.spec.window and current.last_answer.get(job.slot) is not AnsweredBy.SERVICE:
            self._tasks.create_task(self._check_through_window(current, job, due.found))
            return
        timeout_s = current.timeout_s(job, due.found)
        self._prober.start(job, timeout_s, current.ended, due.found, current.as_before)

    async def _resolve(self, current: "_Round", job: Job, due: "_Due") -> None:
        """Make of a name's turn one for each of its addresses."""
        found = await self._prober.resolve(job, current.plan.timeout_s)
        if isinstance(found, Observation):
            self._ended(current, found)
            return
        before = current.resolved.get(job.slot, found[0].all)
        current.resolved[job.slot] = found[0].all
        if before != found[0].all:
            current.confirmation.keep(job.slot, found[0].all)
        now = self._loop.time()
        for one in found:
            if before != one.all:
                fact = f"until now it resolved to {' and '.join(before)}"
                one = replace(one, facts=(*one.facts, fact))
            current.queue.append(_Due(due.slot, now, one))
        current.under_way[job.slot] += len(found)
        self._let_go(current, job.slot)

    async def _check_through_window(self, current: "_Round", job: Job, found: Found | None) -> None:
        """Where no service was seen yet, ask for a listener first: it may be the only one there."""
        current.expect_anything(job.slot)
        timeout_s = current.timeout_s(job, found)
        reply = await self._ask_window(job.spec, timeout_s + _WINDOW_SPARE_S)
        listens = reply is not None and reply.state is ListenerState.LISTENING
        if listens:
            job = _patient(job)

        def ended(seen: Observation) -> None:
            if listens:
                seen = _through_window(seen)
            elif reply is None and seen.outcome is Outcome.REFUSED:
                fact = f"the agent on {job.spec.destination} could not be asked to listen"
                seen = replace(seen, evidence=(*seen.evidence, fact))
            self._ended(current, seen)

        self._prober.start(job, timeout_s, ended, found)

    def _as_before(
        self, current: "_Round", see_again: SeeAgain, slot: int, attempt: Attempt, at_ms: int
    ) -> bool:
        """Make short work of what came to just what the one before came to."""
        if current is not self._round or not current.is_as_before(slot, attempt):
            return False
        see_again(current.plan.revision, slot, at_ms, attempt.connect_us)
        self._let_go(current, slot)
        return True

    def _ended(self, current: "_Round", observation: Observation) -> None:
        slot = observation.slot
        current.last_answer[slot] = observation.answered_by
        confirmed, again_s = current.confirmation.judge(observation)
        current.note(observation, confirmed)
        if again_s is not None:
            current.schedule.once_more(slot, self._loop.time() + again_s)
            if current is self._round:
                self._wake_at(current.schedule.next_due())
        self._see(current.plan.revision, observation, confirmed)
        self._let_go(current, slot)

    def _let_go(self, current: "_Round", slot: int) -> None:
        """One of those in flight is not any more; start what waited for its place."""
        current.under_way[slot] -= 1
        if not current.under_way[slot]:
            del current.under_way[slot]
        self._flying -= 1
        self._start_queued()
        holds = self._round
        if holds is not None and not self._take_along(holds):
            self._wake_at(holds.schedule.next_due())
        if not self._flying:
            self._idle.set()


def _patient(job: Job) -> Job:
    """The check of a port where a listener of ours is."""
    patience_s = job.protocol.greeted_patience_s
    return replace(job, protocol=replace(job.protocol, patience_s=patience_s))


def _through_window(seen: Observation) -> Observation:
    """What a check saw while the destination's agent was listening for it."""
    seen = replace(seen, window=True)
    if seen.outcome is not Outcome.OPEN or seen.answered_by is AnsweredBy.LISTENER:
        return seen
    fact = "someone else answered while the destination's agent had the port: a device on the way"
    fact += ", or a redirection on the destination itself"
    return replace(
        seen, outcome=Outcome.WRONG_PEER, answered_by=None, evidence=(*seen.evidence, fact)[-16:]
    )


async def _fail(error: Exception) -> None:
    raise error


class _Due(NamedTuple):
    """What is to be started as soon as there is room."""

    slot: int
    at: float
    """When it was due, in the loop's time."""
    found: Found | None = None
    """One address of a name that is resolved already."""


class _Round:
    """All that belongs to one plan, so that another never mixes with it."""

    def __init__(
        self,
        agent: str,
        plan: Plan,
        contexts: Contexts,
        now: float,
        rng: random.Random,
        at_start: bool,
    ) -> None:
        self.plan = plan
        self.jobs = tuple(
            Job.of(slot, spec, plan, contexts) for slot, spec in enumerate(plan.checks)
        )
        keys = [f"{agent}>{spec.address}:{spec.port}/{spec.transport}" for spec in plan.checks]
        hosts = [spec.address for spec in plan.checks]
        self.schedule = Schedule(keys, hosts, plan.interval_s, now, rng, at_start=at_start)
        self.confirmation = Confirmation()
        self.last_answer: dict[int, AnsweredBy | None] = {}
        self.resolved: dict[int, tuple[str, ...]] = {}
        """The addresses that names had last."""
        self.ended: Done = lambda _: None
        self.as_before: AsBefore | None = None
        """What the prober calls."""
        self._verdicts: list[Verdict | None] = [None] * len(plan.checks)
        """What each slot's last check came to, where that is all there is to be said of it."""
        self._steady: set[int] = set()
        """Slots whose last observation was open and confirmed; addresses of names are in none."""
        self.under_way: dict[int, int] = {}
        """How many checks of a slot are due or in flight: a name may have several addresses."""
        self.queue: deque[_Due] = deque()

    def begin(self, slot: int) -> bool:
        """Let a slot have its turn, unless it still has its last: none is run twice at once."""
        if slot in self.under_way:
            return False
        self.under_way[slot] = 1
        return True

    def is_as_before(self, slot: int, attempt: Attempt) -> bool:
        """Whether a slot is well just as it was: then an observation would tell nothing new."""
        verdict = attempt.verdict if attempt.went_smoothly else None
        before, self._verdicts[slot] = self._verdicts[slot], verdict
        return verdict is not None and verdict is before and slot in self._steady

    def expect_anything(self, slot: int) -> None:
        """A slot is about to be seen in another way: what its last check came to is no measure."""
        self._verdicts[slot] = None

    def note(self, seen: Observation, confirmed: bool) -> None:
        """An observation was made: whether the next may be as this one."""
        if confirmed and seen.outcome is Outcome.OPEN and not seen.address:
            self._steady.add(seen.slot)
        else:
            self._steady.discard(seen.slot)

    def timeout_s(self, job: Job, found: Found | None) -> float:
        """How long a check waits for an answer: a repetition may wait for less."""
        address = "" if found is None else found.address[0]
        return self.confirmation.timeout_s(job.slot, address, self.plan.timeout_s)


def _room(for_listeners: int) -> int:
    """How many checks may be in flight, so that descriptors never run out."""
    left = descriptors.allowed() - descriptors.KEPT - for_listeners
    return max(16, min(descriptors.FOR_CHECKS, left))
