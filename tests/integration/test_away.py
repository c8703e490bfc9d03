"""Every question says soon that nobody answers, and what to look at."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

SOON_S = 5.0
"""Besides what it takes to load a command, which is measured: on a busy machine it is seconds."""

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = {} }
[hosts.web-1]
roles = ["web"]
"""


def asked(deployment: Any, *arguments: str) -> tuple["subprocess.CompletedProcess[str]", float]:
    """A command that has ended, and how many seconds that took it."""
    environment = {
        **deployment.environment,
        "REACHMAP_NATS_URL": deployment.url,
        "REACHMAP_NATS_CREDENTIALS": str(deployment.access.credentials),
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
        assert took_s < SOON_S + 2 * loading_s, command
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
        assert took_s < SOON_S + 2 * told_at_once_s
        assert "the collector did not answer in" in done.stderr
    finally:
        os.kill(collector.pid, signal.SIGCONT)
