"""Where OpenUEM's settings are on each system, and `roles = "auto"`."""

import os
from pathlib import Path

import pytest

from reachmap_agent import discovery, settings
from reachmap_agent.openuem import Found
from reachmap_shared.errors import InvalidSettings

AGENT = "[Agent]\nSFTPPort = 2022\n"


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """A host without OpenUEM, and a system that it does not run on."""
    assert discovery.look("linux", tmp_path) == Found()
    assert discovery.look("sunos5", tmp_path) == Found()


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("linux", "etc/openuem-agent/openuem.ini"),
        ("darwin", "Library/OpenUEMAgent/etc/openuem-agent/openuem.ini"),
        ("win32", r"C:\Program Files\OpenUEM Agent\config\openuem.ini"),
    ],
)
def test_each_system_has_a_place_of_its_own(tmp_path: Path, platform: str, place: str) -> None:
    """Also with the mark that editors on Windows put first."""
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"\ufeff{AGENT}")
    found = discovery.look(platform, tmp_path)
    assert found.roles == ("agent", "agent-updater")
    assert found.ports == {"agent:2022": 2022}


def test_auto_stands_for_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside roles that are named, each once."""
    found = Found(roles=("agent", "agent-updater"), ports={"agent:2022": 2222})
    monkeypatch.setattr(discovery, "look", lambda: found)
    loaded = settings.load(None, {}, {"roles": "auto,browser,agent"})
    assert loaded.roles == ("browser", "agent", "agent-updater")
    assert loaded.found == found
    assert settings.load(None, {}, {"roles": "browser"}).found == Found()


def test_another_port_is_another_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload takes it up."""
    loaded = []
    for port in (2222, 2222, 2223):
        found = Found(ports={"agent:2022": port})
        monkeypatch.setattr(discovery, "look", lambda found=found: found)
        loaded.append(settings.load(None, {}, {"roles": "auto"}))
    assert loaded[0] == loaded[1] != loaded[2]


def test_a_file_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent without roles that nobody told it of would be a riddle."""

    def look() -> Found:
        raise PermissionError(13, os.strerror(13), "/etc/openuem-server/openuem.ini")

    monkeypatch.setattr(discovery, "look", look)
    with pytest.raises(InvalidSettings, match=r"--roles: auto: /etc/openuem-server/openuem.ini"):
        settings.load(None, {}, {"roles": "auto"})
