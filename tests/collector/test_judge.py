"""What is seen of a flow, and what it means: every outcome in every situation."""

from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from situations import NOW, SAYINGS, SITUATIONS, STALE_S, cells, situate

from reachmap_collector.judge import Doubt, Judgement
from reachmap_collector.planner import Announcement
from reachmap_shared.diagnosis import Met, PathEvidence, Recheck, Sight, TapState
from reachmap_shared.messages import Presence
from reachmap_shared.vocabulary import Cause, Confidence, ListenerState, Outcome, State

NOTHING_SEEN = PathEvidence(
    "10.0.1.1",
    Recheck(Outcome.TIMEOUT, Met.SILENCE, 40_001, segments_out=4, timeouts=3, repeated=1),
    *(None, (), (), (), ()),
    Sight(None, TapState.FORBIDDEN),
)
MEANINGS = {
    "?": (Cause.UNKNOWN, Confidence.UNKNOWN),
    "idle": (Cause.UNKNOWN, Confidence.UNKNOWN),
    "host": (Cause.DESTINATION_HOST, Confidence.LIKELY),
    "serv": (Cause.SERVICE, Confidence.LIKELY),
    "name": (Cause.NAME_RESOLUTION, Confidence.PROVEN),
    "midd": (Cause.MIDDLEBOX, Confidence.LIKELY),
}

BROKEN = """
               absent  silent  left  conflict  mute  listen  held  ready  ceded  failed  never
refused        serv    serv    serv  serv      serv  ?       ?     idle   serv   serv    serv
timeout        ?       host    host  ?         ?     ?       ?     ?      ?      ?       ?
unreachable    ?       host    host  ?         ?     ?       ?     ?      ?      ?       ?
rejected       ?       ?       ?     ?         ?     ?       ?     ?      ?      ?       ?
reset          ?       ?       ?     ?         ?     ?       ?     ?      ?      ?       ?
stalled        ?       ?       ?     ?         ?     ?       ?     ?      ?      ?       ?
name-failure   name    name    name  name      name  name    name  name   name   name    name
wrong-service  serv    serv    serv  serv      serv  serv    serv  serv   serv   serv    serv
tls-failure    serv    serv    serv  serv      serv  serv    serv  serv   serv   serv    serv
wrong-peer     midd    midd    midd  midd      midd  midd    midd  midd   midd   midd    midd
"""
"""A flow that should be open and is not: its cause, by outcome and situation.

idle: no word on the path yet, for nothing was to listen but the agent, and it did not.
"""


def test_the_table_leaves_nothing_out() -> None:
    """Every outcome but those that need no table: open, and the prober's own errors."""
    assert {outcome for outcome, _, _ in cells(BROKEN)} == {*Outcome} - {
        Outcome.OPEN,
        Outcome.LOCAL_ERROR,
    }


