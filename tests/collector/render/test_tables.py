"""What people see: whole screens of 80 columns, without colour."""

from typing import Any

import pytest
from screens import NOW, flows_of, golden

from reachmap_collector import render, views
from reachmap_collector.views import By

pytestmark = pytest.mark.usefixtures("utc")


# The map.


def test_the_map_of_the_whole_of_openuem(screen: Any, green: Any) -> None:
    """All its roles against all its services, on one screen of 80 columns."""
    answer = views.matrix(green.tallies(NOW), By.ROLE)
    assert screen(render.matrix(answer, 80)) == golden(
        """
                                                 nats-  nats-     ocsp-
                    agent agent console console server server responder postgres
role                 1443  2022    1323    1324   4433   4444      8000     5432
admin-browser          ✓4     ·      ✓4      ✓4      ·      ·         ·        ·
agent                   ·     ·       ·       ·     ✓4      ·        ✓4        ·
agent-updater           ·     ·       ·       ·     ✓4      ·         ·        ·
agent-worker            ·     ·       ·       ·     ✓4      ·         ·       ✓4
cert-manager-worker     ·     ·       ·       ·     ✓4      ·        ✓4       ✓4
console                 ·    ✓4       ·       ·     ✓4      ·        ✓4       ✓4
nats-server             ·     ·       ·       ·      ·     ✓2        ✓4        ·
notification-worker     ·     ·       ·       ·     ✓4      ·         ·       ✓4
ocsp-responder          ·     ·       ·       ·      ·      ·         ·       ✓4
server-updater          ·     ·       ·       ·     ✓4      ·         ·       ✓4

✓ ok
"""
    )


def test_the_map_of_some_trouble(screen: Any, troubled: Any) -> None:
    """Each cell by its worst, with a legend of what occurs."""
    answer = views.matrix(troubled.tallies(NOW), By.HOST)
    assert screen(render.matrix(answer, 80)) == golden(
        """
        db shop  web
host  5432 9090 8080
pc-1    !1   ✗1   ✓1
web-1   ?1    ·    ·

✓ ok   ? unknown   ! exposed   ✗ broken   1/3: so many of so many flows
"""
    )


