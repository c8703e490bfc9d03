"""The collector's package on a machine with a real systemd, and an agent beside it.

One machine for all, in the order of a collector's life: installed, started, asked; reloaded,
stopped; upgraded, purged.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import machine
import pytest
from machine import Machine, files, repacked, until

pytestmark = pytest.mark.timeout(300)

Find = Callable[..., Path]

UNIT = "reachmap-collector"
STATE = "/var/lib/reachmap-collector"
TOPOLOGY = """
checks = { interval_s = 1, timeout_s = 1 }
[hosts.pc-17]
roles = ["client"]
[hosts.www]
roles = ["web"]
addresses = ["127.0.0.1"]
[roles.web]
listens = { "web:80" = { protocol = "http" } }
[roles.client]
connects = ["web:80"]
"""
"""One flow, to where nobody listens: whatever befalls the collector changes nothing about that."""


@pytest.fixture(scope="module")
def host(root: Path, need: Callable[[str, str], None]) -> Iterator[Machine]:
    """The machine, with nothing of ours on it."""
    need("systemd-nspawn", "systemd-container")
    need("ip", "iproute2")
    with machine.network() as network:
        made = Machine(root, network, root.parent / "console.log")
        yield made
        made.power_off()


def flow(host: Machine) -> dict[str, Any]:
    """The only flow, as root is told without any option."""
    told = host.run("reachmap", "flows", "--format", "json", check=False)
    try:
        (found,) = json.loads(told)
    except ValueError:
        return {"told": told}
    return dict(found)


def seen(host: Machine) -> None:
    """Wait until the map knows by the agent that its only flow is refused."""

    def is_known() -> bool:
        found = flow(host)
        return (found.get("outcome"), found.get("state")) == ("refused", "broken")

    until(is_known, "it is refused", lambda: f"{flow(host)}{host.journal()}")


def broken_since(host: Machine) -> float:
    """Since when, in seconds: to the millisecond it is worked out anew from ages."""
    return datetime.fromisoformat(flow(host)["since"]).timestamp()


def test_installing_starts_nothing(host: Machine, package: Find) -> None:
    """An administrator says what the deployment is, and when."""
    host.install(package("collector"))
    enabled = host.run("systemctl", "is-enabled", UNIT, check=False)
    assert (enabled.strip(), host.show("ActiveState", UNIT)) == ("disabled", "inactive")


def test_started_it_is_ready_and_answers(host: Machine) -> None:
    """By what came with the package: `systemctl` returns when it can be asked."""
    host.run("systemctl", "enable", "--now", UNIT)
    assert host.show("ActiveState", UNIT) == "active"
    assert host.show("User", UNIT) == "reachmap-collector"
    assert "agent" in host.run("reachmap", "status", check=False)
    assert host.run("stat", "--format", "%a %U", STATE).strip() == "700 reachmap-collector"
    assert host.run("ls", "-A", f"{STATE}/bus") != ""


def test_a_reload_reads_the_topology(host: Machine) -> None:
    """In the same process; what is wrong is said, and changes nothing."""
    pid = host.show("MainPID", UNIT)
    topology = host.root / "etc/reachmap/topology.toml"
    topology.write_text(TOPOLOGY)
    host.run("systemctl", "reload", UNIT)
    until(lambda: flow(host).get("source") == "pc-17", "the flow", lambda: str(flow(host)))
    topology.write_text("hosts = 7")
    host.run("systemctl", "reload", UNIT, check=False)
    until(lambda: "refused" in host.journal(), "it says so", host.journal)
    assert flow(host)["source"] == "pc-17"
    topology.write_text(TOPOLOGY)
    host.run("systemctl", "reload", UNIT)
    assert host.show("MainPID", UNIT) == pid


def test_an_agent_beside_it_appears_on_the_map(host: Machine, package: Find) -> None:
    """Enrolled where the collector is, by its own user."""
    host.install(package("agent"))
    enroll = f"runuser -u reachmap-collector -- reachmap enroll pc-17 --data {STATE}"
    assert "lets this host in" in host.run("sh", "-c", f"{enroll} | reachmap-agent join -")
    host.run("systemctl", "enable", "--now", "reachmap-agent")
    seen(host)


def test_it_stops_quickly_and_cleanly(host: Machine) -> None:
    """With its NATS server, by itself; started again, it knows what it knew."""
    since = broken_since(host)
    begun = time.monotonic()
    host.run("systemctl", "stop", UNIT)
    assert time.monotonic() - begun < 5
    assert host.show("Result", UNIT) == "success"
    assert "nats-server" not in host.run("sh", "-c", "cat /proc/[0-9]*/comm")
    host.run("systemctl", "start", UNIT)
    seen(host)
    assert abs(broken_since(host) - since) < 0.1


def test_killed_it_comes_back(host: Machine) -> None:
    """By systemd, with a NATS server that is its own."""
    pid = host.show("MainPID", UNIT)
    host.run("systemctl", "kill", "--signal=KILL", UNIT)
    until(lambda: host.show("MainPID", UNIT) not in ("0", pid), "another process", host.journal)
    until(lambda: host.show("ActiveState", UNIT) == "active", "it is active", host.journal)
    seen(host)


def test_an_upgrade_keeps_what_it_knows(host: Machine, tmp_path: Path) -> None:
    """The newer program runs; topology, identities and history are the same."""
    pid, since = host.show("MainPID", UNIT), broken_since(host)
    before = (host.root / "etc/reachmap/topology.toml").read_text()
    host.install(repacked("collector", "99.0", tmp_path))
    assert host.show("MainPID", UNIT) not in (pid, "0")
    assert host.show("ActiveState", UNIT) == "active"
    seen(host)
    assert abs(broken_since(host) - since) < 0.1
    assert (host.root / "etc/reachmap/topology.toml").read_text() == before


def test_purging_leaves_nothing(host: Machine) -> None:
    """No file, no user, no unit, no process."""
    host.run("dpkg", "--purge", "reachmap-agent", "reachmap-collector")
    assert files(host.root) == set()
    assert "reachmap" not in (host.root / "etc/passwd").read_text()
    assert host.run("systemctl", "list-units", "--all", "--no-legend", "reachmap*") == ""
