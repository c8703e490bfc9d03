"""What a sign is: a name, a question to the facts, and the sentence that says so. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from reachmap_collector.diagnose.facts import Facts


class Sign(Enum):
    """Something that was observed, or that was looked for and is not there."""

    TCP = auto()
    UDP = auto()
    WENT_WELL = auto()
    CHANGED = auto()
    OWN_ERROR = auto()
    NOTHING_LEFT = auto()
    SYN_NEVER_LEFT = auto()
    ANSWER_CAME_BACK = auto()
    NO_ANSWER_CAME_BACK = auto()
    ANSWER_FROM_ANOTHER = auto()
    SOURCE_NOT_DELIVERED = auto()
    PAYLOAD_HELD = auto()
    PAYLOAD_NEVER_LEFT = auto()
    PAYLOAD_CAME_BACK = auto()
    NO_PAYLOAD_CAME_BACK = auto()
    SILENCE = auto()
    REFUSED = auto()
    CONNECTED = auto()
    STALLED = auto()
    BROKEN_OFF = auto()
    STRANGER = auto()
    ICMP = auto()
    BY_SOURCE = auto()
    BY_DIALLED = auto()
    BY_DEVICE = auto()
    REJECTS = auto()
    PORT_CLOSED = auto()
    NOT_THERE = auto()
    NO_ROUTE = auto()
    LOOP = auto()
    SLOW = auto()
    QUICK = auto()
    STOPS_SHORT = auto()
    STOPS_AFTER = auto()
    PASSED = auto()
    TRANSLATED = auto()
    ANSWERED_EARLY = auto()
    ANSWERED_LATE = auto()
    SHORT_PASSES = auto()
    UNACKED = auto()
    ALL_ACKED = auto()
    WITNESS = auto()
    TAP = auto()
    LOCAL = auto()
    CAME = auto()
    NEVER_CAME = auto()
    PAYLOAD_CAME = auto()
    PAYLOAD_NEVER_CAME = auto()
    ANSWER_LEFT = auto()
    NO_ANSWER_LEFT = auto()
    PAYLOAD_ANSWERED = auto()
    PAYLOAD_NOT_ANSWERED = auto()
    ACK_LEFT = auto()
    NO_ACK_LEFT = auto()
    RST_LEFT = auto()
    NO_RST_LEFT = auto()
    ICMP_LEFT = auto()
    BACK_STOPS = auto()
    HALF_OPEN = auto()
    ESTABLISHED = auto()
    UNREAD = auto()
    ANSWER_UNACKED = auto()
    NO_ROUTE_BACK = auto()
    ROUTE_MISSED = auto()
    LISTENS = auto()
    LISTENS_NOT = auto()
    OURS_LISTENS = auto()
    RESETS_COUNTED = auto()
    NO_RESET_COUNTED = auto()
    NOT_DELIVERED = auto()
    DELIVERED = auto()
    FORWARDS = auto()
    NO_PORT_COUNTED = auto()
    NOTHING_HELD_BACK = auto()
    OVERFLOW = auto()
    REVERSE_PATH = auto()


@dataclass(frozen=True, slots=True)
class What:
    """What a sign comes to."""

    holds: Callable[[Facts], bool]
    says: str = ""
    """Where it says nothing, another sign says it."""
