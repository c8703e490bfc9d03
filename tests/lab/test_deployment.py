"""The fault matrix, end to end: real faults between real agents, told by the real collector.

The rows are those of `faults`, and what is expected of each is the same as where the diagnosis is
called directly. By default a part of them is run, with every kind of cause; `--matrix FILE` runs
them all, and writes what was found as a page of the documentation.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from faults import (
    ADDRESSES,
    DEPLOYED,
    NOTHING,
    OPEN,
    ROWS,
    TELLS,
    TIMEOUT,
    Row,
    Told,
    as_deployed,
    expected,
    named,
    proven,
)

PROGRAM = Path(__file__).with_name("matrix.py")
PAGE = Path(__file__).parents[2] / "docs/fault-matrix.md"

FOUND_WITHIN_S = 10.0
"""From when the flow is known to be broken."""

Case = tuple[Row, str, bool]
Result = dict[str, Any]


def some_rows() -> list[Row]:
    """The first row of each kind: what a check sees, what is told of it, who helps."""
    kinds: dict[object, Row] = {}
    for row in (row for row in ROWS if not row.called_only):
        cause, _, confidence = row.seen
        kinds.setdefault((cause, confidence), row)
        kinds.setdefault((row.outcome, row.transport), row)
        kinds.setdefault(row.witness, row)
    return [row for row in ROWS if row in kinds.values() or row.name in TELLS]


SOME = [case for case in DEPLOYED if case[0] in some_rows() and (case[2] or case[0].name in TELLS)]


def identified(case: Case) -> str:
    row, family, raw = case
    return f"{row.name}-{family}-{'seen' if raw else 'blind'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        page = metafunc.config.getoption("--matrix", default=None)
        cases = DEPLOYED if page is not None else SOME
        metafunc.parametrize("case", cases, ids=map(identified, cases))


def expected_on_map(row: Row, family: str, *, raw: bool) -> Told:
    """What the map is to say."""
    return row.deployed or expected(row, family, raw=raw)


def outcome_of(row: Row, family: str) -> tuple[str, ...]:
    """What checks may see."""
    if row.luck:
        return OPEN, TIMEOUT
    return (OPEN if family in row.well else row.outcome,)


def told(result: Result) -> tuple[str, str, str]:
    """What the map says of a flow; of one that is well, nothing."""
    flow = result["flow"]
    if flow["state"] == "ok":
        cause, at, confidence = NOTHING
        return cause, at, confidence
    return flow["cause"], named(flow["at"], result["family"]), flow["confidence"]


def is_right(case: Case, result: Result) -> bool:
    """Whether all that is told is as it should be."""
    row, family, raw = case
    cause, at, confidence = told(result)
    want = expected_on_map(row, family, raw=raw)
    if result["flow"]["outcome"] not in outcome_of(row, family):
        return False
    if row.may_say is not None and not raw and (cause, at, confidence) == row.may_say:
        return True
    return (cause, confidence) == (want[0], want[2]) and want[1] in ("?", at)


def wrongly_proven(case: Case, result: Result) -> list[tuple[str, str]]:
    """What was said to be proven, at any time, and is not so."""
    row, family, _ = case
    said = [(cause, named(at, family)) for cause, at in result["proven"]]
    return [one for one in said if one not in proven(row, family)]


@pytest.fixture(scope="module")
def found(laboratory: Any, request: pytest.FixtureRequest) -> dict[tuple[str, str, bool], Result]:
    """What was told of every case."""
    page = request.config.getoption("--matrix", default=None)
    cases = DEPLOYED if page is not None else SOME
    runs = dict.fromkeys((row.name, raw) for row, _, raw in cases)
    rows = {row.name: row for row in ROWS}
    results = laboratory.collect(
        [as_deployed(rows[name], raw=raw) for name, raw in runs], PROGRAM, 1100
    )
    by_case = {(one["name"], one["family"], one["raw"]): one for one in results}
    if page is not None:
        Path(page).write_text(as_page(cases, by_case))
    return by_case


@pytest.mark.timeout(1200)
def test_who_dropped_it_is_on_the_map(
    found: dict[tuple[str, str, bool], Result], case: Case, record: Callable[..., None]
) -> None:
    """Outcome, cause, device and confidence, soon; and nothing is proven that is not so."""
    row, family, raw = case
    result = found[row.name, family, raw]
    assert "error" not in result, result["error"]
    flow = result["flow"]
    record(
        f"{row.name} ({family}, {'packets seen' if raw else 'blind'}, end to end)",
        " ".join(word for word in expected_on_map(row, family, raw=raw) if word),
        f"{' '.join(word for word in told(result) if word)} in {result['took_s']:.1f} s",
        "; ".join(flow["evidence"]),
    )
    assert wrongly_proven(case, result) == [], flow["evidence"]
    assert is_right(case, result), (flow["outcome"], told(result), flow["evidence"])
    # What others on this machine took from it is no lateness of ours.
    assert result["took_s"] - result["starved_s"] < FOUND_WITHIN_S
    if row.name in TELLS:
        where = f" at {flow['at']}" if flow["at"] else ""
        assert f"{flow['cause']}{where} ({flow['confidence']})" in result["explained"]
        assert "together" in result["explained"]


def test_some_rows_are_of_every_kind() -> None:
    """What every run of the tests looks at has each cause, as sure as it gets, in both families."""
    kinds = {(row.seen[0], row.seen[2], family) for row, family, raw in DEPLOYED if raw}
    assert {(row.seen[0], row.seen[2], family) for row, family, raw in SOME if raw} == kinds
    assert {row.witness for row, _, _ in SOME} == {row.witness for row in ROWS}
    assert any(not raw for _, _, raw in SOME)


def test_the_documentation_has_the_whole_matrix() -> None:
    """Every case of the table, with what is expected of it, was found to be so."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    known = {line.rsplit(" | ", 1)[0] for line in lines}
    assert len(lines) == len(DEPLOYED)
    for row, family, raw in DEPLOYED:
        cells = row.name, family, "seen" if raw else "blind"
        assert any(line.startswith(f"| {' | '.join(cells)} | ") for line in known), cells
    assert all(line.endswith((" | yes", " | yes, as far as can be told")) for line in known)