def test_a_map_too_wide_is_broken_into_blocks(screen: Any, green: Any) -> None:
    """Each with the rows that have something in it."""
    answer = views.matrix(green.tallies(NOW), By.ROLE)
    assert screen(render.matrix(answer, 40), 40) == golden(
        """
                    agent agent console
role                 1443  2022    1323
admin-browser          ✓4     ·      ✓4
console                 ·    ✓4       ·

                             nats-
                    console server
role                   1324   4433
admin-browser            ✓4      ·
agent                     ·     ✓4
agent-updater             ·     ✓4
agent-worker              ·     ✓4
cert-manager-worker       ·     ✓4
console                   ·     ✓4
notification-worker       ·     ✓4
server-updater            ·     ✓4

                     nats-     ocsp-
                    server responder
role                  4444      8000
agent                    ·        ✓4
cert-manager-worker      ·        ✓4
console                  ·        ✓4
nats-server             ✓2        ✓4

                    postgres
role                    5432
agent-worker              ✓4
cert-manager-worker       ✓4
console                   ✓4
notification-worker       ✓4
ocsp-responder            ✓4
server-updater            ✓4

✓ ok
"""
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_large_numbers_stay_whole(screen: Any, width: int) -> None:
    """A cell may be wider than its heading: then fewer columns fit beside each other."""
    columns = [f"role-{letter}:80" for letter in "abcdefgh"]
    count = {"ok": 54_321, "broken": 12_345}
    rows = [{"name": "agent", "cells": dict.fromkeys(columns, count)}]
    text = screen(render.matrix({"by": "role", "columns": columns, "rows": rows}, width), width)
    assert text.count("✗12345/66666") == len(columns)
    assert max(map(len, text.splitlines())) <= max(width, 62)  # 62: the legend


def test_a_map_without_flows_says_so(screen: Any) -> None:
    """Rather than nothing at all."""
    for answer in ({"by": "role", "columns": [], "rows": []}, {"by": "host", "rows": []}):
        assert screen(render.matrix(answer, 80)) == (
            "No flow fits: the topology has none, or the filters leave none.\n"
        )


def test_the_map_as_flat_rows(troubled: Any) -> None:
    """One a cell, with a column for each state."""
    answer = views.matrix(troubled.tallies(NOW), By.ROLE)
    states = {"ok": 0, "degraded": 0, "broken": 0, "exposed": 0, "unknown": 0}
    assert render.matrix_rows(answer) == [
        {"role": "browser", "service": "db:5432", **states, "exposed": 1},
        {"role": "browser", "service": "web:8080", **states, "ok": 1},
        {"role": "browser", "service": "shop:9090", **states, "broken": 1},
        {"role": "shop", "service": "db:5432", **states, "unknown": 1},
    ]


# The port table.


def test_the_port_table(screen: Any, green: Any) -> None:
    """All 21 rows in the vendor's order and words, with the flows that each stands for."""
    answer = views.table(green.topology, green.tallies(NOW))
    assert screen(render.matrix(answer, 80)) == golden(
        """
row  port  component            traffic   description               flows
  1  1443  Agent                inbound   NoVNC Proxy server        ✓4
  2  2022  Agent                inbound   SFTP Server               ✓4
  3  4433  Agent Updater        outbound  NATS traffic with server  ✓4
  4  8000  Agent                outbound  OCSP traffic with server  ✓4
  5  1323  Console              inbound   Web server                ✓4
  6  1324  Console              inbound   Auth server               ✓4
  7  4433  Agent Worker         outbound  NATS traffic with server  ✓4
  8  4433  Cert Manager Worker  outbound  NATS traffic with server  ✓4
  9  4433  Notification Worker  outbound  NATS traffic with server  ✓4
 10  4433  NATS Server          inbound   NATS Server               ✓28
 11  4433  Server Updater       outbound  NATS traffic with server  ✓4
 12  4444  NATS Server          inbound   NATS Server cluster port  ✓2
 13  5432  Agent Worker         outbound  Postgres connection       ✓4
 14  5432  Cert Manager Worker  outbound  Postgres connection       ✓4
 15  5432  Console              outbound  Postgres connection       ✓4
 16  5432  Notification Worker  outbound  Postgres connection       ✓4
 17  5432  OCSP Responder       outbound  Postgres connection       ✓4
 18  5432  Server Updater       outbound  Postgres connection       ✓4
 19  8000  OCSP Responder       inbound   OCSP Responder port       ✓16
 20  8000  Cert Manager Worker  outbound  OCSP traffic with server  ✓4
 21  8000  NATS Server          outbound  OCSP traffic with server  ✓4

21 of 21 rows have flows here.   ✓ ok
"""
    )
    assert render.matrix_rows(answer) == answer["rows"]


def test_a_row_of_the_port_table_without_flows_says_none(screen: Any, scene: Any) -> None:
    """A deployment may well lack a component."""
    stage = scene(
        'profiles = ["openuem"]\n[hosts]\na = { roles = ["agent"] }\n'
        'o = { roles = ["ocsp-responder"], addresses = ["10.0.0.1"] }'
    )
    text = screen(render.matrix(views.table(stage.topology, stage.tallies(NOW)), 80))
    lines = text.splitlines()
    assert lines[1].split() == ["1", "1443", "Agent", "inbound", "NoVNC", "Proxy", "server", "none"]
    assert lines[4].endswith("OCSP traffic with server  ?1")
    assert lines[-1] == "2 of 21 rows have flows here.   ? unknown"


# Flows.


def test_the_flows(screen: Any, troubled: Any) -> None:
    """One line each."""
    assert screen(render.flows(flows_of(troubled), 80)) == golden(
        """
state      source  destination  service    address        saw      who       ms
! exposed  pc-1    db-1         db:5432    10.0.0.2:5432  open     service  1.0
✓ ok       pc-1    web-1        web:8080   10.0.0.1:8080  open     service  1.2
✗ broken   pc-1    web-1        shop:9090  10.0.0.1:9090  refused  -          -
? unknown  web-1   db-1         db:5432    10.0.0.2:5432  -        -          -
"""
    )


def test_the_flows_on_a_narrow_terminal(screen: Any, troubled: Any) -> None:
    """Who answered and how fast goes first; hosts and states stay whole, and nothing is cut."""
    assert screen(render.flows(flows_of(troubled), 78), 78) == golden(
        """
state      source  destination  service    address        saw      who
! exposed  pc-1    db-1         db:5432    10.0.0.2:5432  open     service
✓ ok       pc-1    web-1        web:8080   10.0.0.1:8080  open     service
✗ broken   pc-1    web-1        shop:9090  10.0.0.1:9090  refused  -
? unknown  web-1   db-1         db:5432    10.0.0.2:5432  -        -
"""
    )
    assert screen(render.flows(flows_of(troubled), 60), 60) == golden(
        """
state      source  destination  service   address    saw
! exposed  pc-1    db-1         db:5432   10.0.0.2:  open
                                          5432
✓ ok       pc-1    web-1        web:8080  10.0.0.1:  open
                                          8080
✗ broken   pc-1    web-1        shop:     10.0.0.1:  refused
                                9090      9090
? unknown  web-1   db-1         db:5432   10.0.0.2:  -
                                          5432
"""
    )


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 120])
def test_hosts_and_states_are_whole_on_every_terminal(screen: Any, green: Any, width: int) -> None:
    """They are what people look for and copy, and no sign of a cut is anywhere."""
    found = flows_of(green)
    text = screen(render.flows(found, width), width)
    words = set(text.split())
    assert {"ok", *(flow["source"] for flow in found)} <= words
    assert {flow["destination"] for flow in found} <= words
    rows = green.agents(NOW)
    told = screen(render.agents(rows, width), width)
    assert {"fresh", *green.members} <= set(told.split())
    answer = views.topology(green.topology, green.members)
    shown = screen(render.topology(answer, width), width)
    assert {*green.members, *green.topology.roles} <= set(shown.split())
    matrix = screen(render.matrix(views.matrix(green.tallies(NOW), By.HOST), width), width)
    assert {record.key.source for record in green.flows} <= set(matrix.split())
    explained = screen(render.explanation(found[:3], width), width)
    for screenful in (text, told, shown, matrix, explained):
        assert "…" not in screenful


