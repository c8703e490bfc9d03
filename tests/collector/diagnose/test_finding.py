"""From evidence to a finding: what real networks cannot easily be made to show. See the lab's rows."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from evidence import BLIND, R2, SHORT, TO_THE_DOOR, WORKS, A, B, R, passing
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.diagnose import Finding, find
from reachmap_collector.diagnose.claims import contradictions
from reachmap_collector.diagnose.facts import Facts
from reachmap_shared.diagnosis import (
    Counters,
    Diagnosis,
    Hop,
    IcmpError,
    Met,
    PacketKind,
    Packets,
    PathEvidence,
    Recheck,
    Related,
    Relation,
    Row,
    RowState,
    Sight,
    Silenced,
    TapState,
)
from reachmap_shared.diagnosis import Testimony as Told  # pytest would take it for a test
from reachmap_shared.vocabulary import Cause, Confidence, ListenerState, Outcome, Transport

PORT = 40_001

LOST = Recheck(Outcome.TIMEOUT, Met.SILENCE, PORT, segments_out=4, timeouts=3, repeated=1)
SEES = Sight(Counters(), TapState.WORKS, hooked=False)


def packet(
    kind: PacketKind, *, inbound: bool, peer: str = A, ours: bool = True, count: int = 1
) -> Packets:
    return Packets(inbound, kind, peer, PORT if ours else 0, ours, count)


SYN_IN = packet(PacketKind.SYN, inbound=True)
SYN_ACK_OUT = packet(PacketKind.SYN_ACK, inbound=False)
SYN_OUT = packet(PacketKind.SYN, inbound=False, peer=B)
SYN_ACK_IN = packet(PacketKind.SYN_ACK, inbound=True, peer=B)

TOLD = Told(9000, True, True, "", ListenerState.LISTENING, 0, (), BLIND)
LOST_BEFORE_B = Diagnosis(
    "c",
    0,
    "1",
    "a",
    "b",
    B,
    80,
    Transport.TCP,
    PathEvidence(A, LOST, LOST, TO_THE_DOOR, (), (), (WORKS,), BLIND),
    TOLD,
    None,
)
"""A SYN that R2 had and that B has no trace of, by unprivileged means alone."""


def given_that(
    path: dict[str, object] | None = None,
    told: dict[str, object] | None = None,
    sight: dict[str, object] | None = None,
    **changes: object,
) -> Diagnosis:
    """The same, with other things observed."""
    made = replace(LOST_BEFORE_B, **changes)
    if path:
        made = replace(made, path=replace(made.path, **path))
    if made.testimony is not None:
        seen = replace(made.testimony.sight, **(sight or {}))
        made = replace(made, testimony=replace(made.testimony, sight=seen, **(told or {})))
    return made


def brief(finding: Finding) -> tuple[Cause, str | None, Confidence]:
    return finding.cause, finding.at, finding.confidence


PATH_AT_R2 = (Cause.PATH, R2, Confidence.LIKELY)
UNKNOWN = (Cause.UNKNOWN, None, Confidence.UNKNOWN)
WORKING = {"tap": TapState.WORKS}


def seen(*packets: Packets, **changes: object) -> dict[str, object]:
    return {"tap": TapState.WORKS, "packets": packets, **changes}


def test_what_is_lost_on_the_way() -> None:
    """The last device that had it is named, and which other it may be."""
    finding = find(LOST_BEFORE_B)
    assert brief(finding) == PATH_AT_R2
    assert any(R2 in fact for fact in finding.evidence)


def test_where_a_device_stops_it_the_next_may_be_to_blame() -> None:
    """And the reader is told so."""
    finding = find(given_that(path={"walk": SHORT}))
    assert brief(finding) == (Cause.PATH, R, Confidence.LIKELY)
    assert f"so it is {R}, or what lies between it and {R2}, or {R2} itself" in finding.evidence


@pytest.mark.parametrize(
    "sight",
    [
        seen(SYN_IN, hooked=True),
        seen(SYN_IN, hooked=None),
        seen(SYN_IN, missed=1),
        {"tap": TapState.BLIND, "packets": (SYN_IN,)},
    ],
)
def test_a_tap_that_may_miss_things_proves_no_absence(sight: dict[str, object]) -> None:
    """An answer may have left unseen."""
    assert find(given_that(sight=sight)).confidence is not Confidence.PROVEN


def test_the_destinations_firewall_is_likely_by_a_tap_that_sees() -> None:
    """The SYN came, and the kernel, which always answers, did not: says its agent."""
    finding = find(given_that(sight=seen(SYN_IN)))
    assert brief(finding) == (Cause.DESTINATION_HOST, B, Confidence.LIKELY)
    assert "says the agent on b: no answer left through its network interfaces" in finding.evidence


def test_an_address_that_is_not_the_witnesses_own() -> None:
    """Then nothing that it saw or did not see says much."""
    finding = find(given_that(told={"is_local": False}, sight=seen()))
    assert finding.confidence is not Confidence.PROVEN
    assert any("no address of its own" in fact for fact in finding.evidence)


def test_a_source_that_holds_its_packets() -> None:
    """TCP tried, and nothing left."""
    case = given_that(path={"first": replace(LOST, repeated=0), "walk": ()}, testimony=None)
    assert brief(find(case)) == (Cause.SOURCE_HOST, A, Confidence.PROVEN)


def test_an_answer_that_comes_too_late_was_let_in() -> None:
    """It is refused by the source's own kernel: that is no firewall of its own."""
    late = replace(
        SEES, packets=(SYN_OUT, SYN_ACK_IN, packet(PacketKind.RST, inbound=False, peer=B))
    )
    case = given_that(path={"sight": late}, told={"rows": (Row(RowState.HALF_OPEN, A, PORT),)})
    assert find(case).cause is not Cause.SOURCE_HOST


