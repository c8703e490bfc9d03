"""What travels when a flow is looked into: the wire, and who is heard."""

from dataclasses import replace

import pytest

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
    is_signed,
    sign,
)
from reachmap_shared.diagnosis import Testimony as Told  # pytest would take it for a test
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
REPLY = WitnessReply("c" * 32, WitnessState.TOLD, TESTIMONY, "said", listens=True)
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
)


@pytest.mark.parametrize("message", [REQUEST, REPLY, DIAGNOSIS, sign(REQUEST, KEY)])
def test_what_is_sent_is_what_is_received(message: object) -> None:
    """Every field of every message goes over the wire."""
    assert codec.decode(type(message), codec.encode(message)) == message


def test_a_message_is_signed_by_its_pairs_key() -> None:
    """No other key will do, nor none."""
    for message in (sign(REQUEST, KEY), sign(REPLY, KEY)):
        assert is_signed(message, KEY)
        assert not is_signed(message, b"x" * 16)
        assert not is_signed(replace(message, mac=""), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"phase": Phase.TELL},
        {"source": "x"},
        {"port": 81},
        {"check": "d" * 32},
        {"address": "10.0.0.3"},
        {"seconds": 31.0},
    ],
)
def test_nothing_of_a_request_can_be_changed(change: dict[str, object]) -> None:
    """The MAC is over all of it."""
    assert not is_signed(replace(sign(REQUEST, KEY), **change), KEY)


def test_a_testimony_cannot_be_changed() -> None:
    """Nor what it says of the smallest thing."""
    signed = sign(REPLY, KEY)
    assert not is_signed(replace(signed, testimony=replace(TESTIMONY, listens=False)), KEY)


def test_a_request_is_no_reply() -> None:
    """What one side says cannot be thrown back at it as the other's word."""
    bare = WitnessReply("c" * 32, WitnessState.BUSY)
    assert sign(bare, KEY).mac != sign(REQUEST, KEY).mac
