"""The query commands, answered by a real collector's queries."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from reachmap_collector import render
from reachmap_collector.cli import query
from reachmap_collector.collector import Collector
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.vocabulary import Outcome


@pytest.fixture
def office(asked: Callable[[str], Collector], office_text: str, hello: Any, told: Any) -> Collector:
    """A collector of which pc-1 reports that all it may reach is open, but for the shop."""
    collector = asked(office_text)
    now = collector.now()
    collector.roster.hear(hello("pc-1", addresses=("10.0.1.1",)), now)
    for record in collector.flows:
        if record.key.source == "pc-1" and record.key.destination == "web-1":
            outcome = Outcome.OPEN if record.key.port == 8080 else Outcome.REFUSED
            record.fold(told(now, outcome))
    return collector


SPREAD = ("agents", "delivery", "store", "observations")
"""What of a status has columns of its own."""

COMMANDS = [
    ["map"],
    ["map", "--by", "host"],
    ["map", "--by", "row"],
    ["flows"],
    ["explain", "pc-1", "web-1"],
    ["agents"],
    ["status"],
    ["topology", "show"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_is_all_that_a_program_gets(
    reachmap: Any, office: Collector, command: list[str]
) -> None:
    """One document on standard output, and nothing beside it."""
    result = reachmap(*command, "--format", "json")
    assert json.loads(result.stdout)
    assert result.stderr == ""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_lines_are_all_that_a_program_gets(
    reachmap: Any, office: Collector, command: list[str]
) -> None:
    """NDJSON and CSV have the same rows, with the same columns."""
    lines = reachmap(*command, "--format", "ndjson").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    table = csv.DictReader(io.StringIO(reachmap(*command, "--format", "csv").stdout))
    found = list(table)
    assert len(found) == len(rows)
    columns = dict.fromkeys(
        name
        for row in rows
        for key, value in row.items()
        for name in (
            [f"{key}_{inner}" for inner in value]
            if key == "checks" or (key in SPREAD and isinstance(value, dict))
            else [key]
        )
    )
    assert not rows or set(table.fieldnames or []) == set(columns)
    assert table.fieldnames


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_table_is_for_people(reachmap: Any, office: Collector, command: list[str]) -> None:
    """Text, with no colour in a pipe and no blanks at the ends of lines."""
    text = reachmap(*command).stdout
    assert text.endswith("\n")
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_map(reachmap: Any, office: Collector) -> None:
    """By role unless said otherwise, and filtered."""
    assert reachmap("map").stdout.splitlines() == [
        "          db shop  web",
        "role    5432 9090 8080",
        "browser   ?1   ✗1   ✓1",
        "shop      ?1    ·    ·",
        "",
        "✓ ok   ? unknown   ✗ broken   1/3: so many of so many flows",
    ]
    assert reachmap("map", "--by", "host", "--state", "broken").stdout.splitlines() == [
        "     shop",
        "host 9090",
        "pc-1   ✗1",
        "",
        "✗ broken",
    ]


def test_the_flows_as_json_are_an_array_of_flows(reachmap: Any, office: Collector) -> None:
    """With the contract's fields, filtered by any of five."""
    found = json.loads(reachmap("flows", "--format", "json").stdout)
    assert len(found) == 4
    arguments = ["--source", "pc-1", "--destination", "web-1", "--role", "shop"]
    arguments += ["--service", "shop:9090", "--state", "broken"]
    [flow] = json.loads(reachmap("flows", *arguments, "--format", "json").stdout)
    assert flow in found
    assert (flow["outcome"], flow["cause"], flow["confidence"]) == ("refused", "service", "likely")


def test_no_flow_is_an_answer_too(reachmap: Any, office: Collector) -> None:
    """Zero, in every format."""
    shown = {
        style: reachmap("flows", "--state", "degraded", "--format", style)
        for style in ("table", "json", "ndjson", "csv")
    }
    assert {result.exit_code for result in shown.values()} == {0}
    assert shown["table"].stdout.startswith("No flow fits")
    assert json.loads(shown["json"].stdout) == []
    assert shown["ndjson"].stdout == ""
    assert shown["csv"].stdout == ",".join(render.FLOW_COLUMNS) + "\n"


