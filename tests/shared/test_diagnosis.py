"""What travels when a flow is looked into: the wire, and who is heard."""

import hmac
from dataclasses import replace

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
HOPS = (Hop(1, Met.ICMP, "10.0.0.254", IcmpError(4, 11, 0, "10.0.0.254"), 3, 40_002),)
TESTIMONY = Told(
    watched_ms=1234,
    is_local=True,
    listens=True,
    holder="nginx.service",
    listener=ListenerState.CEDED,
    route_back=113,
    rows=(Row(RowState.HALF_OPEN, "10.0.0.1", 40_001, 5, 6),),
    sight=SIGHT,
    back=HOPS,
)
REPLY = WitnessReply("c" * 32, WitnessState.TOLD, TESTIMONY, "said", True, True)
RECHECK = Recheck(
    Outcome.TIMEOUT,
    Met.ICMP,
    40_001,
    111,
    IcmpError(4, 3, 13, "10.0.0.254"),
    *(12, True, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
)
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
        (40_001, 40_009),
    ),
    TESTIMONY,
    None,
    999,
    61_500,
)


# What each message is on the wire, with every field set.
GOLDEN = {
    "request": (
        REQUEST,
        "9c 02 a1 61 a1 62 d9 20 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 "
        "63 63 63 63 63 63 63 63 63 63 63 63 a5 77 61 74 63 68 a8 31 30 2e 30 2e 30 2e 32 50 "
        "a3 74 63 70 a8 31 30 2e 30 2e 30 2e 31 cd 9c 40 cd 04 57 cb 40 3e 00 00 00 00 00 00",
    ),
    "reply": (
        REPLY,
        "97 02 d9 20 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 "
        "63 63 63 63 63 63 63 63 a4 74 6f 6c 64 99 cd 04 d2 c3 c3 ad 6e 67 69 6e 78 2e 73 65 "
        "72 76 69 63 65 a5 63 65 64 65 64 71 91 95 a9 68 61 6c 66 2d 6f 70 65 6e a8 31 30 2e "
        "30 2e 30 2e 31 cd 9c 41 05 06 95 99 01 02 03 04 05 06 07 08 09 a5 77 6f 72 6b 73 03 "
        "91 96 c3 a3 73 79 6e a8 31 30 2e 30 2e 30 2e 31 cd 9c 41 c3 04 c2 91 96 01 a4 69 63 "
        "6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e 32 35 34 "
        "03 cd 9c 42 a4 73 61 69 64 c3 c3",
    ),
    "diagnosis": (
        DIAGNOSIS,
        "9e 02 d9 20 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 "
        "63 63 63 63 63 63 63 63 07 a3 72 65 76 a1 61 a1 62 a8 31 30 2e 30 2e 30 2e 32 50 a3 "
        "74 63 70 99 a8 31 30 2e 30 2e 30 2e 31 dc 00 12 a7 74 69 6d 65 6f 75 74 a4 69 63 6d "
        "70 cd 9c 41 6f 94 04 03 0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 02 03 04 05 06 "
        "07 08 09 0a 0b dc 00 12 a7 74 69 6d 65 6f 75 74 a4 69 63 6d 70 cd 9c 41 6f 94 04 03 "
        "0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 02 03 04 05 06 07 08 09 0a 0b 91 96 01 "
        "a4 69 63 6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e "
        "32 35 34 03 cd 9c 42 91 96 01 a4 69 63 6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 "
        "0b 00 aa 31 30 2e 30 2e 30 2e 32 35 34 03 cd 9c 42 91 dc 00 12 a7 74 69 6d 65 6f 75 "
        "74 a4 69 63 6d 70 cd 9c 41 6f 94 04 03 0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 "
        "02 03 04 05 06 07 08 09 0a 0b 91 96 a9 73 61 6d 65 2d 68 6f 73 74 a8 31 30 2e 30 2e "
        "30 2e 32 16 a3 74 63 70 a4 6f 70 65 6e 91 96 01 a4 69 63 6d 70 aa 31 30 2e 30 2e 30 "
        "2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e 32 35 34 03 cd 9c 42 95 99 01 02 03 "
        "04 05 06 07 08 09 a5 77 6f 72 6b 73 03 91 96 c3 a3 73 79 6e a8 31 30 2e 30 2e 30 2e "
        "31 cd 9c 41 c3 04 c2 92 cd 9c 41 cd 9c 49 99 cd 04 d2 c3 c3 ad 6e 67 69 6e 78 2e 73 "
        "65 72 76 69 63 65 a5 63 65 64 65 64 71 91 95 a9 68 61 6c 66 2d 6f 70 65 6e a8 31 30 "
        "2e 30 2e 30 2e 31 cd 9c 41 05 06 95 99 01 02 03 04 05 06 07 08 09 a5 77 6f 72 6b 73 "
        "03 91 96 c3 a3 73 79 6e a8 31 30 2e 30 2e 30 2e 31 cd 9c 41 c3 04 c2 91 96 01 a4 69 "
        "63 6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e 32 35 "
        "34 03 cd 9c 42 c0 cd 03 e7 cd f0 3c",
    ),
}