def test_an_answer_from_another_address_was_translated_one_way() -> None:
    """The source's kernel knows of no such connection."""
    other = replace(SEES, packets=(SYN_OUT, replace(SYN_ACK_IN, peer="10.9.9.9")))
    case = given_that(path={"sight": other}, sight=seen(SYN_IN, SYN_ACK_OUT))
    assert brief(find(case)) == (Cause.MIDDLEBOX, None, Confidence.LIKELY)


def test_what_a_tunnel_hides_from_the_source_is_not_proven() -> None:
    """A tap that did not see the SYN leave would not see the answer come."""
    case = given_that(path={"sight": SEES}, sight=seen(SYN_IN, SYN_ACK_OUT))
    assert brief(find(case)) == (Cause.RETURN_PATH, None, Confidence.LIKELY)


def test_the_way_back_is_likely_by_two_taps() -> None:
    """The answer left, says the one, and did not come, says the other."""
    path = {"sight": replace(SEES, packets=(SYN_OUT,))}
    case = given_that(path=path, sight=seen(SYN_IN, SYN_ACK_OUT))
    assert brief(find(case)) == (Cause.RETURN_PATH, None, Confidence.LIKELY)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (8, (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        (48, (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        (49, UNKNOWN),
        (5000, UNKNOWN),
    ],
)
def test_a_host_that_drops_much_else_is_not_blamed_for_it(
    lost: int, expected: tuple[Cause, str | None, Confidence]
) -> None:
    """More than the diagnosis can have made: 8 SYN, 4 hops, each sent again and again."""
    assert brief(find(given_that(sight={"counters": Counters(not_delivered=lost)}))) == expected


@pytest.mark.parametrize(("lost", "cause"), [(8, Cause.SOURCE_HOST), (500, Cause.RETURN_PATH)])
def test_nor_is_a_source_that_drops_much_else(lost: int, cause: Cause) -> None:
    """What is lost on the way back may be lost there."""
    sight = replace(BLIND, counters=Counters(not_delivered=lost))
    case = given_that(path={"sight": sight}, told={"rows": (Row(RowState.HALF_OPEN, A, PORT),)})
    assert find(case).cause is cause


def test_a_source_whose_tap_saw_nothing_come_has_not_dropped_it() -> None:
    """Whatever else its counters say."""
    sight = replace(SEES, packets=(SYN_OUT,), counters=Counters(not_delivered=8))
    case = given_that(path={"sight": sight}, told={"rows": (Row(RowState.HALF_OPEN, A, PORT),)})
    assert find(case).cause is Cause.RETURN_PATH


def back(*hops: Hop) -> Diagnosis:
    """An answer that left, and its way as the destination walked it."""
    path = {"sight": replace(SEES, packets=(SYN_OUT,))}
    return given_that(path=path, told={"back": hops}, sight=seen(SYN_IN, SYN_ACK_OUT))


@pytest.mark.parametrize(
    ("hops", "at"),
    [
        ((passing(1, R2), Hop(2, Met.SILENCE), Hop(3, Met.SILENCE)), R2),
        ((passing(1, R2), passing(2, R), Hop(3, Met.SILENCE)), R),
        ((Hop(1, Met.SILENCE), passing(2, R), Hop(3, Met.SILENCE)), R),
        ((Hop(1, Met.SILENCE), Hop(2, Met.SILENCE)), None),
        ((passing(1, R2), passing(2, R), Hop(3, Met.RST, A)), None),
        ((Hop(1, Met.OWN),), None),
        ((), None),
    ],
)
def test_the_last_device_on_the_way_back_is_named(hops: tuple[Hop, ...], at: str | None) -> None:
    """Unless the answer comes to the source, or never left, or nobody says a word."""
    finding = find(back(*hops))
    assert brief(finding) == (Cause.RETURN_PATH, at, Confidence.LIKELY)
    assert (f"so it is {at}, or what lies behind it on the way back" in finding.evidence) == (
        at is not None
    )


def test_a_source_without_a_tap_may_itself_be_behind_the_last_device() -> None:
    """So that one is not named; one before it is."""
    near, far = (passing(1, R2), Hop(2, Met.SILENCE)), (passing(1, R2), passing(2, R))
    for hops, at in ((near, R2), (far, None)):
        case = back(*hops)
        case = replace(case, path=replace(case.path, sight=BLIND))
        assert find(case).at == at


REFUSED = replace(LOST, outcome=Outcome.REFUSED, met=Met.RST, segments_out=1)
AT_B = (passing(1, R), passing(2, R2), Hop(3, Met.RST, B))
RST_OUT = packet(PacketKind.RST, inbound=False)


def refused(**changes: object) -> Diagnosis:
    path = {"first": REFUSED, "last": REFUSED, "walk": AT_B}
    return given_that(path=path, **changes)


@pytest.mark.parametrize(
    ("told", "sight", "expected"),
    [
        # The kernel's own RST, where nothing listens.
        ({"listens": False}, seen(SYN_IN, RST_OUT, counters=Counters(resets_out=1)),
         (Cause.SERVICE, B, Confidence.LIKELY)),
        # Not the kernel's own, where something does.
        ({}, seen(SYN_IN, RST_OUT), (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        # A host that hands packets on, to a container perhaps: its RST would not be counted here.
        ({}, seen(SYN_IN, RST_OUT, counters=Counters(forwarded=1)),
         (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        ({"listens": False}, seen(SYN_IN, RST_OUT, counters=Counters(forwarded=1)),
         (Cause.SERVICE, B, Confidence.LIKELY)),
        # Others' RST are counted as well.
        ({}, seen(SYN_IN, RST_OUT, counters=Counters(resets_out=9)),
         (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        # Without a tap.
        ({"listens": False}, {"counters": Counters(resets_out=4)},
         (Cause.SERVICE, B, Confidence.LIKELY)),
        ({}, {"counters": Counters(not_delivered=9)}, (Cause.DESTINATION_HOST, B, Confidence.LIKELY)),
        ({}, {"counters": Counters()}, PATH_AT_R2),
        ({}, {"counters": Counters(resets_out=9)}, UNKNOWN),
        ({}, {"counters": None}, UNKNOWN),
    ],
)  # fmt: skip
def test_who_refused(
    told: dict[str, object],
    sight: dict[str, object],
    expected: tuple[Cause, str | None, Confidence],
) -> None:
    """By whether anything listens, and whose RST it is."""
    assert brief(find(refused(told=told, sight=sight))) == expected


@pytest.mark.parametrize("silenced", list(Silenced))
def test_why_less_is_known_is_told(silenced: Silenced) -> None:
    """Whoever reads it knows what to mend to know more."""
    finding = find(given_that(testimony=None, silenced=silenced))
    assert brief(finding) == UNKNOWN
    assert "b" in finding.evidence[-1]


def test_another_way_is_no_comparison() -> None:
    """A flow that works and goes by other devices does not show where this one stops."""
    other = replace(WORKS, walk=(passing(1, "10.0.9.9"), passing(2, R2), Hop(3, Met.SYN_ACK, B)))
    case = given_that(path={"walk": SHORT, "related": (other,)}, testimony=None)
    assert brief(find(case)) == UNKNOWN


def test_silence_without_any_witness_or_comparison_is_unknown() -> None:
    """The devices behind the last may be silent, and the host itself to blame."""
    case = given_that(path={"walk": SHORT, "related": ()}, testimony=None)
    assert brief(find(case)) == UNKNOWN
    assert any(R in fact for fact in find(case).evidence)


PACKETS = [
    Packets(inbound, kind, peer, PORT, ours, 1)
    for inbound in (True, False)
    for kind in PacketKind
    for peer in (A, B)
    for ours in (True, False)
]
few = st.integers(0, 2)
icmps = st.one_of(
    st.none(),
    st.builds(
        IcmpError,
        st.sampled_from([4, 6]),
        st.sampled_from([1, 3, 11]),
        st.integers(0, 13),
        st.sampled_from(["", A, R, B, "no address"]),
    ),
)
rechecks = st.builds(
    Recheck,
    st.sampled_from(Outcome),
    st.sampled_from(Met),
    st.just(PORT),
    st.sampled_from([0, 101, 111, -1]),
    icmps,
    st.sampled_from([0, 3000]),
    st.booleans(),
    *[few] * 10,
)
walks = st.lists(
    st.builds(Hop, few, st.sampled_from(Met), st.sampled_from(["", R, R2, B]), icmps), max_size=4
).map(tuple)
sights = st.builds(
    Sight,
    st.one_of(st.none(), st.builds(Counters, *[few] * 9)),
    st.sampled_from(TapState),
    few,
    st.lists(st.sampled_from(PACKETS), max_size=4).map(tuple),
    st.sampled_from([None, True, False]),
)
rows = st.lists(
    st.builds(Row, st.sampled_from(RowState), st.just(A), st.just(PORT), few, few), max_size=2
)
testimonies = st.builds(
    Told,
    few,
    st.booleans(),
    st.sampled_from([None, True, False]),
    st.just(""),
    st.one_of(st.none(), st.sampled_from(ListenerState)),
    st.sampled_from([0, 101]),
    rows.map(tuple),
    sights,
)
related = st.builds(
    Related,
    st.sampled_from(Relation),
    st.just(B),
    few,
    st.just(Transport.TCP),
    st.sampled_from(Outcome),
    walks,
)
paths = st.builds(
    PathEvidence,
    st.sampled_from(["", A]),
    rechecks,
    st.one_of(st.none(), rechecks),
    walks,
    walks,
    st.lists(rechecks, max_size=1).map(tuple),
    st.lists(related, max_size=1).map(tuple),
    sights,
)


@examples(300)
@given(paths, st.one_of(st.none(), testimonies), st.sampled_from(Transport))
def test_whatever_is_told_there_is_a_finding(
    path: PathEvidence, told: Told | None, transport: Transport
) -> None:
    """No evidence, however odd, is an error; and none that is contradictory proves anything."""
    case = replace(LOST_BEFORE_B, path=path, testimony=told, transport=transport)
    finding = find(case)
    assert (finding.cause is Cause.UNKNOWN) == (finding.confidence is Confidence.UNKNOWN)
    assert not any("{" in fact or "None" in fact for fact in finding.evidence)
    if contradictions(Facts(case)):
        assert finding.confidence is not Confidence.PROVEN


mutations: list[Callable[[Diagnosis], Diagnosis]] = [
    lambda d: replace(d, testimony=None, silenced=Silenced.NO_ANSWER),
    lambda d: replace(d, path=replace(d.path, related=())),
    lambda d: replace(d, path=replace(d.path, walk=())),
]


@pytest.mark.parametrize("lose", mutations)
@pytest.mark.parametrize(
    "case",
    [
        LOST_BEFORE_B,
        given_that(sight=seen(SYN_IN)),
        refused(sight=seen(SYN_IN, RST_OUT)),
        given_that(path={"walk": SHORT}),
    ],
)
def test_less_evidence_never_proves_more(
    case: Diagnosis, lose: Callable[[Diagnosis], Diagnosis]
) -> None:
    """Who knows less is not surer of something else."""
    order = [Confidence.UNKNOWN, Confidence.LIKELY, Confidence.PROVEN]
    before, after = find(case), find(lose(case))
    assert order.index(after.confidence) <= order.index(before.confidence)
