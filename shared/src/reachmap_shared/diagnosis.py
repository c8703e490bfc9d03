"""What travels when a broken flow is looked into: facts of both ends, under one check's id. Pure.

The source's agent makes `PathEvidence`. The destination's, asked for it, makes a `Testimony`, under
a MAC by the pair's key (see `reachmap_shared.keys`): whoever has the flow in its plan is heard, and
nobody else's word is taken. Both go to the collector in one `Diagnosis`. There is no judgement in
any of these, and no prose.

As with all messages, new fields go to the end, with a default.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from reachmap_shared import codec
from reachmap_shared.codec import Max
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Name, Sentence
from reachmap_shared.vocabulary import ListenerState, Outcome, Transport

Address = Annotated[str, Max(64)]
CheckId = Annotated[str, Max(32)]

BLOCK: Final = 64
"""Source ports that one diagnosis uses: an aligned block, so that one comparison finds them all."""

MAX_HOPS: Final = 30
MAX_PACKETS: Final = 256
_MAC_SIZE: Final = 16


class Met(StrEnum):
    """What became of one packet that asks for an answer."""

    SYN_ACK = "syn-ack"
    RST = "rst"
    ICMP = "icmp"
    DATA = "data"
    """A datagram in answer to one."""
    SILENCE = "silence"
    OWN = "own"
    """An error of this host's own: nothing was sent."""


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a packet of the flow."""

    version: int
    type: int
    code: int
    offender: Address
    """Who sent it; empty when the kernel does not say."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What one packet with a bounded number of hops met."""

    ttl: int
    met: Met
    by: Address = ""
    """Who answered: of ICMP errors their sender, else whom the packet was for."""
    icmp: IcmpError | None = None
    ms: int = 0
    port: int = 0
    """The source port that it was sent from."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """One check of the flow, made again, with all that the kernel tells of it."""

    outcome: Outcome
    met: Met
    """What came back for the first packet."""
    port: int
    """The source port; 0 where none was chosen."""
    errno: int = 0
    icmp: IcmpError | None = None
    met_ms: int = 0
    """From the first packet to what came back for it."""
    proven: bool = False
    """Whether the destination's own listener answered, and proved it."""
    sent: int = 0
    received: int = 0
    """Bytes of payload."""
    segments_out: int = 0
    segments_in: int = 0
    unacked: int = 0
    timeouts: int = 0
    """Times that TCP wanted to send a segment again."""
    repeated: int = 0
    """Segments that are out there again: none of them was stopped on the source itself."""
    pmtu: int = 0
    mss: int = 0
    """Bytes a segment was held to; 0 when it was not."""
    unsent: int = 0
    """Bytes of payload that TCP still has, and that never left it."""
    tried: int = 0
    """Segments with payload that TCP meant to send, whether or not they left the host."""


class Relation(StrEnum):
    """How near another flow is to the one that is looked into."""

    SAME_HOST = "same-host"
    SAME_NETWORK = "same-network"


@dataclass(frozen=True, slots=True)
class Related:
    """Another flow of the plan, checked meanwhile."""

    relation: Relation
    address: Address
    port: int
    transport: Transport
    outcome: Outcome
    walk: Annotated[tuple[Hop, ...], Max(MAX_HOPS)] = ()
    """The way of its packets; empty when it was not walked."""


@dataclass(frozen=True, slots=True)
class Counters:
    """How far a host's own counters grew meanwhile. Others' traffic moves them too."""

    resets_out: int = 0
    not_delivered: int = 0
    """Packets that came in, and went to no socket."""
    no_route: int = 0
    listen_overflows: int = 0
    reverse_path: int = 0
    """Dropped since their source would not be answered that way."""
    retransmit_failures: int = 0
    udp_no_port: int = 0
    unreachables_out: int = 0
    forwarded: int = 0


class PacketKind(StrEnum):
    """What a packet is for."""

    SYN = "syn"
    SYN_ACK = "syn-ack"
    RST = "rst"
    FIN = "fin"
    DATA = "data"
    ACK = "ack"
    DATAGRAM = "datagram"
    ICMP_ERROR = "icmp-error"


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets of one kind between two ends, as they passed a host's network interface."""

    inbound: bool
    kind: PacketKind
    peer: Address
    """The other host, as this one sees it."""
    port: int
    """The source's port of the flow, as seen here; 0 for strangers', who are counted together."""
    ours: bool
    """Whether they are of this diagnosis: by their port, or by the mark that its SYNs bear."""
    count: int


class TapState(StrEnum):
    """Whether packets could be looked at."""

    WORKS = "works"
    """It was shown a packet of its own making, and saw it."""
    FORBIDDEN = "forbidden"
    BLIND = "blind"
    """It is open, and does not see."""
    NONE = "none"
    """There is no such thing on this system."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one end's kernel shows of the time of the check."""

    counters: Counters | None
    tap: TapState
    missed: int = 0
    """Packets that came too fast for the tap."""
    packets: Annotated[tuple[Packets, ...], Max(MAX_PACKETS)] = ()
    hooked: bool | None = None
    """Whether a program sits before the tap on some interface (XDP); None when that is unknown."""


