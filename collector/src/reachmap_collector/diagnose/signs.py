"""Signs: what was observed, each as a question to the facts and as the sentence that says so. Pure.

A rule names the signs that it rests on, and those that must be missing; whoever reads a finding
reads the sentences of the former.
"""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from reachmap_collector.diagnose.facts import SLOW_MS, Facts, same
from reachmap_shared.diagnosis import Met, PacketKind, RowState, Silenced, TapState
from reachmap_shared.vocabulary import Outcome

_SYN, _SYN_ACK, _RST = PacketKind.SYN, PacketKind.SYN_ACK, PacketKind.RST
_DATA, _DATAGRAM, _ACK = PacketKind.DATA, PacketKind.DATAGRAM, PacketKind.ACK
_ICMP = PacketKind.ICMP_ERROR

_REJECTS: Final = {(4, 3, code) for code in (2, 3, 9, 10, 13, 14, 15)} | {
    (6, 1, code) for code in (1, 4, 5, 6)
}
_NOT_THERE: Final = {(4, 3, 1), (4, 3, 7), (6, 1, 3)}
_NO_ROUTE: Final = {(4, 3, 0), (4, 3, 6), (4, 3, 11), (4, 3, 12), (6, 1, 0), (6, 1, 2)}
_LOOP: Final = {(4, 11, 0), (6, 3, 0)}


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
    DISTRUSTED = auto()
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
class _Sign:
    holds: Callable[[Facts], bool]
    says: str = ""
    """Where it says nothing, another sign says it."""


def _icmp(facts: Facts) -> tuple[int, int, int]:
    icmp = facts.first.icmp
    return (icmp.version, icmp.type, icmp.code) if icmp is not None else (0, 0, 0)


def _offender(facts: Facts) -> str:
    return facts.first.icmp.offender if facts.first.icmp is not None else ""


def _by_device(facts: Facts) -> bool:
    by = _offender(facts)
    return bool(by) and not same(by, facts.path.local) and not same(by, facts.diagnosis.address)


def _at_most(facts: Facts, name: str, most: int) -> bool:
    grown = facts.grew(name)
    return grown is not None and grown <= most


def _at_least(facts: Facts, name: str, least: int) -> bool:
    return (facts.grew(name) or 0) >= least


def _heard(facts: Facts) -> bool:
    """Whether the source's tap saw what refused the flow, though not the flow: nothing hides it."""
    return facts.came_back(_RST) or facts.first.met is not Met.RST


def _not_delivered(facts: Facts) -> int:
    """How many packets a host's firewall would have to drop for all that was sent in vain."""
    return max(1, facts.asked)


def _stops_after(facts: Facts) -> bool:
    ends = (Met.SYN_ACK, Met.RST, Met.DATA)
    quiet = bool(facts.steps) and all(hop.met not in ends for hop in facts.steps)
    return quiet and facts.last_device is not None


