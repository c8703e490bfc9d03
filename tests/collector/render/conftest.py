"""A terminal to print on, and what there is to be seen."""

from typing import Any

import pytest
from screens import NOW

from reachmap_collector import render
from reachmap_shared.vocabulary import ListenerState, Outcome


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Any:
    """Prints as on a terminal of so many columns, and gives back what is to be seen."""

    def shown(what: Any, width: int = 80) -> str:
        render.print_trimmed(render.console(max_width=width), what)
        return capsys.readouterr().out

    return shown


@pytest.fixture
def green(scene: Any, openuem: Any, told: Any) -> Any:
    """OpenUEM with two hosts of each role, and every flow open."""
    stage = scene(openuem())
    for host in stage.members:
        stage.hear(host, NOW)
    for record in stage.flows:
        record.fold(told(NOW))
    return stage


@pytest.fixture
def troubled(scene: Any, listener: Any) -> Any:
    """The office with one flow of each kind."""
    stage = scene()
    stage.hear("pc-1", NOW)
    failed = listener("shop:9090", ListenerState.FAILED, "EACCES: Permission denied")
    stage.hear("web-1", NOW, listeners=(failed,))
    stage.see("pc-1", "web-1", Outcome.OPEN, NOW - 5, service="web:8080", connect_us=1234)
    stage.see(
        "pc-1",
        "web-1",
        Outcome.REFUSED,
        NOW - 5,
        service="shop:9090",
        evidence=("ECONNREFUSED: Connection refused",),
    )
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW - 5, evidence=("answered with [S]",))
    return stage
