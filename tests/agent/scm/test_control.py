"""What the service control manager is asked for; the manager is pretended, pywin32's calls are not."""

import importlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAME = "reachmap-agent"


@pytest.fixture
def icacls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run."""
    run: list[list[str]] = []

    def note(command: list[str], **options: Any) -> None:
        assert options["check"]
        run.append(command)

    monkeypatch.setattr(subprocess, "run", note)
    return run


@pytest.fixture
def control(manager: Any) -> Any:
    return importlib.import_module("reachmap_agent.scm.control")


@pytest.fixture
def folder() -> Path:
    return Path(os.environ["PROGRAMDATA"]) / "reachmap"


def test_it_is_installed_with_least_rights_to_start_late_and_again(
    control: Any, manager: Any, icacls: list[list[str]], folder: Path
) -> None:
    """By pywin32's own installer, then in what that has no option for."""
    assert str(folder) in control.install()
    [service] = manager.services.values()
    assert service.options == {
        "class": "reachmap_agent.scm.host.AgentService",
        "display": "reachmap agent",
        "startType": "SERVICE_AUTO_START",
        "userName": r"NT SERVICE\reachmap-agent",
        "description": "Checks what this host must reach, and stands in for what it must offer.",
        "delayedstart": True,
    }
    actions = service.config["SERVICE_CONFIG_FAILURE_ACTIONS"]
    assert [kind for kind, _after in actions["Actions"]] == ["SC_ACTION_RESTART"] * 3
    assert service.config["SERVICE_CONFIG_FAILURE_ACTIONS_FLAG"] is True
    assert service.config["SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO"] == ("SeChangeNotifyPrivilege",)
    assert service.config["SERVICE_CONFIG_SERVICE_SID_INFO"] == "SERVICE_SID_TYPE_UNRESTRICTED"
    assert manager.sources == {NAME: r"C:\Python\servicemanager.pyd"}
    assert manager.open_handles == 0
    assert (folder / "log").is_dir() and (folder / "state").is_dir()
    assert icacls


def test_a_class_of_that_name_is_there(control: Any) -> None:
    """The host loads it by its name, long after."""
    module, _, name = control._CLASS.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("what", ["config", "folders"])
def test_what_fails_half_way_leaves_no_service(
    control: Any,
    manager: Any,
    icacls: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Which would start with rights that it should not have, or read what others wrote."""
    if what == "config":
        manager.broken = "SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO"
    else:

        def refuse(command: list[str], **_: Any) -> None:
            raise subprocess.CalledProcessError(5, command, b"", b"Access is denied.")

        monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(control.ControlFailed, match=r"incorrect|icacls.exe: Access is denied"):
        control.install()
    assert manager.services == {}
    assert manager.open_handles == 0


def test_its_life(control: Any, manager: Any, icacls: list[list[str]], folder: Path) -> None:
    """Started, asked, stopped twice, removed; settings and state stay."""
    control.install()
    assert control.status() == "stopped"
    control.start()
    assert control.status() == "running"
    assert control.stop() == control.stop() == "stopped"
    control.start()
    assert str(folder) in control.remove()
    assert manager.services == {}
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("trouble", "action", "says"),
    [
        ("denied", "install", "Access is denied.: run it as an administrator"),
        ("denied", "status", "run it as an administrator"),
        ("no_host", "install", "Can't find 'pythonservice.exe'"),
        ("", "start", "reachmap-agent service install"),
        ("", "stop", "reachmap-agent service install"),
        ("", "status", "reachmap-agent service install"),
        ("", "remove", "reachmap-agent service install"),
    ],
)
def test_what_windows_refuses_is_said(
    control: Any, manager: Any, icacls: list[list[str]], trouble: str, action: str, says: str
) -> None:
    """In its own words, with what to do."""
    if trouble:
        setattr(manager, trouble, True)
    with pytest.raises(control.ControlFailed) as caught:
        control.ACTIONS[action]()
    assert says in str(caught.value)
    assert icacls == []


def test_twice_is_refused(control: Any, manager: Any, icacls: list[list[str]]) -> None:
    """And the one that is there stays."""
    control.install()
    with pytest.raises(control.ControlFailed, match="remove it first"):
        control.install()
    assert [*manager.services] == [NAME]
