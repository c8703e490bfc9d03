"""The rules: from signs to a cause. Pure.

The first rule whose signs are all there, and whose absences are all absent, is the one that holds.
A rule is `PROVEN` only if no other explanation fits what it needs. So none is that rests on a
witness's word, which may be untrue, nor on how far a host's counters grew, since others' traffic
moves them, nor one that infers a device from where packets stop: it may be that one, or the one
behind it. Rules that rest on the source alone come before those that a witness has a word in.
What cannot be told is unknown.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from reachmap_collector.diagnose.sign import Sign
from reachmap_shared.vocabulary import Cause, Confidence

_SOURCE, _PATH, _BACK = Cause.SOURCE_HOST, Cause.PATH, Cause.RETURN_PATH
_THERE, _SERVICE, _BOX = Cause.DESTINATION_HOST, Cause.SERVICE, Cause.MIDDLEBOX
_NOBODY = Cause.UNKNOWN
_PROVEN, _LIKELY, _UNSURE = Confidence.PROVEN, Confidence.LIKELY, Confidence.UNKNOWN


class At(Enum):
    """Which device a rule points at."""

    NOWHERE = auto()
    SOURCE = auto()
    DESTINATION = auto()
    OFFENDER = auto()
    """Who sent the ICMP error."""
    LAST = auto()
    """The last device that had the packet; where none said so, the first that should have."""
    TRANSLATOR = auto()
    """Likewise, where an address becomes another."""
    ANSWERER = auto()
    """The device that is, for a flow that works, where this flow's answer comes from."""
    BACK = auto()
    """The last device on the way back that had the answer."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What certain signs together mean."""

    cause: Cause
    confidence: Confidence
    at: At
    needs: tuple[Sign, ...]
    lacks: tuple[Sign, ...] = ()
    adds: tuple[Sign, ...] = ()
    """Signs that it does not rest on, and whose sentences help if they are there."""


S = Sign