@pytest.mark.parametrize(("outcome", "situation", "meaning"), cells(BROKEN))
def test_a_flow_that_should_be_open_and_is_not(
    scene: Any, listener: Any, outcome: Outcome, situation: str, meaning: str
) -> None:
    """It is broken; where it goes wrong is said only as far as the facts allow."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", outcome, NOW - 1, service="web:8080")
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    if meaning == "idle":
        assert (judgement.state, judgement.doubt) == (State.UNKNOWN, Doubt.NO_WINDOW)
    else:
        assert (judgement.state, judgement.doubt) == (State.BROKEN, None)
    assert (judgement.cause, judgement.confidence) == MEANINGS[meaning]
    assert judgement.since == NOW - 1
    assert judgement.evidence[0] == f"pc-1: the check's own words on {outcome}"


@pytest.mark.parametrize(
    ("outcome", "situation", "fact"),
    [
        ("refused", "absent", "no agent on web-1 can say whether anything listens there"),
        ("timeout", "silent", "the agent on web-1 has gone silent"),
        ("unreachable", "left", "the agent on web-1 was stopped"),
        ("refused", "silent", "the agent on web-1 has gone silent"),
        ("refused", "left", "the agent on web-1 was stopped"),
        ("refused", "mute", "no agent on web-1 can say whether anything listens there"),
        ("timeout", "conflict", "no agent on web-1 can say whether anything listens there"),
        ("timeout", "listen", "the agent on web-1 listens on port 8080 of web-1"),
        ("refused", "held", "port 8080 of web-1 is held by nginx, says the agent there"),
        ("timeout", "ready", "nothing listens on port 8080 of web-1, says the agent there"),
        (
            "refused",
            "ready",
            (
                "no service was ever seen on port 8080 of web-1, and its agent did not listen for "
                "this check: this says nothing of the path"
            ),
        ),
        (
            "refused",
            "ceded",
            (
                "nothing listens on port 8080 of web-1, where a service was seen before, "
                "says the agent there"
            ),
        ),
        (
            "refused",
            "failed",
            (
                "nothing listens on port 8080 of web-1, and it could not do so itself, "
                "says the agent there"
            ),
        ),
        ("timeout", "never", "nothing listens on port 8080 of web-1, says the agent there"),
        (
            "wrong-service",
            "mute",
            "the port is open, but what answers there is not the service that should",
        ),
        (
            "tls-failure",
            "mute",
            "the port is open, but what answers there does not agree on TLS",
        ),
        ("wrong-peer", "mute", "something on the way leads this address to another host"),
    ],
)
def test_a_cause_stands_on_a_fact(
    scene: Any, listener: Any, outcome: str, situation: str, fact: str
) -> None:
    """The last piece of evidence is what the destination's side says."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome(outcome), NOW, service="web:8080")
    situate(stage, listener, "web-1", "web:8080", situation)
    assert stage.judge("pc-1", "web-1", NOW, "web:8080").evidence[-1] == fact


@pytest.mark.parametrize("state", ListenerState)
@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.TIMEOUT])
def test_a_port_that_a_program_holds_is_listened_on(
    scene: Any, listener: Any, state: ListenerState, outcome: Outcome
) -> None:
    """Whatever became of the agent's own listener there: the service is not to blame for this."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.hear("web-1", NOW, listeners=(listener("web:8080", state, holder="nginx"),))
    stage.see("pc-1", "web-1", outcome, NOW, service="web:8080")
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert judgement.state is State.BROKEN
    assert (judgement.cause, judgement.confidence) == MEANINGS["?"]
    assert judgement.evidence[-1] == "port 8080 of web-1 is held by nginx, says the agent there"


@pytest.mark.parametrize("situation", ["absent", "silent", "left", "conflict", "mute"])
def test_a_refusal_shows_that_somebody_is_there(scene: Any, listener: Any, situation: str) -> None:
    """A host that is down refuses nothing; that a device may do it in its stead is said too."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.REFUSED, NOW, service="web:8080")
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judgement.cause, judgement.confidence) == (Cause.SERVICE, Confidence.LIKELY)
    assert judgement.listened is None
    assert judgement.evidence[1] == (
        "a refusal is an answer: web-1 is up and nothing listens there, or a device on the way "
        "refuses in its stead"
    )


@pytest.mark.parametrize("situation", ["ceded", "failed", "never"])
def test_what_the_destination_says_needs_no_guess(
    scene: Any, listener: Any, situation: str
) -> None:
    """Its agent knows that nothing listens: no device on the way is brought up."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.REFUSED, NOW, service="web:8080")
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert judgement.listened is False
    assert len(judgement.evidence) == 2


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.UNREACHABLE])
@pytest.mark.parametrize("situation", ["silent", "left"])
def test_a_host_whose_agent_listened_for_the_check_was_up(
    scene: Any, listener: Any, situation: str, outcome: Outcome
) -> None:
    """That its agent has gone since does not make it the culprit."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", outcome, NOW, service="web:8080", window=True)
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judgement.cause, judgement.confidence) == MEANINGS["?"]
    assert judgement.evidence[-1] == (
        "the agent on web-1 listened on port 8080 of web-1 for this check"
    )