HEAD = """# The fault matrix

<!-- Written by `make lab`. -->

Each fault is brought about in a network of its own (A - R - R2 - B, IPv4 and IPv6), between real
agents that are well at first, and told by the real collector. The bus has a way of its own. *Packets*:
whether the agents may look at packets. *Seconds*: from when the flow was known to be broken to when the
map had the diagnosis. Nothing that was called proven, at any time, was anything but the truth, and each
flow was well again when the fault had gone. How it is told: [diagnosis.md](diagnosis.md).

"""


def as_page(cases: Iterable[Case], by_case: dict[tuple[str, str, bool], Result]) -> str:
    """What was found, as docs/fault-matrix.md has it."""
    lines = []
    verdicts: Counter[str] = Counter()
    for case in cases:
        row, family, raw = case
        result = by_case.get((row.name, family, raw))
        cells = [row.name, family, "seen" if raw else "blind"]
        if result is None or "error" in result:
            cells += ["", "", "", "", "no", ""]
        else:
            cause, at, confidence = told(result)
            right = "no"
            if is_right(case, result) and not wrongly_proven(case, result):
                can = expected_on_map(row, family, raw=raw) != NOTHING or family in row.well
                right = "yes" if can or row.outcome is OPEN else "yes, as far as can be told"
            seconds = f"{result['took_s']:.0f}" if result["took_s"] else ""
            if result["flow"]["state"] == "ok":
                cause, confidence = "", ""
            at = at.upper() if at in ADDRESSES[family] else at
            cells += [result["flow"]["outcome"], cause, at, confidence, right, seconds]
        verdicts[cells[7]] += 1
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    total = sum(verdicts.values())
    summary = f"{total - verdicts['no']} of {total} are told right"
    if verdicts["yes, as far as can be told"]:
        summary += f", {verdicts['yes, as far as can be told']} of them as what nobody can tell"
    head = "| fault | family | packets | outcome | cause | at | confidence | right | seconds |"
    return f"{HEAD}{summary}.\n\n{head}\n|---|---|---|---|---|---|---|---|---|\n{chr(10).join(lines)}\n"
