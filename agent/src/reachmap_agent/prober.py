"""Checks, from a plan's entry to an observation: resolve, run on the engine, tell the times."""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from reachmap_agent.engine.engine import Attempt, Engine
from reachmap_agent.outcomes import describe
from reachmap_agent.protocols import REGISTRY, Protocol
from reachmap_agent.wire.exchange import Target, Verdict
from reachmap_shared.messages import CheckSpec, Observation
from reachmap_shared.vocabulary import Outcome, Transport

Done = Callable[[Observation], None]

_SENTENCES, _SENTENCE = 16, 300
"""What an Observation holds; whoever receives more refuses the whole report."""


@dataclass(frozen=True, slots=True)
class Job:
    """One entry of a plan, made ready to be run again and again."""

    slot: int
    spec: CheckSpec
    target: Target
    protocol: Protocol
    address: tuple[str, int] | None
    """What to dial; None where a name must be resolved first, at each check."""

    @classmethod
    def of(cls, slot: int, spec: CheckSpec, target: Target) -> Self:
        """Make one ready."""
        try:
            ipaddress.ip_address(spec.address)
        except ValueError:
            address = None
        else:
            address = (spec.address, spec.port)
        return cls(slot, spec, target, REGISTRY[spec.protocol], address)


class Prober:
    """Runs checks; `tasks` is where names are resolved."""

    def __init__(self, engine: Engine, tasks: asyncio.TaskGroup) -> None:
        self._engine = engine
        self._tasks = tasks

    def start(self, job: Job, timeout_s: float, done: Done) -> None:
        """Run a check; `done` hears of it when it has ended, but not before this returns.

        A name has a time of its own to resolve: slow name servers make no path look broken.
        """
        if job.address is not None:
            self._run(job, job.address, timeout_s, 0, (), done)
        else:
            self._tasks.create_task(self._resolve_and_run(job, timeout_s, done))

    async def _resolve_and_run(self, job: Job, timeout_s: float, done: Done) -> None:
        loop = asyncio.get_running_loop()
        began = time.monotonic_ns()
        host = job.spec.address
        kind = socket.SOCK_STREAM if job.spec.transport is Transport.TCP else socket.SOCK_DGRAM
        outcome = Outcome.NAME_FAILURE
        try:
            async with asyncio.timeout(timeout_s):
                found = await loop.getaddrinfo(host, job.spec.port, type=kind)
        except TimeoutError:
            reason = f"no answer within {timeout_s:g} s"
        except (socket.gaierror, ValueError) as error:  # ValueError: what can be no name at all
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        except (OSError, RuntimeError) as error:  # no descriptor, memory or thread left
            reason = describe(error) if isinstance(error, OSError) else str(error)
            outcome = Outcome.LOCAL_ERROR
        else:
            took_us = (time.monotonic_ns() - began) // 1000
            address: Any = found[0][4]
            facts = (f"{host} resolves to {address[0]}",)
            self._run(job, address, timeout_s, took_us, facts, done)
            return
        took_us = (time.monotonic_ns() - began) // 1000
        verdict = Verdict(outcome, (f"{host} does not resolve: {reason}",))
        done(_observation(job, verdict, name_us=took_us))

    def _run(
        self,
        job: Job,
        address: Any,
        timeout_s: float,
        name_us: int,
        facts: tuple[str, ...],
        done: Done,
    ) -> None:
        def ended(attempt: Attempt) -> None:
            assert attempt.verdict is not None
            done(_observation(job, attempt.verdict, attempt, name_us=name_us, facts=facts))

        attempt = Attempt(
            job.spec.transport,
            address,
            job.protocol.check(job.target),
            job.protocol.patience_s,
            reset=job.protocol.reset,
            done=ended,
        )
        self._engine.start(attempt, timeout_s)


async def check(spec: CheckSpec, slot: int, target: Target, timeout_s: float) -> Observation:
    """Run one check by itself, on an engine of its own: for whoever wants just one."""
    seen: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
    engine = Engine(asyncio.get_running_loop())
    try:
        async with asyncio.TaskGroup() as tasks:
            Prober(engine, tasks).start(Job.of(slot, spec, target), timeout_s, seen.set_result)
            return await seen
    finally:
        engine.close()


def _observation(
    job: Job,
    verdict: Verdict,
    attempt: Attempt | None = None,
    *,
    name_us: int = 0,
    facts: tuple[str, ...] = (),
) -> Observation:
    connect_us = answer_us = 0
    if attempt is not None and attempt.connected_ns:
        connect_us = attempt.connect_us
        answer_us = (attempt.ended_ns - attempt.connected_ns) // 1000
        lost = attempt.info.retransmits if attempt.info is not None else 0
        if lost and verdict.outcome is Outcome.OPEN:
            facts += (f"open after {lost} lost SYN",)
    return Observation(
        slot=job.slot,
        age_ms=0,
        outcome=verdict.outcome,
        answered_by=verdict.answered_by,
        healthy=verdict.healthy,
        name_us=name_us,
        connect_us=connect_us,
        answer_us=answer_us,
        local=attempt.local if attempt is not None else "",
        evidence=tuple(text[:_SENTENCE] for text in (*facts, *verdict.evidence)[:_SENTENCES]),
    )
