"""The pages that are written by a program say what the program says now."""

import runpy
from dataclasses import fields
from pathlib import Path

import pytest

from reachmap_agent.limits import ListenerLimits
from reachmap_agent.settings import ENVIRONMENT

WRITER = Path(__file__).parent.parent / "docs" / "agent_settings.py"

if not WRITER.is_file():
    pytest.skip("only a checkout has the pages", allow_module_level=True)


def test_the_page_of_the_agent_s_settings_is_fresh() -> None:
    """Names, bounds, defaults and reasons are those of the code; `make docs` writes it anew."""
    written = runpy.run_path(str(WRITER))
    assert written["PAGE"].read_text() == written["page"]()


def test_the_page_has_every_setting() -> None:
    """Also one that was given no reason would be missed here."""
    page = WRITER.with_name("agent-settings.md").read_text()
    for name in (*ENVIRONMENT, *(field.name for field in fields(ListenerLimits))):
        assert f"# `{name}`\n\nDefault " in page
