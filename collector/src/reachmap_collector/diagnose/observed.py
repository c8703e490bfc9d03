"""Signs that the source observed, or that devices told it themselves. Pure.

Nobody but the source could make these up.
"""

import errno
from collections.abc import Mapping
from typing import Final

from reachmap_collector.diagnose.facts import SLOW_MS, Facts, same
from reachmap_collector.diagnose.sign import Sign, What
from reachmap_shared.diagnosis import Met, PacketKind
from reachmap_shared.vocabulary import Outcome

_SYN, _SYN_ACK, _RST = PacketKind.SYN, PacketKind.SYN_ACK, PacketKind.RST
_DATA, _DATAGRAM, _ACK = PacketKind.DATA, PacketKind.DATAGRAM, PacketKind.ACK
_ICMP = PacketKind.ICMP_ERROR

_REJECTS: Final = {(4, 3, code) for code in (2, 3, 9, 10, 13, 14, 15)} | {
    (6, 1, code) for code in (1, 4, 5, 6)
}
_NOT_THERE: Final = {(4, 3, 1), (4, 3, 7), (6, 1, 3)}
_NO_ROUTE: Final = {(4, 3, 0), (4, 3, 6), (4, 3, 11), (4, 3, 12), (6, 1, 0), (6, 1, 2)}
_SENT_AGAIN: Final = 3
"""Times that TCP sends an answer, at least, in the time that a check waits."""
_LOOP: Final = {(4, 11, 0), (6, 3, 0)}


def _icmp(facts: Facts) -> tuple[int, int, int]:
    icmp = facts.first.icmp
    return (icmp.version, icmp.type, icmp.code) if icmp is not None else (0, 0, 0)


def offender(facts: Facts) -> str:
    """Who sent the ICMP error; empty where that is not known."""
    return facts.first.icmp.offender if facts.first.icmp is not None else ""


def _by_device(facts: Facts) -> bool:
    by = offender(facts)
    return bool(by) and not same(by, facts.path.local) and not same(by, facts.diagnosis.address)


def _heard(facts: Facts) -> bool:
    """Whether the source's tap saw what refused the flow, though not the flow: nothing hides it."""
    return facts.came_back(_RST) or facts.first.met is not Met.RST


def _held_back(facts: Facts) -> int:
    """How many packets the source's firewall would have to drop for all that came in vain."""
    return _SENT_AGAIN if facts.first.outcome is Outcome.STALLED else facts.asked


def _stops_after(facts: Facts) -> bool:
    ends = (Met.SYN_ACK, Met.RST, Met.DATA)
    quiet = bool(facts.steps) and all(hop.met not in ends for hop in facts.steps)
    return quiet and facts.last_device is not None


