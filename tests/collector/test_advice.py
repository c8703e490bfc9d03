"""What to do about a flow: one sentence that fits what was seen."""

import string
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector import advice
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.judge import Doubt
from reachmap_shared.messages import Presence
from reachmap_shared.vocabulary import Cause, ListenerState, Outcome, State

NOW = 100.0


def advised(
    scene: Any, outcome: Outcome | None, service: str = "web:8080", **changes: Any
) -> str | None:
    """The advice on a flow of pc-1, whose agent reports what one check saw."""
    destination = "db-1" if service == "db:5432" else "web-1"
    scene.hear("pc-1", NOW)
    if outcome is not None:
        scene.see("pc-1", destination, outcome, NOW, service=service, **changes)
    return what_to_do(scene.judge("pc-1", destination, NOW, service))


@pytest.mark.parametrize(
    ("outcome", "beginning"),
    [
        (Outcome.REFUSED, "see whether web runs on web-1 and listens on port 8080; if it does,"),
        (Outcome.TIMEOUT, "see whether web-1 is up; if it is, ask whoever owns the firewalls"),
        (Outcome.REJECTED, "a firewall forbids it: ask for TCP from pc-1 to 10.0.0.1 port 8080"),
        (Outcome.UNREACHABLE, "see whether web-1 is up, and whether pc-1 has a route to 10.0.0.1"),
        (Outcome.NAME_FAILURE, "look up 10.0.0.1 on pc-1"),
        (Outcome.TLS_FAILURE, "see what listens on port 8080 of web-1"),
        (Outcome.WRONG_SERVICE, "see what program holds port 8080 on web-1: it should speak http"),
        (Outcome.WRONG_PEER, "see what 10.0.0.1 leads to from pc-1"),
        (Outcome.RESET, "read the log of web on web-1; a firewall"),
        (Outcome.STALLED, "read the log of web on web-1: it accepts connections"),
        (Outcome.LOCAL_ERROR, "see what the agent on pc-1 lacks"),
        (None, "wait for the next check"),
    ],
)
def test_what_to_do_about_what_was_seen(
    scene: Any, outcome: Outcome | None, beginning: str
) -> None:
    """Every outcome but open leads to a next step."""
    text = advised(scene(), outcome)
    assert text is not None
    assert text.startswith(beginning)


def test_nothing_is_to_be_done_about_what_is_as_it_should_be(scene: Any) -> None:
    """An open flow that should be."""
    assert advised(scene(), Outcome.OPEN) is None


def test_a_service_that_is_not_there_is_to_be_started(scene: Any, listener: Any) -> None:
    """Refused where the agent knows of a service that was there: no firewall is blamed."""
    stage = scene()
    stage.hear("web-1", NOW, listeners=(listener("web:8080", ListenerState.CEDED),))
    assert advised(stage, Outcome.REFUSED) == (
        "start web on web-1: nothing listens on its port 8080"
    )


def test_a_window_that_was_not_opened_is_waited_for(scene: Any, listener: Any) -> None:
    """Nobody is asked to start what was never there, nor to look for a firewall."""
    stage = scene()
    stage.hear("web-1", NOW, listeners=(listener("web:8080", ListenerState.READY),))
    text = advised(stage, Outcome.REFUSED)
    assert text is not None
    assert text.startswith("wait for the next check; should it go on, see whether both agents")
    assert not (advised(stage, Outcome.REFUSED, window=True) or "").startswith("wait")


def test_a_service_that_is_not_well_has_a_log(scene: Any) -> None:
    """It answers, so neither host nor path is at fault."""
    assert advised(scene(), Outcome.OPEN, healthy=False) == (
        "read the log of web on web-1: it answers, but says it is not well"
    )


def test_a_flow_that_comes_and_goes_is_watched(scene: Any) -> None:
    """Nobody can say more of it."""
    stage = scene()
    stage.count("pc-1", "web-1", NOW, "web:8080", made=6, flips=4)
    assert advised(stage, Outcome.OPEN) == "watch it: it comes and goes"


