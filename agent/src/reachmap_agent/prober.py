"""Checks, from a plan's entry to an observation: resolve, run on the engine, tell the times."""

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from reachmap_agent.clock import Clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.outcomes import describe
from reachmap_agent.protocols import REGISTRY, Protocol
from reachmap_agent.wire.exchange import Target, Verdict
from reachmap_agent.wire.proof import NONCE_SIZE, Challenger, Endpoint, Reached
from reachmap_shared import keys
from reachmap_shared.messages import MAX_RESOLVED, CheckSpec, Observation, Plan
from reachmap_shared.vocabulary import Outcome, Transport

Done = Callable[[Observation], None]

AsBefore = Callable[[int, Attempt, int], bool]
"""Is given a slot, its attempt that has ended, and when; whether no observation is wanted."""

Address = tuple[Any, ...]
"""As sockets take it: (host, port), or four fields for IPv6."""

_SENTENCES, _SENTENCE = 16, 300
"""What an Observation holds; whoever receives more refuses the whole report."""


@dataclass(frozen=True, slots=True)
class Job:
    """One entry of a plan, made ready to be run again and again."""

    slot: int
    spec: CheckSpec
    protocol: Protocol
    address: Address | None
    """What to dial; None where a name must be resolved first, at each check."""
    plain: Target
    """What a check needs to know, but for a challenge."""
    challenger: Challenger | None = None
    """Asks the destination's listener who it is; None where no agent is."""

    @classmethod
    def of(cls, slot: int, spec: CheckSpec, plan: Plan, contexts: Contexts) -> Self:
        """Make one ready."""
        try:
            ipaddress.ip_address(spec.address)
        except ValueError:
            address = None
        else:
            address = (spec.address, spec.port)
        challenger = None
        if spec.key:
            challenger = Challenger(
                keys.source_id(plan.agent),
                keys.from_text(plan.deployment_key),
                spec.destination,
                keys.from_text(spec.key),
            )
        plain = Target(spec.address, None, contexts.client, contexts.certificate, spec.transport)
        return cls(slot, spec, REGISTRY[spec.protocol], address, plain, challenger)

    def at(self, address: str) -> Self:
        """The same, of a name that is resolved."""
        return replace(self, address=(address, self.spec.port))

    def target(self) -> Target:
        """What one check needs, with a challenge of its own."""
        plain = self.plain
        if self.challenger is None:
            return plain
        challenge = self.challenger.challenge(os.urandom(NONCE_SIZE))
        return Target(plain.host, challenge, plain.tls, plain.stand_in_certificate, plain.transport)


@dataclass(frozen=True, slots=True)
class Found:
    """One of the addresses that a name resolved to."""

    address: Address
    all: tuple[str, ...]
    """Every address of the name, this one among them."""
    took_us: int
    facts: tuple[str, ...]


class Prober:
    """Runs checks, and says by `clock` when they ended."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._now_ms = clock.steady_ms

    async def resolve(self, job: Job, timeout_s: float) -> list[Found] | Observation:
        """All addresses of a job that has a name, or what is to be said of it when it has none.

        It has a time of its own: slow name servers make no path look broken.
        """
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
            dialled: dict[str, Address] = {str(entry[4][0]): entry[4] for entry in found}
            addresses = tuple(sorted(dialled)[:MAX_RESOLVED])
            facts = (f"{host} resolves to {' and '.join(addresses)}",)
            return [Found(dialled[name], addresses, took_us, facts) for name in addresses]
        took_us = (time.monotonic_ns() - began) // 1000
        verdict = Verdict(outcome, (f"{host} does not resolve: {reason}",))
        return _observation(job, verdict, self._now_ms(), name_us=took_us)

    def start(
        self,
        job: Job,
        timeout_s: float,
        done: Done,
        found: Found | None = None,
        as_before: AsBefore | None = None,
    ) -> None:
        """Run a check; `done` hears of it when it has ended, but not before this returns.

        Args:
            job: What to check.
            timeout_s: How long it may take, in seconds.
            done: Is given what was seen.
            found: What to dial, for a job that has a name.
            as_before: Is asked first, and `done` not called if it says yes.
        """

        def ended(attempt: Attempt) -> None:
            verdict, now_ms = attempt.verdict, self._now_ms()
            assert verdict is not None
            if as_before is not None and as_before(job.slot, attempt, now_ms):
                return
            if found is None:
                done(_observation(job, verdict, now_ms, attempt))
                return
            seen = _observation(
                job, verdict, now_ms, attempt, name_us=found.took_us, facts=found.facts
            )
            done(replace(seen, address=found.address[0], resolved=found.all))

        address = found.address if found is not None else job.address
        assert address is not None
        attempt = Attempt(
            job.spec.transport,
            address,
            job.protocol.check(job.target()),
            job.protocol.patience_s,
            reset=job.protocol.reset,
            done=ended,
        )
        self._engine.start(attempt, timeout_s)


def _observation(
    job: Job,
    verdict: Verdict,
    now_ms: int,
    attempt: Attempt | None = None,
    *,
    name_us: int = 0,
    facts: tuple[str, ...] = (),
) -> Observation:
    connect_us = answer_us = 0
    if attempt is not None and attempt.connected_ns:
        connect_us = attempt.connect_us
        answer_us = (attempt.ended_ns - attempt.connected_ns) // 1000
        if verdict.outcome is Outcome.OPEN and (lost := attempt.lost_syns):
            facts += (f"open after {lost} lost SYN",)
        if verdict.reached is not None:
            facts += _translated(verdict.reached, attempt)
    return Observation(
        slot=job.slot,
        at_ms=now_ms,
        outcome=verdict.outcome,
        answered_by=verdict.answered_by,
        healthy=verdict.healthy,
        name_us=name_us,
        connect_us=connect_us,
        answer_us=answer_us,
        local=attempt.local if attempt is not None else "",
        evidence=tuple([text[:_SENTENCE] for text in (facts + verdict.evidence)[:_SENTENCES]]),
        certificate_until=verdict.certificate_until,
        seen_as=_shown(verdict.reached.seen) if verdict.reached is not None else "",
        offender=_offender(verdict, attempt),
    )


def _offender(verdict: Verdict, attempt: Attempt | None) -> str:
    """Whose ICMP error ended it; one that broke was broken by RST, whatever else came."""
    if attempt is None or attempt.icmp is None or verdict.outcome is Outcome.RESET:
        return ""
    return attempt.icmp.offender


def _translated(reached: Reached, attempt: Attempt) -> tuple[str, ...]:
    """What lies between the two ends, by what each says of the connection."""
    facts: tuple[str, ...] = ()
    own, dialled = _plain(attempt.own), _plain(attempt.address)
    if reached.seen != own:
        fact = f"the destination saw it come from {_shown(reached.seen)}, and not {_shown(own)}"
        facts = (f"{fact}: address translation, or a proxy, on the way",)
    if reached.at not in (None, dialled):
        fact = f"it arrived at {_shown(reached.at)}, and not {_shown(dialled)} that was dialled"
        facts += (f"{fact}: address translation, or a proxy, on the way",)
    return facts


def _plain(address: Address) -> Endpoint:
    """As proofs have it: no zone, one form for each address."""
    return str(ipaddress.ip_address(address[0].partition("%")[0])), address[1]


def _shown(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
