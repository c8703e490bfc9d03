"""A witness that lies: what the source saw itself is never overruled, and nobody's word proves anything.

Each truth below is what the source sees of one fault. A lie is any testimony at all, as far as it can
be made up: who has not seen the packets does not know which of the ports of the block were drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import pytest
from evidence import BLIND, SHORT, TO_THE_DOOR, WORKS, A, B, R, walk
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.diagnose import Finding, find
from reachmap_collector.diagnose.claims import contradictions
from reachmap_collector.diagnose.facts import Facts
from reachmap_shared.diagnosis import (
    BLOCK,
    Counters,
    Diagnosis,
    Hop,
    IcmpError,
    Met,
    PacketKind,
    Packets,
    PathEvidence,
    Recheck,
    Row,
    RowState,
    Sight,
    TapState,
)
from reachmap_shared.diagnosis import Testimony as Told  # pytest would take it for a test
from reachmap_shared.vocabulary import Cause, Confidence, ListenerState, Outcome, Transport

FIRST = 40_000 - 40_000 % BLOCK
CHECK, AGAIN, WALKED = FIRST + 17, FIRST + 60, (FIRST + 3, FIRST + 9, FIRST + 41)
DRAWN = (CHECK, AGAIN, *WALKED)
LOST = Recheck(Outcome.TIMEOUT, Met.SILENCE, CHECK, segments_out=4, timeouts=3, repeated=1)
REFUSED = Recheck(Outcome.REFUSED, Met.RST, CHECK, segments_out=1)
STALLED = Recheck(Outcome.STALLED, Met.SYN_ACK, CHECK, sent=9, segments_out=3)
UNACKED = replace(STALLED, unacked=9, timeouts=3, repeated=2)
REJECTED = Recheck(
    Outcome.REJECTED, Met.ICMP, CHECK, icmp=IcmpError(4, 3, 13, R), segments_out=1, met_ms=1
)


def saw(first: Recheck, way: tuple[Hop, ...], **changes: object) -> PathEvidence:
    made = PathEvidence(
        A, first, replace(first, port=AGAIN), way, (), (), (WORKS,), BLIND, drawn=DRAWN
    )
    return replace(made, **changes)


def of(path: PathEvidence, told: Told | None, transport: Transport = Transport.TCP) -> Diagnosis:
    return Diagnosis("c", 0, "1", "a", "b", B, 80, transport, path, told, None)


def packet(kind: PacketKind, port: int = CHECK, *, inbound: bool, peer: str = A) -> Packets:
    return Packets(inbound, kind, peer, port, True, 1)


def came_in(kind: PacketKind) -> Sight:
    """The source's own tap: the answer came, and went to no socket."""
    packets = packet(PacketKind.SYN, inbound=False, peer=B), packet(kind, inbound=True, peer=B)
    return Sight(Counters(), TapState.WORKS, 0, packets, hooked=False)


SOURCE, PATH, BACK = Cause.SOURCE_HOST, Cause.PATH, Cause.RETURN_PATH
THERE, SERVICE, BOX = Cause.DESTINATION_HOST, Cause.SERVICE, Cause.MIDDLEBOX


@dataclass(frozen=True)
class Truth:
    """A fault, and what its source sees."""

    cause: Cause
    path: PathEvidence
    excludes: frozenset[Cause] = frozenset()
    """What the source's own evidence contradicts."""
    came: bool = False
    """Whether packets of it come to the destination, so that its agent knows their ports."""
    transport: Transport = Transport.TCP


def all_but(*causes: Cause) -> frozenset[Cause]:
    return frozenset(Cause) - {*causes, Cause.UNKNOWN}