@pytest.mark.parametrize(
    ("outcome", "beginning"),
    [
        (Outcome.OPEN, "close port 5432 of db-1 to pc-1"),
        (Outcome.STALLED, "close port 5432 of db-1 to pc-1"),
        (Outcome.TIMEOUT, "see whether db-1 is up"),
        (Outcome.NAME_FAILURE, "look up 10.0.0.2 on pc-1"),
        (Outcome.WRONG_PEER, "see what 10.0.0.2 leads to from pc-1"),
        (Outcome.LOCAL_ERROR, "see what the agent on pc-1 lacks"),
    ],
)
def test_what_to_do_about_a_forbidden_flow(scene: Any, outcome: Outcome, beginning: str) -> None:
    """Nobody is asked to open it, nor to look after an agent that reports well."""
    text = advised(scene(), outcome, "db:5432")
    assert text is not None
    assert text.startswith(beginning)


def test_a_forbidden_flow_without_a_witness(scene: Any) -> None:
    """The destination's agent is the one who is missing."""
    stage = scene(
        '[roles.db]\nlistens = { "db:5432" = {}, "db:22" = {} }\n[roles.a]\nconnects = ["db:22"]\n'
        '[hosts]\nd = { roles = ["db"], addresses = ["10.0.0.2"] }\np = { roles = ["a"] }\n'
        '[[deny]]\nfrom = "a"\nto = "db:5432"'
    )
    stage.hear("p", NOW)
    stage.see("p", "d", Outcome.OPEN, NOW, service="db:22")
    stage.see("p", "d", Outcome.TIMEOUT, NOW, service="db:5432")
    assert what_to_do(stage.judge("p", "d", NOW, "db:5432")) == (
        "see with `reachmap agents` whether the agent on d runs and can listen on port 5432"
    )


def test_a_host_without_an_address_needs_one(scene: Any) -> None:
    """From its agent or from a person."""
    stage = scene(
        '[roles.a]\nlistens = { "a:1" = {} }\n[roles.b]\nconnects = ["a:1"]\n'
        '[hosts]\nx = { roles = ["a"] }\ny = { roles = ["b"] }'
    )
    assert what_to_do(stage.judge("y", "x", NOW)) == (
        "start the agent on x, or give it addresses in the topology"
    )


@pytest.mark.parametrize(
    ("presence", "at"), [(Presence.HERE, 0.0), (Presence.LEAVING, NOW), (None, 0.0)]
)
def test_an_agent_that_does_not_report_is_looked_after(
    scene: Any, presence: Presence | None, at: float
) -> None:
    """Silent, stopped or never seen: it is the source's agent that is missing."""
    stage = scene()
    if presence is not None:
        stage.hear("pc-1", at, presence=presence)
    assert what_to_do(stage.judge("pc-1", "web-1", NOW, "web:8080")) == (
        "see whether the agent on pc-1 runs and reaches the NATS server"
    )


def test_two_agents_of_one_name_need_two_names(scene: Any) -> None:
    """Both run and reach the server: that is the trouble."""
    stage = scene()
    for at, boot in ((NOW - 3, "a"), (NOW - 2, "b"), (NOW - 1, "a")):
        stage.hear("pc-1", at, boot)
    assert what_to_do(stage.judge("pc-1", "web-1", NOW, "web:8080")) == (
        "give each of the two agents that call themselves pc-1 a name of its own (--id)"
    )


def test_no_case_is_left_without_advice() -> None:
    """Whatever outcome or doubt is added needs its sentence, made of known fields."""
    assert set(advice._BY_OUTCOME) == {*Outcome} - {Outcome.OPEN, Outcome.LOCAL_ERROR}
    assert set(advice._BY_DOUBT) == {*Doubt} - {Doubt.ASTRAY}
    fields = {
        name
        for text in [
            *advice._BY_OUTCOME.values(),
            *advice._BY_DOUBT.values(),
            *advice._SETTLED_BY_OUTCOME.values(),
            *advice._SETTLED_BY_DOUBT.values(),
        ]
        for _, name, _, _ in string.Formatter().parse(text)
        if name is not None
    }
    assert fields <= {
        "source", "destination", "address", "port", "transport", "service", "protocol",
    }  # fmt: skip


# What would settle the cause.


