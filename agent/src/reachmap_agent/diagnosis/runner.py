"""Runs diagnoses beside the checks: hears what checks saw, looks into what the policy picks.

It sleeps until something is due, so it costs nothing while all is well. What it finds is handed
over, and forgotten here.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from reachmap_agent.diagnosis.diagnoser import Case, Diagnoser, Near
from reachmap_agent.diagnosis.policy import Choice, Face, Flow, FlowKey, Policy, nearby
from reachmap_agent.prober import Job
from reachmap_shared import log
from reachmap_shared.diagnosis import Diagnosis
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Outcome

Send = Callable[[Diagnosis], None]
"""Takes what was found, to be sent to the collector as soon as it can be."""

_AT_ONCE: Final = 2
"""Diagnoses under way: each keeps some tens of sockets for some seconds."""

_TOGETHER_S: Final = 0.2
"""How long news wait for more: well below the time that a flow waits for others like it."""

_MIN_WINDOW_S: Final = 30.0

_log = log.get("diagnosis")


class Runner:
    """Looks into broken flows of one agent.

    Args:
        source: The agent's name.
        diagnoser: Gathers what both ends see.
        send: Is given each diagnosis.
    """

    def __init__(self, source: str, diagnoser: Diagnoser, send: Send) -> None:
        self._source = source
        self._diagnoser = diagnoser
        self._send = send
        self._plan = ""
        self._jobs: Sequence[Job] = ()
        self._policy = Policy(_MIN_WINDOW_S, time.monotonic())
        self._works: dict[FlowKey, bool] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._news = asyncio.Event()
        self._free = asyncio.Semaphore(_AT_ONCE)

    def apply(self, plan: str, jobs: Sequence[Job], interval_s: float) -> None:
        """Go by this plan from now on; its jobs stand at their slots."""
        self._plan, self._jobs = plan, jobs
        # Until each flow was checked twice, what fails alike may have one cause.
        self._policy.begin_anew(max(_MIN_WINDOW_S, 2 * interval_s))
        self._works.clear()
        self._flows.clear()
        self._news.set()

    def saw(self, plan: str, seen: Observation) -> None:
        """What a check of a plan saw, and confirmed."""
        if plan != self._plan:
            return
        job = self._jobs[seen.slot]
        spec = job.spec
        key = seen.slot, seen.address or spec.address
        worked, works = self._works.get(key), seen.outcome is Outcome.OPEN
        if worked and works:
            return
        # Nobody wants to know why a flow does not work that must not, nor can a name be walked to.
        if spec.forbidden or (job.address is None and not seen.address):
            return
        if worked is None and seen.resolved:
            self._forget_others(seen.slot, seen.resolved)
        flow = self._flows[key] = Flow(*key, spec.port, spec.transport)
        self._works[key] = works
        if works:
            self._policy.healed(key)
            return
        if worked is None:  # a lost packet, or one that just starts: nothing confirms it yet
            return
        face: Face = (seen.outcome, seen.offender)
        if self._policy.failed(flow, face, time.monotonic()):
            self._news.set()

    def _forget_others(self, slot: int, addresses: Collection[str]) -> None:
        """A name has these addresses now, and those that it had before are nobody's."""
        for key in [key for key in self._works if key[0] == slot and key[1] not in addresses]:
            del self._works[key], self._flows[key]
            self._policy.healed(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._free.acquire()
                # Made a case at once, for the plan may change.
                case = self._case(await self._next())
                tasks.create_task(self._look_into(case))

    async def _next(self) -> Choice:
        """Wait for the next flow to look into."""
        while True:
            now = time.monotonic()
            if (choice := self._policy.next(now)) is not None:
                return choice
            due = self._policy.due(now)
            self._news.clear()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._news.wait()
            except TimeoutError:
                continue
            # Thousands may fail at once: the choice among them is not made anew for each.
            await asyncio.sleep(_TOGETHER_S)

    async def _look_into(self, case: Case) -> None:
        try:
            self._send(await self._diagnoser.diagnose(case))
        except* OSError as errors:  # no descriptors or memory left: the checks go first
            reason = str(errors.exceptions[0])
            _log.warning("not looked into", destination=case.job.spec.destination, reason=reason)
        finally:
            self._free.release()

    def _case(self, choice: Choice) -> Case:
        flow = choice.flow
        near = tuple(
            Near(relation, self._job(other))
            for relation, other in nearby(flow, self._flows.values(), self._works)
        )
        return Case(self._source, self._plan, self._job(flow), near, choice.others)

    def _job(self, flow: Flow) -> Job:
        """Its job, with the address that was dialled where the plan has a name."""
        job = self._jobs[flow.slot]
        return job if job.address is not None else job.at(flow.address)
