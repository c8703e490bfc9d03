"""Who reports, agent by agent and counted: what other people's scripts hang on."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.attendance import Attendance
from reachmap_collector.ledger import Ledger, Loss, Losses, Vanished
from reachmap_collector.planner import members
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.views import Census
from reachmap_shared.messages import NamedTarget, OwnPort, Presence
from reachmap_shared.vocabulary import ListenerState

NOW = 1_760_000_000.0
AT = "2025-10-09T08:53:20.000Z"


def test_an_agent_shows_all_it_says_of_itself(scene: Any, listener: Any) -> None:
    """From where, how fresh, and how it fares."""
    stage = scene()
    stage.hear("pc-1", NOW - 7)
    stage.hear(
        "pc-1",
        NOW - 2.04,
        roles=("anything",),
        addresses=("10.0.1.1",),
        plan_refused="plan refused: why",
        listeners=(listener("web:80", ListenerState.FAILED, "EACCES"),),
        changes_lost=1,
        spool_failure="ENOSPC",
        ports=(OwnPort("web:80", 81),),
        targets=(NamedTarget("web", ("web-1", "10.9.9.9")),),
    )
    numbers = {"made": 12, "late_ms": 3, "lost": 1, "waiting": 4}
    stage.pulse("pc-1", NOW - 2.04, skew_s=-60.04, plan="r1", **numbers)
    account = stage.ledger.account("pc-1", "boot-1")
    account.observations, account.refused = 5, 2
    vanished = (Vanished("boot-1", 2), Vanished("boot-0", 4))
    losses = Losses((Loss("boot-0", 9, 3, 0),), vanished=vanished, vanished_before=1)
    stage.ledger.losses["pc-1"] = losses
    [row] = [row for row in stage.agents(NOW) if row["agent"] == "pc-1"]
    assert json.loads(json.dumps(row)) == {
        "agent": "pc-1",
        "state": "fresh",
        "in_topology": True,
        "expected": True,
        "roles": ["browser"],
        "heard": "2025-10-09T08:53:17.960Z",
        "age_s": 2.0,
        "joined": "2025-10-09T08:53:13.000Z",
        "boot": "boot-1",
        "hostname": "pc-1.example",
        "addresses": ["10.0.1.1"],
        "announced_roles": ["anything"],
        "announced_ports": {"web:80": 81},
        "announced_targets": {"web": ["web-1", "10.9.9.9"]},
        "version": "0.1.0",
        "platform": "Linux",
        "capabilities": ["tcp"],
        "plan": "r1",
        "plan_refused": "plan refused: why",
        "listeners": [
            {
                "service": "web:80",
                "port": 80,
                "transport": "tcp",
                "state": "failed",
                "detail": "EACCES",
            }
        ],
        "checks_done": 12,
        "checks_late_ms": 3,
        "observations_dropped": 1,
        "observations_waiting": 4,
        "changes_dropped": 1,
        "clock_skew_s": -60.0,
        "observations_received": 5,
        "observations_refused": 2,
        "observations_vanished": 2,
        "dropped_before": 3,
        "vanished_before": 5,
        "notes": [
            "announces role 'anything', which the topology does not know",
            "1 observation dropped, which the map lacks",
            "7 observations vanished with the bus's storage, which the map lacks",
            "1 change dropped, which the history lacks",
            "keeps what waits in memory alone: ENOSPC",
            "its clock is 60 s behind the bus's; ages stay right",
            "is told to reach web at 10.9.9.9, where the topology has no such host",
        ],
    }


def test_all_who_report_or_should_are_there(scene: Any) -> None:
    """By name: those who never came, those who are gone, and those whom nobody listed."""
    stage = scene()
    stage.hear("web-1", NOW)
    stage.hear("db-1", NOW - 100)
    stage.hear("stranger", NOW, presence=Presence.LEAVING)
    rows = stage.agents(NOW)
    assert [(row["agent"], row["state"], row["in_topology"]) for row in rows] == [
        ("db-1", "silent", True),
        ("pc-1", "absent", True),
        ("stranger", "left", False),
        ("web-1", "fresh", True),
    ]
    assert rows[1] == {
        "agent": "pc-1",
        "state": "absent",
        "in_topology": True,
        "expected": True,
        "roles": ["browser"],
        "notes": [],
    }
    assert rows[0]["age_s"] == 100.0


def test_both_agents_of_one_name_are_shown(scene: Any) -> None:
    """With what tells them apart: where they are and since when."""
    stage = scene()
    for at, boot, hostname in ((1, "a", "one"), (2, "b", "two"), (3, "a", "one")):
        stage.hear("pc-1", NOW + at, boot, hostname=hostname, addresses=(f"10.0.1.{at}",))
    rows = [row for row in stage.agents(NOW + 3) if row["agent"] == "pc-1"]
    assert [(row["state"], row["hostname"], row["joined"][-7:]) for row in rows] == [
        ("conflict", "one", "21.000Z"),
        ("conflict", "two", "22.000Z"),
    ]


def test_a_host_without_an_agent_is_no_missing_agent(topology: Any) -> None:
    """The topology says that nobody reports there."""
    deployment = topology(
        '[roles.a]\n[hosts.x]\nroles = ["a"]\naddresses = ["10.0.0.1"]\nagent = false'
    )
    empty = Attendance(Roster(), Ledger(), deployment, members(deployment, {}), NOW)
    assert (empty.all(), empty.census()) == ([], Census({}, [], heard=[]))


NOTED = """
admit = ["guest"]
checks = { interval_s = 60, timeout_s = 3.5 }
[roles.web]
listens = { "web:80" = {} }
[roles.db]
listens = { "db:5432" = {} }
[roles.guest]
connects = ["web:80"]
[hosts.listed]
roles = ["web"]
addresses = ["10.0.0.1", "fd00::1"]
[hosts.named]
roles = ["web"]
addresses = ["10.0.0.2", "named.example"]
[hosts.open]
[hosts.bare]
roles = ["db"]
addresses = ["10.0.0.9"]
agent = false
"""


@pytest.mark.parametrize(
    ("agent", "said", "notes"),
    [
        pytest.param("listed", {"roles": ("web",)}, [], id="what the topology says too"),
        pytest.param(
            "open",
            {"roles": ("web", "agnt", "agnt")},
            ["announces role 'agnt', which the topology does not know"],
            id="a role that is misspelt",
        ),
        pytest.param("open", {"roles": ("web", "db")}, [], id="roles that are left to it"),
        pytest.param(
            "listed",
            {"roles": ("db", "guest")},
            [
                "announces role 'db', which the topology does not give to this host",
                "announces role 'guest', which the topology does not give to this host",
            ],
            id="roles that are not left to it",
        ),
        pytest.param("stranger", {"roles": ("guest",)}, [], id="a role that is admitted"),
        pytest.param(
            "stranger",
            {"roles": ("guest", "db")},
            ["announces role 'db', which the topology does not admit"],
            id="a role that is not admitted",
        ),
        pytest.param(
            "listed",
            {"addresses": ("10.9.9.9", "fd00::9")},
            [
                (
                    "announces 10.9.9.9, fd00::9, but the topology lists 10.0.0.1, fd00::1, and "
                    "that is what others dial"
                )
            ],
            id="addresses elsewhere",
        ),
        pytest.param("listed", {"addresses": ("10.0.0.1",)}, [], id="one of its addresses"),
        pytest.param("listed", {"addresses": ("FD00:0::1", "10.9.9.9")}, [], id="and another"),
        pytest.param("listed", {"addresses": ()}, [], id="no addresses"),
        pytest.param(
            "listed",
            {"addresses": ("no address",)},
            [
                "announces no address, but the topology lists 10.0.0.1, fd00::1, and that is what "
                "others dial"
            ],
            id="no address at all",
        ),
        pytest.param("named", {"addresses": ("10.9.9.9",)}, [], id="a name may mean any"),
        pytest.param("open", {"addresses": ("10.9.9.9",)}, [], id="addresses left to it"),
        pytest.param(
            "stranger",
            {"addresses": ("10.9.9.9",)},
            ["is not in the topology: list it under hosts, or let its roles in with admit"],
            id="a host of no list",
        ),
        pytest.param(
            "bare",
            {},
            ["reports, though the topology says agent = false: nothing is checked from here"],
            id="where none should be",
        ),
    ],
)
def test_what_an_agent_says_in_vain_is_noted(
    topology: Any, hello: Any, agent: str, said: dict[str, Any], notes: list[str]
) -> None:
    """It would fail in silence: the topology has the last word, and the agent's log is elsewhere."""
    deployment, roster = topology(NOTED), Roster()
    roster.hear(hello(agent, **said), NOW)
    hosts = members(deployment, roster.announcements())
    rows = Attendance(roster, Ledger(), deployment, hosts, NOW).all()
    assert [row["notes"] for row in rows if row["agent"] == agent] == [notes]


