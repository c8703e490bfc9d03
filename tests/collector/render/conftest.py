"""A terminal to print on."""

from typing import Any

import pytest

from reachmap_collector import render


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Any:
    """Prints as on a terminal of so many columns, and gives back what is to be seen."""

    def shown(what: Any, width: int = 80) -> str:
        render.print_trimmed(render.console(max_width=width), what)
        return capsys.readouterr().out

    return shown
