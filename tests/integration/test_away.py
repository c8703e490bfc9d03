"""Every question says soon that nobody answers, and what to look at."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SOON_S = 5.0
"""What it takes to load a command and to end it included, unless the machine is too busy for that."""

LEAST_S = 1.0
"""For which it waits in any case."""

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = {} }
[hosts.web-1]
roles = ["web"]
"""


def asked(
    deployment: Any, *arguments: str, **environment_besides: str
) -> tuple["subprocess.CompletedProcess[str]", float]:
    """A command that has ended, and how many seconds that took it."""
    environment = {
        **deployment.environment,
        "REACHMAP_NATS_URL": deployment.url,
        "REACHMAP_NATS_CREDENTIALS": str(deployment.access.credentials),
        **environment_besides,
    }
    command = [sys.executable, "-m", "reachmap_collector", *arguments]
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    return done, time.monotonic() - started


@pytest.fixture
def commands(deployment: Any) -> list[list[str]]:
    deployment.topology.write_text(TOPOLOGY)
    return [
        ["map"],
        ["flows"],
        ["explain", "a", "b"],
        ["agents"],
        ["export", "--format", "json"],
        ["history"],
        ["diff", "--since", "1h"],
        ["watch"],
        ["preflight", "--topology", str(deployment.topology)],
    ]


def test_a_bus_that_is_away_is_said_at_once(deployment: Any, commands: list[list[str]]) -> None:
    """By every query, with exit code 3 and nothing on standard output."""
    _, loading_s = asked(deployment, "flows", "--help")
    for command in commands:
        done, took_s = asked(deployment, *command)
        assert (done.returncode, done.stdout) == (3, ""), command
        assert took_s < max(SOON_S, LEAST_S + 2 * loading_s), command
        assert "no NATS server answers at" in done.stderr
        assert "is the collector running (reachmap serve)?" in done.stderr


@pytest.mark.parametrize("which", ["flows", "history", "diff", "watch", "preflight"])
def test_a_collector_that_hangs_is_said_soon(
    deployment: Any, commands: list[list[str]], which: str
) -> None:
    """The bus is there then, and a question would be waited for."""
    command = next(one for one in commands if one[0] == which)
    _, told_at_once_s = asked(deployment, *command)
    collector = deployment.serve()
    os.kill(collector.pid, signal.SIGSTOP)
    try:
        done, took_s = asked(deployment, *command)
        assert (done.returncode, done.stdout) == (3, "")
        assert took_s < max(SOON_S, LEAST_S + 2 * told_at_once_s)
        assert "the collector did not answer in" in done.stderr
    finally:
        os.kill(collector.pid, signal.SIGCONT)


def test_what_a_slow_start_took_is_not_waited_for_besides(
    deployment: Any, commands: list[list[str]], tmp_path: Path
) -> None:
    """Whoever waits counts from where the command began; one that is answered is none the worse."""
    command = ["flows", "--format", "json"]
    _, told_at_once_s = asked(deployment, *command)
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(2)\n")
    slow = {"PYTHONPATH": str(tmp_path)}
    collector = deployment.serve()
    done, _ = asked(deployment, *command, **slow)
    assert done.returncode == 0
    os.kill(collector.pid, signal.SIGSTOP)
    try:
        done, took_s = asked(deployment, *command, **slow)
        assert done.returncode == 3
        assert took_s < max(SOON_S, LEAST_S + 2 * (2 + told_at_once_s))
    finally:
        os.kill(collector.pid, signal.SIGCONT)
