"""The line that monitoring systems read."""

from typing import Any

import pytest

from reachmap_collector import render, views
from reachmap_shared.vocabulary import State

QUIET = (
    " lag=0 redelivered=0 reports_missing=0 observations_waiting=0 observations_vanished=0"
    " observations_dropped=0c messages_refused=0c"
)
"""What the line ends with while nothing is late or lost."""


def status(**flows: int) -> dict[str, Any]:
    counts = {state.value: flows.get(state, 0) for state in State}
    agents = {"fresh": 3, "silent": 0, "left": 0, "conflict": 0, "absent": 0}
    return {
        "flows": counts,
        "agents": agents,
        "agents_missing": 0,
        "state": views.worst(flows),
        "refused_messages": {},
        "delivery": {"trouble": None, "lag": 0, "redelivered": 0, "reports_missing": 0},
        "store": {"trouble": None},
        "observations": dict.fromkeys(("received", "refused", "waiting", "dropped", "vanished"), 0),
    }


@pytest.mark.parametrize(
    ("flows", "code", "line"),
    [
        (
            {"ok": 5},
            0,
            (
                "REACHMAP OK - flows: 5 ok; 3 agents "
                "| ok=5 degraded=0 broken=0 exposed=0 unknown=0 agents_missing=0"
            ),
        ),
        (
            {"ok": 4, "unknown": 1},
            1,
            (
                "REACHMAP WARNING - flows: 4 ok, 1 unknown; 3 agents "
                "| ok=4 degraded=0 broken=0 exposed=0 unknown=1 agents_missing=0"
            ),
        ),
        (
            {"degraded": 1},
            1,
            (
                "REACHMAP WARNING - flows: 1 degraded; 3 agents "
                "| ok=0 degraded=1 broken=0 exposed=0 unknown=0 agents_missing=0"
            ),
        ),
        (
            {"ok": 1, "exposed": 2},
            2,
            (
                "REACHMAP CRITICAL - flows: 1 ok, 2 exposed; 3 agents "
                "| ok=1 degraded=0 broken=0 exposed=2 unknown=0 agents_missing=0"
            ),
        ),
        (
            {"broken": 1, "unknown": 7},
            2,
            (
                "REACHMAP CRITICAL - flows: 1 broken, 7 unknown; 3 agents "
                "| ok=0 degraded=0 broken=1 exposed=0 unknown=7 agents_missing=0"
            ),
        ),
        (
            {},
            3,
            (
                "REACHMAP UNKNOWN - flows: none; 3 agents "
                "| ok=0 degraded=0 broken=0 exposed=0 unknown=0 agents_missing=0"
            ),
        ),
    ],
)
def test_the_status_is_a_line_and_an_exit_code(
    screen: Any, flows: dict[str, int], code: int, line: str
) -> None:
    """As Nagios and all that came after it read them, performance data included."""
    answer = status(**flows)
    assert render.status_exit_code(answer) == code
    assert screen(render.status(answer, 80)) == f"{line}{QUIET}\n"


@pytest.mark.parametrize(("flows", "code"), [({"ok": 5}, 1), ({"broken": 1}, 2), ({}, 3)])
@pytest.mark.parametrize("what", ["delivery", "store"])
def test_a_map_that_is_not_complete_or_not_kept_is_a_warning(
    screen: Any, flows: dict[str, int], code: int, what: str
) -> None:
    """With the reason in the line, which nothing in it can break."""
    answer = status(**flows)
    answer[what] |= {"trouble": "no | space"}
    assert render.status_exit_code(answer) == code
    told = screen(render.status(answer, 80))
    assert f"; 3 agents; {what}: no / space | ok=" in told


def test_the_status_stays_one_line(screen: Any) -> None:
    """However many flows there are, and however narrow the terminal is."""
    answer = status(**{state.value: 1_234_567 for state in State})
    answer["agents"] |= {"absent": 10_000, "silent": 2}
    answer["agents_missing"] = 10_002
    text = screen(render.status(answer, 40), 40)
    assert text.count("\n") == 1
    assert "10005 agents, 10002 missing | ok=1234567" in text
    assert text.endswith(f" agents_missing=10002{QUIET}\n")


def test_the_status_counts_what_is_late_and_what_is_lost(screen: Any) -> None:
    """For whoever draws it. What never shrinks is marked as a counter, and nothing else: where one
    that is none goes back, all that it ever counted is drawn as news."""
    answer = status(ok=1)
    answer["delivery"] |= {"lag": 7, "redelivered": 6, "reports_missing": 5}
    answer["observations"] |= {"refused": 4, "waiting": 3, "dropped": 2, "vanished": 1}
    answer["refused_messages"] = {"malformed report": 8, "malformed hello": 1}
    text = screen(render.status(answer, 80))
    assert text.endswith(
        " lag=7 redelivered=6 reports_missing=5 observations_waiting=3 observations_vanished=1"
        " observations_dropped=2c messages_refused=9c\n"
    )


def test_the_status_as_a_row_leaves_nothing_out() -> None:
    """The flows' states first, as ever."""
    answer = status(ok=3)
    [row] = render.status_rows(answer)
    assert list(row)[:5] == list(State)
    assert {key: row[key] for key in answer if key != "flows"} == {
        key: value for key, value in answer.items() if key != "flows"
    }
