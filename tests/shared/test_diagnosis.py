"""What travels when a flow is looked into: the wire, and who is heard."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared import codec
from reachmap_shared.diagnosis import (
    Counters,
    Diagnosis,
    Hop,
    IcmpError,
    Met,
    PacketKind,
    Packets,
    PathEvidence,
    Phase,
    Recheck,
    Related,
    Relation,
    Row,
    RowState,
    Sight,
    TapState,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.diagnosis import Testimony as Told  # pytest would take it for a test
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.vocabulary import ListenerState, Outcome, Transport

KEY = b"k" * 16
REQUEST = WitnessRequest(
    source="a",
    destination="b",
    check="c" * 32,
    phase=Phase.WATCH,
    address="10.0.0.2",
    port=80,
    transport=Transport.TCP,
    local="10.0.0.1",
    block=40_000,
    mark=1111,
    seconds=30.0,
)
SIGHT = Sight(
    Counters(1, 2, 3, 4, 5, 6, 7, 8, 9),
    TapState.WORKS,
    3,
    (Packets(True, PacketKind.SYN, "10.0.0.1", 40_001, True, 4),),
    False,
)
TESTIMONY = Told(
    watched_ms=1234,
    is_local=True,
    listens=True,
    holder="nginx.service",
    listener=ListenerState.CEDED,
    route_back=113,
    rows=(Row(RowState.HALF_OPEN, "10.0.0.1", 40_001, 5, 6),),
    sight=SIGHT,
)
REPLY = WitnessReply("c" * 32, WitnessState.TOLD, TESTIMONY, "said", True)
RECHECK = Recheck(
    Outcome.TIMEOUT,
    Met.ICMP,
    40_001,
    111,
    IcmpError(4, 3, 13, "10.0.0.254"),
    *(12, True, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
)
HOPS = (Hop(1, Met.ICMP, "10.0.0.254", IcmpError(4, 11, 0, "10.0.0.254"), 3, 40_002),)
DIAGNOSIS = Diagnosis(
    "c" * 32,
    7,
    "rev",
    "a",
    "b",
    "10.0.0.2",
    80,
    Transport.TCP,
    PathEvidence(
        "10.0.0.1",
        RECHECK,
        RECHECK,
        HOPS,
        HOPS,
        (RECHECK,),
        (Related(Relation.SAME_HOST, "10.0.0.2", 22, Transport.TCP, Outcome.OPEN, HOPS),),
        SIGHT,
    ),
    TESTIMONY,
    None,
    999,
    61_500,
)


@pytest.mark.parametrize("message", [REQUEST, REPLY, DIAGNOSIS])
def test_what_is_sent_is_what_is_received(message: object) -> None:
    """Every field of every message goes over the wire."""
    assert codec.decode(type(message), codec.encode(message)) == message


@pytest.mark.parametrize("message", [REQUEST, REPLY])
def test_a_message_is_sealed_by_its_pairs_key(message: WitnessRequest | WitnessReply) -> None:
    """No other key will do."""
    sealed = seal(message, KEY)
    assert opened(type(message), sealed, KEY) == message
    with pytest.raises(MalformedMessage, match="key"):
        opened(type(message), sealed, b"x" * 16)


@given(st.integers(0, 1000), st.integers(1, 255))
def test_nothing_of_it_can_be_changed(place: int, change: int) -> None:
    """Not one octet."""
    sealed = bytearray(seal(REQUEST, KEY))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(MalformedMessage):
        opened(WitnessRequest, bytes(sealed), KEY)


@given(st.binary(max_size=64))
def test_whatever_comes_is_refused(payload: bytes) -> None:
    """Anybody may send anything."""
    with pytest.raises(MalformedMessage):
        opened(WitnessReply, payload, KEY)


def test_a_request_is_no_reply() -> None:
    """What one side says cannot be thrown back at it as the other's word."""
    with pytest.raises(MalformedMessage, match="key"):
        opened(WitnessReply, seal(REQUEST, KEY), KEY)


def test_a_later_version_is_understood() -> None:
    """One that says more than this one knows is heard all the same."""
    octets = codec.encode(REQUEST)
    more = bytes([octets[0] + 1]) + octets[1:] + b"\xa4more"
    mac = hmac.digest(KEY, b"witness-request" + more, "sha256")[:16]
    assert octets[0] == 0x9C
    assert opened(WitnessRequest, mac + more, KEY) == REQUEST
