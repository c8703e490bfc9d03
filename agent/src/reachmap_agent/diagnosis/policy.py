"""When a broken flow is looked into, and by comparison with which others. Pure.

It costs nothing while all is well: nothing is due unless something waits. Each cause is looked into
by a handful of flows, whatever number fails at once: those that begin to fail in the same way
within a short time are taken for one burst, of which a few are picked that differ most. A flow that
was looked into, or passed over for its like, has its turn again only when it fails in another way,
or after a quarter of an hour.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from reachmap_shared.diagnosis import Relation
from reachmap_shared.vocabulary import Outcome, Transport

SETTLE_S: Final = 1.0
"""How long a flow waits for others that fail like it, so that the choice is among all."""
HANDFUL: Final = 5
"""Flows of one burst that are looked into."""
AGAIN_S: Final = 900.0
"""After that a flow that still fails in the same way is looked into again: its fault may have moved
without showing. A quarter of an hour keeps that to a hundred packets an hour."""
MAX_NEAR: Final = 3

_PER_HOST: Final = (2, 60.0)
"""Diagnoses of flows to one host: so many at once, then one in so many seconds. Each costs that
host a window, a tap and some tens of packets."""
_PER_AGENT: Final = (6, 20.0)
"""Likewise of all flows of this agent."""

_WORTH_IT: Final = frozenset(
    {
        Outcome.REFUSED,
        Outcome.TIMEOUT,
        Outcome.REJECTED,
        Outcome.UNREACHABLE,
        Outcome.WRONG_PEER,
        Outcome.RESET,
        Outcome.STALLED,
    }
)
"""Outcomes whose cause another look can tell; the others say where to look by themselves."""

FlowKey = tuple[int, str]
"""A slot of the plan, and the address that was dialled."""

Face = tuple[Outcome, str]
"""How a flow fails: the outcome, and who said so, where somebody did."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of the plan, as far as it matters here."""

    slot: int
    address: str
    port: int
    transport: Transport

    @property
    def key(self) -> FlowKey:
        """What tells it from others."""
        return self.slot, self.address


@dataclass(frozen=True, slots=True)
class Choice:
    """A flow to look into now."""

    flow: Flow
    others: int
    """How many fail like it, and are not looked into."""


class Bucket:
    """So many tokens at once, and then one in so many seconds."""

    def __init__(self, size: int, refill_s: float, now: float) -> None:
        self._size = size
        self._refill_s = refill_s
        self._full_at = now

    def ready_at(self, now: float) -> float:
        """When the next token may be taken: now or later."""
        return max(now, self._full_at - (self._size - 1) * self._refill_s)

    def is_full(self, now: float) -> bool:
        """Whether none was taken for long."""
        return self._full_at <= now

    def take(self, now: float) -> None:
        """Take one that is there."""
        self._full_at = max(self._full_at, now) + self._refill_s


@dataclass(slots=True)
class _Burst:
    began: float
    waiting: dict[FlowKey, Flow] = field(default_factory=dict)
    chosen: list[Flow] = field(default_factory=list)


@dataclass(slots=True)
class _Known:
    face: Face
    until: float
    """Till when it is left alone while it fails in the same way."""