TRUTHS: Mapping[str, Truth] = {
    "A holds": Truth(SOURCE, saw(replace(LOST, repeated=0), ()), all_but(SOURCE)),
    "A drops the answer": Truth(
        SOURCE, saw(LOST, TO_THE_DOOR, sight=came_in(PacketKind.SYN_ACK)), all_but(SOURCE), True
    ),
    "A drops the answer's payload": Truth(
        SOURCE,
        saw(STALLED, walk(Hop(3, Met.SYN_ACK, B)), sight=came_in(PacketKind.DATA)),
        all_but(SOURCE),
        True,
    ),
    "A holds its payload": Truth(
        SOURCE, saw(replace(UNACKED, unacked=0, unsent=9, tried=3), walk(Hop(3, Met.SYN_ACK, B))),
        all_but(SOURCE), True,
    ),
    "R drops": Truth(PATH, saw(LOST, SHORT), all_but(PATH)),
    "R drops, by UDP": Truth(
        PATH, saw(replace(LOST, segments_out=0), SHORT), all_but(PATH), transport=Transport.UDP
    ),
    "R2 drops": Truth(PATH, saw(LOST, TO_THE_DOOR)),
    "R rejects": Truth(PATH, saw(REJECTED, ()), all_but(PATH)),
    "R refuses": Truth(PATH, saw(REFUSED, (Hop(1, Met.RST, B),)), all_but(PATH)),
    "R2 refuses": Truth(PATH, saw(REFUSED, walk(Hop(3, Met.RST, B)))),
    "R drops the payload": Truth(
        PATH,
        saw(UNACKED, walk(Hop(3, Met.SYN_ACK, B)), payload_walk=SHORT),
        all_but(PATH),
        True,
    ),
    "R answers in its place": Truth(
        BOX, saw(replace(STALLED, outcome=Outcome.WRONG_PEER), (Hop(1, Met.SYN_ACK, B),))
    ),
    "B drops": Truth(THERE, saw(LOST, TO_THE_DOOR), came=True),
    "B drops, by UDP": Truth(
        THERE, saw(replace(LOST, segments_out=0), TO_THE_DOOR), came=True, transport=Transport.UDP
    ),
    "B rejects": Truth(
        THERE,
        saw(replace(REJECTED, icmp=IcmpError(4, 3, 13, B)), walk(Hop(3, Met.ICMP, B))),
        all_but(THERE, SERVICE),
        True,
    ),
    "B refuses": Truth(THERE, saw(REFUSED, walk(Hop(3, Met.RST, B))), came=True),
    "B is closed": Truth(SERVICE, saw(REFUSED, walk(Hop(3, Met.RST, B))), came=True),
    "B is silent": Truth(
        SERVICE, saw(STALLED, walk(Hop(3, Met.SYN_ACK, B))), frozenset({BOX}), True
    ),
    "the answer is lost": Truth(BACK, saw(LOST, TO_THE_DOOR), came=True),
    "the payload's answer is lost": Truth(
        BACK, saw(UNACKED, walk(Hop(3, Met.SYN_ACK, B))), frozenset({BOX}), True
    ),
}  # fmt: skip

few = st.integers(0, 2)
counters = st.one_of(st.none(), st.builds(Counters, *[st.sampled_from([0, 1, 2, 50])] * 9))


@cache
def lies(transport: Transport, *, came: bool) -> st.SearchStrategy[Told]:
    """Any testimony; ports are guessed by whom nothing came to, and never all of them right."""
    ports = st.sampled_from([port for port in range(FIRST, FIRST + BLOCK) if came or port != AGAIN])
    peers = st.sampled_from([A, "10.9.9.9"])
    kinds = [PacketKind.DATAGRAM, PacketKind.ICMP_ERROR]
    if transport is Transport.TCP:
        kinds = [kind for kind in PacketKind if kind is not PacketKind.DATAGRAM]
    packets = st.builds(
        Packets, st.booleans(), st.sampled_from(kinds), peers, ports, st.booleans(), few
    )
    rows = st.builds(Row, st.sampled_from(RowState), peers, ports, few, few)
    sights = st.builds(
        Sight,
        counters,
        st.sampled_from([TapState.WORKS, TapState.WORKS, TapState.FORBIDDEN]),
        st.just(0),
        st.lists(packets, max_size=5).map(tuple),
        st.just(False),
    )
    return st.builds(
        Told,
        st.just(9000),
        st.booleans(),
        st.sampled_from([None, True, False]),
        st.just(""),
        st.one_of(st.none(), st.sampled_from(ListenerState)),
        st.sampled_from([0, 101]),
        st.lists(rows, max_size=2).map(tuple),
        sights,
    )


