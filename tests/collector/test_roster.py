"""Who reports: in plain-number time, with agents that restart, leave, fall silent and clash."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.planner import Announcement
from reachmap_collector.roster import MISSED_HEARTBEATS, AgentState, Roster
from reachmap_shared.messages import Hello, NamedTarget, OwnPort, Presence
from reachmap_shared.vocabulary import ListenerState, Transport

HEARTBEAT_S = 5.0
PATIENCE_S = MISSED_HEARTBEATS * HEARTBEAT_S


@pytest.fixture
def roster() -> Roster:
    return Roster()


@pytest.mark.parametrize(
    ("heard", "now", "expected"),
    [
        pytest.param([], 0, AgentState.ABSENT, id="never heard of"),
        pytest.param([(0, "a", "here")], 0, AgentState.FRESH, id="just come"),
        pytest.param([(0, "a", "here")], PATIENCE_S, AgentState.FRESH, id="missed two hellos"),
        pytest.param([(0, "a", "here")], PATIENCE_S + 0.1, AgentState.SILENT, id="missed three"),
        pytest.param([(0, "a", "here"), (5, "a", "leaving")], 6, AgentState.LEFT, id="stopped"),
        pytest.param(
            [(0, "a", "here"), (5, "a", "leaving")], 10_000, AgentState.LEFT, id="stopped long ago"
        ),
        pytest.param([(5, "a", "leaving")], 6, AgentState.LEFT, id="only its farewell was heard"),
        pytest.param(
            [(0, "a", "here"), (5, "a", "leaving"), (6, "b", "here")],
            7,
            AgentState.FRESH,
            id="restarted in good order",
        ),
        pytest.param(
            [(0, "a", "here"), (5, "a", "here"), (6, "b", "here")],
            7,
            AgentState.FRESH,
            id="restarted after a crash",
        ),
        pytest.param(
            [(0, "a", "here"), (5, "a", "here"), (6, "b", "here"), (7, "b", "leaving")],
            8,
            AgentState.LEFT,
            id="restarted after a crash, and stopped",
        ),
        pytest.param(
            [(5, "a", "here"), (5, "b", "here")], 6, AgentState.FRESH, id="restarted in no time"
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (2, "c", "here"), (3, "d", "here")],
            4,
            AgentState.FRESH,
            id="crashes again and again",
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (5, "a", "here")],
            6,
            AgentState.CONFLICT,
            id="two at work",
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (5, "a", "here"), (6, "b", "leaving")],
            7,
            AgentState.FRESH,
            id="the second was stopped",
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (5, "a", "leaving"), (6, "b", "here")],
            7,
            AgentState.FRESH,
            id="the first was stopped",
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (5, "a", "here"), (20, "b", "here")],
            5 + PATIENCE_S + 0.1,
            AgentState.FRESH,
            id="the first was killed",
        ),
        pytest.param(
            [(0, "a", "here"), (1, "b", "here"), (5, "a", "here")],
            1000,
            AgentState.SILENT,
            id="both were killed",
        ),
    ],
)
def test_how_an_agent_stands(
    roster: Roster,
    hello: Callable[..., Hello],
    heard: list[tuple[float, str, str]],
    now: float,
    expected: AgentState,
) -> None:
    """A restart is no conflict, however it came about; two processes that both speak are one."""
    for at, boot, presence in heard:
        roster.hear(hello(boot=boot, presence=Presence(presence)), at)
    assert roster.state("pc-1", now) is expected


def test_two_agents_of_one_name_are_told_apart(roster: Roster, hello: Any) -> None:
    """Whoever has to find them gets both, first come first."""
    for at, boot, hostname in ((0, "a", "one"), (1, "b", "two"), (5, "a", "one"), (6, "b", "two")):
        roster.hear(hello(boot=boot, hostname=hostname), at)
    assert [one.hello.hostname for one in roster.living("pc-1", 7)] == ["one", "two"]


def test_agents_of_other_names_have_nothing_to_do_with_it(roster: Roster, hello: Any) -> None:
    """One name's conflict is not its neighbour's."""
    for at, agent, boot in ((0, "pc-1", "a"), (0, "pc-2", "b"), (1, "pc-1", "c"), (2, "pc-1", "a")):
        roster.hear(hello(agent, boot), at)
    assert roster.state("pc-1", 3) is AgentState.CONFLICT
    assert roster.state("pc-2", 3) is AgentState.FRESH
    assert list(roster.agents()) == ["pc-1", "pc-2"]
    assert roster.living("pc-3", 3) == []


# Announcements.


def test_a_hello_says_whether_anything_new_was_announced(roster: Roster, hello: Any) -> None:
    """Heartbeats, restarts and farewells are no reason to plan anew; roles and addresses are."""
    same = {"roles": ("web",), "addresses": ("10.0.0.1",)}
    assert roster.hear(hello(**same), 0)
    assert not roster.hear(hello(**same, number=1, plan_refused="why"), 5)
    assert not roster.hear(hello(boot="b", **same), 6)
    assert not roster.hear(hello(boot="b", presence=Presence.LEAVING, **same), 7)
    assert roster.hear(hello(boot="c", roles=("web",), addresses=("10.0.0.2",)), 8)
    assert roster.hear(hello(boot="c", roles=(), addresses=("10.0.0.2",)), 9)


def test_a_port_is_news_and_a_target_is_not(roster: Roster, hello: Any) -> None:
    """Plans are made of the one; the other is only compared."""
    roster.hear(hello(), 0)
    target = NamedTarget("db", ("db-1",))
    assert roster.hear(hello(number=1, targets=(target,)), 1) is False
    assert roster.hear(hello(number=2, ports=(OwnPort("web:80", 8080),)), 2) is True
    assert roster.announcements()["pc-1"].ports == (("web:80", 8080),)


def test_what_a_silent_agent_announced_stays(roster: Roster, hello: Any) -> None:
    """Its host is still there, and so are the flows that lead to it."""
    roster.hear(hello(roles=("web",), addresses=("10.0.0.1",)), 0)
    assert roster.state("pc-1", 1000) is AgentState.SILENT
    assert roster.announcements() == {"pc-1": Announcement(("web",), ("10.0.0.1",))}


def test_announcements_stay_as_they_are_during_a_conflict(roster: Roster, hello: Any) -> None:
    """The first come speaks for the name: plans must not swing with every heartbeat."""
    roster.hear(hello(boot="a", addresses=("10.0.0.1",)), 0)
    roster.hear(hello(boot="b", addresses=("10.0.0.2",)), 1)
    changes = [
        roster.hear(hello(boot=boot, addresses=(address,)), at)
        for round_ in range(10)
        for at, boot, address in (
            (5 + 5 * round_, "a", "10.0.0.1"),
            (6 + 5 * round_, "b", "10.0.0.2"),
        )
    ]
    assert changes == [True] + [False] * 19  # at first it looked like a restart
    assert roster.announcements()["pc-1"].addresses == ("10.0.0.1",)


@pytest.mark.parametrize("farewell", [True, False])
def test_the_one_that_stays_speaks_for_the_name(
    roster: Roster, hello: Any, listener: Any, farewell: bool
) -> None:
    """Whether the other was stopped or killed, nothing of it is left in the map."""
    gone = {"addresses": ("10.0.0.1",), "listeners": (listener("a:80", ListenerState.FAILED),)}
    stays = {"addresses": ("10.0.0.2",), "listeners": (listener("a:80", ListenerState.LISTENING),)}
    roster.hear(hello(boot="a", **gone), 0)
    roster.hear(hello(boot="b", **stays), 1)
    roster.hear(hello(boot="a", **gone), 5)
    if farewell:
        roster.hear(hello(boot="a", presence=Presence.LEAVING, **gone), 6)
    for at in range(6, 30, 5):
        roster.hear(hello(boot="b", **stays), at)
    assert roster.state("pc-1", 27) is AgentState.FRESH
    assert roster.announcements()["pc-1"].addresses == ("10.0.0.2",)
    assert roster.current("pc-1").hello.boot == "b"
    assert roster.listener("pc-1", 80, Transport.TCP, 27) == stays["listeners"][0]


def test_one_killed_in_a_conflict_does_not_speak_of_a_port(
    roster: Roster, hello: Any, listener: Any
) -> None:
    """Not even in the moment between its patience and the other's next hello."""
    gone = (listener("a:80", ListenerState.FAILED),)
    stays = (listener("a:80", ListenerState.LISTENING),)
    for at, boot, listeners in ((0, "a", gone), (1, "b", stays), (5, "a", gone), (19, "b", stays)):
        roster.hear(hello(boot=boot, listeners=listeners), at)
    assert roster.state("pc-1", 5 + PATIENCE_S + 1) is AgentState.FRESH
    assert roster.listener("pc-1", 80, Transport.TCP, 5 + PATIENCE_S + 1) == stays[0]