SIGNS: Final[Mapping[Sign, _Sign]] = {
    Sign.TCP: _Sign(lambda f: f.is_tcp),
    Sign.UDP: _Sign(lambda f: not f.is_tcp),
    # What became of the check when it was made again.
    Sign.WENT_WELL: _Sign(
        lambda f: f.first.outcome is Outcome.OPEN, "{source}: made again, the check went well"
    ),
    Sign.CHANGED: _Sign(
        lambda f: (f.first.outcome, f.first.met) != (f.last.outcome, f.last.met),
        "{source}: the check met {first}, and a few seconds later {last}",
    ),
    Sign.OWN_ERROR: _Sign(
        lambda f: f.first.met is Met.OWN and f.first.errno != errno.ECONNREFUSED,
        "{source}: {error} before anything was sent: a route or a firewall of its own",
    ),
    Sign.NOTHING_LEFT: _Sign(
        lambda f: f.nothing_left,
        "{source}: TCP tried {tries} times, and no segment left the host",
    ),
    Sign.SYN_NEVER_LEFT: _Sign(
        lambda f: f.is_tcp and f.source_tap and not f.left(_SYN) and _heard(f),
        "{source}: its network interfaces saw no SYN leave",
    ),
    Sign.ANSWER_CAME_BACK: _Sign(
        # One that comes too late is refused, which shows that it was let in.
        lambda f: f.came_back(_SYN_ACK if f.is_tcp else _DATAGRAM) and not f.left(_RST),
        "{source}: the answer came in at its network interface, and not to the socket",
    ),
    Sign.NO_ANSWER_CAME_BACK: _Sign(
        # Where it did not see the question either, something hides the flow from it (IPsec does).
        lambda f: (
            f.source_tap
            and f.left(_SYN if f.is_tcp else _DATAGRAM)
            and not f.came_back(_SYN_ACK if f.is_tcp else _DATAGRAM)
        ),
        "{source}: no answer came in at its network interfaces",
    ),
    Sign.SOURCE_NOT_DELIVERED: _Sign(
        lambda f: (
            f.path.sight.counters is not None and f.path.sight.counters.not_delivered >= f.asked
        ),
        "{source}: {held} packets came in meanwhile and went to no socket",
    ),
    Sign.ANSWER_FROM_ANOTHER: _Sign(
        lambda f: f.came_from_another(_SYN_ACK if f.is_tcp else _DATAGRAM),
        "{source}: an answer came in from an address that was not dialled",
    ),
    Sign.PAYLOAD_HELD: _Sign(
        lambda f: f.payload_held,
        "{source}: TCP meant to send the payload, and none of it left the host",
    ),
    Sign.PAYLOAD_NEVER_LEFT: _Sign(
        lambda f: f.source_tap and f.left(_SYN) and f.first.sent > 0 and not f.left(_DATA),
        "{source}: its network interfaces saw the SYN leave, and no payload",
    ),
    Sign.NO_PAYLOAD_CAME_BACK: _Sign(
        lambda f: f.source_tap and f.left(_SYN) and not f.came_back(_DATA),
        "{source}: no payload came in at its network interfaces",
    ),
    Sign.SILENCE: _Sign(
        lambda f: f.first.met is Met.SILENCE, "{source}: {packets} met with silence"
    ),
    Sign.REFUSED: _Sign(lambda f: f.first.met is Met.RST, "{source}: the SYN was refused by RST"),
    Sign.CONNECTED: _Sign(lambda f: f.first.met is Met.SYN_ACK),
    Sign.STALLED: _Sign(
        lambda f: f.first.outcome is Outcome.STALLED,
        "{source}: connected, and then no answer came",
    ),
    Sign.BROKEN_OFF: _Sign(
        lambda f: f.first.outcome is Outcome.RESET,
        "{source}: connected, and then the connection was broken off",
    ),
    Sign.STRANGER: _Sign(
        lambda f: (
            f.first.outcome in (Outcome.WRONG_PEER, Outcome.WRONG_SERVICE, Outcome.TLS_FAILURE)
        ),
        "{source}: what answered is not what should ({outcome})",
    ),
    # ICMP errors.
    Sign.ICMP: _Sign(lambda f: f.first.met is Met.ICMP and f.first.icmp is not None),
    Sign.BY_SOURCE: _Sign(lambda f: same(_offender(f), f.path.local)),
    Sign.BY_DIALLED: _Sign(lambda f: same(_offender(f), f.diagnosis.address)),
    Sign.BY_DEVICE: _Sign(_by_device),
    Sign.REJECTS: _Sign(
        lambda f: _icmp(f) in _REJECTS, "{source}: {offender} says that it is forbidden ({icmp})"
    ),
    Sign.PORT_CLOSED: _Sign(
        lambda f: _icmp(f) in ((4, 3, 3), (6, 1, 4)), "{source}: {offender} says {icmp}"
    ),
    Sign.NOT_THERE: _Sign(
        lambda f: _icmp(f) in _NOT_THERE,
        "{source}: {offender} says that {address} does not answer there ({icmp})",
    ),
    Sign.NO_ROUTE: _Sign(
        lambda f: _icmp(f) in _NO_ROUTE,
        "{source}: {offender} says that it has no route to {address} ({icmp})",
    ),
    Sign.LOOP: _Sign(
        lambda f: _icmp(f) in _LOOP,
        "{source}: {offender} says that the packet went on for too many hops ({icmp})",
    ),
    Sign.SLOW: _Sign(
        lambda f: f.first.met_ms >= SLOW_MS, "it said so after {ms} ms, as who has looked for it"
    ),
    Sign.QUICK: _Sign(
        lambda f: max(f.first.met_ms, f.last.met_ms) < SLOW_MS,
        "it said so within {ms} ms, which is too soon to have looked for it",
    ),
    # The way there.
    Sign.STOPS_SHORT: _Sign(
        lambda f: f.stops_short,
        "{source}: its packets to {near} pass {passed}{next}, those to port {port} never do",
    ),
    Sign.STOPS_AFTER: _Sign(
        _stops_after, "{source}: the last device that answered for this flow is {passed}"
    ),
    Sign.PASSED: _Sign(
        lambda f: f.last_device is not None, "{source}: {passed} had its packets, and said so"
    ),
    Sign.TRANSLATED: _Sign(
        lambda f: f.translated_at is not None,
        "{source}: a device on the way, {translated} hops away, answers by the address of "
        "{destination}: it leads its packets to another",
    ),
    Sign.ANSWERED_EARLY: _Sign(
        lambda f: f.answered_early,
        "{source}: the answer comes at {early} hops already, and {near} is {distance} hops away",
    ),
    Sign.ANSWERED_LATE: _Sign(
        lambda f: f.distance is not None and f.answered_at == f.distance,
        "{source}: the answer comes from as far away as {destination} is, {distance} hops",
    ),
    Sign.SHORT_PASSES: _Sign(
        lambda f: any(rung.outcome is Outcome.OPEN for rung in f.path.ladder),
        "{source}: with segments of {fits} bytes it works, with longer ones it stalls",
    ),
    Sign.UNACKED: _Sign(
        lambda f: f.first.unacked + f.first.unsent > 0,
        "{source}: its payload was never acknowledged, and sent again {tries} times",
    ),
    Sign.ALL_ACKED: _Sign(
        lambda f: f.first.unacked + f.first.unsent == 0,
        "{source}: all that was sent was acknowledged",
    ),
    # What the destination saw.
    Sign.WITNESS: _Sign(lambda f: f.told is not None),
    Sign.DISTRUSTED: _Sign(
        lambda f: f.contradiction,
        "what {destination} says it saw does not fit what {source} saw: it was left aside",
    ),
    Sign.TAP: _Sign(lambda f: f.tap),
    Sign.LOCAL: _Sign(lambda f: f.told is not None and f.told.is_local),
    Sign.CAME: _Sign(
        lambda f: f.arrived(_SYN if f.is_tcp else _DATAGRAM),
        "{destination}: the {kind} came in at its network interface",
    ),
    Sign.NEVER_CAME: _Sign(
        lambda f: f.tap and not f.arrived(_SYN if f.is_tcp else _DATAGRAM),
        "{destination}: no {kind} of this flow came in at its network interfaces",
    ),
    Sign.PAYLOAD_CAME: _Sign(
        lambda f: f.arrived(_DATA), "{destination}: the payload came in at its network interface"
    ),
    Sign.PAYLOAD_NEVER_CAME: _Sign(
        lambda f: f.tap and f.arrived(_SYN) and not f.arrived(_DATA),
        "{destination}: the SYN came in at its network interface, and no payload after it",
    ),
    Sign.ANSWER_LEFT: _Sign(
        lambda f: f.answered(_SYN_ACK if f.is_tcp else _DATAGRAM),
        "{destination}: its answer left through its network interface",
    ),
    Sign.NO_ANSWER_LEFT: _Sign(
        lambda f: f.tap and not f.answered(_SYN_ACK, _DATAGRAM, _RST, _ICMP),
        "{destination}: no answer left through its network interfaces",
    ),
    Sign.PAYLOAD_ANSWERED: _Sign(
        lambda f: f.answered(_DATA), "{destination}: payload of an answer left it"
    ),
    Sign.PAYLOAD_NOT_ANSWERED: _Sign(
        lambda f: f.tap and f.answered(_SYN_ACK) and not f.answered(_DATA),
        "{destination}: it took the connection, and sent no payload",
    ),
    Sign.ACK_LEFT: _Sign(lambda f: f.acked, "{destination}: it acknowledged the payload"),
    Sign.NO_ACK_LEFT: _Sign(
        lambda f: f.tap and not f.acked and not f.answered(_DATA, PacketKind.FIN),
        "{destination}: it acknowledged nothing of the payload",
    ),
    Sign.RST_LEFT: _Sign(lambda f: f.answered(_RST), "{destination}: RST left it"),
    Sign.NO_RST_LEFT: _Sign(
        lambda f: f.tap and not f.answered(_RST, PacketKind.FIN), "{destination}: no RST left it"
    ),
    Sign.ICMP_LEFT: _Sign(lambda f: f.answered(_ICMP), "{destination}: the ICMP error left it"),
    Sign.HALF_OPEN: _Sign(
        lambda f: f.half_open,
        "{destination}: it took the SYN and waits for the rest (SYN_RECV)",
    ),
    Sign.ESTABLISHED: _Sign(
        lambda f: (
            f.told is not None and any(row.state is RowState.ESTABLISHED for row in f.told.rows)
        ),
        "{destination}: it has the connection as established",
    ),
    Sign.UNREAD: _Sign(
        lambda f: f.told is not None and any(row.unread for row in f.told.rows),
        "{destination}: the payload waits there, and the service has not read it",
    ),
    Sign.ANSWER_UNACKED: _Sign(
        lambda f: (
            f.told is not None
            and any(row.unacked and row.state is RowState.ESTABLISHED for row in f.told.rows)
        ),
        "{destination}: it has answered, and nobody acknowledges that",
    ),
    Sign.NO_ROUTE_BACK: _Sign(
        lambda f: f.told is not None and f.told.route_back != 0,
        "{destination}: it has no route to {local} ({route_error})",
    ),
    Sign.ROUTE_MISSED: _Sign(
        lambda f: _at_least(f, "no_route", 1) or _at_least(f, "reverse_path", 1),
        "{destination}: answers of its were dropped for want of a route meanwhile",
    ),
    Sign.LISTENS: _Sign(
        lambda f: f.told is not None and f.told.listens is True,
        "{destination}: {listener} on port {port}",
    ),
    Sign.LISTENS_NOT: _Sign(
        lambda f: f.told is not None and f.told.listens is False,
        "{destination}: nothing listens on port {port}",
    ),
    Sign.OURS_LISTENS: _Sign(lambda f: f.ours_listens),
    Sign.RESETS_COUNTED: _Sign(
        lambda f: _at_least(f, "resets_out", max(1, f.ports(_RST))),
        "{destination}: its kernel sent {resets} RST meanwhile",
    ),
    Sign.NO_RESET_COUNTED: _Sign(
        lambda f: _at_most(f, "resets_out", 0),
        "{destination}: its kernel sent no RST of its own meanwhile",
    ),
    Sign.NOT_DELIVERED: _Sign(
        lambda f: _at_least(f, "not_delivered", _not_delivered(f)),
        "{destination}: {lost} packets came in meanwhile and went to no socket",
    ),
    Sign.DELIVERED: _Sign(
        lambda f: _at_most(f, "not_delivered", _not_delivered(f) - 1),
        "{destination}: of what came in, {lost} packets went to no socket: fewer than were sent",
    ),
    Sign.FORWARDS: _Sign(lambda f: f.grew("forwarded") != 0),
    Sign.NO_PORT_COUNTED: _Sign(
        lambda f: _at_least(f, "udp_no_port", 1),
        "{destination}: its kernel had no socket for datagrams meanwhile",
    ),
    Sign.NOTHING_HELD_BACK: _Sign(
        lambda f: _at_most(f, "retransmit_failures", 0),
        "{destination}: nothing kept its segments from leaving",
    ),
    Sign.OVERFLOW: _Sign(
        lambda f: _at_least(f, "listen_overflows", 1),
        "{destination}: a service's queue of new connections was full {overflows} times",
    ),
    Sign.REVERSE_PATH: _Sign(
        lambda f: _at_least(f, "reverse_path", 1),
        "{destination}: packets were dropped by its reverse path filter meanwhile",
    ),
}


