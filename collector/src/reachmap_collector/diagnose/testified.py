"""Signs that are the witness's word: what the destination's agent says that it saw. Pure.

Nothing is proven by any of these. Each sentence is told as what that agent says.
"""

from collections.abc import Mapping
from typing import Final

from reachmap_collector.diagnose.facts import Facts
from reachmap_collector.diagnose.sign import Sign, What
from reachmap_shared.diagnosis import PacketKind, RowState

_SYN, _SYN_ACK, _RST = PacketKind.SYN, PacketKind.SYN_ACK, PacketKind.RST
_DATA, _DATAGRAM, _ACK = PacketKind.DATA, PacketKind.DATAGRAM, PacketKind.ACK
_ICMP = PacketKind.ICMP_ERROR


def _at_most(facts: Facts, name: str, most: int) -> bool:
    grown = facts.grew(name)
    return grown is not None and grown <= most


def _at_least(facts: Facts, name: str, least: int) -> bool:
    return (facts.grew(name) or 0) >= least


def _not_delivered(facts: Facts) -> int:
    """How many packets a host's firewall would have to drop for all that was sent in vain."""
    return max(1, facts.asked)


TESTIFIED: Final[Mapping[Sign, What]] = {
    Sign.WITNESS: What(lambda f: f.told is not None),
    Sign.TAP: What(lambda f: f.tap),
    Sign.LOCAL: What(lambda f: f.told is not None and f.told.is_local),
    Sign.CAME: What(
        lambda f: f.arrived(_SYN if f.is_tcp else _DATAGRAM),
        "the {kind} came in at its network interface",
    ),
    Sign.NEVER_CAME: What(
        lambda f: f.tap and not f.arrived(_SYN if f.is_tcp else _DATAGRAM),
        "no {kind} of this flow came in at its network interfaces",
    ),
    Sign.PAYLOAD_CAME: What(
        lambda f: f.arrived(_DATA), "the payload came in at its network interface"
    ),
    Sign.PAYLOAD_NEVER_CAME: What(
        lambda f: f.tap and f.arrived(_SYN) and not f.arrived(_DATA),
        "the SYN came in at its network interface, and no payload after it",
    ),
    Sign.ANSWER_LEFT: What(
        lambda f: f.answered(_SYN_ACK if f.is_tcp else _DATAGRAM),
        "its answer left through its network interface",
    ),
    Sign.NO_ANSWER_LEFT: What(
        lambda f: f.tap and not f.answered(_SYN_ACK, _DATAGRAM, _RST, _ICMP),
        "no answer left through its network interfaces",
    ),
    Sign.PAYLOAD_ANSWERED: What(lambda f: f.answered(_DATA), "payload of an answer left it"),
    Sign.PAYLOAD_NOT_ANSWERED: What(
        lambda f: f.tap and f.answered(_SYN_ACK) and not f.answered(_DATA),
        "it took the connection, and sent no payload",
    ),
    Sign.ACK_LEFT: What(lambda f: f.acked, "it acknowledged the payload"),
    Sign.NO_ACK_LEFT: What(
        lambda f: f.tap and not f.acked and not f.answered(_DATA, PacketKind.FIN),
        "it acknowledged nothing of the payload",
    ),
    Sign.RST_LEFT: What(lambda f: f.answered(_RST), "RST left it"),
    Sign.NO_RST_LEFT: What(
        lambda f: f.tap and not f.answered(_RST, PacketKind.FIN), "no RST left it"
    ),
    Sign.ICMP_LEFT: What(lambda f: f.answered(_ICMP), "the ICMP error left it"),
    Sign.BACK_STOPS: What(
        lambda f: f.back_device is not None,
        "its answer, sent once more, passes {back} on the way to {local}, and no device behind it",
    ),
    Sign.HALF_OPEN: What(
        lambda f: f.half_open,
        "it took the SYN and waits for the rest (SYN_RECV)",
    ),
    Sign.ESTABLISHED: What(
        lambda f: (
            f.told is not None and any(row.state is RowState.ESTABLISHED for row in f.told.rows)
        ),
        "it has the connection as established",
    ),
    Sign.UNREAD: What(
        lambda f: f.told is not None and any(row.unread for row in f.told.rows),
        "the payload waits there, and the service has not read it",
    ),
    Sign.ANSWER_UNACKED: What(
        lambda f: (
            f.told is not None
            and any(row.unacked and row.state is RowState.ESTABLISHED for row in f.told.rows)
        ),
        "it has answered, and nobody acknowledges that",
    ),
    Sign.NO_ROUTE_BACK: What(
        lambda f: f.told is not None and f.told.route_back != 0,
        "it has no route to {local} ({route_error})",
    ),
    Sign.ROUTE_MISSED: What(
        lambda f: _at_least(f, "no_route", 1) or _at_least(f, "reverse_path", 1),
        "answers of its were dropped for want of a route meanwhile",
    ),
    Sign.LISTENS: What(
        lambda f: f.told is not None and f.told.listens is True,
        "{listener} on port {port}",
    ),
    Sign.LISTENS_NOT: What(
        lambda f: f.told is not None and f.told.listens is False,
        "nothing listens on port {port}",
    ),
    Sign.OURS_LISTENS: What(lambda f: f.ours_listens),
    Sign.RESETS_COUNTED: What(
        lambda f: _at_least(f, "resets_out", max(1, f.ports(_RST))),
        "its kernel sent {resets} RST meanwhile",
    ),
    Sign.NO_RESET_COUNTED: What(
        lambda f: _at_most(f, "resets_out", 0),
        "its kernel sent no RST of its own meanwhile",
    ),
    Sign.NOT_DELIVERED: What(
        lambda f: (
            _at_least(f, "not_delivered", _not_delivered(f))
            and _at_most(f, "not_delivered", f.at_most)
        ),
        "{lost} packets came in meanwhile and went to no socket",
    ),
    Sign.DELIVERED: What(
        lambda f: _at_most(f, "not_delivered", _not_delivered(f) - 1),
        "of what came in, {lost} packets went to no socket: fewer than were sent",
    ),
    Sign.FORWARDS: What(lambda f: f.grew("forwarded") != 0),
    Sign.NO_PORT_COUNTED: What(
        lambda f: _at_least(f, "udp_no_port", 1),
        "its kernel had no socket for datagrams meanwhile",
    ),
    Sign.NOTHING_HELD_BACK: What(
        lambda f: _at_most(f, "retransmit_failures", 0),
        "nothing kept its segments from leaving",
    ),
    Sign.OVERFLOW: What(
        lambda f: _at_least(f, "listen_overflows", 1),
        "a service's queue of new connections was full {overflows} times",
    ),
    Sign.REVERSE_PATH: What(
        lambda f: _at_least(f, "reverse_path", 1),
        "packets were dropped by its reverse path filter meanwhile",
    ),
}