@pytest.mark.parametrize(
    ("said", "skew_s", "notes"),
    [
        ({}, 0, []),
        ({"late_ms": 6000}, 0, []),
        ({"late_ms": 6100}, 0, ["checks up to 6.1 s late"]),
        ({"lost": 70}, 0, ["70 observations dropped, which the map lacks"]),
        ({"waiting": 70}, 5, []),
        ({}, 5.1, ["its clock is 5 s ahead of the bus's; ages stay right"]),
        ({}, -3600, ["its clock is 3600 s behind the bus's; ages stay right"]),
    ],
)
def test_what_an_agent_s_pulse_tells_of_trouble_is_noted(
    topology: Any,
    hello: Any,
    pulse: Any,
    said: dict[str, Any],
    skew_s: float,
    notes: list[str],
) -> None:
    """Checks that are late by a tenth of the interval, what was lost, and a clock that is wrong."""
    deployment, roster = topology(NOTED), Roster()
    roster.hear(hello("open"), NOW)
    roster.pulse(pulse("open", **said), NOW, skew_s)
    hosts = members(deployment, roster.announcements())
    rows = Attendance(roster, Ledger(), deployment, hosts, NOW).all()
    assert [row["notes"] for row in rows if row["agent"] == "open"] == [notes]


@pytest.mark.parametrize(("late_ms", "is_told"), [(0, False), (1000, False), (1001, True)])
def test_a_second_is_late_however_short_the_interval(
    scene: Any, late_ms: int, is_told: bool
) -> None:
    """The default interval's tenth is just that; the number itself is there in any case."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.pulse("pc-1", NOW, late_ms=late_ms)
    rows = stage.agents(NOW)
    [row] = [row for row in rows if row["agent"] == "pc-1"]
    assert (row["checks_late_ms"], row["observations_dropped"]) == (late_ms, 0)
    assert (row["notes"] == ["checks up to 1.0 s late"]) == is_told


# Counted.


@pytest.mark.parametrize(
    ("agent", "presence", "at", "missing"),
    [
        ("pc-1", Presence.HERE, NOW, 2),
        ("pc-1", Presence.LEAVING, NOW, 3),
        ("stranger", Presence.HERE, NOW, 3),
        ("stranger", Presence.LEAVING, NOW, 3),
        ("stranger", Presence.HERE, NOW - 100, 4),
    ],
)
def test_an_agent_that_left_and_that_nobody_expects_is_not_missing(
    scene: Any, agent: str, presence: Presence, at: float, missing: int
) -> None:
    """It was uninstalled, or its host was taken out of the topology: nobody waits for it."""
    stage = scene()
    stage.hear(agent, at, presence=presence)
    assert len(stage.attendance(NOW).census().missing) == missing


def test_an_agent_that_left_a_host_without_one_is_not_missing(topology: Any, hello: Any) -> None:
    """The topology says that none is to be there."""
    deployment, roster = topology(NOTED), Roster()
    roster.hear(hello("bare", presence=Presence.LEAVING), NOW)
    hosts = members(deployment, roster.announcements())
    census = Attendance(roster, Ledger(), deployment, hosts, NOW).census()
    assert census.missing == ["listed", "named", "open"]


def test_a_name_that_two_processes_use_is_one_agent(scene: Any) -> None:
    """Though both are listed."""
    stage = scene()
    for at, boot in ((1, "a"), (2, "b"), (3, "a")):
        stage.hear("pc-1", NOW + at, boot)
    assert len(stage.agents(NOW + 3)) == 4
    states = stage.attendance(NOW + 3).census().states
    assert states == {AgentState.CONFLICT: 1, AgentState.ABSENT: 2}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pc-1", "web-1", "db-1", "stranger", "other"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(Presence),
            st.integers(0, 30),
            st.none() | st.tuples(st.integers(-1, 9), st.integers(-1, 9)),
        ),
        max_size=12,
    ),
    st.integers(0, 40),
)
def test_what_is_counted_is_what_the_rows_say(
    scene: Any, said: list[tuple[Any, ...]], later: int
) -> None:
    """Whoever spoke, and however often: numbers are had without any row, and must not differ."""
    stage = scene()
    for agent, boot, presence, at, counts in sorted(said, key=lambda one: one[3]):
        stage.hear(agent, NOW + at, boot, presence=presence)
        if counts is not None:
            stage.pulse(agent, NOW + at, boot=boot, waiting=counts[0], lost=counts[1])
    attendance = stage.attendance(NOW + later)
    rows, census = attendance.all(), attendance.census()
    by_name = {row["agent"]: row for row in rows}
    assert census.states == Counter(row["state"] for row in by_name.values())
    assert census.missing == [
        name
        for name, row in by_name.items()
        if row["state"] != "fresh" and (row["expected"] or row["state"] != "left")
    ]
    assert census.expected == sum(row["expected"] for row in by_name.values())
    assert census.waiting == sum(row.get("observations_waiting", 0) for row in rows)
    assert census.dropped == sum(row.get("observations_dropped", 0) for row in rows)
    assert len(census.heard) == sum(row["state"] == "fresh" for row in rows)
    for after in (*by_name, "a", "pd", "z"):
        page = [row for _, some in attendance.rows(after) for row in some]
        assert page == [row for row in rows if row["agent"] > after]