# Listeners.


def test_what_an_agent_says_of_a_port(roster: Roster, hello: Any, listener: Any) -> None:
    """By port and transport; of any other port it says nothing."""
    report = listener("web:80", ListenerState.CEDED, "seen before", "nginx")
    roster.hear(hello(listeners=(report,)), 0)
    assert roster.listener("pc-1", 80, Transport.TCP, 1) == report
    assert roster.listener("pc-1", 80, Transport.UDP, 1) is None
    assert roster.listener("pc-1", 81, Transport.TCP, 1) is None
    assert roster.listener("pc-2", 80, Transport.TCP, 1) is None


@pytest.mark.parametrize("how", ["silent", "left", "conflict"])
def test_an_agent_that_does_not_stand_well_says_nothing(
    roster: Roster, hello: Any, listener: Any, how: str
) -> None:
    """Old news of a port proves nothing, nor does news of either of two hosts."""
    listeners = (listener("web:80", ListenerState.LISTENING),)
    roster.hear(hello(boot="a", listeners=listeners), 0)
    if how == "left":
        roster.hear(hello(boot="a", presence=Presence.LEAVING, listeners=listeners), 1)
    if how == "conflict":
        roster.hear(hello(boot="b", listeners=listeners), 1)
        roster.hear(hello(boot="a", listeners=listeners), 2)
    now = 100 if how == "silent" else 3
    assert roster.state("pc-1", now) == how
    assert roster.listener("pc-1", 80, Transport.TCP, now) is None