class RowState(StrEnum):
    """How far a connection is on the destination."""

    HALF_OPEN = "half-open"
    """A SYN came and was answered; the answer's answer did not come (SYN_RECV)."""
    ESTABLISHED = "established"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Row:
    """A connection in the destination's table, from the source ports of the check."""

    state: RowState
    peer: Address
    peer_port: int
    unread: int = 0
    """Bytes that came, and that the service has not read."""
    unacked: int = 0
    """Bytes that it sent, and that the source has not acknowledged."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the destination saw of the check."""

    watched_ms: int
    is_local: bool
    """Whether the address that is dialled is this host's own."""
    listens: bool | None
    """Whether anything listens there, the agent's own listener included; None when unknown."""
    holder: Sentence
    """The program that does, if it is not the agent."""
    listener: ListenerState | None
    """What the agent's own listener there was told to be; None when the port is no role's."""
    route_back: int
    """The error that a packet to the source meets on this host; 0 for none."""
    rows: Annotated[tuple[Row, ...], Max(BLOCK)]
    sight: Sight
    back: Annotated[tuple[Hop, ...], Max(MAX_HOPS)] = ()
    """The way of its answer to the first packet, sent once more; empty when it was not walked."""


class Phase(StrEnum):
    """What a witness is asked to do."""

    WATCH = "watch"
    WALK = "walk"
    """Find out how far the answers get that it gave."""
    TELL = "tell"


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """One agent asks another to watch a check of a port of its, or to tell what it saw."""

    source: Name
    destination: Name
    check: CheckId
    phase: Phase
    address: Address
    """What is dialled."""
    port: int
    transport: Transport
    local: Address
    """From where, as the source has it."""
    block: int
    """The first of the source ports."""
    mark: int
    """The MSS that marked SYNs announce."""
    seconds: float
    """How long to watch; what is not asked for by then is forgotten."""


class WitnessState(StrEnum):
    """How a witness takes a request."""

    WATCHING = "watching"
    WALKING = "walking"
    TOLD = "told"
    BUSY = "busy"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class WitnessReply:
    """What it says to that."""

    check: CheckId
    state: WitnessState
    testimony: Testimony | None = None
    detail: Sentence = ""
    listens: bool = False
    """Whether its own listener has the port, so that who else answers there is an impostor."""
    walks: bool = False
    """Whether it can walk the way back, if asked to."""


class Silenced(StrEnum):
    """Why there is no testimony."""

    NO_AGENT = "no-agent"
    """The plan knows of none there."""
    NO_ANSWER = "no-answer"
    BUSY = "busy"
    REFUSED = "refused"
    FORGED = "forged"
    """What answered is not who should."""
    LATE = "late"
    """It was asked to watch, and had nothing to tell in time."""


@dataclass(frozen=True, slots=True)
class PathEvidence:
    """What the source saw."""

    local: Address
    """Its own address on the way there."""
    first: Recheck
    last: Recheck | None
    """The same check at the end: what changed meanwhile was no one fault."""
    walk: Annotated[tuple[Hop, ...], Max(MAX_HOPS)]
    payload_walk: Annotated[tuple[Hop, ...], Max(MAX_HOPS)]
    """Likewise with the first payload of connections that are made."""
    ladder: Annotated[tuple[Recheck, ...], Max(16)]
    """Checks with shorter segments, where the payload stalls."""
    related: Annotated[tuple[Related, ...], Max(16)]
    sight: Sight
    drawn: Annotated[tuple[int, ...], Max(BLOCK)] = ()
    """The source ports of the block that were used; a witness knows none but those it saw."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that both ends know of one flow's fault."""

    check: CheckId
    slot: int
    """The flow's place in the plan."""
    plan: Annotated[str, Max(64)]
    source: Name
    destination: Name
    address: Address
    port: int
    transport: Transport
    path: PathEvidence
    testimony: Testimony | None
    silenced: Silenced | None
    """Set where there is no testimony."""
    others: int = 0
    """Flows that went the same way at the same time, and were not looked into for their number."""
    at_ms: int = 0
    """When it began, by the source's clock that never jumps."""


Sealed = TypeVar("Sealed", WitnessRequest, WitnessReply)


def seal(message: WitnessRequest | WitnessReply, key: bytes) -> bytes:
    """The octets of a message, behind a MAC over them by the key of its pair of hosts."""
    octets = codec.encode(message)
    return _mac(type(message), octets, key) + octets


def opened(kind: type[Sealed], payload: bytes, key: bytes) -> Sealed:
    """What was sealed by that key; raises MalformedMessage for anything else.

    The MAC is over what was sent, not over what is understood of it, so that a message with fields
    that this version does not know is as good as any.
    """
    mac, octets = payload[:_MAC_SIZE], payload[_MAC_SIZE:]
    if not hmac.compare_digest(mac, _mac(kind, octets, key)):
        raise MalformedMessage("it is not by the key of this pair of hosts")
    return codec.decode(kind, octets)


def _mac(kind: type[WitnessRequest | WitnessReply], octets: bytes, key: bytes) -> bytes:
    label = b"witness-request" if kind is WitnessRequest else b"witness-reply"
    return hmac.digest(key, label + octets, "sha256")[:_MAC_SIZE]
