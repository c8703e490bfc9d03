"""What both ends saw, as plain data."""

import json
from typing import Any

from reachmap_collector import views
from reachmap_collector.evidence import looked_into
from reachmap_shared.vocabulary import Outcome

NOW = 1_760_000_000.0
AT = "2025-10-09T08:53:20.000Z"


def test_what_was_looked_into_is_told_with_its_way(scene: Any) -> None:
    """As JSON; null where nobody looked."""
    stage = scene()
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "web-1", Outcome.TIMEOUT, NOW - 5, service="web:8080")
    assert looked_into(stage.judge("pc-1", "web-1", NOW, "web:8080")) is None
    stage.diagnose(NOW)
    judged = stage.judge("pc-1", "web-1", NOW, "web:8080")
    assert views.flow(judged)["at"] == "10.0.1.254"
    told = looked_into(judged)
    assert told is not None and json.loads(json.dumps(told)) == told
    assert (told["at"], told["local"], told["witness"]) == (
        AT,
        "10.0.1.1",
        {"silenced": "no-answer"},
    )
    assert [(hop["by"], hop["passes"]) for hop in told["path"]] == [
        ("10.0.1.254", True),
        *[(None, False)] * 3,
    ]
    assert told["compared"]["path"][-1]["met"] == "syn-ack"
    [near] = told["related"]
    assert near["relation"] == "same-host"
    assert told["compared"] == {**near, "path": told["compared"]["path"]}
