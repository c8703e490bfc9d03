"""`reachmap-agent service`: what it prints, and its exit codes, on Windows and elsewhere."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import cli
from reachmap_agent.memory import save_plan
from reachmap_agent.settings import Settings
from reachmap_shared import log
from reachmap_shared.messages import ListenerSpec, Plan
from reachmap_shared.vocabulary import Transport


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's way to log is a process's own, and must not become the tests'."""
    monkeypatch.setattr(log, "configure", lambda **_: None)


@pytest.fixture
def command(manager: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    return importlib.import_module("reachmap_agent.scm.command")


def never() -> Settings:
    pytest.fail("it needs no settings")


def test_what_was_done_is_said(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` is for scripts too: 0 when it runs."""
    assert command.run("install", never) == 0
    assert command.run("status", never) == 1
    assert command.run("start", never) == 0
    assert command.run("status", never) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["stopped", "started", "running"]


def test_what_failed_is_said_on_standard_error(
    command: Any, manager: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the command's other errors."""
    manager.denied = True
    assert command.run("install", never) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == "reachmap-agent: Access is denied.: run it as an administrator\n"


def test_the_firewall_s_rules_are_those_of_the_plan(
    command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Which has to have come; nothing else is printed, so that it can be a script."""
    settings = Settings(id="pc-1", state=tmp_path)
    assert command.run("firewall", lambda: settings) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert "let the agent run first" in errors
    spec = ListenerSpec("agent:2022", 2222, Transport.TCP, "ssh")
    save_plan(settings, Plan("pc-1", "r1", 10.0, 3.5, "", "", "", (spec,), ()))
    assert command.run("firewall", lambda: settings) == 0
    assert "TCP = @(2222)" in capsys.readouterr().out


def test_every_action_of_the_command_line_is_one(command: Any) -> None:
    """Of the manager's, or the firewall's."""
    assert {*cli._SERVICE_ACTIONS} == {*command.control.ACTIONS, "firewall"}


@pytest.mark.skipif(sys.platform == "win32", reason="there it is done")
@pytest.mark.parametrize("action", cli._SERVICE_ACTIONS)
@pytest.mark.parametrize(
    ("platform", "says"),
    [
        ("linux", "systemctl enable --now reachmap-agent"),
        ("darwin", "launchd"),
        ("freebsd14", "`reachmap-agent run`"),
    ],
)
def test_elsewhere_it_says_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    platform: str,
    says: str,
    action: str,
) -> None:
    """In one sentence, with the exit code of wrong usage; pywin32 is not asked for."""
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SystemExit) as end:
        cli.main(["service", action])
    assert end.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert says in errors and errors.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has pywin32")
def test_without_pywin32_nothing_else_misses_it() -> None:
    """The rest of the agent is imported without any of it."""
    program = "import sys, reachmap_agent.cli, reachmap_agent.scm.firewall, reachmap_agent.app\n"
    program += "print([name for name in sys.modules if name.startswith(('win32', 'pywin'))])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
