"""Looks into one broken flow from its source: what both ends see of it, gathered under one id.

It makes the check again, from source ports that it tells the destination's agent beforehand, so
that each end knows the other's packets; walks the way of the packets, and that of a flow that works
for comparison; and checks once more at the end, since what changes meanwhile is no one fault.
Nothing is judged here: that is the collector's part.
"""

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from reachmap_agent.diagnosis import host, probe
from reachmap_agent.diagnosis.line import Ports, random_block
from reachmap_agent.diagnosis.probe import Subject
from reachmap_agent.diagnosis.sight import Looking
from reachmap_agent.diagnosis.walk import lasts_unasked, walk, walk_payload
from reachmap_agent.prober import Job
from reachmap_shared.diagnosis import (
    MAX_HOPS,
    Diagnosis,
    Hop,
    Met,
    PathEvidence,
    Phase,
    Recheck,
    Related,
    Relation,
    Silenced,
    Testimony,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import CheckSpec
from reachmap_shared.vocabulary import Outcome, Transport

AskWitness = Callable[[str, bytes], Awaitable[bytes | None]]
"""Carries a sealed request to a destination's agent, and its answer; None when there is none."""

AskWindow = Callable[[CheckSpec, float], Awaitable[object]]
"""Asks a flow's destination to listen for so many seconds; whatever it says, the check is made."""

_CHECK_S: Final = 3.5
"""For a check: the kernel takes 3.1 s to find out that a neighbour is not there."""
_QUICK_S: Final = 1.4
_NEAR_WINDOW_S: Final = 3.0
"""For a check of a flow nearby, and the walk behind it."""
_WATCH_S: Final = 30.0
_MAX_RELATED: Final = 3
_MARKS: Final = (1100, 1227)
"""What marked SYNs announce as MSS: common in no network, large enough for every service."""
_LADDER: Final = (1420, 1380, 1340, 1240)
"""Segments, in bytes, as tunnels and access networks leave them; tried by halving."""
_SHORT: Final = 500
"""What every link takes."""
_LONG: Final = 3000
"""Bytes that fill a segment."""
_SILENCED: Final = {
    WitnessState.BUSY: Silenced.BUSY,
    WitnessState.REFUSED: Silenced.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Near:
    """A flow of the same plan that may work."""

    relation: Relation
    job: Job


@dataclass(frozen=True, slots=True)
class Case:
    """A flow to look into.

    `near` begins with those that worked last; their order is the order in which they are tried.
    """

    source: str
    plan: str
    job: Job
    """What is dialled is an address by now, also where the plan has a name."""
    near: tuple[Near, ...] = ()
    others: int = 0


class Diagnoser:
    """Looks into flows, one after the other or a few at once.

    Args:
        ask: How a destination's agent is asked.
        rng: For ports and marks, which a witness must not guess.
        now_ms: The clock that never jumps, which says when each began.
        ask_window: How the destinations of flows nearby are asked to listen.
    """

    def __init__(
        self,
        ask: AskWitness,
        rng: random.Random,
        now_ms: Callable[[], int],
        ask_window: AskWindow,
    ) -> None:
        self._ask = ask
        self._ask_window = ask_window
        self._rng = rng
        self._now_ms = now_ms

    async def diagnose(self, case: Case) -> Diagnosis:
        """Gather what both ends see of a flow; it takes some seconds."""
        at_ms = self._now_ms()
        ports = Ports(random_block(self._rng), self._rng)
        subject = _subject(case.job, ports, self._rng.randint(*_MARKS))
        local = _local(subject)
        witness = _Asked(self._ask, case, subject, local)
        looking = Looking(
            subject.transport,
            subject.address[0],
            subject.address[1],
            ports.block,
            subject.mark,
            serves=False,
        )
        try:
            await witness.watch()
            if witness.busy:  # enough others look into that host: they will find out
                first = await probe.recheck(subject, _CHECK_S)
                path = PathEvidence(local, first, None, (), (), (), (), looking.end())
            else:
                if witness.listens:
                    patience_s = case.job.protocol.greeted_patience_s
                    subject = replace(subject, patience_s=patience_s)
                path = await self._gathered(subject, case.near, looking, local, witness)
            path = replace(path, drawn=ports.drawn)
            testimony, silenced = await witness.tell()
        finally:
            looking.close()
        return Diagnosis(
            check=witness.check,
            slot=case.job.slot,
            plan=case.plan,
            source=case.source,
            destination=case.job.spec.destination,
            address=str(subject.address[0]),
            port=case.job.spec.port,
            transport=subject.transport,
            path=path,
            testimony=testimony,
            silenced=silenced,
            others=case.others,
            at_ms=at_ms,
        )

    async def _gathered(
        self,
        subject: Subject,
        near: tuple[Near, ...],
        looking: Looking,
        local: str,
        witness: "_Asked",
    ) -> PathEvidence:
        ours = witness.listens
        # Whoever waits for a silent flow can check those nearby meanwhile: a diagnosis is to be
        # there soon.
        async with asyncio.TaskGroup() as tasks:
            nearby = tasks.create_task(self._related(near))
            first = _no_impostor(await probe.recheck(subject, _CHECK_S), ours=ours)
            fails_outside = first.outcome is not Outcome.OPEN and first.met is not Met.OWN
            if not fails_outside:
                nearby.cancel()
            if first.met is Met.SILENCE:  # its answers may be lost: that is looked into meanwhile
                await witness.walk()
        steps: tuple[Hop, ...] = ()
        payload_steps: tuple[Hop, ...] = ()
        ladder: tuple[Recheck, ...] = ()
        related: tuple[Related, ...] = ()
        last: Recheck | None = None
        if fails_outside:
            related = nearby.result()
            most = _far(related)
            steps = await walk(subject, most)
            if first.outcome in _PAYLOAD and subject.transport is Transport.TCP:
                ladder, payload_steps = await _payload_ways(subject, most)
        if first.outcome is not Outcome.OPEN:
            # What is met with silence at first need not be waited for as long again.
            is_silent = first.met is Met.SILENCE or first.outcome is Outcome.STALLED
            patience_s = _QUICK_S if is_silent else _CHECK_S
            last = _no_impostor(await probe.recheck(subject, patience_s), ours=ours)
        return PathEvidence(
            local, first, last, steps, payload_steps, ladder, related, looking.end()
        )

    async def _related(self, near: tuple[Near, ...]) -> tuple[Related, ...]:
        """Check a few flows nearby, and walk the way of the first that works."""
        tried = [(one, _subject(one.job, None, 0)) for one in near[:_MAX_RELATED]]
        seen: dict[int, Recheck] = {}

        async def check(place: int, subject: Subject) -> None:
            spec = tried[place][0].job.spec
            if spec.window:  # the listener of the check itself may be closed again
                await self._ask_window(spec, _NEAR_WINDOW_S)
            seen[place] = await probe.recheck(subject, _QUICK_S)

        async with asyncio.TaskGroup() as tasks:
            for place, (_, subject) in enumerate(tried):
                tasks.create_task(check(place, subject))
        found = []
        walked = False
        for place, (one, subject) in enumerate(tried):
            steps: tuple[Hop, ...] = ()
            if not walked and seen[place].outcome is Outcome.OPEN:
                steps, walked = await walk(subject), True
            found.append(
                Related(
                    one.relation,
                    str(subject.address[0]),
                    one.job.spec.port,
                    subject.transport,
                    seen[place].outcome,
                    steps,
                )
            )
        return tuple(found)


def _far(related: tuple[Related, ...]) -> int:
    """How many hops to look at: one more than a flow to the same place needs."""
    return next((len(one.walk) + 1 for one in related if one.walk), MAX_HOPS)


_PAYLOAD: Final = (Outcome.STALLED, Outcome.RESET)
"""Outcomes of checks that got a connection, and no answer."""


def _no_impostor(seen: Recheck, *, ours: bool) -> Recheck:
    """A check that went well, and not with the listener that had the port, went astray."""
    if ours and seen.outcome is Outcome.OPEN and not seen.proven:
        return replace(seen, outcome=Outcome.WRONG_PEER)
    return seen


async def _payload_ways(subject: Subject, most: int) -> tuple[tuple[Recheck, ...], tuple[Hop, ...]]:
    """Which segments get through, and how far payload gets."""
    async with asyncio.TaskGroup() as tasks:
        idle = tasks.create_task(lasts_unasked(subject))
        ladder = await _ladder(subject)
    # There is no telling where connections are broken off whether or not anything is said.
    if not idle.result():
        return ladder, ()
    fits = any(rung.outcome is Outcome.OPEN for rung in ladder)
    return ladder, await walk_payload(subject, most, _LONG if fits else probe.FIRST_WORDS)


async def _ladder(subject: Subject) -> tuple[Recheck, ...]:
    """Find out whether shorter segments get through, and how short they must be."""
    rungs = [await probe.recheck(subject, _QUICK_S, _SHORT)]
    if rungs[0].outcome is not Outcome.OPEN:
        return tuple(rungs)
    low, high = 0, len(_LADDER)
    while low < high:
        middle = (low + high) // 2
        rung = await probe.recheck(subject, _QUICK_S, _LADDER[middle])
        rungs.append(rung)
        low, high = (low, middle) if rung.outcome is Outcome.OPEN else (middle + 1, high)
    return tuple(rungs)


class _Asked:
    """The witness of one check."""

    def __init__(self, ask: AskWitness, case: Case, subject: Subject, local: str) -> None:
        assert subject.ports is not None
        self.check = secrets.token_hex(16)
        self.listens = False
        """Whether the destination's own listener has the port."""
        self._walks = False
        self._ask = ask
        self._silenced: Silenced | None = None
        self._key = case.job.challenger.key if case.job.challenger is not None else b""
        if not self._key:
            self._silenced = Silenced.NO_AGENT
        self._request = WitnessRequest(
            source=case.source,
            destination=case.job.spec.destination,
            check=self.check,
            phase=Phase.WATCH,
            address=str(subject.address[0]),
            port=case.job.spec.port,
            transport=subject.transport,
            local=local,
            block=subject.ports.block,
            mark=subject.mark,
            seconds=_WATCH_S,
        )

    @property
    def busy(self) -> bool:
        """Whether it watches as many checks as it can."""
        return self._silenced is Silenced.BUSY

    async def watch(self) -> None:
        """Have it watch from now on."""
        reply = await self._asked(Phase.WATCH)
        if reply is None:
            return
        self.listens = reply.listens
        self._walks = reply.walks
        if reply.state is not WitnessState.WATCHING:
            self._silenced = _SILENCED.get(reply.state, Silenced.REFUSED)

    async def walk(self) -> None:
        """Have it find out how far its answers get, if it can; it tells with the rest."""
        if self._walks and self._silenced is None:
            await self._ask(self._request.destination, self._sealed(Phase.WALK))

    async def tell(self) -> tuple[Testimony | None, Silenced | None]:
        """What it saw, or why that is not known."""
        reply = await self._asked(Phase.TELL)
        if reply is None:
            return None, self._silenced
        if reply.testimony is None:
            return None, Silenced.LATE
        return reply.testimony, None

    def _sealed(self, phase: Phase) -> bytes:
        return seal(replace(self._request, phase=phase), self._key)

    async def _asked(self, phase: Phase) -> WitnessReply | None:
        if self._silenced is not None:
            return None
        payload = await self._ask(self._request.destination, self._sealed(phase))
        if payload is None:
            self._silenced = Silenced.NO_ANSWER if phase is Phase.WATCH else Silenced.LATE
            return None
        try:
            reply = opened(WitnessReply, payload, self._key)
        except MalformedMessage:
            reply = None
        if reply is None or reply.check != self.check:
            self._silenced = Silenced.FORGED
            return None
        return reply


def _subject(job: Job, ports: Ports | None, mark: int) -> Subject:
    assert job.address is not None
    return Subject(
        job.address,
        job.spec.transport,
        lambda: job.protocol.check(job.target()),
        job.protocol.patience_s,
        ports,
        mark,
    )


def _local(subject: Subject) -> str:
    """This host's own address on the way there; empty when there is none."""
    family = host.family_of(subject.address[0])
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as look:
        look.connect(subject.address)
        return str(look.getsockname()[0])
    return ""