def is_honest(finding: Finding, truth: Truth) -> None:
    if finding.confidence is Confidence.PROVEN:
        assert finding.cause is truth.cause, finding.evidence
    assert finding.cause not in truth.excludes, finding.evidence


@pytest.mark.parametrize("name", TRUTHS)
def test_the_truths_are_told_by_their_sources_alone(name: str) -> None:
    """Without any witness nothing of the table is told wrongly."""
    is_honest(find(of(TRUTHS[name].path, None, TRUTHS[name].transport)), TRUTHS[name])


@examples(1500)
@given(st.data())
def test_no_lie_proves_anything_nor_overrules_what_the_source_saw(data: st.DataObject) -> None:
    """For any truth, and any lie about it."""
    truth = TRUTHS[data.draw(st.sampled_from(sorted(TRUTHS)))]
    finding = find(
        of(truth.path, data.draw(lies(truth.transport, came=truth.came)), truth.transport)
    )
    is_honest(finding, truth)
    if finding.rule is None:
        assert finding.confidence is Confidence.UNKNOWN


SEES = Sight(Counters(), TapState.WORKS, hooked=False)
HONEST = Told(9000, True, True, "", ListenerState.LISTENING, 0, (), SEES)
SYN_IN = packet(PacketKind.SYN, inbound=True)
SYN_ACK_OUT = packet(PacketKind.SYN_ACK, inbound=False)
CONNECTED = walk(Hop(3, Met.SYN_ACK, B))


def told(*packets: Packets, **changes: object) -> Told:
    return replace(replace(HONEST, sight=replace(SEES, packets=packets)), **changes)


CAUGHT = {
    "says it came, and the way ends before": ("R drops", told(SYN_IN)),
    "says it came and was answered, and the way ends before": (
        "R drops", told(SYN_IN, SYN_ACK_OUT)),
    "says that it waits for the rest, and the way ends before": (
        "R drops", replace(HONEST, rows=(Row(RowState.HALF_OPEN, A, CHECK),))),
    "says that the datagram came, and the way ends before": (
        "R drops, by UDP", told(packet(PacketKind.DATAGRAM, inbound=True))),
    "names ports that were never used": (
        "R2 drops", told(packet(PacketKind.SYN, FIRST + 1, inbound=True))),
    "says that the payload came, and its way ends before": (
        "R drops the payload", told(SYN_IN, SYN_ACK_OUT, packet(PacketKind.DATA, inbound=True))),
    "says that it refused, and somebody nearer did": (
        "R refuses",
        told(SYN_IN, packet(PacketKind.RST, inbound=False), listens=False)),
    "says that nothing came, and it said no by ICMP itself": ("B rejects", told()),
    "says that nothing came, and answered from as far as it is": ("B is silent", told()),
    "says that it did not answer, and the source was connected": ("B is silent", told(SYN_IN)),
    "says that it did not answer, and the answer came in": ("A drops the answer", told(SYN_IN)),
    "says that it sent no payload, and some came in": (
        "A drops the answer's payload", told(SYN_IN, SYN_ACK_OUT)),
    "says that its port is closed, and the source was connected": (
        "B is silent", told(SYN_IN, SYN_ACK_OUT, listens=False)),
    "says that some came, and nothing left": ("A holds", told(SYN_IN)),
    "says that it is established, and the source met with silence": (
        "R2 drops", replace(HONEST, rows=(Row(RowState.ESTABLISHED, A, CHECK),))),
}  # fmt: skip


