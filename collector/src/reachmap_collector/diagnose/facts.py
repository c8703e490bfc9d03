"""What the evidence comes to: numbers and absences that no single observation holds. Pure.

Absence is worth something only where presence would have been seen: so a tap counts as complete
only if it was tried, missed nothing, has no program before it, and the address is that host's own.
"""

import ipaddress
from collections import Counter
from dataclasses import replace
from functools import cached_property
from math import comb
from typing import Final

from reachmap_shared.diagnosis import (
    BLOCK,
    Diagnosis,
    Hop,
    Met,
    PacketKind,
    Packets,
    PathEvidence,
    Related,
    RowState,
    Sight,
    TapState,
    Testimony,
)
from reachmap_shared.vocabulary import ListenerState, Outcome, Transport

SLOW_MS: Final = 800
"""Who looks for a neighbour asks three times, a second apart; who forbids says so at once."""

_LUCK: Final = 1e-3
"""How likely a witness that knows nothing may be to name the right ports."""

_PASSING: Final = ((4, 11), (6, 3))
_ENDS: Final = frozenset({Met.SYN_ACK, Met.RST, Met.DATA})


def is_passing(hop: Hop) -> bool:
    """Whether a hop is a device on the way."""
    return hop.icmp is not None and (hop.icmp.version, hop.icmp.type) in _PASSING


