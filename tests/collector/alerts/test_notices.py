"""What is told of an alert: complete, in words, and the same after it was kept."""

import json
from typing import Any

import pytest

from reachmap_collector.alerts import notices
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Phase


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_its_words(kind: Kind, alert: Any, cause: Any) -> None:
    """What is wrong, where, and what to do."""
    made = notices.notice(alert(cause=cause(kind)), {}, lambda _: "do it")
    assert "{" not in made.summary + made.advice
    assert made.summary and made.advice


def test_a_notice_survives_being_kept(told: Any) -> None:
    """In a queue on disk."""
    assert notices.decode(notices.encode(told())) == told()


def test_what_another_version_kept_is_refused() -> None:
    """And not half understood."""
    with pytest.raises(ValueError):
        notices.decode(b'{"id": "x"}')


def test_programs_get_json_with_times_they_know(told: Any) -> None:
    """And none of the labels, which are Alertmanager's."""
    document = json.loads(json.dumps(notices.document(told())))
    assert document["began"] == "2027-01-15T08:00:00.000Z"
    assert document["ended"] is None
    assert document["examples"] == ["pc-1 -> web:443/tcp at 10.0.0.1"]
    assert (document["status"], document["kind"]) == ("firing", "service-down")
    assert "labels" not in document


def test_people_get_lines(told: Any) -> None:
    """With what to do while it goes on, and the end when it has ended."""
    assert "To do: start it" in notices.text(told())
    over = notices.text(told(phase=Phase.RESOLVED, ended=1_800_000_100.0))
    assert "To do" not in over
    assert "Ended 2027-01-15T08:01:40.000Z" in over
