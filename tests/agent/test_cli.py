"""The command line: what people type, what they read, and the exit codes that systemd acts on."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import app, cli, settings
from reachmap_agent.settings import Settings
from reachmap_shared import __version__, log


@pytest.fixture(autouse=True)
def nobody_s_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine's own settings have no say, and its logging stays as it is."""
    for name in [name for name in os.environ if name.startswith("REACHMAP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "DEFAULT_PATH", tmp_path / "default.toml")
    monkeypatch.setattr(log, "configure", lambda **_: None)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of the agents that were run."""
    agents: list[Settings] = []

    async def run(its: Settings, _begun: Any) -> None:
        agents.append(its)

    monkeypatch.setattr(app, "run", run)
    return agents


def test_run_runs_an_agent_as_told(ran: list[Settings]) -> None:
    """Each option reaches its setting; --address may be repeated."""
    told = "run --nats nats://a:1,nats://b:2 --id pc-17 --roles agent,web --state /srv/state"
    cli.main([*told.split(), "--address", "10.0.0.7", "--address", "fd00::7"])
    assert ran == [
        Settings(
            nats=("nats://a:1", "nats://b:2"),
            id="pc-17",
            roles=("agent", "web"),
            addresses=("10.0.0.7", "fd00::7"),
            state=Path("/srv/state"),
        )
    ]


def test_environment_and_file_are_read(
    ran: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the help says."""
    (tmp_path / "agent.toml").write_text('id = "from-file"\nroles = ["file"]\n')
    monkeypatch.setenv("REACHMAP_ID", "from-environment")
    cli.main(["run", "--config", str(tmp_path / "agent.toml")])
    assert (ran[0].id, ran[0].roles) == ("from-environment", ("file",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id", "pc.17"], "reachmap-agent: --id: 'pc.17' cannot name a host"),
        (["--id", "a b"], "reachmap-agent: --id: 'a b' cannot name a host"),
        (["--roles", "Web"], "reachmap-agent: --roles: 'Web' cannot name a role"),
        (["--address", "nowhere"], "reachmap-agent: --address: 'nowhere' does not appear"),
        (["--nats", "http://h"], "reachmap-agent: --nats: 'http://h' is not a NATS URL"),
        (["--nats", ","], "reachmap-agent: --nats: expected at least one NATS URL"),
        (["--config", "/nowhere"], "reachmap-agent: /nowhere: cannot be read: No such file"),
    ],
)
def test_wrong_settings_do_not_start(
    ran: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line that names what to change, and exit code 2: starting again will not help."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", *arguments])
    assert stopped.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1
    assert ran == []


@pytest.mark.parametrize(
    "arguments", [[], ["walk"], ["run", "--no-such-option"], ["run", "stray"], ["run", "--id"]]
)
def test_wrong_usage_is_told(
    ran: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """With the usage, on standard error, and exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.startswith("usage: reachmap-agent")
    assert ran == []


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, for scripts."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert not stopped.value.code
    assert capsys.readouterr().out == f"reachmap-agent {__version__}\n"


def test_help_names_every_option_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to read the source."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "--help"])
    assert not stopped.value.code
    text = capsys.readouterr().out
    for option in ("--config", "--nats", "--id", "--roles", "--address", "--verbose"):
        assert option in text
    for variable in settings.ENVIRONMENT.values():
        assert variable in text
    assert "examples:" in text


def test_the_examples_in_the_help_work(ran: list[Settings]) -> None:
    """What is shown can be copied."""
    examples = re.findall(r"^  reachmap-agent (.*)$", cli._EXAMPLES, re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        cli.main(example.split())
    assert len(ran) == len(examples)


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as what it is."""

    async def run(_: Settings, _begun: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "run", run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--id", "pc-17"])


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [(["--version"], 0, f"reachmap-agent {__version__}\n"), (["run", "--id", "a.b"], 2, "")],
)
def test_the_module_is_the_command(arguments: list[str], code: int, output: str) -> None:
    """`python -m reachmap_agent`, where the script is not on PATH."""
    done: Any = subprocess.run(
        [sys.executable, "-m", "reachmap_agent", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, output)
    assert "Traceback" not in done.stderr
