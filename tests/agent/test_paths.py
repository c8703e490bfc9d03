"""Where things are, by system."""

import os
from pathlib import Path

import pytest

from reachmap_agent import paths


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {"PROGRAMDATA": "D"}, "/etc/reachmap"),
        ("darwin", {}, "/etc/reachmap"),
        ("win32", {"PROGRAMDATA": "D"}, "D/reachmap"),
        ("win32", {}, r"C:\ProgramData/reachmap"),
    ],
)
def test_settings(platform: str, environment: dict[str, str], folder: str) -> None:
    """Windows has a folder for what programs keep for all users."""
    assert paths.config(platform, environment) == Path(folder) / "agent.toml"


def test_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager's word first; then the system's place, for root and for others."""
    assert paths.state({"STATE_DIRECTORY": "/a:/b"}, "linux") == Path("/a")
    assert paths.state({"PROGRAMDATA": "D"}, "win32") == Path("D/reachmap/state")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert paths.state({}, "linux") == Path("/var/lib/reachmap-agent")
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert paths.state({"XDG_STATE_HOME": "/x"}, "linux") == Path("/x/reachmap-agent")