class Policy:
    """Which flows of one agent are looked into, and when.

    Args:
        window_s: How long after a burst's first flow others count as of the same cause: as long as
            it takes until each flow was checked.
        now: Seconds on the agent's own clock.
    """

    def __init__(self, window_s: float, now: float) -> None:
        self._window_s = window_s
        self._known: dict[FlowKey, _Known] = {}
        self._bursts: dict[Face, _Burst] = {}
        self._all = Bucket(*_PER_AGENT, now)
        self._hosts: dict[str, Bucket] = {}

    def begin_anew(self, window_s: float) -> None:
        """Forget all flows, but not what was looked into lately: plans may follow each other."""
        self._window_s = window_s
        self._known.clear()
        self._bursts.clear()

    def failed(self, flow: Flow, face: Face, now: float) -> bool:
        """A check of a flow failed, and that is confirmed; returns whether that is news."""
        known = self._known.get(flow.key)
        if known is not None and known.face == face and now < known.until:
            return False
        self.healed(flow.key)
        if face[0] not in _WORTH_IT:
            return False
        burst = self._bursts.get(face)
        if burst is None or (now > burst.began + self._window_s and not burst.waiting):
            burst = self._bursts[face] = _Burst(now)
        if len(burst.chosen) >= HANDFUL:
            self._known[flow.key] = _Known(face, now + AGAIN_S)
            return False
        burst.waiting[flow.key] = flow
        self._known[flow.key] = _Known(face, float("inf"))
        return True

    def healed(self, key: FlowKey) -> None:
        """A flow is well, or no more."""
        known = self._known.pop(key, None)
        if known is not None and known.face in self._bursts:
            self._bursts[known.face].waiting.pop(key, None)

    def next(self, now: float) -> Choice | None:
        """The flow to look into now; None when none is due."""
        self._let_go(now)
        for burst in self._bursts.values():
            if now < burst.began + SETTLE_S or self._all.ready_at(now) > now:
                continue
            free = [flow for flow in burst.waiting.values() if self._host_at(flow, now) <= now]
            if free:
                flow = max(free, key=lambda one: _novelty(one, burst.chosen))
                self._take(flow, burst, now)
                return Choice(flow, len(burst.waiting))
        return None

    def due(self, now: float) -> float | None:
        """When to ask for the next; None when nothing waits."""
        times = [
            max(
                burst.began + SETTLE_S,
                self._all.ready_at(now),
                min(self._host_at(flow, now) for flow in burst.waiting.values()),
            )
            for burst in self._bursts.values()
            if burst.waiting
        ]
        return min(times, default=None)

    def _take(self, flow: Flow, burst: _Burst, now: float) -> None:
        burst.chosen.append(flow)
        del burst.waiting[flow.key]
        self._known[flow.key].until = now + AGAIN_S
        self._all.take(now)
        self._hosts.setdefault(flow.address, Bucket(*_PER_HOST, now)).take(now)
        if len(burst.chosen) >= HANDFUL:
            for key in burst.waiting:
                self._known[key].until = now + AGAIN_S
            burst.waiting.clear()

    def _let_go(self, now: float) -> None:
        """Forget what is over."""
        for face, burst in list(self._bursts.items()):
            if not burst.waiting and now > burst.began + self._window_s:
                del self._bursts[face]
        for host, bucket in list(self._hosts.items()):
            if bucket.ready_at(now) <= now and not self._bursts:
                del self._hosts[host]

    def _host_at(self, flow: Flow, now: float) -> float:
        bucket = self._hosts.get(flow.address)
        return bucket.ready_at(now) if bucket is not None else now


def _novelty(flow: Flow, chosen: Iterable[Flow]) -> tuple[bool, bool, bool]:
    """How much a flow differs from those that were chosen: by network, by host, by port."""
    others = list(chosen)
    return (
        all(_network(flow.address) != _network(other.address) for other in others),
        all(flow.address != other.address for other in others),
        all(flow.port != other.port for other in others),
    )


def nearby(
    flow: Flow, others: Iterable[Flow], works: Mapping[FlowKey, bool]
) -> list[tuple[Relation, Flow]]:
    """A few flows to compare with, the best first: those that work, and of the same host.

    Args:
        flow: The one that fails.
        others: All flows of the plan.
        works: Whether a flow's last check went well.
    """
    near = []
    for other in others:
        if (other.address, other.port, other.transport) == (
            flow.address,
            flow.port,
            flow.transport,
        ):
            continue
        if other.address == flow.address:
            near.append((Relation.SAME_HOST, other))
        elif _network(other.address) == _network(flow.address):
            near.append((Relation.SAME_NETWORK, other))

    def worth(one: tuple[Relation, Flow]) -> tuple[bool, bool, bool]:
        relation, other = one
        return (
            not works.get(other.key, False),
            relation is not Relation.SAME_HOST,
            other.transport is not flow.transport,
        )

    return sorted(near, key=worth)[:MAX_NEAR]


def _network(address: str) -> str:
    """What hosts behind one router have in common: 24 bits, or 64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    length = 24 if parsed.version == 4 else 64
    return str(ipaddress.ip_network((parsed, length), strict=False))
