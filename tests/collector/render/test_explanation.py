"""What people read of a flow: whole screens, without colour."""

import time
from typing import Any

import pytest
from screens import NOW, flows_of, golden

from reachmap_collector import render, views
from reachmap_collector.advice import what_to_do, what_would_settle
from reachmap_collector.evidence import looked_into
from reachmap_shared.diagnosis import Silenced
from reachmap_shared.vocabulary import Outcome

pytestmark = pytest.mark.usefixtures("utc")


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
