"""`reachmap history`, `diff` and `trend`, answered by a real collector's queries from a real store."""

import asyncio
import contextlib
import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from reachmap_collector import documents
from reachmap_collector.cli import past
from reachmap_collector.planner import FlowKey
from reachmap_collector.queries import Queries
from reachmap_collector.store.api import Batch, PackedRollUp, PlanSlots, Transition
from reachmap_shared import codec
from reachmap_shared.messages import RollUp
from reachmap_shared.vocabulary import Outcome, Transport

pytestmark = pytest.mark.usefixtures("utc")


@pytest.fixture
def office(
    collector_of: Any,
    store: Any,
    office_text: str,
    observation: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """Has a collector answer; what it gives writes a change of so long ago, of the flow `key`."""
    collector = collector_of(office_text, store=store)
    queries = Queries(collector).endpoints()

    def ask(_nats: Any, _context: Any, name: str, parameters: Mapping[str, Any]) -> Any:
        given = json.loads(json.dumps(parameters))
        return json.loads(json.dumps(asyncio.run(queries[name](given))))

    monkeypatch.setattr(past, "ask_long", ask)
    numbers = iter(range(10_000))
    key = FlowKey("pc-1", "web-1", "10.0.0.1", 8080, Transport.TCP)

    def write(ago: float, outcome: Outcome, **said: Any) -> None:
        at, is_open = time.time() - ago, outcome is Outcome.OPEN
        detail = codec.encode(observation(outcome, **said))
        number = next(numbers)
        row = Transition("pc-1", "b", number, key, "web:8080", at, outcome, is_open, detail)
        store.commit(Batch(transitions=(row,)))

    write.key = key
    with contextlib.closing(collector._keeper):
        yield write


def test_history_in_every_format(reachmap: Any, office: Any) -> None:
    """Newest first; JSON as its schema says."""
    office(7200, Outcome.OPEN)
    office(60, Outcome.TIMEOUT)
    table = reachmap("history").stdout.splitlines()
    assert table[0].split() == [
        "at",
        "change",
        "source",
        "destination",
        "service",
        "address",
        "saw",
    ]
    assert table[1].split()[-8:] == [
        *("broke", "pc-1", "web-1", "web:8080", "10.0.0.1:8080", "open", "->", "timeout")
    ]
    found = json.loads(reachmap("history", "--format", "json").stdout)
    documents.TypeAdapter(documents.DOCUMENTS["history"]).validate_python(found)
    assert [one["outcome"] for one in found] == ["timeout", "open"]
    rows = [*csv.DictReader(io.StringIO(reachmap("history", "--format", "csv").stdout))]
    assert [row["change"] for row in rows] == ["broke", "appeared"]
    recent = reachmap("history", "--since", "1 hour ago", "--format", "ndjson").stdout
    assert [json.loads(line)["outcome"] for line in recent.splitlines()] == ["timeout"]


def test_a_table_of_history_is_short_and_says_so(reachmap: Any, office: Any) -> None:
    """The latest fifty; programs get all."""
    for number in range(60):
        office(100 - number, Outcome.OPEN if number % 2 else Outcome.REFUSED)
    table = reachmap("history").stdout.splitlines()
    assert len(table) == 53
    assert table[-1].startswith("The latest 50; --limit shows more")
    assert len(json.loads(reachmap("history", "--format", "json").stdout)) == 60
    assert len(reachmap("history", "--limit", "60").stdout.splitlines()) == 61
    limited = reachmap("history", "--limit", "7", "--format", "ndjson").stdout
    assert len(limited.splitlines()) == 7


def test_a_change_in_the_evidence_alone_is_told_with_it(reachmap: Any, office: Any) -> None:
    """A line that says "changed" says what."""
    office(7200, Outcome.REFUSED)
    office(60, Outcome.REFUSED, evidence=("refused", "web-1 could not be asked to listen"))
    line = reachmap("history").stdout.splitlines()[1]
    assert " changed " in line
    assert line.endswith("refused: web-1 could not be asked to listen")


def test_trend_in_every_format(reachmap: Any, office: Any, store: Any) -> None:
    """Checks counted step by step, of flows that never changed too; JSON as its schema says."""
    now = time.time()
    flows = (office.key, FlowKey("pc-1", "web-1", "10.0.0.1", 9090, Transport.TCP))
    plan = PlanSlots("pc-1", "r1", flows, ("web:8080", "shop:9090"), now - 7000)
    rollups = [
        PackedRollUp("pc-1", "b", number, "r1", now - ago, now - ago + 36, codec.encode(body))
        for number, (ago, body) in enumerate(
            [
                (7000, RollUp("r1", 0, 0, made=b"\x09\0")),
                (2000, RollUp("r1", 0, 0, made=b"\x06\x06", latency=bytes([67, 67]))),
                (100, RollUp("r1", 0, 0, made=b"\x06\x06", failed=b"\x01\0", flips=b"\x02\0")),
            ]
        )
    ]
    store.commit(Batch(plans=(plan,), rollups=tuple(rollups)))
    lines = reachmap("trend", "pc-1", "web-1:8080", "--steps", "2").stdout.splitlines()
    assert lines[0] == "pc-1 -> web-1  web:8080 at 10.0.0.1:8080"
    assert [line.split()[1:] for line in lines[2:4]] == [
        ["6", "100", "%", "0.097", "ms"],
        ["6", "83.3", "%", "2"],
    ]
    assert lines[4].split() == ["in", "all", "12", "91.6", "%", "2", "0.097", "ms"]
    answer = json.loads(reachmap("trend", "pc-1", "web-1", "--format", "json").stdout)
    documents.TypeAdapter(documents.DOCUMENTS["trend"]).validate_python(answer)
    assert [flow["made"] for flow in answer["flows"]] == [12, 12]
    both = reachmap("trend", "pc-1", "web-1", "--since", "2 hours ago", "--format", "csv")
    rows = [*csv.DictReader(io.StringIO(both.stdout))]
    assert len(rows) == 24
    assert sum(int(row["made"]) for row in rows) == 33
    nothing = reachmap("trend", "pc-1", "web-1", "--since", "4h", "--until", "3h").stdout
    assert nothing.startswith("No check of such a flow is known from ")


def test_no_change_is_an_answer_too(reachmap: Any, office: Any) -> None:
    """Of either question; CSV has its header."""
    assert reachmap("history").stdout.startswith("No change fits")
    assert reachmap("diff", "--since", "1 hour ago").stdout.startswith("Nothing changed from ")
    for command in (["history"], ["diff", "--since", "1 hour ago"]):
        result = reachmap(*command, "--format", "csv")
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 1


def test_diff_in_every_format(reachmap: Any, office: Any) -> None:
    """Counts first, then a line for what changed alike."""
    office(7200, Outcome.OPEN)
    office(60, Outcome.TIMEOUT)
    lines = reachmap("diff", "--since", "1 hour ago").stdout.splitlines()
    assert lines[0].startswith("1 broke; from ")
    assert lines[3].split()[:8] == [
        *("broke", "1", "web:8080", "web-1", "open", "->", "timeout", "pc-1")
    ]
    answer = json.loads(reachmap("diff", "--since", "1h", "--format", "json").stdout)
    documents.TypeAdapter(documents.DOCUMENTS["diff"]).validate_python(answer)
    assert answer["counts"]["broke"] == 1
    result = reachmap("diff", "--since", "1h", "--format", "ndjson")
    assert json.loads(result.stdout)["change"] == "broke"
    assert "leaves out the times compared" in result.stderr
    before = reachmap("diff", "--since", "3 hours ago", "--until", "1 hour ago")
    assert before.stdout.startswith("1 appeared; from ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["history", "--since", "nonsense"], "'nonsense' is no time: expected such as"),
        (["diff"], "Missing option '--since'"),
        (["history", "--source", "pc-2"], "unknown host 'pc-2'; did you mean pc-1?"),
        (["diff", "--since", "1h", "--service", "web:80"], "did you mean web:8080?"),
        (["diff", "--since", "1h", "--until", "2h"], "until: expected a time after since"),
        (["trend", "pc-1", "wbe-1"], "unknown host 'wbe-1'; did you mean web-1"),
        (["trend", "pc-1", "web-1:x"], "'x' is not a port"),
        (["trend", "pc-1", "web-1", "--steps", "501"], "501 is not in the range 1<=x<=500"),
        (["trend", "pc-1", "web-1", "--since", "1h", "--until", "2h"], "a time after since"),
    ],
)
def test_wrong_usage_is_told(reachmap: Any, office: Any, arguments: list[str], line: str) -> None:
    """With what was expected, and nothing on standard output."""
    result = reachmap(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr
