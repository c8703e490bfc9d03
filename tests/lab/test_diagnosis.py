"""Who dropped it: real faults in namespaces, looked into from both ends and judged.

Every row is one fault, over IPv4 and IPv6, with and without the right to look at packets on both
ends. What a row expects is what is true of its fault; where the evidence cannot tell, it expects
`unknown`. No row of any kind may ever be told a proven cause or device that is not the true one.
"""

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from faults import (
    CASES,
    NOBODY,
    NOTHING,
    PROVEN,
    R2,
    ROWS,
    A,
    B,
    R,
    Row,
    Told,
    as_given,
    expected,
    named,
    proven,
)

from reachmap_collector.diagnose import Finding, find
from reachmap_shared import codec
from reachmap_shared.diagnosis import Diagnosis

PROGRAM = Path(__file__).with_name("diagnosis.py")


def as_table() -> list[str]:
    """The rows as docs/diagnosis.md has them."""

    def words(told: Told) -> str:
        cause, at, sure = told
        if cause is NOBODY:
            return "unknown"
        device = f" at {at.upper()}" if at in (A, R, R2, B) else ""
        return f"{cause}{device}, {sure}"

    lines = ["| fault | both ends see packets | neither does |", "|---|---|---|"]
    for row in ROWS:
        blind = words(row.blind) if row.blind is not None else "the same"
        lines.append(f"| {row.name} | {words(row.seen)} | {blind} |")
    return lines


def test_the_documentation_has_this_very_table() -> None:
    """What operators read is what is measured."""
    text = (Path(__file__).parents[2] / "docs/diagnosis.md").read_text()
    assert "\n".join(as_table()) in text


@pytest.fixture(scope="module")
def found(laboratory: Any) -> dict[tuple[str, str, bool], Finding]:
    """What was found out of every case."""
    told = laboratory.collect(
        [as_given(row, family, raw=raw) for row, family, raw in CASES], PROGRAM, 280
    )
    return {
        (result["name"], result["family"], result["raw"]): find(
            codec.decode(Diagnosis, base64.b64decode(result["diagnosis"]))
        )
        for result in told
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("row", "family", "raw"),
    CASES,
    ids=[f"{row.name}-{family}-{'seen' if raw else 'blind'}" for row, family, raw in CASES],
)
def test_who_dropped_it(
    found: Any, row: Row, family: str, raw: bool, record: Callable[..., None]
) -> None:
    """Cause, device and confidence; and nothing is ever proven that is not so."""
    finding = found[row.name, family, raw]
    want = expected(row, family, raw=raw)
    at = named(finding.at, family)
    record(
        f"{row.name} ({family}, {'packets seen' if raw else 'blind'})",
        " ".join(word for word in want if word),
        " ".join(word for word in (finding.cause, at, finding.confidence) if word),
        "; ".join(finding.evidence),
    )
    if finding.confidence is PROVEN:
        assert (finding.cause, at) in proven(row, family), finding.evidence
    assert (finding.cause, finding.confidence) == (want[0], want[2]), finding.evidence
    if want[1] != "?":
        assert at == want[1], finding.evidence


def pairs() -> list[tuple[Row, Row, Row]]:
    """Two of the faults at once, and what they are together: some of the many that there are."""
    alone = [
        row
        for row in ROWS
        if replace(
            row, seen=NOTHING, blind=None, luck=False, firewall={}, server="listener", truth=()
        )
        == Row(row.name, NOTHING, None)
        and row.firewall
        and row.server in ("listener", "answers")
    ]
    made = []
    for one, other in combinations(alone, 2):
        both = {
            host: tuple(dict.fromkeys((*one.firewall.get(host, ()), *other.firewall.get(host, ()))))
            for host in {*one.firewall, *other.firewall}
        }
        server = max(one.server, other.server)
        name = f"{one.name}, and {other.name}"
        made.append((one, other, replace(one, name=name, firewall=both, server=server)))
    return made[::13]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("family", "raw"), [("v4", True), ("v6", False)])
def test_two_faults_at_once_prove_no_third(laboratory: Any, family: str, raw: bool) -> None:
    """Whichever of them is told, it is one of them that is proven, or none."""
    cases = pairs()
    assert len(cases) > 40
    told = laboratory.collect(
        [as_given(both, family, raw=raw) for _, _, both in cases], PROGRAM, 280
    )
    for (one, other, both), result in zip(cases, told, strict=True):
        finding = find(codec.decode(Diagnosis, base64.b64decode(result["diagnosis"])))
        truth = {*proven(one, family), *proven(other, family)}
        if finding.confidence is PROVEN:
            at = named(finding.at, family)
            assert (finding.cause, at) in truth, (both.name, finding.evidence)
