"""`reachmap status` as a plugin, held to the guidelines that monitoring systems go by."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reachmap_collector import render, views
from reachmap_collector.cli import status
from reachmap_collector.collector import Collector
from reachmap_collector.roster import AgentState
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.vocabulary import State

WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
"""By exit code."""

PERFORMANCE = re.compile(
    r"""(?:'(?P<quoted>[^'=]+)'|(?P<plain>[^'=\s]+))=   # a label without = and '
        (?P<value>-?[0-9]+(?:\.[0-9]+)?)                # a number with a point, if any
        (?P<unit>|s|us|ms|%|B|KB|MB|GB|TB|c)            # one of the units, or none
        (?:;[^;\s]*){0,4}                               # warning, critical, least, most
    """,
    re.VERBOSE,
)


def hold(line: str, code: int) -> dict[str, float]:
    """Fail unless it is what a plugin prints with that code; the performance data it has."""
    assert line.endswith("\n") and line.count("\n") == 1
    assert line[:-1].isprintable() and line.isascii()
    assert len(line) < 4096
    assert 0 <= code <= 3
    assert re.match(rf"REACHMAP {WORDS[code]} - \S", line)
    text, bar, data = line.rstrip("\n").partition(" | ")
    assert "|" not in text + data
    if not bar:
        return {}
    found = {}
    for word in data.split(" "):
        match = PERFORMANCE.fullmatch(word)
        assert match, word
        found[match["quoted"] or match["plain"]] = float(match["value"])
    assert len(found) == len(data.split(" "))
    assert len({label[:19] for label in found}) == len(found)  # more than that, some do not store
    return found


def test_every_label_is_explained(reachmap: Any, office: Collector) -> None:
    """Whoever draws it finds what it counts."""
    explained = (Path(__file__).parents[3] / "docs" / "queries.md").read_text()
    labels = hold(reachmap("status").stdout, 2)
    assert len(labels) == 13
    for label in labels:
        assert re.search(rf"^\|[^|]*`{label}`", explained, re.MULTILINE), label


def test_the_status_is_one_line_and_its_code(reachmap: Any, office: Collector) -> None:
    """What a monitoring system runs."""
    result = reachmap("status")
    assert (result.exit_code, result.stderr) == (2, "")
    assert result.stdout == (
        "REACHMAP CRITICAL - flows: 1 ok, 1 broken, 2 unknown; 3 agents, 2 missing "
        "| ok=1 degraded=0 broken=1 exposed=0 unknown=2 agents_missing=2 "
        "lag=0 redelivered=0 reports_missing=0 observations_waiting=0 observations_vanished=0 "
        "observations_dropped=0c messages_refused=0c\n"
    )
    assert hold(result.stdout, 2)["unknown"] == 2


counts = st.integers(0, 10**7)
troubles = st.none() | st.text() | st.text(min_size=5000, max_size=5000)


@given(
    st.fixed_dictionaries(dict.fromkeys(State, counts)),
    st.fixed_dictionaries(dict.fromkeys(AgentState, counts)),
    counts,
    troubles,
    troubles,
)
def test_every_status_is_what_the_guidelines_ask_for(
    flows: dict[State, int],
    by_agent: dict[AgentState, int],
    missing: int,
    delivery: str | None,
    store: str | None,
) -> None:
    """Whatever is counted: the same labels in the same order, and the code of the worst.

    Others' words on what troubles them break nothing of it.
    """
    answer = {
        "flows": {state: flows[state] for state in State},
        "agents": by_agent,
        "agents_missing": missing,
        "state": views.worst(flows),
        "refused_messages": {"malformed report": missing},
        "delivery": {"trouble": delivery, "lag": missing, "redelivered": 0, "reports_missing": 1},
        "store": {"trouble": store},
        "observations": {"refused": 0, "waiting": missing, "dropped": 2, "vanished": 3},
    }
    out = Console(file=io.StringIO(), width=40)
    render.print_trimmed(out, render.status(answer, 40))
    code = render.status_exit_code(answer)
    assert isinstance(out.file, io.StringIO)
    data = hold(out.file.getvalue(), code)
    late = {"lag": missing, "redelivered": 0, "reports_missing": 1}
    late |= {"observations_waiting": missing, "observations_vanished": 3}
    lost = {"observations_dropped": 2, "messages_refused": missing}
    by_state = {state: flows[state] for state in State}
    expected_data = {**by_state, "agents_missing": missing, **late, **lost}
    assert list(data) == list(expected_data)
    assert data == expected_data
    critical = flows[State.BROKEN] or flows[State.EXPOSED]
    warning = flows[State.DEGRADED] or flows[State.UNKNOWN]
    expected = 2 if critical else 1 if warning else 0 if flows[State.OK] else 3
    assert code == (max(1, expected) if delivery or store else expected)


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
    hold(result.stdout, result.exit_code)
    assert (result.exit_code, result.stdout.split(" - ")[0]) == (3, "REACHMAP UNKNOWN")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BusUnavailable("no collector is on this bus"), "no collector is on this bus"),
        (
            QueryRefused("500", "the query failed in\nthe collector"),
            "the query failed in the collector",
        ),
        (BusUnavailable("no server at nats://a|b:1"), "no server at nats://a/b:1"),
        (KeyError("flows"), "KeyError: 'flows'"),
        (RuntimeError("ok | ok=1"), "RuntimeError: ok / ok=1"),
    ],
)
def test_a_status_that_cannot_be_had_is_unknown(
    reachmap: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    """In one line; never as critical, never as a warning, never as ok, and without made-up data."""

    def ask(*_: Any) -> None:
        raise error

    monkeypatch.setattr(status, "ask", ask)
    result = reachmap("status")
    assert (result.exit_code, result.stdout) == (3, f"REACHMAP UNKNOWN - {line}\n")
    assert hold(result.stdout, 3) == {}
    for style in ("json", "ndjson", "csv"):
        result = reachmap("status", "--format", style)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == f"REACHMAP UNKNOWN - {line}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--colour", "red"],
        ["extra"],
        ["--format", "xml"],
        ["--nats"],
        ["--nats", "nats://127.0.0.1:1", "--context", "home"],
        ["--context", "no-such-context"],
    ],
)
def test_wrong_usage_is_no_outage(reachmap: Any, arguments: list[str]) -> None:
    """Exit code 2 would wake somebody up: a plugin that is called wrongly cannot tell."""
    result = reachmap("status", *arguments)
    assert (result.exit_code, result.stderr) == (3, "")
    assert hold(result.stdout, 3) == {}
