"""The map as plain data: what other people's scripts hang on."""

import datetime
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import views
from reachmap_collector.ledger import Loss, Losses, Vanished
from reachmap_collector.planner import Announcement
from reachmap_collector.roster import AgentState
from reachmap_collector.views import By
from reachmap_shared.vocabulary import Outcome, State

NOW = 1_760_000_000.0
AT = "2025-10-09T08:53:20.000Z"

FLOW_FIELDS = [
    "source",
    "destination",
    "service",
    "address",
    "port",
    "transport",
    "protocol",
    "expect",
    "state",
    "outcome",
    "answered_by",
    "cause",
    "at",
    "confidence",
    "evidence",
    "since",
    "checked",
    "latency_ms",
]
"""The contract's table of a flow, in its order."""


def test_a_flow_has_just_the_fields_that_are_promised(scene: Any) -> None:
    """And the reasons besides; fields may be added, with a note to users, and never taken away."""
    stage = scene()
    for judgement in stage.judgements(NOW):
        flow = views.flow(judgement)
        more = ["duration_ms", "reasons", "certificate_until", "seen_as", "checks"]
        assert list(flow) == [*FLOW_FIELDS, *more]
        assert list(flow["checks"]) == ["made", "open", "local_error"]


def test_a_flow_that_is_as_it_should_be(scene: Any) -> None:
    """Every field, as JSON has it."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080", connect_us=1234)
    stage.count("pc-1", "web-1", NOW, "web:8080", made=6, failed=1)
    flow = views.flow(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert json.loads(json.dumps(flow)) == {
        "source": "pc-1",
        "destination": "web-1",
        "service": "web:8080",
        "address": "10.0.0.1",
        "port": 8080,
        "transport": "tcp",
        "protocol": "http",
        "expect": "reachable",
        "state": "ok",
        "outcome": "open",
        "answered_by": "service",
        "cause": None,
        "at": None,
        "confidence": None,
        "evidence": ["pc-1: the check's own words on open"],
        "since": AT,
        "checked": AT,
        "latency_ms": 1.234,
        "duration_ms": 1.744,
        "reasons": [
            {"role": "browser", "service": "web:8080", "basis": "local", "row": None, "note": ""}
        ],
        "certificate_until": None,
        "seen_as": None,
        "checks": {"made": 6, "open": 5, "local_error": 0},
    }


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (1_798_070_400, "2026-12-24T00:00:00.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        (None, None),
        (253_402_300_800, None),
        (-1, None),
        (2**53, None),
    ],
)
def test_a_flow_says_until_when_its_certificate_is_valid(
    scene: Any, until: int | None, text: str | None
) -> None:
    """And nothing of what no certificate can say: agents may send any number."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080", certificate_until=until)
    flow = views.flow(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert flow["certificate_until"] == text


def test_a_flow_says_from_where_its_listener_saw_the_check(scene: Any) -> None:
    """Behind NAT, that is another address than its source's own."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080", seen_as="192.0.2.7:40000")
    flow = views.flow(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert flow["seen_as"] == "192.0.2.7:40000"


def test_a_flow_counts_the_checks_that_could_not_be_made(scene: Any) -> None:
    """They stay in the total: a prober that fails is no proof that all is well."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    counts = {"made": 5, "failed": 1, "local_errors": 1}
    stage.count("pc-1", "web-1", NOW, "web:8080", **counts)
    flow = views.flow(stage.judge("pc-1", "web-1", NOW, "web:8080"))
    assert flow["checks"] == {"made": 5, "open": 3, "local_error": 1}


def test_a_flow_that_was_never_checked(scene: Any) -> None:
    """What nobody saw is null, and never a guess."""
    flow = views.flow(scene().judge("pc-1", "web-1", NOW, "web:8080"))
    nulls = ("outcome", "answered_by", "at", "checked", "latency_ms")
    nulls += ("certificate_until", "seen_as")
    assert [flow[name] for name in nulls] == [None] * len(nulls)
    assert (flow["state"], flow["cause"], flow["confidence"]) == ("unknown", "unknown", "unknown")
    assert flow["since"] == "1970-01-01T00:00:00.000Z"


def test_a_flow_to_a_host_of_no_address_has_none(scene: Any) -> None:
    """Null, rather than an empty address that a script would dial."""
    stage = scene(
        '[roles.a]\nlistens = { "a:1" = {} }\n[roles.b]\nconnects = ["a:1"]\n'
        '[hosts]\nx = { roles = ["a"] }\ny = { roles = ["b"] }'
    )
    assert views.flow(stage.judge("y", "x", NOW))["address"] is None


def test_the_reasons_of_a_flow_say_where_they_come_from(scene: Any) -> None:
    """A row of the table by its number and text, or that the source code was read."""
    stage = scene(
        'profiles = ["openuem"]\n[hosts]\n'
        'pc = { roles = ["agent", "agent-updater"] }\n'
        'nats = { roles = ["nats-server"], addresses = ["10.0.0.1"] }'
    )
    flow = views.flow(stage.judge("pc", "nats", NOW))
    assert [(reason["role"], reason["basis"], reason["row"]) for reason in flow["reasons"]] == [
        ("agent", "observed-in-source", None),
        (
            "agent-updater",
            "documented",
            {
                "profile": "openuem",
                "row": 3,
                "text": "4433 | Agent Updater | Outbound | NATS traffic with server",
            },
        ),
    ]


def test_a_forbidden_flow_says_which_rule_forbids_it(scene: Any) -> None:
    """With the note that its author left."""
    flow = views.flow(scene().judge("pc-1", "db-1", NOW))
    assert flow["expect"] == "blocked"
    assert flow["reasons"] == [
        {
            "role": "browser",
            "service": "db:5432",
            "basis": "deny",
            "row": None,
            "note": "only the shop may",
        }
    ]


# The matrix.


def test_the_matrix_counts_flows_by_role_and_service(scene: Any) -> None:
    """Rows by name, columns by role and then by port as a number."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    stage.see("pc-1", "web-1", Outcome.REFUSED, NOW, service="shop:9090")
    assert views.matrix(stage.tallies(NOW), By.ROLE) == {
        "by": "role",
        "columns": ["db:5432", "shop:9090", "web:8080"],
        "rows": [
            {
                "name": "browser",
                "cells": {
                    "db:5432": {"unknown": 1},
                    "shop:9090": {"broken": 1},
                    "web:8080": {"ok": 1},
                },
            },
            {"name": "shop", "cells": {"db:5432": {"unknown": 1}}},
        ],
    }


def test_the_matrix_by_host_has_each_flow_once(scene: Any, openuem: Any) -> None:
    """In its source's row, whatever roles it is for."""
    stage = scene(openuem())
    matrix = views.matrix(stage.tallies(NOW), By.HOST)
    counted = sum(
        count for row in matrix["rows"] for cell in row["cells"].values() for count in cell.values()
    )
    assert counted == len(stage.flows)
    assert [row["name"] for row in matrix["rows"]] == sorted(
        {record.key.source for record in stage.flows}
    )


def test_the_matrix_by_role_has_each_flow_once_for_each_reason(scene: Any) -> None:
    """A host of three roles that need one flow has it in three rows."""
    stage = scene(
        'profiles = ["openuem"]\n[hosts]\n'
        'all = { roles = ["console", "agent-worker", "notification-worker", "agent"] }\n'
        'db = { roles = ["postgres", "nats-server"], addresses = ["10.0.0.1", "fd00::1"] }'
    )
    matrix = views.matrix(stage.tallies(NOW), By.ROLE)
    counted = Counter(
        {
            (row["name"], column): sum(cell.values())
            for row in matrix["rows"]
            for column, cell in row["cells"].items()
        }
    )
    reasons = Counter(
        (reason.role, str(record.expected.service))
        for record in stage.flows
        for reason in record.expected.connections
    )
    assert counted == reasons
    assert counted["agent-worker", "postgres:5432"] == 2  # one of each address


def test_the_columns_of_the_matrix_are_those_that_occur(scene: Any) -> None:
    """By role, and each role's ports as numbers: 443 comes before 1443."""
    stage = scene(
        '[roles.a]\nlistens = { "a:1443" = {}, "a:443" = {}, "a:80" = {}, "a:9" = {} }\n'
        '[roles.b]\nconnects = ["a:1443", "a:443", "a:80"]\n'
        '[hosts]\nx = { roles = ["a"] }\ny = { roles = ["b"] }'
    )
    assert views.matrix(stage.tallies(NOW), By.HOST)["columns"] == ["a:80", "a:443", "a:1443"]


def test_the_matrix_of_nothing_is_empty() -> None:
    """No flows, no rows."""
    assert views.matrix([], By.ROLE) == {"by": "role", "columns": [], "rows": []}


# The port table.


@pytest.mark.parametrize("number", range(1, 22))
def test_every_row_of_the_port_table_is_accounted_for(
    scene: Any, openuem: Any, number: int
) -> None:
    """With two hosts of every role each row has flows, and says how they are."""
    stage = scene(openuem())
    row = views.table(stage.topology, stage.tallies(NOW))["rows"][number - 1]
    assert (row["profile"], row["row"]) == ("openuem", number)
    assert row["flows"] == sum(row["states"].values()) > 0
    assert row["state"] == "unknown"


def test_an_inbound_row_counts_all_that_reach_its_service(scene: Any, openuem: Any) -> None:
    """Row 10 is the NATS server's own: whoever dials 4433 belongs to it."""
    stage = scene(openuem())
    rows = views.table(stage.topology, stage.tallies(NOW))["rows"]
    dialling = [
        record for record in stage.flows if str(record.expected.service) == "nats-server:4433"
    ]
    assert rows[9]["flows"] == len(dialling)
    assert rows[2]["flows"] == 2 * 2  # row 3: each agent updater to each server


def test_a_row_is_as_bad_as_its_worst_flow(scene: Any, openuem: Any) -> None:
    """One broken flow of many is what a person has to see."""
    stage = scene(openuem())
    for record in stage.flows:
        stage.hear(record.key.source, NOW)
    for record in stage.flows:
        stage.see(
            record.key.source,
            record.key.destination,
            Outcome.TIMEOUT
            if (record.key.source, record.key.destination) == ("console-1", "postgres-2")
            else Outcome.OPEN,
            NOW,
            service=str(record.expected.service),
        )
    rows = views.table(stage.topology, stage.tallies(NOW))["rows"]
    assert {row["row"]: row["state"] for row in rows if row["state"] != "ok"} == {15: "broken"}
    assert rows[14]["states"] == {"ok": 3, "broken": 1}


def test_a_row_without_flows_has_no_state(scene: Any) -> None:
    """Nothing is claimed of a component that this deployment has not; a deny is no row's."""
    stage = scene(
        'profiles = ["openuem"]\n[hosts]\na = { roles = ["agent"] }\n'
        'db = { roles = ["postgres"], addresses = ["10.0.0.1"] }\n'
        '[[deny]]\nfrom = "agent"\nto = "postgres:5432"'
    )
    assert len(stage.flows) == 1
    rows = views.table(stage.topology, stage.tallies(NOW))["rows"]
    assert [(row["flows"], row["state"]) for row in rows] == [(0, None)] * 21


# Topology.


def test_a_topology_shows_what_is_in_force(scene: Any) -> None:
    """Roles with their listeners and connections, hosts as they are now, and what is denied."""
    stage = scene(
        'admit = ["browser"]\n[roles.web]\nlistens = { "web:80" = { protocol = "http" } }\n'
        '[roles.browser]\ntitle = "Browser"\nconnects = ["web:80"]\n[roles.guest]\n'
        '[hosts.w]\nroles = ["web"]\naddresses = ["10.0.0.1"]\nports = { "web:80" = 8080 }\n'
        '[[deny]]\nfrom = "guest"\nto = "web:80"\nnote = "no"',
        new=Announcement(("browser",), ("10.0.0.9",)),
    )
    shown = json.loads(json.dumps(views.topology(stage.topology, stage.members)))
    assert list(shown) == ["roles", "hosts", "deny", "checks"]
    web, browser, guest = shown["roles"]
    assert web["listens"] == [
        {
            "service": "web:80",
            "protocol": "http",
            "transport": "tcp",
            "basis": "local",
            "row": None,
            "note": "",
        }
    ]
    assert (browser["role"], browser["title"]) == ("browser", "Browser")
    assert browser["connects"] == [
        {"role": "browser", "service": "web:80", "basis": "local", "row": None, "note": ""}
    ]
    assert (guest["listens"], guest["connects"]) == ([], [])
    listed, announced = shown["hosts"]
    assert listed == {
        "host": "w",
        "roles": ["web"],
        "addresses": ["10.0.0.1"],
        "ports": {"web:80": 8080},
        "agent": True,
        "listed": True,
        "was": [],
    }
    assert (announced["host"], announced["listed"]) == ("new", False)
    assert shown["deny"] == [{"role": "guest", "service": "web:80", "note": "no"}]
    assert shown["checks"] == {"interval_s": 10.0, "timeout_s": 3.5}


# Status.


def test_the_status_counts_flows_and_agents(scene: Any) -> None:
    """Every state is there, so that scripts need not ask whether it is."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW, service="web:8080")
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW)
    stage.pulse("pc-1", NOW, waiting=3, lost=4)
    account = stage.ledger.account("pc-1", "boot-1")
    account.observations, account.refused = 5, 2
    account.sequences.add(1, 4)
    account.sequences.add(6)
    losses = Losses((Loss("boot-0", 9, 1, 0),), vanished=(Vanished("boot-0", 4),))
    stage.ledger.losses["gone"] = losses
    delivery = views.Delivery(
        lag=1,
        in_stream=2,
        stream_octets=3,
        redelivered=4,
        taken=5,
        duplicates=6,
        clock_offset_s=0.1234,
        store_trouble="the disk is full",
        store_waiting=7,
        dead_letters=8,
    )
    refused = {"malformed hello": 2}
    status = views.status(
        stage.counted(NOW), stage.attendance(NOW).census(), refused, delivery, stage.ledger
    )
    assert json.loads(json.dumps(status)) == {
        "flows": {"ok": 1, "degraded": 0, "broken": 0, "exposed": 1, "unknown": 2},
        "agents": {"fresh": 1, "silent": 0, "left": 0, "conflict": 0, "absent": 2},
        "agents_missing": 2,
        "state": "exposed",
        "refused_messages": {"malformed hello": 2},
        "delivery": {
            "trouble": None,
            "lag": 1,
            "in_stream": 2,
            "stream_octets": 3,
            "redelivered": 4,
            "taken": 5,
            "duplicates": 6,
            "reports_missing": 3,
            "bus_clock_offset_s": 0.123,
        },
        "store": {"trouble": "the disk is full", "waiting": 7, "dead_letters": 8},
        "observations": {"received": 5, "refused": 2, "waiting": 3, "dropped": 5, "vanished": 4},
    }
    assert set(status["agents"]) == set(AgentState)


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ({}, None),
        ({"ok": 0}, None),
        ({"ok": 5}, "ok"),
        ({"ok": 5, "unknown": 1}, "unknown"),
        ({"degraded": 1, "unknown": 1}, "degraded"),
        ({"exposed": 1, "degraded": 1}, "exposed"),
        ({"broken": 1, "exposed": 9}, "broken"),
        ({"broken": 0, "exposed": 0, "ok": 1}, "ok"),
    ],
)
def test_the_worst_state(states: dict[State, int], worst: str | None) -> None:
    """Broken, exposed, degraded, unknown, ok: in that order."""
    assert views.worst(states) == worst


def test_the_order_of_states_is_complete() -> None:
    """A state that is added needs its place."""
    assert sorted(views.WORST_FIRST) == sorted(State)


# Times.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOW, AT),
        (NOW + 0.1239, "2025-10-09T08:53:20.123Z"),
    ],
)
def test_a_timestamp(seconds: float, text: str) -> None:
    """RFC 3339, UTC, always to the millisecond."""
    assert views.timestamp(seconds) == text


@given(st.floats(0, 4e9))
def test_a_timestamp_reads_back(seconds: float) -> None:
    """Whatever the moment, it sorts as text and names the same millisecond."""
    text = views.timestamp(seconds)
    moment = datetime.datetime.fromisoformat(text)
    assert moment.tzinfo == datetime.UTC
    assert abs(moment.timestamp() - seconds) < 0.0011
    assert len(text) == len(AT)