# What agents sent before the way back was walked and ports were told.
BEFORE = {
    "reply": (
        replace(REPLY, testimony=replace(TESTIMONY, back=()), walks=False),
        "96 02 d9 20 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 "
        "63 63 63 63 63 63 63 63 a4 74 6f 6c 64 98 cd 04 d2 c3 c3 ad 6e 67 69 6e 78 2e 73 65 "
        "72 76 69 63 65 a5 63 65 64 65 64 71 91 95 a9 68 61 6c 66 2d 6f 70 65 6e a8 31 30 2e "
        "30 2e 30 2e 31 cd 9c 41 05 06 95 99 01 02 03 04 05 06 07 08 09 a5 77 6f 72 6b 73 03 "
        "91 96 c3 a3 73 79 6e a8 31 30 2e 30 2e 30 2e 31 cd 9c 41 c3 04 c2 a4 73 61 69 64 c3",
    ),
    "diagnosis": (
        replace(
            DIAGNOSIS,
            path=replace(DIAGNOSIS.path, drawn=()),
            testimony=replace(TESTIMONY, back=()),
        ),
        "9e 02 d9 20 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 63 "
        "63 63 63 63 63 63 63 63 07 a3 72 65 76 a1 61 a1 62 a8 31 30 2e 30 2e 30 2e 32 50 a3 "
        "74 63 70 98 a8 31 30 2e 30 2e 30 2e 31 dc 00 12 a7 74 69 6d 65 6f 75 74 a4 69 63 6d "
        "70 cd 9c 41 6f 94 04 03 0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 02 03 04 05 06 "
        "07 08 09 0a 0b dc 00 12 a7 74 69 6d 65 6f 75 74 a4 69 63 6d 70 cd 9c 41 6f 94 04 03 "
        "0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 02 03 04 05 06 07 08 09 0a 0b 91 96 01 "
        "a4 69 63 6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e "
        "32 35 34 03 cd 9c 42 91 96 01 a4 69 63 6d 70 aa 31 30 2e 30 2e 30 2e 32 35 34 94 04 "
        "0b 00 aa 31 30 2e 30 2e 30 2e 32 35 34 03 cd 9c 42 91 dc 00 12 a7 74 69 6d 65 6f 75 "
        "74 a4 69 63 6d 70 cd 9c 41 6f 94 04 03 0d aa 31 30 2e 30 2e 30 2e 32 35 34 0c c3 01 "
        "02 03 04 05 06 07 08 09 0a 0b 91 96 a9 73 61 6d 65 2d 68 6f 73 74 a8 31 30 2e 30 2e "
        "30 2e 32 16 a3 74 63 70 a4 6f 70 65 6e 91 96 01 a4 69 63 6d 70 aa 31 30 2e 30 2e 30 "
        "2e 32 35 34 94 04 0b 00 aa 31 30 2e 30 2e 30 2e 32 35 34 03 cd 9c 42 95 99 01 02 03 "
        "04 05 06 07 08 09 a5 77 6f 72 6b 73 03 91 96 c3 a3 73 79 6e a8 31 30 2e 30 2e 30 2e "
        "31 cd 9c 41 c3 04 c2 98 cd 04 d2 c3 c3 ad 6e 67 69 6e 78 2e 73 65 72 76 69 63 65 a5 "
        "63 65 64 65 64 71 91 95 a9 68 61 6c 66 2d 6f 70 65 6e a8 31 30 2e 30 2e 30 2e 31 cd "
        "9c 41 05 06 95 99 01 02 03 04 05 06 07 08 09 a5 77 6f 72 6b 73 03 91 96 c3 a3 73 79 "
        "6e a8 31 30 2e 30 2e 30 2e 31 cd 9c 41 c3 04 c2 c0 cd 03 e7 cd f0 3c",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_wire_format_is_as_pinned(name: str) -> None:
    """A change here is a change for every agent out there: fields go to the end, or nowhere."""
    message, payload = GOLDEN[name]
    assert codec.encode(message).hex(" ") == payload
    assert codec.decode(type(message), bytes.fromhex(payload)) == message


@pytest.mark.parametrize("name", BEFORE)
def test_what_was_sent_before_is_understood(name: str) -> None:
    """By an agent of an older version, or kept in a store: the fields that it lacks are empty."""
    message, payload = BEFORE[name]
    assert codec.decode(type(message), bytes.fromhex(payload)) == message


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