RULES: Final[tuple[Rule, ...]] = (
    # What heals, or changes, while it is looked at has no one cause.
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.WENT_WELL,)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.CHANGED,)),
    # The source itself.
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.OWN_ERROR,)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.NOTHING_LEFT,), adds=(S.SYN_NEVER_LEFT,)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.SILENCE, S.ANSWER_CAME_BACK)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.REFUSED, S.SYN_NEVER_LEFT)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.ICMP, S.BY_SOURCE, S.REJECTS)),
    Rule(_THERE, _LIKELY, At.DESTINATION, (S.ICMP, S.BY_SOURCE, S.NOT_THERE, S.SLOW)),
    Rule(_SOURCE, _LIKELY, At.SOURCE, (S.ICMP, S.BY_SOURCE, S.NOT_THERE, S.QUICK)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.STALLED, S.PAYLOAD_HELD), adds=(S.PAYLOAD_NEVER_LEFT,)),
    Rule(_SOURCE, _PROVEN, At.SOURCE, (S.BROKEN_OFF, S.PAYLOAD_NEVER_LEFT)),
    Rule(_SOURCE, _LIKELY, At.SOURCE, (S.STALLED, S.PAYLOAD_CAME_BACK)),
    # Devices that say so themselves.
    Rule(_PATH, _PROVEN, At.OFFENDER, (S.ICMP, S.BY_DEVICE, S.REJECTS)),
    Rule(_PATH, _PROVEN, At.OFFENDER, (S.ICMP, S.BY_DEVICE, S.NO_ROUTE)),
    Rule(_PATH, _LIKELY, At.OFFENDER, (S.ICMP, S.BY_DEVICE, S.LOOP)),
    Rule(_PATH, _LIKELY, At.OFFENDER, (S.ICMP, S.BY_DEVICE, S.NOT_THERE, S.QUICK)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.ICMP, S.BY_DEVICE, S.NOT_THERE, S.WITNESS, S.LOCAL)),
    Rule(_THERE, _LIKELY, At.DESTINATION, (S.ICMP, S.BY_DEVICE, S.NOT_THERE, S.SLOW)),
    # The destination's own address says so: itself, or a device that speaks for it.
    Rule(_PATH, _LIKELY, At.LAST, (S.ICMP, S.BY_DIALLED, S.REJECTS, S.NEVER_CAME)),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.PORT_CLOSED, S.BY_DIALLED, S.LISTENS),
        adds=(S.CAME, S.ICMP_LEFT),
    ),
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.PORT_CLOSED, S.BY_DIALLED),
        adds=(S.CAME, S.ICMP_LEFT, S.LISTENS_NOT, S.NO_PORT_COUNTED),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.ICMP, S.BY_DIALLED, S.REJECTS),
        adds=(S.CAME, S.ICMP_LEFT, S.LISTENS),
    ),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.ICMP,)),
    # Somebody leads the address to another.
    Rule(
        _BOX,
        _LIKELY,
        At.TRANSLATOR,
        (S.TRANSLATED,),
        (S.CAME,),
        adds=(S.REFUSED, S.SILENCE, S.STRANGER, S.STALLED, S.NEVER_CAME),
    ),
    # RST in answer to SYN.
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.REFUSED, S.CAME, S.RST_LEFT, S.LISTENS),
        adds=(S.NO_RESET_COUNTED,),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.REFUSED, S.CAME, S.RST_LEFT, S.LISTENS_NOT, S.NO_RESET_COUNTED),
        (S.FORWARDS,),
    ),
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.REFUSED, S.CAME, S.RST_LEFT, S.LISTENS_NOT),
        adds=(S.RESETS_COUNTED,),
    ),
    Rule(_PATH, _LIKELY, At.LAST, (S.REFUSED, S.NEVER_CAME), adds=(S.ANSWERED_EARLY, S.LISTENS)),
    Rule(_PATH, _LIKELY, At.LAST, (S.REFUSED, S.ANSWERED_EARLY, S.PASSED)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.REFUSED, S.ANSWERED_EARLY)),
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.REFUSED, S.LOCAL, S.LISTENS_NOT, S.RESETS_COUNTED),
        adds=(S.ANSWERED_LATE,),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.REFUSED, S.LOCAL, S.NO_RESET_COUNTED, S.NOT_DELIVERED),
        (S.FORWARDS,),
        adds=(S.ANSWERED_LATE, S.LISTENS, S.LISTENS_NOT),
    ),
    Rule(
        _PATH,
        _LIKELY,
        At.LAST,
        (S.REFUSED, S.NO_RESET_COUNTED, S.DELIVERED, S.LOCAL),
        (S.FORWARDS,),
        adds=(S.LISTENS, S.LISTENS_NOT),
    ),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.REFUSED, S.LISTENS), adds=(S.ANSWERED_LATE,)),
    Rule(_SERVICE, _LIKELY, At.DESTINATION, (S.REFUSED, S.ANSWERED_LATE)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.REFUSED,)),
    # A SYN that met with silence, and what the destination saw of it.
    Rule(
        _BACK,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.NO_ROUTE_BACK, S.ROUTE_MISSED),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.CAME, S.HALF_OPEN, S.NO_ANSWER_LEFT),
    ),
    Rule(_BOX, _LIKELY, At.NOWHERE, (S.TCP, S.SILENCE, S.ANSWER_FROM_ANOTHER)),
    Rule(
        _SOURCE,
        _LIKELY,
        At.SOURCE,
        (S.TCP, S.SILENCE, S.HALF_OPEN, S.SOURCE_NOT_DELIVERED),
        (S.NO_ANSWER_CAME_BACK,),
    ),
    Rule(
        _BACK,
        _LIKELY,
        At.BACK,
        (S.TCP, S.SILENCE, S.ANSWER_LEFT, S.BACK_STOPS),
        adds=(S.CAME, S.NO_ANSWER_CAME_BACK, S.HALF_OPEN),
    ),
    Rule(
        _BACK,
        _LIKELY,
        At.NOWHERE,
        (S.TCP, S.SILENCE, S.ANSWER_LEFT),
        adds=(S.CAME, S.NO_ANSWER_CAME_BACK, S.HALF_OPEN),
    ),
    Rule(_BACK, _LIKELY, At.NOWHERE, (S.TCP, S.SILENCE, S.HALF_OPEN)),
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.OVERFLOW),
        adds=(S.LISTENS,),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.REVERSE_PATH),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT),
        adds=(S.LISTENS, S.LISTENS_NOT, S.NO_ROUTE_BACK),
    ),
    # Silence that nothing came of at the destination.
    Rule(
        _PATH,
        _LIKELY,
        At.LAST,
        (S.SILENCE, S.NEVER_CAME),
        adds=(S.STOPS_SHORT, S.STOPS_AFTER, S.LISTENS),
    ),
    # Datagrams that came.
    Rule(
        _BACK,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.NO_ROUTE_BACK, S.ROUTE_MISSED),
    ),
    Rule(
        _BACK,
        _LIKELY,
        At.NOWHERE,
        (S.UDP, S.SILENCE, S.CAME, S.ANSWER_LEFT),
        adds=(S.NO_ANSWER_CAME_BACK,),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.LISTENS, S.OURS_LISTENS),
    ),
    # Its answer may still have been kept from leaving.
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.LISTENS, S.DELIVERED),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.UDP, S.SILENCE, S.CAME, S.NO_ANSWER_LEFT, S.NOT_DELIVERED),
        adds=(S.LISTENS, S.LISTENS_NOT),
    ),
    # Silence, and nobody who looks at packets.
    Rule(
        _BACK,
        _LIKELY,
        At.DESTINATION,
        (S.SILENCE, S.NO_ROUTE_BACK, S.ROUTE_MISSED),
        (S.STOPS_SHORT, S.TAP),
    ),
    Rule(_PATH, _LIKELY, At.LAST, (S.SILENCE, S.STOPS_SHORT)),
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.TCP, S.SILENCE, S.LOCAL, S.OVERFLOW, S.DELIVERED),
        adds=(S.STOPS_AFTER,),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.SILENCE, S.LOCAL, S.NOT_DELIVERED),
        adds=(S.STOPS_AFTER, S.LISTENS, S.LISTENS_NOT),
    ),
    Rule(
        _PATH,
        _LIKELY,
        At.LAST,
        (S.TCP, S.SILENCE, S.LOCAL, S.DELIVERED),
        (S.FORWARDS,),
        adds=(S.STOPS_AFTER, S.LISTENS, S.LISTENS_NOT),
    ),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.SILENCE,), adds=(S.STOPS_AFTER,)),
    # Connected, and the payload is too long for the way.
    Rule(_PATH, _LIKELY, At.LAST, (S.CONNECTED, S.SHORT_PASSES), adds=(S.STOPS_AFTER,)),
    # Connected, and the payload is lost before a device that others pass.
    Rule(
        _PATH,
        _LIKELY,
        At.LAST,
        (S.STALLED, S.UNACKED, S.STOPS_SHORT),
        adds=(S.PAYLOAD_NEVER_CAME, S.STOPS_AFTER),
    ),
    # Connected, but to whom?
    Rule(
        _BOX,
        _LIKELY,
        At.ANSWERER,
        (S.CONNECTED, S.NEVER_CAME, S.ANSWERED_EARLY),
        adds=(S.STRANGER, S.STALLED, S.BROKEN_OFF, S.OURS_LISTENS),
    ),
    Rule(
        _BOX,
        _LIKELY,
        At.NOWHERE,
        (S.CONNECTED, S.NEVER_CAME),
        (S.ESTABLISHED, S.HALF_OPEN),
        adds=(S.STRANGER, S.STALLED, S.BROKEN_OFF, S.LISTENS),
    ),
    Rule(_BOX, _LIKELY, At.ANSWERER, (S.STRANGER, S.ANSWERED_EARLY)),
    # Connected, and the answer is lost.
    Rule(
        _BACK,
        _LIKELY,
        At.NOWHERE,
        (S.STALLED, S.CAME, S.PAYLOAD_ANSWERED),
        adds=(S.NO_PAYLOAD_CAME_BACK,),
    ),
    Rule(
        _SOURCE,
        _LIKELY,
        At.SOURCE,
        (S.STALLED, S.ANSWER_UNACKED, S.SOURCE_NOT_DELIVERED),
        (S.NO_PAYLOAD_CAME_BACK,),
    ),
    Rule(_BACK, _LIKELY, At.NOWHERE, (S.STALLED, S.ANSWER_UNACKED)),
    Rule(_SERVICE, _LIKELY, At.DESTINATION, (S.STALLED, S.UNREAD), (S.CAME,), adds=(S.LISTENS,)),
    # Connected, and the payload is lost.
    Rule(
        _PATH,
        _LIKELY,
        At.LAST,
        (S.STALLED, S.UNACKED, S.PAYLOAD_NEVER_CAME),
        adds=(S.STOPS_AFTER,),
    ),
    Rule(_THERE, _LIKELY, At.DESTINATION, (S.STALLED, S.UNACKED, S.PAYLOAD_CAME, S.NO_ACK_LEFT)),
    Rule(_BACK, _LIKELY, At.NOWHERE, (S.STALLED, S.UNACKED, S.PAYLOAD_CAME, S.ACK_LEFT)),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.STALLED, S.UNACKED, S.LOCAL, S.NOT_DELIVERED),
        adds=(S.STOPS_AFTER,),
    ),
    # What was lost is the payload, or all that acknowledged it.
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.STALLED, S.UNACKED), adds=(S.STOPS_AFTER, S.DELIVERED)),
    # Connected, and nothing was lost.
    Rule(
        _SERVICE,
        _LIKELY,
        At.DESTINATION,
        (S.STALLED, S.ALL_ACKED),
        adds=(
            *(S.CAME, S.PAYLOAD_CAME, S.PAYLOAD_NOT_ANSWERED, S.NOTHING_HELD_BACK),
            *(S.ESTABLISHED, S.OVERFLOW, S.LISTENS),
        ),
    ),
    Rule(
        _THERE,
        _LIKELY,
        At.DESTINATION,
        (S.BROKEN_OFF, S.CAME, S.RST_LEFT, S.NO_RESET_COUNTED),
        (S.FORWARDS,),
    ),
    Rule(_SERVICE, _LIKELY, At.DESTINATION, (S.BROKEN_OFF, S.CAME, S.RST_LEFT)),
    Rule(_PATH, _LIKELY, At.LAST, (S.BROKEN_OFF, S.ANSWERED_EARLY, S.PASSED)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.BROKEN_OFF, S.ANSWERED_EARLY)),
    Rule(_PATH, _LIKELY, At.NOWHERE, (S.BROKEN_OFF, S.CAME, S.NO_RST_LEFT, S.PAYLOAD_CAME)),
    Rule(_PATH, _LIKELY, At.LAST, (S.BROKEN_OFF, S.CAME, S.NO_RST_LEFT)),
    Rule(_SERVICE, _LIKELY, At.DESTINATION, (S.BROKEN_OFF,)),
    # Connected to the host that was meant, and not to what should be there.
    Rule(_SERVICE, _LIKELY, At.DESTINATION, (S.STRANGER, S.CAME, S.ANSWER_LEFT), adds=(S.LISTENS,)),
    Rule(_BOX, _LIKELY, At.NOWHERE, (S.STRANGER, S.OURS_LISTENS), (S.ESTABLISHED,)),
    Rule(_NOBODY, _UNSURE, At.NOWHERE, (S.STRANGER,)),
)