@pytest.mark.parametrize(
    ("address", "shown"),
    [("10.0.0.1", "10.0.0.1:80"), ("fd00::5", "[fd00::5]:80"), ("web.example", "web.example:80")],
)
def test_a_flow_shows_what_is_dialled(scene: Any, screen: Any, address: str, shown: str) -> None:
    """With the brackets that an IPv6 address wants; one that nobody knows is a dash."""
    text = (
        '[roles.a]\nlistens = { "a:80" = {} }\n[roles.b]\nconnects = ["a:80"]\n'
        '[hosts]\nx = { roles = ["a"], addresses = ["ADDRESS"] }\ny = { roles = ["b"] }'
    )
    [_, line] = screen(
        render.flows(flows_of(scene(text.replace("ADDRESS", address))), 80)
    ).splitlines()
    assert line.split() == ["?", "unknown", "y", "x", "a:80", shown, "-", "-", "-"]
    without = scene(text.replace(', addresses = ["ADDRESS"]', ""))
    [_, line] = screen(render.flows(flows_of(without), 80)).splitlines()
    assert line.split() == ["?", "unknown", "y", "x", "a:80", "-", "-", "-", "-"]


def test_no_flows(screen: Any) -> None:
    """The filters may leave none."""
    assert screen(render.flows([], 80)).startswith("No flow fits")


def test_flows_as_flat_rows(troubled: Any) -> None:
    """As they are, but for the reasons: their roles alone."""
    flows = flows_of(troubled)
    rows = render.flow_rows(flows)
    assert [row["reasons"] for row in rows] == [["browser"], ["browser"], ["browser"], ["shop"]]
    apart = {"reasons": None, "rows": None}
    assert [row | apart for row in rows] == [flow | apart for flow in flows]


# Agents.


def test_the_agents(screen: Any, troubled: Any) -> None:
    """One line each, and below what is wrong with whom."""
    stage = troubled
    for at, boot, where in (
        (-30, "a", "one"),
        (-20, "b", "two"),
        (-11, "a", "one"),
        (-10, "b", "two"),
    ):
        stage.hear("db-1", NOW + at, boot, hostname=where, addresses=("10.0.0.2", "fd00::2"))
    stage.hear("stranger", NOW - 60, roles=("browser",), addresses=("10.9.9.9",))
    refused = "plan refused: this agent does not speak 'quic'"
    stage.hear("pc-1", NOW - 1, addresses=("10.0.1.1",), plan_refused=refused)
    stage.pulse("pc-1", NOW - 1, made=1234)
    answer = stage.agents(NOW)
    assert screen(render.agents(answer, 80)) == golden(
        """
agent     state     heard     address            roles      checks
db-1      conflict  11 s ago  10.0.0.2, fd00::2  db              0
db-1      conflict  10 s ago  10.0.0.2, fd00::2  db              0
pc-1      fresh     1 s ago   10.0.1.1           browser      1234
stranger  silent    60 s ago  10.9.9.9                           0
web-1     fresh     0 s ago                      web, shop       0

db-1: one of two agents under this name, on one at 10.0.0.2, fd00::2 since
2025-10-09 08:52:50: give each its own --id
db-1: one of two agents under this name, on two at 10.0.0.2, fd00::2 since
2025-10-09 08:53:00: give each its own --id
pc-1: plan refused: this agent does not speak 'quic'
stranger: announces role 'browser', which the topology does not admit
stranger: is not in the topology: list it under hosts, or let its roles in with
admit
web-1: cannot listen for shop:9090 (port 9090): EACCES: Permission denied
"""
    )