@pytest.mark.parametrize(
    ("outcome", "settled_by"),
    [
        (
            Outcome.TIMEOUT,
            "an agent on web-1 that says whether anything listens on port 8080 there",
        ),
        (Outcome.RESET, "an agent on web-1 that says whether anything listens on port 8080 there"),
        (Outcome.REFUSED, None),
        (Outcome.WRONG_SERVICE, None),
        (Outcome.LOCAL_ERROR, None),
        (Outcome.OPEN, None),
        (None, "the next check by pc-1"),
    ],
)
def test_a_witness_would_settle_what_one_end_cannot(
    scene: Any, outcome: Outcome | None, settled_by: str | None
) -> None:
    """Only what is unknown needs settling."""
    stage = scene()
    stage.hear("pc-1", NOW)
    if outcome is not None:
        stage.see("pc-1", "web-1", outcome, NOW, service="web:8080")
    assert what_would_settle(stage.judge("pc-1", "web-1", NOW, "web:8080")) == settled_by


@pytest.mark.parametrize("outcome", sorted(advice._SETTLED_BY_OUTCOME))
def test_where_something_listens_the_packets_have_to_tell(scene: Any, outcome: Outcome) -> None:
    """The port's state is known, and it explains nothing."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", outcome, NOW, service="web:8080", window=True)
    text = what_would_settle(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert text is not None
    assert text.startswith("a packet capture on web-1, which shows whether ")
    assert "{" not in text


def test_a_flow_that_comes_and_goes_is_settled_by_more_checks(scene: Any) -> None:
    """Nothing else tells."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    stage.count("pc-1", "web-1", NOW, "web:8080", made=6, flips=4)
    assert what_would_settle(stage.judge("pc-1", "web-1", NOW, "web:8080")) == (
        "more checks, which show when it comes and goes"
    )


@pytest.mark.parametrize("situation", ["absent", "silent", "left", "held", "ceded", "window"])
@pytest.mark.parametrize("outcome", [None, *Outcome])
@pytest.mark.parametrize("service", ["web:8080", "db:5432"])
def test_every_unknown_cause_has_something_that_settles_it(
    scene: Any, listener: Any, service: str, outcome: Outcome | None, situation: str
) -> None:
    """And none that is known has."""
    destination = "web-1" if service == "web:8080" else "db-1"
    stage = scene()
    stage.hear("pc-1", NOW)
    if situation in ("silent", "left"):
        presence = Presence.LEAVING if situation == "left" else Presence.HERE
        stage.hear(destination, 0.0, presence=presence)
    elif situation in ("held", "ceded"):
        holder = "nginx" if situation == "held" else ""
        report = listener(service, ListenerState.CEDED, holder=holder)
        stage.hear(destination, NOW, listeners=(report,))
    if outcome is not None:
        window = situation == "window"
        stage.see("pc-1", destination, outcome, NOW, service=service, window=window)
    judgement = stage.judge("pc-1", destination, NOW, service)
    assert (what_would_settle(judgement) is not None) == (judgement.cause is Cause.UNKNOWN)


def test_no_doubt_is_left_unsettled() -> None:
    """But for the prober's own errors, whose cause is known."""
    assert set(advice._SETTLED_BY_DOUBT) == {*Doubt} - {Doubt.LOCAL_ERROR}


def test_advice_is_there_for_all_that_is_not_ok(scene: Any) -> None:
    """In any state and after any outcome."""
    for service in ("web:8080", "db:5432"):
        for outcome in Outcome:
            stage = scene()
            text = advised(stage, outcome, service)
            destination = "db-1" if service == "db:5432" else "web-1"
            state = stage.judge("pc-1", destination, NOW, service).state
            assert (text is None) == (state is State.OK)


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("at", [None, "10.0.1.254"])
def test_whom_to_ask_is_told_by_what_was_found_out(
    scene: Any, cause: Cause, at: str | None
) -> None:
    """The device by its address, where one is known; else as the check alone would have it."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW - 5, service="web:8080")
    found = stage.diagnose(NOW - 2)
    stage.record("pc-1", "web-1", "web:8080").diagnosed = replace(
        found, finding=replace(found.finding, cause=cause, at=at)
    )
    text = what_to_do(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert text is not None
    plain = advised(scene(), Outcome.TIMEOUT)
    names_it = {Cause.PATH, Cause.RETURN_PATH, Cause.MIDDLEBOX, Cause.DESTINATION_HOST}
    assert ("10.0.1.254" in text) is (at is not None and cause in names_it)
    known = {Cause.PATH, Cause.RETURN_PATH, Cause.SOURCE_HOST} | (names_it if at else set())
    assert (text == plain) is (cause not in known)