def sentences(facts: Facts, signs: tuple[Sign, ...]) -> tuple[str, ...]:
    """What these signs say, for people."""
    words = _words(facts)
    return tuple(SIGNS[sign].says.format(**words) for sign in signs if SIGNS[sign].says)


def silence_of(facts: Facts) -> tuple[str, ...]:
    """Why less is known than could be."""
    destination = facts.diagnosis.destination
    if facts.contradiction:
        return sentences(facts, (Sign.DISTRUSTED,))
    if facts.diagnosis.silenced is not None:
        return (_SILENCED[facts.diagnosis.silenced].format(destination=destination),)
    told = facts.told
    if told is None:
        return ()
    found = []
    if not told.is_local:
        found.append(f"{destination}: {facts.diagnosis.address} is no address of its own")
    if not facts.tap and told.is_local:
        found.append(f"{destination}: {_NO_TAP[told.sight.tap]}")
    return tuple(found)


_SILENCED: Final[Mapping[Silenced, str]] = {
    Silenced.NO_AGENT: "no agent on {destination} can say what came there",
    Silenced.NO_ANSWER: "the agent on {destination} did not answer",
    Silenced.BUSY: "the agent on {destination} watched too many checks at once",
    Silenced.REFUSED: "the agent on {destination} would not watch this check",
    Silenced.FORGED: "what answered for the agent on {destination} was not by its key",
    Silenced.LATE: "the agent on {destination} did not say in time what it saw",
}
_NO_TAP: Final[Mapping[TapState, str]] = {
    TapState.WORKS: "packets may have passed its tap unseen",
    TapState.FORBIDDEN: "its agent may not look at packets (CAP_NET_RAW)",
    TapState.BLIND: "its agent's tap does not see packets",
    TapState.NONE: "its agent cannot look at packets on this system",
}