@pytest.mark.parametrize("situation", ["absent", "silent", "left", "conflict", "mute", *SAYINGS])
def test_who_listened_for_a_check_needs_no_other_witness(
    scene: Any, listener: Any, situation: str
) -> None:
    """What is refused although the destination's agent listened is not the service's fault."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.REFUSED, NOW, service="web:8080", window=True)
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert judgement.state is State.BROKEN
    assert (judgement.cause, judgement.confidence) == MEANINGS["?"]
    assert judgement.evidence[-1] == (
        "the agent on web-1 listened on port 8080 of web-1 for this check"
    )


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_open_flow_is_ok_whatever_the_destination_says(
    scene: Any, listener: Any, situation: str
) -> None:
    """It was seen open: no more is asked, and nothing needs a cause."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    situate(stage, listener, "web-1", "web:8080", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judgement.state, judgement.cause, judgement.confidence) == (State.OK, None, None)
    assert judgement.evidence == ("pc-1: the check's own words on open",)


@pytest.mark.parametrize("service", ["web:8080", "db:5432"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_error_of_the_prober_s_own_says_nothing_of_the_flow(
    scene: Any, listener: Any, service: str, situation: str
) -> None:
    """Not that it is broken, and not that what must be blocked is blocked."""
    destination = "web-1" if service == "web:8080" else "db-1"
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", destination, Outcome.LOCAL_ERROR, NOW, service=service)
    situate(stage, listener, destination, service, situation)
    judgement = stage.judge("pc-1", destination, NOW, service)
    assert (judgement.state, judgement.cause) == (State.UNKNOWN, Cause.SOURCE_HOST)
    assert judgement.confidence is Confidence.PROVEN
    assert judgement.doubt is Doubt.LOCAL_ERROR
    assert "pc-1 could not make the check: this says nothing of the path" in judgement.evidence


# Degraded.


def test_a_service_that_says_it_is_not_well(scene: Any) -> None:
    """The path is fine, and the service itself says what is not."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080", healthy=False)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judgement.state, judgement.cause) == (State.DEGRADED, Cause.SERVICE)
    assert judgement.confidence is Confidence.PROVEN
    assert judgement.evidence[-1] == "the service answers that it is not well"


@pytest.mark.parametrize(
    ("flips", "outcome", "state"),
    [
        ((2,), Outcome.OPEN, State.OK),
        ((1, 0, 2, 1), Outcome.OPEN, State.DEGRADED),
        ((9, 0, 0, 0, 2), Outcome.OPEN, State.OK),
        ((5,), Outcome.TIMEOUT, State.BROKEN),
    ],
)
def test_a_flow_that_comes_and_goes(
    scene: Any, flips: tuple[int, ...], outcome: Outcome, state: State
) -> None:
    """One outage and its end are no flapping; two are, and while it is gone it is just broken."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", outcome, NOW, service="web:8080")
    for at, number in enumerate(flips):
        stage.count("pc-1", "web-1", NOW - 90 + at, "web:8080", made=6, flips=number)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert judgement.state is state
    if state is State.DEGRADED:
        assert (judgement.cause, judgement.confidence) == (Cause.UNKNOWN, Confidence.UNKNOWN)
        assert judgement.evidence[-1] == "it went up and down 4 times in the last checks"


@pytest.mark.parametrize(
    ("heartbeat_s", "age_s", "is_stale"),
    [
        (5.0, 33.4, False),
        (5.0, 33.6, True),
        (15.0, 48.4, False),
        (15.0, 48.6, True),
        (1e9, 183.4, False),
        (1e9, 183.6, True),
    ],
)
def test_news_may_be_as_old_as_an_agent_may_be_silent(
    scene: Any, heartbeat_s: float, age_s: float, is_stale: bool
) -> None:
    """Three intervals or three heartbeats, whichever is more; but nobody stays green for ever."""
    stage, now = scene(), NOW + 1000
    stage.see("pc-1", "web-1", Outcome.OPEN, now - age_s, service="web:8080")
    stage.hear("pc-1", now, heartbeat_s=heartbeat_s)
    judgement = stage.judge("pc-1", "web-1", now, "web:8080")
    assert (judgement.state is State.UNKNOWN) == is_stale


# Unknown.


@pytest.mark.parametrize(
    ("situation", "doubt", "fact"),
    [
        ("absent", Doubt.NO_NEWS, "no agent on pc-1 has ever reported"),
        ("silent", Doubt.NO_NEWS, "the agent on pc-1 has gone silent"),
        ("left", Doubt.NO_NEWS, "the agent on pc-1 was stopped"),
        ("mute", Doubt.NO_CHECK, "not checked yet by pc-1"),
        (
            "conflict",
            Doubt.CONFLICT,
            "two agents call themselves pc-1: which of them saw what cannot be told",
        ),
    ],
)
def test_a_flow_that_was_never_checked(
    scene: Any, listener: Any, situation: str, doubt: Doubt, fact: str
) -> None:
    """Unknown since the flow is known of, for a reason that a person can act on."""
    stage = scene()
    situate(stage, listener, "pc-1", "", situation)
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judgement.state, judgement.cause) == (State.UNKNOWN, Cause.UNKNOWN)
    assert (judgement.confidence, judgement.doubt) == (Confidence.UNKNOWN, doubt)
    assert judgement.evidence == (fact,)
    assert judgement.since == (NOW - 2 if situation == "conflict" else 0.0)