OBSERVED: Final[Mapping[Sign, What]] = {
    Sign.TCP: What(lambda f: f.is_tcp),
    Sign.UDP: What(lambda f: not f.is_tcp),
    # What became of the check when it was made again.
    Sign.WENT_WELL: What(
        lambda f: f.first.outcome is Outcome.OPEN, "{source}: made again, the check went well"
    ),
    Sign.CHANGED: What(
        lambda f: (f.first.outcome, f.first.met) != (f.last.outcome, f.last.met),
        "{source}: the check met {first}, and a few seconds later {last}",
    ),
    Sign.OWN_ERROR: What(
        lambda f: f.first.met is Met.OWN and f.first.errno != errno.ECONNREFUSED,
        "{source}: {error} before anything was sent: a route or a firewall of its own",
    ),
    Sign.NOTHING_LEFT: What(
        lambda f: f.nothing_left,
        "{source}: TCP tried {tries} times, and no segment left the host",
    ),
    Sign.SYN_NEVER_LEFT: What(
        lambda f: f.is_tcp and f.source_tap and not f.left(_SYN) and _heard(f),
        "{source}: its network interfaces saw no SYN leave",
    ),
    Sign.ANSWER_CAME_BACK: What(
        # One that comes too late is refused, which shows that it was let in.
        lambda f: f.came_back(_SYN_ACK if f.is_tcp else _DATAGRAM) and not f.left(_RST),
        "{source}: the answer came in at its network interface, and not to the socket",
    ),
    Sign.NO_ANSWER_CAME_BACK: What(
        # Where it did not see the question either, something hides the flow from it (IPsec does).
        lambda f: (
            f.source_tap
            and f.left(_SYN if f.is_tcp else _DATAGRAM)
            and not f.came_back(_SYN_ACK if f.is_tcp else _DATAGRAM)
        ),
        "{source}: no answer came in at its network interfaces",
    ),
    Sign.SOURCE_NOT_DELIVERED: What(
        lambda f: (
            f.path.sight.counters is not None
            and _held_back(f) <= f.path.sight.counters.not_delivered <= f.at_most
        ),
        "{source}: {held} packets came in meanwhile and went to no socket",
    ),
    Sign.ANSWER_FROM_ANOTHER: What(
        lambda f: f.came_from_another(_SYN_ACK if f.is_tcp else _DATAGRAM),
        "{source}: an answer came in from an address that was not dialled",
    ),
    Sign.PAYLOAD_HELD: What(
        lambda f: f.payload_held,
        "{source}: TCP meant to send the payload, and none of it left the host",
    ),
    Sign.PAYLOAD_NEVER_LEFT: What(
        lambda f: f.source_tap and f.left(_SYN) and f.first.sent > 0 and not f.left(_DATA),
        "{source}: its network interfaces saw the SYN leave, and no payload",
    ),
    Sign.PAYLOAD_CAME_BACK: What(
        lambda f: f.payload_came_back,
        "{source}: payload of the answer came in at its network interface, and not to the socket",
    ),
    Sign.NO_PAYLOAD_CAME_BACK: What(
        lambda f: f.source_tap and f.left(_SYN) and not f.came_back(_DATA),
        "{source}: no payload came in at its network interfaces",
    ),
    Sign.SILENCE: What(
        lambda f: f.first.met is Met.SILENCE, "{source}: {packets} met with silence"
    ),
    Sign.REFUSED: What(lambda f: f.first.met is Met.RST, "{source}: the SYN was refused by RST"),
    Sign.CONNECTED: What(lambda f: f.first.met is Met.SYN_ACK),
    Sign.STALLED: What(
        lambda f: f.first.outcome is Outcome.STALLED,
        "{source}: connected, and then no answer came",
    ),
    Sign.BROKEN_OFF: What(
        lambda f: f.first.outcome is Outcome.RESET,
        "{source}: connected, and then the connection was broken off",
    ),
    Sign.STRANGER: What(
        lambda f: (
            f.first.outcome in (Outcome.WRONG_PEER, Outcome.WRONG_SERVICE, Outcome.TLS_FAILURE)
        ),
        "{source}: what answered is not what should ({outcome})",
    ),
    # ICMP errors.
    Sign.ICMP: What(lambda f: f.first.met is Met.ICMP and f.first.icmp is not None),
    Sign.BY_SOURCE: What(lambda f: same(offender(f), f.path.local)),
    Sign.BY_DIALLED: What(lambda f: same(offender(f), f.diagnosis.address)),
    Sign.BY_DEVICE: What(_by_device),
    Sign.REJECTS: What(
        lambda f: _icmp(f) in _REJECTS, "{source}: {offender} says that it is forbidden ({icmp})"
    ),
    Sign.PORT_CLOSED: What(
        lambda f: _icmp(f) in ((4, 3, 3), (6, 1, 4)), "{source}: {offender} says {icmp}"
    ),
    Sign.NOT_THERE: What(
        lambda f: _icmp(f) in _NOT_THERE,
        "{source}: {offender} says that {address} does not answer there ({icmp})",
    ),
    Sign.NO_ROUTE: What(
        lambda f: _icmp(f) in _NO_ROUTE,
        "{source}: {offender} says that it has no route to {address} ({icmp})",
    ),
    Sign.LOOP: What(
        lambda f: _icmp(f) in _LOOP,
        "{source}: {offender} says that the packet went on for too many hops ({icmp})",
    ),
    Sign.SLOW: What(
        lambda f: f.first.met_ms >= SLOW_MS, "it said so after {ms} ms, as who has looked for it"
    ),
    Sign.QUICK: What(
        lambda f: max(f.first.met_ms, f.last.met_ms) < SLOW_MS,
        "it said so within {ms} ms, which is too soon to have looked for it",
    ),
    # The way there.
    Sign.STOPS_SHORT: What(
        lambda f: f.stops_short,
        "{source}: its packets to {near} pass {passed}{next}, those to port {port} never do",
    ),
    Sign.STOPS_AFTER: What(
        _stops_after, "{source}: the last device that answered for this flow is {passed}"
    ),
    Sign.PASSED: What(
        lambda f: f.last_device is not None, "{source}: {passed} had its packets, and said so"
    ),
    Sign.TRANSLATED: What(
        lambda f: f.translated_at is not None,
        "{source}: a device on the way, {translated} hops away, answers by the address of "
        "{destination}: it leads its packets to another",
    ),
    Sign.ANSWERED_EARLY: What(
        lambda f: f.answered_early,
        "{source}: the answer comes at {early} hops already, and {near} is {distance} hops away",
    ),
    Sign.ANSWERED_LATE: What(
        lambda f: f.distance is not None and f.answered_at == f.distance,
        "{source}: the answer comes from as far away as {destination} is, {distance} hops",
    ),
    Sign.SHORT_PASSES: What(
        lambda f: any(rung.outcome is Outcome.OPEN for rung in f.path.ladder),
        "{source}: with segments of {fits} bytes it works, with longer ones it stalls",
    ),
    Sign.UNACKED: What(
        lambda f: f.first.unacked + f.first.unsent > 0,
        "{source}: its payload was never acknowledged, and sent again {tries} times",
    ),
    Sign.ALL_ACKED: What(
        lambda f: f.first.unacked + f.first.unsent == 0,
        "{source}: all that was sent was acknowledged",
    ),
}
