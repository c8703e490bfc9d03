"""What a witness says, held against what the source saw itself. Pure.

A witness may say anything under its own good key. Where its word cannot be true together with the
source's own evidence, one of the two is wrong, and nobody can tell which: what rests on either is
unknown, and both are told. That something came is believed of who can name the ports it came from;
that nothing came can never be shown, and is believed until something shows the contrary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reachmap_collector.diagnose.facts import Facts, same
from reachmap_shared.diagnosis import Met, PacketKind, RowState
from reachmap_shared.vocabulary import Outcome

_SYN, _SYN_ACK = PacketKind.SYN, PacketKind.SYN_ACK
_DATA, _DATAGRAM = PacketKind.DATA, PacketKind.DATAGRAM
_MADE: Final = (Met.SYN_ACK, Met.DATA)


def contradictions(facts: Facts) -> tuple[str, ...]:
    """What the witness says that cannot be, as sentences."""
    told = facts.told
    if told is None:
        return ()
    given = facts.diagnosis
    words = {
        "source": given.source,
        "destination": given.destination,
        "address": given.address,
        "port": given.port,
        "says": f"says the agent on {given.destination}",
        "packets": "SYN" if facts.is_tcp else "datagrams",
    }
    return tuple(one.says.format(**words) for one in _AGAINST if one.holds(facts))


@dataclass(frozen=True, slots=True)
class _Against:
    holds: Callable[[Facts], bool]
    says: str


def _nothing_came(facts: Facts) -> bool:
    """Whether it says that nothing came, as one who would have seen it."""
    return facts.tap and not facts.arrived(_SYN if facts.is_tcp else _DATAGRAM)


def _nobody_between(facts: Facts) -> bool:
    """Whether nothing shows another that answers for the destination."""
    return not facts.answered_early and facts.translated_at is None


def _held_as_made(facts: Facts) -> bool:
    rows = facts.told.rows if facts.told is not None else ()
    port = facts.first.port
    made = any(row.state is RowState.ESTABLISHED and row.peer_port == port for row in rows)
    return made and facts.is_tcp and facts.first.met is Met.SILENCE


def _disproven(facts: Facts) -> bool:
    assert facts.told is not None
    return facts.first.proven and (not facts.told.listens or _nothing_came(facts))


def _made_up(facts: Facts) -> bool:
    assert facts.told is not None
    came = [one for one in facts.told.sight.packets if one.ours and one.inbound]
    peers = [*(one.peer for one in came), *(row.peer for row in facts.told.rows)]
    # Who translates addresses may translate ports.
    plain = bool(peers) and all(same(peer, facts.path.local) for peer in peers)
    return plain and bool(facts.path.drawn) and facts.named.isdisjoint(facts.path.drawn)


def _lost_before(facts: Facts) -> bool:
    silent = facts.first.met is Met.SILENCE and facts.stops_short
    return silent and facts.came and not facts.vouched


def _payload_lost_before(facts: Facts) -> bool:
    stalled = facts.first.outcome is Outcome.STALLED and facts.stops_short
    return stalled and facts.first.unacked + facts.first.unsent > 0 and facts.arrived(_DATA)


def _refused_before(facts: Facts) -> bool:
    refused = facts.first.met is Met.RST and facts.answered_early
    return refused and facts.came and not facts.vouched


def _says_so_itself(facts: Facts) -> bool:
    icmp = facts.first.icmp
    said = facts.first.met is Met.ICMP and icmp is not None
    own = icmp is not None and same(icmp.offender, facts.diagnosis.address)
    return said and own and _nothing_came(facts) and _nobody_between(facts)


def _answered_from_there(facts: Facts) -> bool:
    # The walk of the SYN: that of the payload may end elsewhere.
    answered = next((hop.ttl for hop in facts.path.walk if hop.met in _MADE), None)
    far = facts.distance is not None and answered == facts.distance
    return far and _nothing_came(facts) and _nobody_between(facts)


def _answered_all_the_same(facts: Facts) -> bool:
    kind = _SYN_ACK if facts.is_tcp else _DATAGRAM
    had = facts.first.met in _MADE or facts.came_back(kind)
    said = facts.tap and facts.arrived(_SYN if facts.is_tcp else _DATAGRAM)
    return had and said and not facts.answered(kind) and _nobody_between(facts)


def _payload_had(facts: Facts) -> bool:
    had = facts.payload_came_back and facts.first.outcome is Outcome.STALLED
    return had and facts.tap and facts.came and not facts.answered(_DATA) and _nobody_between(facts)


def _closed_and_answered(facts: Facts) -> bool:
    assert facts.told is not None
    closed = facts.told.listens is False and facts.grew("forwarded") == 0
    made = facts.is_tcp and facts.first.met is Met.SYN_ACK and facts.last.met is Met.SYN_ACK
    return closed and made and facts.came and _nobody_between(facts)


_AGAINST: Final = (
    _Against(
        _held_as_made,
        "{source} met with silence, {says}: it has that very connection as established",
    ),
    _Against(lambda f: f.nothing_left and f.came, "no segment left {source}, {says}: some came"),
    _Against(
        _disproven,
        "the listener of {destination} answered {source} and proved it, {says}: there was none, or "
        "nothing came",
    ),
    _Against(_made_up, "{says}: packets came, from source ports that {source} never used"),
    _Against(
        _lost_before,
        "{source}: its {packets} to port {port} are lost on the way, where those to another port "
        "pass, {says}: they came",
    ),
    _Against(
        _payload_lost_before,
        "{source}: its payload is lost on the way, where what goes to another port passes, {says}: "
        "it came",
    ),
    _Against(
        _refused_before,
        "{source} is refused by somebody nearer than {destination}, {says}: the SYN came",
    ),
    _Against(_says_so_itself, "{address} itself answered {source} by ICMP, {says}: nothing came"),
    _Against(
        _answered_from_there,
        "{source} was answered from as far away as {destination} is, {says}: nothing came",
    ),
    _Against(_answered_all_the_same, "{source} had an answer, {says}: none left"),
    _Against(_payload_had, "payload of an answer came to {source}, {says}: none left"),
    _Against(_closed_and_answered, "{source} was connected, {says}: nothing listens there"),
)