def _words(facts: Facts) -> dict[str, object]:
    given, first, last = facts.diagnosis, facts.first, facts.last
    icmp = first.icmp
    near = facts.compared
    told, own = given.testimony, facts.path.sight.counters
    counters = told.sight.counters if told is not None else None
    fits = [rung.mss for rung in facts.path.ladder if rung.outcome is Outcome.OPEN]
    listener = "its agent's own listener is"
    if told is not None and told.holder:
        listener = f"{told.holder} listens"
    return {
        "source": given.source,
        "destination": given.destination,
        "address": given.address,
        "local": facts.path.local,
        "port": given.port,
        "kind": "SYN" if facts.is_tcp else "datagram",
        "first": first.outcome,
        "last": last.outcome,
        "outcome": first.outcome,
        "error": _named(first.errno),
        "tries": first.timeouts,
        "packets": f"{first.segments_out} SYN" if facts.is_tcp else "a datagram",
        "offender": _offender(facts) or "an unknown device",
        "icmp": f"ICMP{'v6' if icmp.version == 6 else ''} {icmp.type}/{icmp.code}" if icmp else "",
        "ms": first.met_ms,
        "near": f"port {near.port} of {near.address}" if near else "",
        "passed": _named_device(facts),
        "next": f" and {facts.next_device.by}" if facts.next_device else "",
        "early": facts.answered_at,
        "distance": facts.distance,
        "translated": facts.translated_at,
        "fits": max(fits, default=0),
        "listener": listener,
        "route_error": _named(told.route_back) if told is not None else "",
        "resets": counters.resets_out if counters else 0,
        "lost": counters.not_delivered if counters else 0,
        "held": own.not_delivered if own is not None else 0,
        "overflows": counters.listen_overflows if counters else 0,
    }


def _named_device(facts: Facts) -> str:
    device = facts.last_device
    if device is None:
        return "this host"
    return device.by or f"a device {device.ttl} hops away"


def _named(code: int) -> str:
    return errno.errorcode.get(code, os.strerror(code) if code > 0 else "an error")