@pytest.mark.parametrize(("name", "lie"), CAUGHT.values(), ids=CAUGHT)
def test_a_witness_that_is_caught(name: str, lie: Told) -> None:
    """Both are told, and neither is believed; only what the source proves alone is still likely."""
    truth = TRUTHS[name]
    case = of(truth.path, lie, truth.transport)
    [*_, said] = find(case).evidence
    assert (said,) == contradictions(Facts(case))[-1:]
    assert "says the agent on b: " in said
    finding, alone = find(case), find(replace(case, testimony=None))
    if alone.confidence is Confidence.PROVEN:
        assert (finding.cause, finding.confidence) == (alone.cause, Confidence.LIKELY)
    else:
        assert (finding.cause, finding.at) == (Cause.UNKNOWN, None)


def test_a_listener_that_proved_itself_cannot_be_denied() -> None:
    """Only who has its key can answer so."""
    path = saw(replace(STALLED, proven=True), CONNECTED)
    for lie in (told(listens=False), told()):
        assert any("proved it" in fact for fact in find(of(path, lie)).evidence)


UNCAUGHT = {
    "drops, and says that nothing came": ("B drops", told(), PATH),
    "drops, and says that it answered": ("B drops", told(SYN_IN, SYN_ACK_OUT), BACK),
    "refuses, and says that it is closed": (
        "B refuses",
        told(
            SYN_IN,
            packet(PacketKind.RST, inbound=False),
            listens=False,
            sight=replace(
                SEES,
                packets=(SYN_IN, packet(PacketKind.RST, inbound=False)),
                counters=Counters(resets_out=9),
            ),
        ),
        SERVICE,
    ),
    "makes up counters": (
        "B drops",
        replace(HONEST, sight=replace(BLIND, counters=Counters())),
        PATH,
    ),
}


@pytest.mark.parametrize(("name", "lie", "believed"), UNCAUGHT.values(), ids=UNCAUGHT)
def test_a_lie_that_nothing_contradicts_is_told_as_its_tellers_word(
    name: str, lie: Told, believed: Cause
) -> None:
    """It is likely and no more, and the evidence says whose word it is."""
    finding = find(of(TRUTHS[name].path, lie))
    assert (finding.cause, finding.confidence) == (believed, Confidence.LIKELY)
    assert any(fact.startswith("says the agent on b: ") for fact in finding.evidence) or (
        believed is PATH and "its agent may not look at packets" in finding.evidence[-1]
    )


def test_who_names_the_ports_saw_the_packets() -> None:
    """Both checks' ports, which only they could tell: then it came, whatever the walk suggests."""
    both = SYN_IN, packet(PacketKind.SYN, AGAIN, inbound=True)
    case = of(saw(LOST, SHORT), told(*both))
    assert Facts(case).vouched
    finding = find(case)
    assert (finding.cause, finding.confidence) == (THERE, Confidence.LIKELY)
    assert any(fact.startswith("b: the SYN came in") for fact in finding.evidence)
    assert not any(fact.startswith("says the agent on b: the SYN") for fact in finding.evidence)


@pytest.mark.parametrize(
    "named",
    [
        (CHECK,),
        (CHECK, WALKED[0]),
        (CHECK, AGAIN, FIRST),
        tuple(range(FIRST, FIRST + BLOCK)),
        (),
    ],
)
def test_who_guesses_is_not_vouched_for(named: tuple[int, ...]) -> None:
    """Some of the ports, or more than there were."""
    packets = [packet(PacketKind.SYN, port, inbound=True) for port in named]
    assert not Facts(of(saw(LOST, SHORT), told(*packets))).vouched


def test_an_agent_that_does_not_say_what_it_drew_vouches_for_nobody() -> None:
    """One of an older version; and it catches nobody by ports."""
    both = SYN_IN, packet(PacketKind.SYN, AGAIN, inbound=True)
    facts = Facts(of(saw(LOST, TO_THE_DOOR, drawn=()), told(*both)))
    assert not facts.vouched
    assert contradictions(facts) == ()
