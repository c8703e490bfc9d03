"""Real deployments for the integration tests: a collector with its own NATS server, and agents.

Every process carries a mark of its test in its environment, by which what was left behind is
found, whoever started it.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.errors import BusUnavailable, InvalidName
from reachmap_shared.permissions import Party

PATIENCE_S = 30.0
MARK = "REACHMAP_TEST_MARK"

Json = dict[str, Any]


SMALL = """
checks = {{ interval_s = 0.5, timeout_s = 0.5 }}
[roles.web]
listens = {{ "web:{port}" = {{ protocol = "{protocol}" }} }}
[roles.browser]
connects = ["web:{port}"]
[hosts.server]
roles = ["web"]
addresses = ["127.77.1.1"]
[hosts.client]
roles = ["browser"]
addresses = ["127.77.1.2"]
"""


class Deployment:
    """One collector, its NATS server, and any number of agents, each a real process."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder = folder
        self.topology = folder / "topology.toml"
        self.nats_port = free_port()
        self.url = f"nats://127.0.0.1:{self.nats_port}"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("REACHMAP_")},
            MARK: mark,
            "REACHMAP_STATE": str(folder / "state"),
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self.store = Store(folder / "data")

    @cached_property
    def access(self) -> Access:
        """How the command line connects to the collector's own NATS server."""
        self.store.prepare()
        return self.store.access(Party.OPERATOR, Mode.JWT)

    def write_small(self, port: int, protocol: str = "http") -> None:
        """Have a topology of one server, one client, one flow."""
        self.topology.write_text(SMALL.format(port=port, protocol=protocol))

    def serve(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the collector, and wait until it answers."""
        data = ["--topology", str(self.topology), "--data", str(self.folder / "data")]
        bus = ["--nats", "embedded", "--nats-port", str(self.nats_port)]
        process = self.start("reachmap_collector", "serve", *data, *(options or bus))
        self.until(self.answers, "the collector answers")
        return process

    def agent(
        self, name: str, address: str = "127.77.1.1", *options: str
    ) -> subprocess.Popen[bytes]:
        """Start an agent."""
        own = ["--id", name, "--address", address, "--nats", self.url]
        credentials = self.folder / f"{name}.creds"
        with contextlib.suppress(InvalidName):  # then the agent will say so itself
            if not credentials.exists():
                self.store.prepare()
                write_secret(credentials, self.store.enroll(name, Mode.JWT).credentials)
            own += ["--nats-credentials", str(credentials)]
        return self.start("reachmap_agent", "run", *own, *options)

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of our own programs."""
        return self.start_program(sys.executable, "-m", module, *arguments)

    def start_program(self, *command: str) -> subprocess.Popen[bytes]:
        """Start any program, in a session of its own, its output in a file of its own."""
        with (self.folder / f"{len(self._running)}.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def reachmap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `reachmap` command to its end."""
        shown = {}
        if self.store.folder.exists():
            shown = {"REACHMAP_NATS_CREDENTIALS": str(self.access.credentials)}
        return subprocess.run(
            [sys.executable, "-m", "reachmap_collector", *arguments],
            env={**self.environment, "REACHMAP_NATS_URL": self.url, **shown},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask(self, query: str, **parameters: Any) -> Any:
        """A query's answer, straight from the bus."""

        async def question() -> Any:
            async with bus.connected([self.url], "test", self.access) as connection:
                return await connection.query(query, parameters)

        return asyncio.run(question())

    def answers(self) -> bool:
        """Whether a collector is there."""
        try:
            self.ask("status")
        except BusUnavailable:
            return False
        return True

    def states(self) -> dict[str, int]:
        """How many flows are in each state that occurs."""
        counts: dict[str, int] = self.ask("status")["flows"]
        return {state: count for state, count in counts.items() if count}

    def flow(self) -> Json:
        """The deployment's only flow."""
        (flow,) = self.ask("flows")["flows"]
        return dict(flow)

    def agents(self) -> list[Json]:
        """All agents, as `reachmap agents` lists them."""
        rows: list[Json] = self.ask("agents")["agents"]
        return rows

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds; fail with all logs when it does not."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(
                    f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
                    for path in sorted(self.folder.glob("*.log"))
                )
                pytest.fail(f"not within {PATIENCE_S:g} s: {what}\n{logs}")
            time.sleep(0.05)

    def stop_all(self) -> None:
        """End what still runs, the latest first, and insist."""
        for process in reversed(self._running):
            stop(process)


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and wait; returns the exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def marked(mark: str) -> list[str]:
    """The command lines of processes that carry a test's mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture
def mark() -> Iterator[str]:
    """The test's mark; nothing that carries it may be left when the test ends."""
    value = uuid.uuid4().hex
    yield value
    deadline = time.monotonic() + 5
    while (left := marked(value)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


@pytest.fixture
def deployment(tmp_path: Path, mark: str) -> Iterator[Deployment]:
    """A deployment that ends with the test."""
    made = Deployment(tmp_path, mark)
    try:
        yield made
    finally:
        made.stop_all()
