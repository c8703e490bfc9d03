"""What the listeners of one agent may cost at most. Pure.

Each bound is a setting of its own in the table `[listeners]` of agent.toml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """The bounds, over all listeners together where nothing else is said."""

    idle_places: int = 128
    """Visitors at once who have said nothing yet, or have been told all. Each costs a socket. When
    all are taken, whoever has had one for longest makes room."""
    talking_places: int = 128
    """Visitors at once who are in conversation. Each may cost a TLS session, some 50 KB."""
    places_of_one_network: int = 8
    """Places of a kind that one network keeps when all are taken: an address, or with IPv6 the 64
    bits that one subscriber has at least. Many agents may be behind one address, so it is not 1."""
    visit_s: float = 5.0
    """Seconds for one visit: longer than any check, short for a stranger who only sits there."""
    heard_bytes: int = 32_768
    """Bytes of one visitor; our checks say less than 2 KB, inside TLS too."""
    farewell_s: float = 1.0
    """Seconds for a visitor who has closed first to acknowledge our last words, where the system
    can bound that (Linux). The port is held till then: long enough for a lost packet to be sent
    again, short for a service that waits for the port."""
    window_s: float = 5.0
    """Seconds that a port is open on demand, whatever is asked for: a service that starts meanwhile
    is kept off its port no longer. Less than the plan's timeout and half a second, and slow checks
    find it closed."""
    leaving: int = 4096
    """Visitors who were turned away in a hurry and whose connection is reset a moment later, when
    no more are at the door: to accept one takes half the time of resetting it. Fewer where the
    process may not have as many file descriptors (`LimitNOFILE`)."""
    backlog: int = 4096
    """Connections that the kernel keeps for each listener until they are accepted; it allows no
    more than `net.core.somaxconn`. A burst beyond it loses SYNs, and those who sent them try again
    only after a second. A flood may cost the kernel 3 KB for each."""

    @property
    def descriptors(self) -> int:
        """What visitors may take of the process's file descriptors."""
        return self.idle_places + self.talking_places


RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "idle_places": (1, 100_000),
    "talking_places": (1, 10_000),
    "places_of_one_network": (1, 100_000),
    "visit_s": (0.1, 300),
    "heard_bytes": (2_048, 16_777_216),
    "farewell_s": (0.1, 60),
    "window_s": (0.1, 60),
    "leaving": (0, 100_000),
    "backlog": (1, 65_535),
}
"""The least and the most of each that makes sense; all are whole numbers but those of seconds."""
