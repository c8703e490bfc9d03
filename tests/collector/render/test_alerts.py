"""Alerts as people see them."""

from typing import Any

import pytest

from reachmap_collector import render
from reachmap_collector.render.alerts import _returned


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Any:
    def shown(answer: Any, width: int = 100) -> str:
        render.print_trimmed(render.console(max_width=width), render.alerts(answer, width))
        return capsys.readouterr().out

    return shown


ALERT = {
    "id": "19a-1",
    "status": "firing",
    "severity": "critical",
    "summary": "web:443 is down",
    "advice": "start it",
    "began": "2027-01-15T08:00:00.000Z",
    "returns": 2,
    "acknowledged_by": "ann",
    "muted_by": "silence s1",
}
OUTLET = {"outlet": "hook", "waiting": 0, "dropped": 0, "refused": 0, "trouble": ""}


def test_where_nothing_is_wrong_it_says_so(screen: Any) -> None:
    """And nothing of outlets that work."""
    assert screen({"alerts": [], "silences": [], "outlets": [OUTLET]}) == (
        "No alert: nothing that anybody would have to look after.\n"
    )


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_an_alert_fits(screen: Any, width: int) -> None:
    """With what to do, and who is at it."""
    text = screen({"alerts": [ALERT], "silences": [], "outlets": []}, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for said in ("19a-1", "critical", "2027-01-15T08:00:00Z"):
        assert said in words


def test_what_keeps_outlets_from_being_told_is_said(screen: Any) -> None:
    """Silences, and outlets that fail."""
    silence = {
        "id": "s1",
        "kinds": [],
        "hosts": ["pc-*"],
        "roles": [],
        "services": ["web:443"],
        "until": "2027-01-15T09:00:00.000Z",
        "by": "ann",
        "comment": "patch",
    }
    broken = {**OUTLET, "waiting": 3, "dropped": 1, "trouble": "no answer in time"}
    text = screen({"alerts": [ALERT], "silences": [silence], "outlets": [broken, OUTLET]}, 200)
    assert "came back 2 times; ann looks after it; not told: silence s1" in text
    assert "silence s1 until 2027-01-15T09:00:00.000Z by ann: patch\n" in text
    assert "  of hosts pc-*; services web:443\n" in text
    assert "outlet hook: 3 wait, 1 were never told: no answer in time\n" in text


@pytest.mark.parametrize(
    ("times", "said"), [(0, ""), (1, "came back once"), (2, "came back 2 times")]
)
def test_how_often_it_came_back_is_said_as_people_say_it(times: int, said: str) -> None:
    """Once is no number of times."""
    assert _returned(times) == said