@pytest.mark.parametrize(
    ("situation", "fact"),
    [
        ("silent", "the agent on pc-1 has gone silent"),
        ("left", "the agent on pc-1 was stopped"),
        ("mute", "pc-1 reports, but no longer on this flow"),
    ],
)
def test_a_flow_of_which_there_is_no_fresh_news(
    scene: Any, listener: Any, situation: str, fact: str
) -> None:
    """The last check holds for three intervals and a timeout, and says nothing after that."""
    stage = scene()
    checked = NOW - STALE_S
    stage.see("pc-1", "web-1", Outcome.OPEN, checked, service="web:8080")
    situate(stage, listener, "pc-1", "", situation)
    assert stage.judge("pc-1", "web-1", NOW, "web:8080").state is State.OK
    judgement = stage.judge("pc-1", "web-1", NOW + 0.5, "web:8080")
    assert (judgement.state, judgement.since) == (State.UNKNOWN, NOW)
    assert judgement.evidence == (fact,)


def test_what_two_agents_of_one_name_see_counts_for_nothing(scene: Any, listener: Any) -> None:
    """However fresh it is."""
    stage = scene()
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    situate(stage, listener, "pc-1", "", "conflict")
    assert stage.judge("pc-1", "web-1", NOW, "web:8080").state is State.UNKNOWN


def test_a_flow_to_a_host_without_an_address(scene: Any) -> None:
    """Nobody can check it, whatever its source does."""
    stage = scene(
        '[roles.a]\nlistens = { "a:1" = {} }\n[roles.b]\nconnects = ["a:1"]\n'
        '[hosts]\nx = { roles = ["a"] }\ny = { roles = ["b"] }'
    )
    stage.hear("y", NOW)
    judgement = stage.judge("y", "x", NOW)
    assert (judgement.state, judgement.doubt) == (State.UNKNOWN, Doubt.NO_ADDRESS)
    assert judgement.evidence == (
        "x has no address: the topology gives none, and no agent there has",
    )


# Whatever happens.


def assert_valid(judgement: Judgement) -> None:
    """What every judgement promises to those who read it."""
    is_ok = judgement.state is State.OK
    assert (judgement.confidence is None) == is_ok
    assert (judgement.cause is None) == (judgement.state in (State.OK, State.EXPOSED))
    assert (judgement.doubt is not None) == (judgement.state is State.UNKNOWN)
    assert judgement.evidence
    assert all(fact and len(fact) < 500 for fact in judgement.evidence)


