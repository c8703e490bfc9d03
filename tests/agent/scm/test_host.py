"""The service as its host runs it: a real agent on a real bus, on a Windows that is pretended.

What Windows has not is taken away from the process: other calls than Linux's are made, in other
loops. What only Windows does is not seen here.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nats
import pytest

PRETEND = Path(__file__).with_name("pretend.py")
PATIENCE_S = 30.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there it is the real one")


class Hosted:
    """A process that hosts the service."""

    def __init__(self, program_data: Path) -> None:
        self.folder = program_data / "reachmap"
        (self.folder / "log").mkdir(parents=True)
        environment = {key: its for key, its in os.environ.items() if "REACHMAP_" not in key}
        self._environment = {**environment, "PROGRAMDATA": str(program_data)}

    def configure(self, text: str) -> None:
        (self.folder / "agent.toml").write_text(text)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PRETEND)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def end(self, told: str = "") -> dict[str, Any]:
        """What the manager heard of it, once it has ended."""
        output, errors = self.process.communicate(told, timeout=PATIENCE_S)
        assert self.process.returncode == 0, errors
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found

    def log(self) -> list[dict[str, Any]]:
        text = (self.folder / "log" / "agent.log").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def hosted(tmp_path: Path) -> Any:
    made = Hosted(tmp_path)
    yield made
    if hasattr(made, "process"):
        made.process.kill()
        made.process.communicate()


async def test_it_joins_works_and_ends_when_told(
    hosted: Hosted, nats_server: Any, eventually: Any
) -> None:
    """In much less than the SCM waits, with a farewell; it says so in the event log."""
    client = await nats.connect(nats_server.url)
    said = []

    async def hear(message: Any) -> None:
        said.append(message.subject)

    await client.subscribe("reachmap.*.pc-17", cb=hear)
    await client.flush()
    hosted.configure(f'id = "pc-17"\nnats = "{nats_server.url}"\naddresses = "127.0.0.1"\n')
    hosted.start()
    await eventually(lambda: "reachmap.pulse.pc-17" in said, within_s=PATIENCE_S)
    said.clear()
    begun = time.monotonic()
    found = hosted.end("stop\n")
    assert time.monotonic() - begun < 5
    await eventually(lambda: "reachmap.hello.pc-17" in said)
    await client.close()
    assert found == {
        "events": [
            "PYS_SERVICE_STARTED reachmap-agent",
            "SERVICE_STOP_PENDING 10000",
            "PYS_SERVICE_STOPPED reachmap-agent",
        ],
        "failure": "",
    }
    events = [line["event"] for line in hosted.log()]
    assert events[0] == "agent starting" and events[-1] == "agent stopped"
    assert [line for line in hosted.log() if line["level"] in ("error", "critical")] == []


def test_wrong_settings_end_it_for_good(hosted: Hosted) -> None:
    """The event log says why; no failure is told, so that it is not started again in vain."""
    hosted.configure("roles = 5\n")
    hosted.start()
    found = hosted.end()
    assert found["failure"] == ""
    assert found["events"][-1].startswith("ERROR reachmap-agent: ")
    assert "agent.toml: roles: expected a string or a list" in found["events"][-1]


def test_any_other_failure_is_one(hosted: Hosted) -> None:
    """The host hears of it, and so does the SCM."""
    (hosted.folder / "log").rmdir()
    hosted.start()
    found = hosted.end()
    assert "FileNotFoundError" in found["failure"]