def same(address: str, other: str) -> bool:
    """Whether both are one address, however it is written."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]) == ipaddress.ip_address(
            other.partition("%")[0]
        )
    except ValueError:
        return False


def steps(path: PathEvidence) -> tuple[Hop, ...]:
    """The walk that tells: of the payload where connections are made."""
    return path.payload_walk or path.walk


class Facts:
    """One diagnosis, asked for what it comes to."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis
        self.path = diagnosis.path
        self.first = diagnosis.path.first
        self.last = diagnosis.path.last or diagnosis.path.first
        self.is_tcp = diagnosis.transport is Transport.TCP

    # What the source saw.

    @cached_property
    def asked(self) -> int:
        """Packets that the checks sent in vain, at least: SYNs, payloads or datagrams."""
        if not self.is_tcp:
            return 2 if self.path.last is not None else 1
        return max(1, self.first.segments_out) + (self.last.segments_out if self.path.last else 0)

    @cached_property
    def at_most(self) -> int:
        """Packets that the diagnosis can have made, and the answers to it.

        Where more were counted most of them are others', and the count says nothing of these.
        """
        return 4 * (self.asked + len(self.path.walk))

    @cached_property
    def compared(self) -> Related | None:
        """The flow that works, and whose way is known."""
        found = (one for one in self.path.related if one.walk and one.outcome is Outcome.OPEN)
        return next(found, None)

    @cached_property
    def distance(self) -> int | None:
        """Hops to the destination, by the flow that works; None when there is none."""
        if self.compared is None or self.compared.walk[-1].met not in _ENDS:
            return None
        return self.compared.walk[-1].ttl

    @cached_property
    def steps(self) -> tuple[Hop, ...]:
        """The walk that tells."""
        return steps(self.path)

    @cached_property
    def last_device(self) -> Hop | None:
        """The last device that had a packet of this flow for certain, and said so."""
        passing = [hop for hop in self.steps if is_passing(hop)]
        if not passing:
            return None
        # Of payload the kernel does not tell who answered; the SYN walk has met the same devices.
        known = {hop.ttl: hop.by for hop in self.path.walk if is_passing(hop)}
        return replace(passing[-1], by=passing[-1].by or known.get(passing[-1].ttl, ""))

    @cached_property
    def next_device(self) -> Hop | None:
        """The device behind it, by the flow that works; None when that is unknown."""
        if self.compared is None:
            return None
        after = self.last_device.ttl if self.last_device else 0
        found = (hop for hop in self.compared.walk if hop.ttl > after)
        behind = next(found, None)
        return behind if behind is not None and is_passing(behind) else None

    @cached_property
    def parted(self) -> bool:
        """Whether the flow that works goes another way."""
        if self.compared is None:
            return False
        theirs = {hop.ttl: hop.by for hop in self.compared.walk if is_passing(hop)}
        mine = (hop for hop in self.steps if is_passing(hop) and hop.by and hop.ttl in theirs)
        return any(theirs[hop.ttl] != hop.by for hop in mine)

    @cached_property
    def stops_short(self) -> bool:
        """Whether its packets are lost before the last device that the flow that works passes."""
        if self.distance is None or self.parted or any(hop.met in _ENDS for hop in self.steps):
            return False
        got_to = self.last_device.ttl if self.last_device else 0
        return bool(self.steps) and got_to < self.distance - 1 and self.next_device is not None

    @cached_property
    def answered_at(self) -> int | None:
        """The least number of hops with which a packet was answered as by the destination."""
        return next((hop.ttl for hop in self.steps if hop.met in _ENDS), None)

    @cached_property
    def answered_early(self) -> bool:
        """Whether somebody nearer than the destination answers in its place."""
        return (
            self.distance is not None
            and self.answered_at is not None
            and self.answered_at < self.distance
        )

    @cached_property
    def translated_at(self) -> int | None:
        """The first hop on the way that answers by the destination's own address.

        It, or one before it, makes another address of that one (RFC 5508, 4.2).
        """
        for hop in self.path.walk:
            if is_passing(hop) and same(hop.by, self.diagnosis.address):
                return hop.ttl if self.distance is None or hop.ttl < self.distance else None
        return None

    @cached_property
    def nothing_left(self) -> bool:
        """Whether the source's own kernel gave up every segment."""
        first = self.first
        if not self.is_tcp or first.met is not Met.SILENCE or not first.segments_out:
            return False
        held = first.timeouts > 0 and not first.repeated
        return held and not self._seen(self.path.sight, PacketKind.SYN, inbound=False)

    # What the tap on the source saw.

    @cached_property
    def source_tap(self) -> bool:
        """Whether what the source's tap did not see was not there."""
        return _complete(self.path.sight)

    def left(self, kind: PacketKind) -> bool:
        """Whether the source's tap saw such a packet leave."""
        return self._seen(self.path.sight, kind, inbound=False)

    def came_back(self, kind: PacketKind) -> bool:
        """Whether the source's tap saw such a packet come in from the address that is dialled."""
        return any(same(one.peer, self.diagnosis.address) for one in self._back(kind))

    @cached_property
    def payload_came_back(self) -> bool:
        """Whether it saw payload come in on the check's own connection, which got none."""
        on_it = any(one.port == self.first.port for one in self._back(PacketKind.DATA))
        return on_it and not self.first.received

    def came_from_another(self, kind: PacketKind) -> bool:
        """Whether it saw one come in from another address."""
        return any(not same(one.peer, self.diagnosis.address) for one in self._back(kind))

    def _back(self, kind: PacketKind) -> list[Packets]:
        packets = self.path.sight.packets
        return [one for one in packets if one.ours and one.inbound and one.kind is kind]

    @cached_property
    def payload_held(self) -> bool:
        """Whether the source's own kernel gave up the payload."""
        first = self.first
        # Where the other end takes nothing, TCP does not try: it asks whether that has changed.
        held = first.tried > 0 and first.unsent >= first.sent > 0 and not first.unacked
        return held and not self._seen(self.path.sight, PacketKind.DATA, inbound=False)

    # What the destination saw.

    @property
    def told(self) -> Testimony | None:
        """What the witness says."""
        return self.diagnosis.testimony

    @cached_property
    def named(self) -> frozenset[int]:
        """The source ports that it says packets of the check came from."""
        if self.told is None:
            return frozenset()
        came = {one.port for one in self.told.sight.packets if one.ours and one.inbound}
        ports = came | {row.peer_port for row in self.told.rows}
        block = self.first.port - self.first.port % BLOCK
        return frozenset(port for port in ports if block <= port < block + BLOCK)

    @cached_property
    def vouched(self) -> bool:
        """Whether it knows what only the packets could tell: the ports that both checks used.

        It knows the block, and not which ports of it the source drew. Who names more than were
        drawn has guessed, or saw connections of others.
        """
        drawn = frozenset(self.path.drawn)
        checks = frozenset({self.first.port, self.last.port})
        if len(checks) < 2 or not checks <= drawn or not checks <= self.named:
            return False
        free = len(drawn) if self.named <= drawn else BLOCK
        also = len(self.named) - 2
        return comb(free - 2, also) / comb(BLOCK, also + 2) < _LUCK

    @cached_property
    def tap(self) -> bool:
        """Whether what the destination's tap did not see did not come."""
        return self.told is not None and self.told.is_local and _complete(self.told.sight)

    def arrived(self, *kinds: PacketKind) -> bool:
        """Whether the destination's tap saw such packets of the check come."""
        told = self.told
        return told is not None and any(self._seen(told.sight, kind, True) for kind in kinds)

    def answered(self, *kinds: PacketKind) -> bool:
        """Whether the destination's tap saw such packets leave to the source."""
        told = self.told
        return told is not None and any(self._seen(told.sight, kind, False) for kind in kinds)

    def ports(self, kind: PacketKind) -> int:
        """From how many ports of the check the destination answered so."""
        packets = self.told.sight.packets if self.told is not None else ()
        return len(
            {one.port for one in packets if one.ours and not one.inbound and one.kind is kind}
        )

    @cached_property
    def acked(self) -> bool:
        """Whether the destination's tap saw it acknowledge payload of any connection.

        An answer to RST that ends a connection after payload was lost looks the same.
        """
        counts: Counter[tuple[int, PacketKind, bool]] = Counter()
        for one in self.told.sight.packets if self.told is not None else ():
            if one.ours:
                counts[one.port, one.kind, one.inbound] += one.count
        return any(
            counts[port, PacketKind.ACK, False] > counts[port, PacketKind.RST, True]
            for port, kind, inbound in tuple(counts)
            if kind is PacketKind.DATA and inbound
        )

    @cached_property
    def half_open(self) -> bool:
        """Whether the destination waits for the source to go on."""
        rows = self.told.rows if self.told is not None else ()
        return any(row.state is RowState.HALF_OPEN for row in rows)

    @cached_property
    def came(self) -> bool:
        """Whether it says that packets of the check came: as such, or by what it made of them."""
        told = self.told
        return told is not None and (bool(told.rows) or any(one.ours for one in told.sight.packets))

    @cached_property
    def back_device(self) -> Hop | None:
        """The last device on the way back that had its answer, where that gets no further.

        Where it comes to the last before the source, the source itself may drop it; only its tap
        tells that nothing came.
        """
        back = self.told.back if self.told is not None else ()
        passing = [hop for hop in back if is_passing(hop) and hop.by]
        if not passing or any(hop.met in _ENDS or hop.met is Met.OWN for hop in back):
            return None
        near = self.distance is None or passing[-1].ttl >= self.distance - 1
        quiet = self.source_tap and not self.came_back(PacketKind.SYN_ACK)
        return passing[-1] if quiet or not near else None

    @cached_property
    def ours_listens(self) -> bool:
        """Whether it was the agent's own listener that waited there: it would have answered."""
        return self.told is not None and self.told.listener is ListenerState.LISTENING

    def grew(self, name: str) -> int | None:
        """How far a counter of the destination's grew; None when that is unknown."""
        if self.told is None or self.told.sight.counters is None:
            return None
        value: int = getattr(self.told.sight.counters, name)
        return value

    @staticmethod
    def _seen(sight: Sight, kind: PacketKind, inbound: bool) -> bool:
        return any(
            one.ours and one.kind is kind and one.inbound is inbound for one in sight.packets
        )


def _complete(sight: Sight) -> bool:
    return sight.tap is TapState.WORKS and not sight.missed and sight.hooked is False
