"""What the tests of screens have in common."""

from typing import Any

from reachmap_collector import views
from reachmap_collector.advice import what_to_do, what_would_settle

NOW = 1_760_000_000.0
"""2025-10-09 08:53:20 UTC."""


def golden(text: str) -> str:
    """The text of a screen, written with its first line below the quotes."""
    return text.removeprefix("\n")


def flows_of(stage: Any) -> list[Any]:
    """All flows of a scene, with what to do about each."""
    return [
        views.flow(judgement)
        | {"advice": what_to_do(judgement), "settled_by": what_would_settle(judgement)}
        for judgement in stage.judgements(NOW)
    ]