# Pulses, and restarts.


def test_a_pulse_is_a_sign_of_life(roster: Roster, hello: Any, pulse: Any) -> None:
    """And it names the hello that still holds: another one is to be asked for."""
    assert not roster.pulse(pulse(), 0, 0.0)
    assert list(roster.agents()) == []
    roster.hear(hello(number=1), 1)
    assert roster.pulse(pulse(hello=1, made=7), 16, 0.5)
    assert roster.state("pc-1", 16 + PATIENCE_S) is AgentState.FRESH
    current = roster.current("pc-1")
    assert (current.pulse.made, current.skew_s) == (7, 0.5)
    assert not roster.pulse(pulse(hello=2), 17, 0.0)
    assert not roster.pulse(pulse(boot="other", hello=1), 18, 0.0)
    assert current.last_heard == 17


def test_a_hello_that_is_late_takes_nothing_back(roster: Roster, hello: Any) -> None:
    """The highest number of a start holds."""
    roster.hear(hello(number=3, addresses=("10.0.0.3",)), 0)
    assert not roster.hear(hello(number=2, addresses=("10.0.0.2",)), 1)
    assert roster.announcements()["pc-1"].addresses == ("10.0.0.3",)


def test_two_that_pulse_are_a_conflict(roster: Roster, hello: Any, pulse: Any) -> None:
    """They need not say hello again for it."""
    roster.hear(hello(boot="a"), 0)
    roster.hear(hello(boot="b"), 1)
    roster.pulse(pulse(boot="a"), 5, 0.0)
    roster.pulse(pulse(boot="b"), 6, 0.0)
    assert roster.state("pc-1", 7) is AgentState.CONFLICT


def test_what_was_announced_outlasts_the_collector(roster: Roster, hello: Any, pulse: Any) -> None:
    """Plans stay as they are; whether the agent is there, its next pulse tells."""
    roster.hear(hello(roles=("web",), addresses=("10.0.0.1",), number=4), 100)
    roster.pulse(pulse(hello=4), 150, 0.0)
    after = Roster()
    after.restore(roster.remembered("pc-1"), 170)
    assert after.announcements() == roster.announcements()
    assert after.current("pc-1").last_heard == 170
    assert after.state("pc-1", 1000) is AgentState.SILENT
    assert after.pulse(pulse(hello=4), 1001, 0.0)
    assert after.state("pc-1", 1002) is AgentState.FRESH


def test_who_was_heard_already_is_not_restored(roster: Roster, hello: Any) -> None:
    """What was kept is older."""
    kept = Roster()
    kept.hear(hello(boot="old", addresses=("10.0.0.1",)), 0)
    roster.hear(hello(boot="new", addresses=("10.0.0.2",)), 100)
    roster.restore(kept.remembered("pc-1"), 0)
    assert roster.announcements()["pc-1"].addresses == ("10.0.0.2",)


def test_heartbeats_and_refusals_are_known_of_whoever_said_hello(
    roster: Roster, hello: Any
) -> None:
    """Of others there is none."""
    assert (roster.heartbeat_s("pc-1"), roster.has_refused_a_plan("pc-1")) == (0.0, False)
    roster.hear(hello(heartbeat_s=7.0, plan_refused="why"), 0)
    assert (roster.heartbeat_s("pc-1"), roster.has_refused_a_plan("pc-1")) == (7.0, True)


# Memory.


def test_restarts_without_end_are_forgotten(roster: Roster, hello: Any) -> None:
    """An agent that crashes every second leaves no more behind than its patience holds."""
    for second in range(5000):
        roster.hear(hello(boot=f"boot-{second}"), second)
    assert len(roster._instances["pc-1"]) <= PATIENCE_S + 1
    assert roster.state("pc-1", second) is AgentState.FRESH


events = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([0.0, 0.5, 4.0, 5.0, 16.0]),
        st.sampled_from(Presence),
    ),
    min_size=1,
    max_size=25,
)


@given(events)
def test_whatever_is_heard_the_roster_makes_sense_of_it(
    hello: Callable[..., Hello], heard: list[tuple[str, float, Presence]]
) -> None:
    """One who has just spoken is there; of those at work one speaks for the name."""
    roster, now = Roster(), 0.0
    for boot, pause, presence in heard:
        now += pause
        before = roster.announcements().get("pc-1")
        changed = roster.hear(hello(boot=boot, presence=presence, addresses=(boot,)), now)
        after = roster.announcements()["pc-1"]
        assert changed == (before != after)
        living = roster.living("pc-1", now)
        state = roster.state("pc-1", now)
        assert (state in (AgentState.FRESH, AgentState.CONFLICT)) == bool(living)
        assert living or presence is Presence.LEAVING
        if living:
            assert roster.current("pc-1") is living[0]
        assert roster.state("pc-1", now + 1000) in (AgentState.SILENT, AgentState.LEFT)
