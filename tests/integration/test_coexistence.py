"""The agent never keeps a real service off its port, however often that one restarts."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from postgres_server import Postgres

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


@pytest.mark.timeout(280)
def test_no_restart_of_a_service_ever_finds_its_port_taken(
    deployment: Any, nats_binary: Path
) -> None:
    """Two agents check at their fastest, a third may listen; 200 restarts each, all succeed."""
    ports = {"nats": free_port(), "postgres": free_port()}
    deployment.topology.write_text(TOPOLOGY.format(**ports))
    postgres = Postgres(ports["postgres"], ADDRESS)
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

    command = [str(nats_binary), "-a", ADDRESS, "-p", str(ports["nats"])]
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
