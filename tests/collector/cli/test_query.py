"""The query commands, answered by a real collector's queries."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import pytest

from reachmap_collector import render
from reachmap_collector.cli import options
from reachmap_collector.collector import Collector
from reachmap_collector.topology.load import parse_topology
from reachmap_shared.vocabulary import Outcome

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
    ("source", "destination", "said"),
    [
        ("10.0.1.1", "10.0.0.1:9090", ["10.0.1.1 is pc-1", "10.0.0.1 is web-1"]),
        ("pc-1", "10.0.0.1:9090", ["10.0.0.1 is web-1"]),
        ("10.0.1.1", "web-1:9090", ["10.0.1.1 is pc-1"]),
    ],
)
def test_explain_takes_addresses_and_says_whose_they_are(
    reachmap: Any, office: Collector, source: str, destination: str, said: list[str]
) -> None:
    """Beside the answer, which is the same."""
    expected = reachmap("explain", "pc-1", "web-1:9090", "--format", "json")
    result = reachmap("explain", source, destination, "--format", "json")
    assert result.stdout == expected.stdout
    assert result.stderr.splitlines() == said


@pytest.mark.parametrize(
    ("destination", "host", "port"),
    [
        ("web-1", "web-1", None),
        ("web-1:80", "web-1", 80),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("fd00::5", "fd00::5", None),
        ("::1", "::1", None),
        ("[fd00::5]", "fd00::5", None),
        ("[fd00::5]:80", "fd00::5", 80),
    ],
)
def test_what_a_destination_is(destination: str, host: str, port: int | None) -> None:
    """An IPv6 address has colons of its own."""
    asked = options.ends("[::1]", destination)
    assert asked == {"source": "::1", "destination": host} | ({"port": port} if port else {})


@pytest.mark.parametrize("destination", ["web-1:", "web-1:x", "[fd00::5]:x", "web-1:123456"])
def test_what_is_no_port_is_wrong_usage(destination: str) -> None:
    """Said where it was typed."""
    with pytest.raises(click.BadParameter, match="is not a port"):
        options.ends("pc-1", destination)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["explain", "pc-1", "10.0.0.9:80"],
            "no host has the address 10.0.0.9; the nearest are 10.0.0.2 (db-1), "
            "10.0.0.1 (web-1), 10.0.1.1 (pc-1)",
        ),
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


# Rows of the port table, and rules to ask for.

TABLE = parse_topology('profiles = ["openuem"]', Path("topology.toml")).rows


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row.number))
def test_each_row_of_the_port_table_can_be_asked_about(
    reachmap: Any, asked: Any, openuem: Any, row: Any
) -> None:
    """All 21, by number and by words; the answer names the row, and tells of its flows alone."""
    asked(openuem(2))
    spoken = f"{row.row.port} {row.row.component} {row.row.traffic}"
    heading = f"row {row.number} of openuem: {row}"
    for text in (str(row.number), spoken, str(row)):
        for command in (["flows"], ["explain"]):
            result = reachmap(*command, "--row", text)
            assert result.exit_code == 0
            assert result.stdout.splitlines()[0] == heading
        found = json.loads(reachmap("flows", "--row", text, "--format", "json").stdout)
        assert found
        for flow in found:
            assert row.number in [one["row"] for one in flow["rows"]]
            assert flow["port"] == row.row.port
        [only] = json.loads(
            reachmap("map", "--by", "row", "--row", text, "--format", "json").stdout
        )["rows"]
        assert (only["row"], only["flows"]) == (row.number, len(found))
    every = json.loads(reachmap("flows", "--format", "json").stdout)
    assert found == [flow for flow in every if row.number in [one["row"] for one in flow["rows"]]]


def test_explaining_a_row_names_it_for_who_listens_too(
    reachmap: Any, asked: Any, openuem: Any
) -> None:
    """An inbound row is in no one's reasons, so it is told beside them."""
    asked(openuem(1))
    text = reachmap("explain", "--row", "5432 console").stdout
    assert text.count("row 15 of openuem") == 2  # once above, once as a reason
    text = reachmap("explain", "admin-browser-1", "console-1:1323").stdout
    assert "  listed in  row 5 of openuem: 1323 | Console | Inbound | Web server" in text


def test_a_row_without_flows_is_named_all_the_same(reachmap: Any, asked: Any) -> None:
    """No host has these roles: then nothing fits, and it is said of what."""
    asked('profiles = ["openuem"]')
    for command in ("flows", "explain"):
        first, blank, nothing = reachmap(command, "--row", "7").stdout.splitlines()
        assert first.startswith("row 7 of openuem: 4433 | Agent Worker")
        assert (blank, nothing[:12]) == ("", "No flow fits")


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("22", "there are 21, see `reachmap map --by row`"),
        ("agent wroker 4433", "did you mean 7 (4433 | Agent Worker | Outbound"),
    ],
)
def test_a_row_that_is_none_is_wrong_usage(
    reachmap: Any, asked: Any, openuem: Any, row: str, hint: str
) -> None:
    """With those that are near."""
    asked(openuem(1))
    result = reachmap("flows", "--row", row)
    assert (result.exit_code, result.stdout) == (2, "")
    assert hint in result.stderr
    asked("")
    assert "no profile of this topology has a port table" in reachmap("map", "--row", row).stderr


@pytest.fixture
def blocked(asked: Any, openuem: Any, told: Any) -> Collector:
    """A deployment in which nothing gets anywhere."""
    collector: Collector = asked(openuem(1))
    for record in collector.flows:
        record.fold(told(collector.now(), Outcome.TIMEOUT, local="10.0.9.9:40000"))
    return collector


def test_explain_ends_with_the_rule_to_ask_for(
    reachmap: Any, blocked: Collector, hello: Any
) -> None:
    """In one line; all forms on request, and in JSON in any case."""
    blocked.roster.hear(hello("agent-1"), blocked.now())
    short = reachmap("explain", "agent-1", "ocsp-responder-1").stdout
    last = short.splitlines()[-1]
    assert last.startswith(
        "  ask for    allow tcp from 10.0.9.9 (agent-1) to 10.0.2.1 (ocsp-responder-1)"
    )
    assert last.endswith("port 8000   (--rules: as a command)")
    text = reachmap("explain", "agent-1", "ocsp-responder-1", "--rules").stdout
    answer = reachmap("explain", "agent-1", "ocsp-responder-1", "--format", "json").stdout
    [flow] = json.loads(answer)
    assert list(flow["requests"]) == ["plain", "nftables", "firewalld", "ufw", "windows", "csv"]
    for name, rule in flow["requests"].items():
        assert rule in text
        assert name == "plain" or f"\n  {name}\n  {rule}\n" in text
    assert "agent to ocsp-responder:8000, openuem row 4" in flow["requests"]["nftables"]


def test_where_no_rule_helps_none_is_asked_for(reachmap: Any, office: Collector) -> None:
    """A service that is not there is to be started."""
    result = reachmap("explain", "pc-1", "web-1:9090", "--rules")
    assert "ask for" not in result.stdout
    [flow] = json.loads(reachmap("explain", "pc-1", "web-1:9090", "--format", "json").stdout)
    assert flow["requests"] is None


@pytest.mark.parametrize("command", ["map", "flows", "history", "watch"])
def test_a_filter_has_one_value(reachmap: Any, command: str) -> None:
    """To go by the last of two would leave out the other's flows without a word."""
    result = reachmap(command, "--role", "web", "--role", "shop")
    assert result.exit_code == 2
    assert "--role" in result.stderr
    assert "given 2 times: it takes one value" in result.stderr
    assert result.stdout == ""
