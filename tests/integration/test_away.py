"""Every question says soon that nobody answers, and what to look at."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

SOON_S = 5.0

TOPOLOGY = """
[roles.web]
listens = { "web:8080" = {} }
[hosts.web-1]
roles = ["web"]
"""


def asked(deployment: Any, *arguments: str) -> "subprocess.Popen[str]":
    environment = {
        **deployment.environment,
        "REACHMAP_NATS_URL": deployment.url,
        "REACHMAP_NATS_CREDENTIALS": str(deployment.access.credentials),
    }
    command = [sys.executable, "-m", "reachmap_collector", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


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
    for command in commands:
        started = time.monotonic()
        process = asked(deployment, *command)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (3, ""), command
        assert time.monotonic() - started < SOON_S, command
        assert "no NATS server answers at" in err
        assert "is the collector running (reachmap serve)?" in err


@pytest.mark.parametrize("which", ["flows", "history", "diff", "watch", "preflight"])
def test_a_collector_that_hangs_is_said_soon(
    deployment: Any, commands: list[list[str]], which: str
) -> None:
    """The bus is there then, and a question would be waited for."""
    collector = deployment.serve()
    os.kill(collector.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        process = asked(deployment, *next(one for one in commands if one[0] == which))
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (3, "")
        assert time.monotonic() - started < SOON_S
        assert "the collector did not answer in" in err
    finally:
        os.kill(collector.pid, signal.SIGCONT)