events = st.lists(
    st.one_of(
        st.tuples(
            st.just("see"),
            st.integers(0, 3),
            st.sampled_from(Outcome),
            st.tuples(st.booleans(), st.booleans()),
            st.lists(st.text(max_size=10), max_size=2).map(tuple),
        ),
        st.tuples(
            st.just("hear"),
            st.sampled_from(["pc-1", "web-1", "db-1"]),
            st.sampled_from("ab"),
            st.sampled_from(Presence),
            st.sampled_from(ListenerState),
            st.sampled_from(["", "nginx"]),
        ),
    ),
    max_size=20,
)


@given(events, st.lists(st.sampled_from([0.0, 0.5, 5.0, 40.0]), min_size=20, max_size=20))
@examples(200)
def test_whatever_is_seen_and_heard_is_judged(
    scene: Any, listener: Any, happened: list[tuple[Any, ...]], pauses: list[float]
) -> None:
    """No sequence of events makes the judge fail or say what it has no ground for."""
    stage = scene(announced=Announcement())
    records, now = [*stage.flows], 0.0
    for event, pause in zip(happened, pauses, strict=False):
        now += pause
        if event[0] == "see":
            _, index, outcome, (healthy, window), evidence = event
            key = records[index % len(records)].key
            service = str(records[index % len(records)].expected.service)
            stage.see(
                key.source,
                key.destination,
                outcome,
                now,
                service=service,
                healthy=healthy,
                window=window,
                evidence=tuple(f"{fact}." for fact in evidence),
            )
        else:
            _, agent, boot, presence, state, holder = event
            listeners = tuple(
                listener(service, state, holder=holder) for service in ("web:8080", "db:5432")
            )
            stage.hear(agent, now, boot, presence=presence, listeners=listeners)
        judge = stage.judge_at(now)
        for record in records:
            assert_valid(judge.judge(record))


# What both ends found out.


def broken(scene: Any, at: float, outcome: Outcome = Outcome.TIMEOUT, **changes: Any) -> Any:
    """A flow that broke at a time, and what was found out of it."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", outcome, NOW - 5, service="web:8080")
    stage.diagnose(at, **changes)
    return stage


def test_what_was_found_out_names_cause_and_device(scene: Any) -> None:
    """With its sentences behind what the check itself saw."""
    judged = broken(scene, NOW - 2).judge("pc-1", "web-1", NOW, "web:8080")
    assert (judged.state, judged.cause, judged.at, judged.confidence) == (
        State.BROKEN,
        Cause.PATH,
        "10.0.1.254",
        Confidence.LIKELY,
    )
    assert judged.evidence[0] == "pc-1: the check's own words on timeout"
    assert any("10.0.1.254" in fact for fact in judged.evidence)


@pytest.mark.parametrize("ago", [5.0, 60.0])
def test_what_was_found_out_of_an_earlier_fault_says_nothing(scene: Any, ago: float) -> None:
    """Not even if that began at the same moment."""
    judged = broken(scene, NOW - ago).judge("pc-1", "web-1", NOW, "web:8080")
    assert (judged.cause, judged.at, judged.diagnosed) == (Cause.UNKNOWN, None, None)


def test_a_look_that_tells_nothing_leaves_what_is_known(scene: Any) -> None:
    """A host whose agent is gone is down, likely; why the look told nothing is said besides."""
    stage = broken(scene, NOW - 2, path=NOTHING_SEEN)
    stage.hear("web-1", NOW, presence=Presence.LEAVING)
    judged = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judged.cause, judged.at, judged.confidence) == (
        Cause.DESTINATION_HOST,
        None,
        Confidence.LIKELY,
    )
    assert any("did not answer" in fact for fact in judged.evidence)


def test_what_works_has_no_cause(scene: Any) -> None:
    """Whatever was found out of it before."""
    stage = broken(scene, NOW - 4)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW - 3, service="web:8080")
    judged = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert (judged.state, judged.cause, judged.at) == (State.OK, None, None)
