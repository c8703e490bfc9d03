"""What a source has of one flow that is broken: from A over the routers R and R2 to B."""

from reachmap_shared.diagnosis import (
    Counters,
    Hop,
    IcmpError,
    Met,
    Related,
    Relation,
    Sight,
    TapState,
)
from reachmap_shared.vocabulary import Outcome, Transport

A, R, R2, B = "10.0.1.1", "10.0.1.2", "10.0.2.2", "10.0.3.2"

EXPIRED = (4, 11, 0)
"""IPv4's ICMP error where a packet's time to live is over."""


def passing(ttl: int, by: str) -> Hop:
    """A router that a packet came to."""
    return Hop(ttl, Met.ICMP, by, IcmpError(*EXPIRED, by))


def walk(*ends: Hop) -> tuple[Hop, ...]:
    """All the routers on the way, and what was met behind them."""
    return passing(1, R), passing(2, R2), *ends


SILENT = tuple(Hop(ttl, Met.SILENCE) for ttl in (2, 3, 4))
TO_THE_DOOR = walk(*SILENT[1:])
"""All routers pass it on, and nothing comes from B."""
SHORT = passing(1, R), *SILENT
"""Nothing comes from behind R."""

WORKS = Related(
    *(Relation.SAME_HOST, B, 22, Transport.TCP, Outcome.OPEN), walk(Hop(3, Met.SYN_ACK, B))
)
"""Another service of the same host."""

BLIND = Sight(Counters(), TapState.FORBIDDEN, hooked=False)
