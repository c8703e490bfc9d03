"""What people see: whole screens of 80 columns, without colour."""

import time
from typing import Any

import pytest

from reachmap_collector import render, views
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.evidence import looked_into
from reachmap_collector.render import tables
from reachmap_collector.views import By
from reachmap_shared.diagnosis import Silenced
from reachmap_shared.vocabulary import ListenerState, Outcome

NOW = 1_760_000_000.0
"""2025-10-09 08:53:20 UTC."""

pytestmark = pytest.mark.usefixtures("utc")


def golden(text: str) -> str:
    """The text of a screen, written with its first line below the quotes."""
    return text.removeprefix("\n")


@pytest.fixture
def green(scene: Any, openuem: Any, told: Any) -> Any:
    """OpenUEM with two hosts of each role, and every flow open."""
    stage = scene(openuem())
    for host in stage.members:
        stage.hear(host, NOW)
    for record in stage.flows:
        record.fold(told(NOW))
    return stage


@pytest.fixture
def troubled(scene: Any, listener: Any) -> Any:
    """The office with one flow of each kind."""
    stage = scene()
    stage.hear("pc-1", NOW)
    failed = listener("shop:9090", ListenerState.FAILED, "EACCES: Permission denied")
    stage.hear("web-1", NOW, listeners=(failed,))
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW - 5, service="web:8080", connect_us=1234)
    stage.see(
        "pc-1",
        "web-1",
        Outcome.REFUSED,
        NOW - 5,
        service="shop:9090",
        evidence=("ECONNREFUSED: Connection refused",),
    )
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW - 5, evidence=("answered with [S]",))
    return stage


def flows_of(stage: Any) -> list[Any]:
    return [
        views.flow(judgement)
        | {"advice": what_to_do(judgement), "settled_by": what_would_settle(judgement)}
        for judgement in stage.judgements(NOW)
    ]


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


def test_all_that_is_known_of_some_flows(screen: Any, troubled: Any) -> None:
    """What was dialled and seen, where it goes wrong, why one thinks so, and what to do."""
    assert screen(render.explanation(flows_of(troubled), 80)) == golden(
        """
pc-1 -> db-1  db:5432  ! exposed since 2025-10-09 08:53:15
  dialled       10.0.0.2 port 5432/tcp, speaking postgres; expected blocked
  saw           open, answered by the service, connects in 1.0 ms, at 2025-10-09
                08:53:15
  evidence      pc-1: answered with [S]
                it connects, and the topology says that it must not
  forbidden by  browser -> db:5432 (deny): only the shop may
  to do         close port 5432 of db-1 to pc-1

pc-1 -> web-1  web:8080  ✓ ok since 2025-10-09 08:53:15
  dialled    10.0.0.1 port 8080/tcp, speaking http; expected reachable
  saw        open, answered by the service, connects in 1.2 ms, at 2025-10-09
             08:53:15
  evidence   pc-1: the check's own words on open
  needed by  browser -> web:8080 (local)

pc-1 -> web-1  shop:9090  ✗ broken since 2025-10-09 08:53:15
  dialled    10.0.0.1 port 9090/tcp, speaking http; expected reachable
  saw        refused, at 2025-10-09 08:53:15
  cause      service (likely)
  evidence   pc-1: ECONNREFUSED: Connection refused
             nothing listens on port 9090 of web-1, and it could not do so
             itself, says the agent there
  needed by  browser -> shop:9090 (local)
  to do      start shop on web-1: nothing listens on its port 9090

web-1 -> db-1  db:5432  ? unknown since 1970-01-01 00:00:00
  dialled    10.0.0.2 port 5432/tcp, speaking postgres; expected reachable
  cause      unknown; what would settle it: the next check by web-1
  evidence   not checked yet by web-1
  needed by  shop -> db:5432 (local)
  to do      wait for the next check; should it not come, see with `reachmap
             agents` what keeps web-1 from it
"""
    )