def test_an_agent_that_cannot_keep_up_says_so(screen: Any, scene: Any) -> None:
    """A number where its checks run late at all, and a note where that is too much."""
    stage = scene()
    stage.hear("db-1", NOW)
    stage.pulse("db-1", NOW, late_ms=40)
    stage.hear("pc-1", NOW)
    stage.pulse("pc-1", NOW, late_ms=1234, lost=5)
    stage.hear("web-1", NOW)
    answer = stage.agents(NOW)
    assert screen(render.agents(answer, 80)) == golden(
        """
agent  state  heard    address  roles      checks   late
db-1   fresh  0 s ago           db              0  40 ms
pc-1   fresh  0 s ago           browser         0  1.2 s
web-1  fresh  0 s ago           web, shop       0

pc-1: checks up to 1.2 s late
pc-1: 5 observations dropped, which the map lacks
"""
    )


def test_agents_of_whom_nobody_has_heard(screen: Any, scene: Any) -> None:
    """They should report, and never did."""
    stage = scene()
    answer = stage.agents(NOW)
    assert screen(render.agents(answer, 80)) == golden(
        """
agent  state   heard  address  roles      checks
db-1   absent  never           db
pc-1   absent  never           browser
web-1  absent  never           web, shop
"""
    )
    assert screen(render.agents([], 80)) == (
        "No agent has reported, and the topology expects none.\n"
    )


# Topology.


def test_a_topology(screen: Any, troubled: Any) -> None:
    """Roles with what they listen on and connect to, hosts, and what is denied."""
    answer = views.topology(troubled.topology, troubled.members)
    assert screen(render.topology(answer, 80)) == golden(
        """
role     listens on        connects to
web      web:8080 http     -
shop     shop:9090 http    db:5432
db       db:5432 postgres  -
browser  -                 web:8080
                           shop:9090

host   roles      addresses
web-1  web, shop  10.0.0.1
db-1   db         10.0.0.2
pc-1   browser    10.0.1.1

must not reach
browser         db:5432

#3: row 3 of the profile's port table; +: not in the table, but seen in the
source code
"""
    )


def test_a_topology_that_leaves_much_open(screen: Any, scene: Any) -> None:
    """What the agents will say is said to come from them."""
    stage = scene("[roles.web]\n[hosts.x]\n")
    assert screen(render.topology(views.topology(stage.topology, stage.members), 80)) == golden(
        """
role  listens on  connects to
web   -           -

host  roles           addresses
x     from its agent  from its agent

#3: row 3 of the profile's port table; +: not in the table, but seen in the
source code
"""
    )


def test_a_topology_as_flat_rows(green: Any) -> None:
    """One a listener and one a connection, with the row that each comes from."""
    rows = render.topology_rows(views.topology(green.topology, green.members))
    assert {tuple(row) for row in rows} == {render.TOPOLOGY_COLUMNS}
    assert {row["protocol"] is None for row in rows if row["does"] == "connects"} == {True}
    assert {row["transport"] for row in rows if row["does"] == "listens"} == {"tcp"}
    assert sorted(row["row"]["row"] for row in rows if row["row"]) == list(range(1, 22))
    assert {row["does"] for row in rows} == {"listens", "connects"}


# What programs get.


def test_csv_has_a_column_for_all_that_a_flow_says(troubled: Any) -> None:
    """The header is there without any flow, so it must be all that there is."""
    flow = flows_of(troubled)[0]
    columns = [name for name in flow if name not in ("advice", "settled_by", "checks")]
    columns += [f"checks_{name}" for name in flow["checks"]]
    columns.append("rows")  # which the topology adds
    assert list(render.FLOW_COLUMNS) == columns


def test_csv_has_a_column_for_all_that_an_agent_says(troubled: Any) -> None:
    """Of one that has reported; one that has not says less."""
    stage = troubled
    rows = stage.agents(NOW)
    assert set(map(tuple, rows[1:])) == {render.AGENT_COLUMNS}
    assert set(rows[0]) < set(render.AGENT_COLUMNS)


@pytest.mark.parametrize("by", By)
def test_csv_has_a_column_for_all_of_the_map(green: Any, by: By) -> None:
    """Whatever its rows are."""
    answer = (
        views.table(green.topology, green.tallies(NOW))
        if by is By.ROW
        else views.matrix(green.tallies(NOW), by)
    )
    assert {tuple(row) for row in render.matrix_rows(answer)} == {render.MATRIX_COLUMNS[by]}