def test_explain_tells_of_one_port_or_of_all(reachmap: Any, office: Collector) -> None:
    """Evidence, cause, and what to do."""
    both = reachmap("explain", "pc-1", "web-1").stdout
    one = reachmap("explain", "pc-1", "web-1:9090").stdout
    assert both.count("evidence") == 2
    assert both.endswith(one)
    assert "cause      service (likely)" in one
    assert "to do      see whether shop runs on web-1 and listens on port 9090" in one


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["explain", "pc-2", "web-1"], "unknown host 'pc-2'; did you mean pc-1?"),
        (
            ["explain", "pc-1", "web-1:80"],
            "the topology has no flow from pc-1 to web-1 on port 80; it does on 8080, 9090",
        ),
        (["flows", "--state", "borken"], "unknown state 'borken'; did you mean broken, ok?"),
        (["map", "--service", "web:80"], "unknown service 'web:80'; did you mean web:8080?"),
    ],
)
def test_what_the_collector_refuses_is_wrong_usage(
    reachmap: Any, office: Collector, arguments: list[str], line: str
) -> None:
    """With the names that are near, and nothing on standard output."""
    result = reachmap(*arguments, "--format", "json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"reachmap: {line}\n"


def test_the_agents(reachmap: Any, office: Collector) -> None:
    """Those who report and those who should."""
    lines = reachmap("agents").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["db-1", "absent"],
        ["pc-1", "fresh"],
        ["web-1", "absent"],
    ]


def test_a_program_gets_the_agents_as_an_array(reachmap: Any, office: Collector) -> None:
    """Each with all that it says of itself."""
    found = json.loads(reachmap("agents", "--format", "json").stdout)
    assert [row["agent"] for row in found] == ["db-1", "pc-1", "web-1"]
    assert found[1]["addresses"] == ["10.0.1.1"]


def test_csv_counts_checks_in_columns(reachmap: Any, office: Collector) -> None:
    """As numbers that a spreadsheet can add up."""
    text = reachmap("flows", "--source", "pc-1", "--format", "csv").stdout
    row = next(csv.DictReader(io.StringIO(text)))
    counts = [row[name] for name in ("checks_made", "checks_open", "checks_local_error")]
    assert counts == ["0", "0", "0"]  # the forbidden one comes first


def test_a_map_without_flows_has_its_header(reachmap: Any, asked: Any) -> None:
    """In CSV."""
    asked("")
    for by, columns in render.MATRIX_COLUMNS.items():
        result = reachmap("map", "--by", str(by), "--format", "csv")
        assert result.stdout == ",".join(columns) + "\n"
    assert reachmap("agents", "--format", "csv").stdout == ",".join(render.AGENT_COLUMNS) + "\n"


# Status.


def test_the_status_is_one_line_and_its_code(reachmap: Any, office: Collector) -> None:
    """What a monitoring system runs."""
    result = reachmap("status")
    assert (result.exit_code, result.stderr) == (2, "")
    assert result.stdout == (
        "REACHMAP CRITICAL - flows: 1 ok, 1 broken, 2 unknown; 3 agents, 2 missing "
        "| ok=1 degraded=0 broken=1 exposed=0 unknown=2 agents_missing=2\n"
    )


def test_the_status_of_a_line_has_all_of_it(reachmap: Any, office: Collector) -> None:
    """Agents and refused messages too, and standard error has nothing to add."""
    result = reachmap("status", "--format", "ndjson")
    row = json.loads(result.stdout)
    assert (row["broken"], row["agents"]["absent"], row["agents_missing"]) == (1, 2, 2)
    assert (row["state"], row["refused_messages"]) == ("broken", {})
    table = csv.DictReader(io.StringIO(reachmap("status", "--format", "csv").stdout))
    [columns] = table
    assert (columns["broken"], columns["agents_absent"]) == ("1", "2")
    assert result.stderr == ""


@pytest.mark.parametrize("style", ["json", "ndjson", "csv"])
def test_the_status_has_its_code_in_every_format(
    reachmap: Any, office: Collector, style: str
) -> None:
    """Scripts may want the numbers and the code."""
    assert reachmap("status", "--format", style).exit_code == 2


def test_the_status_of_a_deployment_without_flows_cannot_be_told(reachmap: Any, asked: Any) -> None:
    """Nothing to check is not the same as all well."""
    asked("")
    result = reachmap("status")
    assert (result.exit_code, result.stdout.split(" - ")[0]) == (3, "REACHMAP UNKNOWN")


@pytest.mark.parametrize(
    "error",
    [
        BusUnavailable("no collector is on this bus"),
        QueryRefused("500", "the query status failed in the collector"),
    ],
)
def test_a_status_that_cannot_be_had_is_unknown(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In words that a monitoring system understands; never as critical, never as ok."""

    def ask(*_: Any) -> None:
        raise error

    monkeypatch.setattr(query, "ask", ask)
    result = reachmap("status")
    assert (result.exit_code, result.stdout) == (3, f"REACHMAP UNKNOWN - {error}\n")
    for style in ("json", "ndjson", "csv"):
        result = reachmap("status", "--format", style)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == f"REACHMAP UNKNOWN - {error}\n"