def test_a_flow_without_an_address_is_explained(screen: Any, scene: Any) -> None:
    """With the row of the table that it is for."""
    stage = scene(
        'profiles = ["openuem"]\n[hosts]\na = { roles = ["agent"] }\n'
        'o = { roles = ["ocsp-responder"] }'
    )
    assert screen(render.explanation(flows_of(stage), 80)) == golden(
        """
a -> o  ocsp-responder:8000  ? unknown since 1970-01-01 00:00:00
  dialled    no address yet port 8000/tcp, speaking ocsp; expected reachable
  cause      unknown; what would settle it: an address of o to dial
  evidence   o has no address: the topology gives none, and no agent there has
  needed by  agent -> ocsp-responder:8000 (documented, row 4 of openuem: 8000 |
             Agent | Outbound | OCSP traffic with server)
  to do      start the agent on o, or give it addresses in the topology
"""
    )


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"made": 20, "local_errors": 1}, "19 of 20 recent checks open; 1 could not be made"),
        ({"made": 2}, "2 of 2 recent checks open"),
        (
            {"made": 4, "failed": 1, "local_errors": 1},
            "2 of 4 recent checks open; 1 could not be made",
        ),
        ({"made": 1}, None),
    ],
)
def test_recent_checks_are_counted(
    screen: Any, scene: Any, counts: dict[str, int], line: str | None
) -> None:
    """All that were made or should have been; one alone is told already."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW)
    stage.count("pc-1", "db-1", NOW, **counts)
    text = screen(render.explanation(flows_of(stage)[:1], 80))
    assert ("recent checks" in text) == (line is not None)
    if line is not None:
        assert line in [shown.strip() for shown in text.splitlines()]


@pytest.mark.parametrize(
    ("left_s", "line"),
    [
        (30.5 * 86_400, "certificate ends {date}, in 30 days"),
        (1.5 * 86_400, "certificate ends {date}, in 1 day"),
        (3_600, "certificate ends {date}, in less than a day"),
        (-3_600, "certificate ended less than a day ago, on {date}"),
        (-3.5 * 86_400, "certificate ended 3 days ago, on {date}"),
    ],
)
def test_a_certificate_is_told_of_by_its_end(
    screen: Any, scene: Any, left_s: float, line: str
) -> None:
    """The day, and how soon that is or how long it was ago."""
    stage = scene()
    stage.hear("pc-1", NOW)
    until = int(time.time() + left_s)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW, certificate_until=until, seen_as="192.0.2.7:4000")
    lines = screen(render.explanation(flows_of(stage)[:1], 80)).splitlines()
    date = time.strftime("%Y-%m-%d", time.gmtime(until))
    assert line.format(date=date) in [shown.strip() for shown in lines]
    assert "the listener saw it come from 192.0.2.7:4000" in [shown.strip() for shown in lines]


def test_an_unknown_cause_is_said_once_with_what_would_settle_it(screen: Any, scene: Any) -> None:
    """Rather than that nobody knows how sure nobody is."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW, service="web:8080")
    judgement = stage.judge("pc-1", "web-1", NOW, "web:8080")
    flow = views.flow(judgement) | {"advice": None, "settled_by": what_would_settle(judgement)}
    text = screen(render.explanation([flow], 200), 200)
    assert "unknown (unknown)" not in text
    assert (
        "  cause      unknown; what would settle it: an agent on web-1 that says whether anything "
        "listens on port 8080 there\n"
    ) in text


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


def test_a_moment_of_today_has_no_date(screen: Any, scene: Any) -> None:
    """A person reads the time of day, in their own time zone."""
    stage = scene()
    now = time.time()
    stage.hear("pc-1", now)
    stage.see("pc-1", "web-1", Outcome.OPEN, now, service="web:8080")
    flow = views.flow(stage.judge("pc-1", "web-1", now, "web:8080")) | {
        "advice": None,
        "settled_by": None,
    }
    title = screen(render.explanation([flow], 80)).splitlines()[0]
    form = "%H:%M:%S" if time.gmtime(now)[:3] == time.gmtime()[:3] else "%Y-%m-%d %H:%M:%S"
    assert title == time.strftime(f"pc-1 -> web-1  web:8080  ✓ ok since {form}", time.gmtime(now))


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "-"),
        (0.031, "0.03"),
        (0.949, "0.95"),
        (0.951, "1.0"),
        (1.24, "1.2"),
        (250.0, "250.0"),
    ],
)
def test_a_short_latency_is_not_nothing(milliseconds: float | None, shown: str) -> None:
    """Within one machine it takes thirty microseconds, and not 0.0 ms."""
    assert tables._latency(milliseconds) == shown


def test_what_was_looked_into_is_told_as_a_story(screen: Any, scene: Any) -> None:
    """Who looked and when, cause and device, the way and its end, what goes beside it, whom to ask."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW - 5, service="web:8080")
    stage.diagnose(NOW - 2, others=3)
    judged = stage.judge("pc-1", "web-1", NOW, "web:8080")
    flow = views.flow(judged) | {"advice": what_to_do(judged), "settled_by": None}
    text = screen(render.explanation([flow | {"diagnosis": looked_into(judged)}], 100), 100)
    lines = [line.strip() for line in text.splitlines()]
    [cause] = [place for place, line in enumerate(lines) if line.startswith("cause")]
    assert lines[cause] == "cause      path at 10.0.1.254 (likely)"
    assert lines[cause + 1].startswith("looked into at ")
    told = " ".join(text.split())
    assert "by the agent on pc-1 alone: the one on web-1 did not answer" in told
    way = next(place for place, line in enumerate(lines) if line.startswith("way "))
    assert lines[way : way + 6] == [
        "way        pc-1  10.0.1.1",
        "|  1  10.0.1.254",
        "x  2  no answer",
        "web-1  10.0.0.1   (port 9090 works, 3 hops away)",
        "meanwhile  port 9090 works",
        "3 more flows from pc-1 fail in the same way",
    ]
    assert "ask whoever runs 10.0.1.254 to allow TCP from pc-1 to 10.0.0.1 port 8080" in told
    assert "looked into" not in screen(render.explanation([flow], 100), 100)


@pytest.mark.parametrize("why", [None, *Silenced])
def test_why_there_was_no_witness_is_told(screen: Any, scene: Any, why: Silenced | None) -> None:
    """Each reason in words."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW - 5, service="web:8080")
    stage.diagnose(NOW - 2, silenced=why)
    judged = stage.judge("pc-1", "web-1", NOW, "web:8080")
    flow = views.flow(judged) | {"advice": None, "settled_by": None}
    text = screen(render.explanation([flow | {"diagnosis": looked_into(judged)}], 100), 100)
    said = "by the agents on pc-1 and web-1 together" if why is None else "pc-1 alone: "
    assert said in text
