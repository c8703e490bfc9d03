"""The demo's deployment: small, whole, and out of everyone's way."""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reachmap_collector import planner
from reachmap_collector.demo import deployment
from reachmap_collector.demo.deployment import CLIENTS, CLUSTER, HOSTS, Deployment
from reachmap_collector.errors import ServerError
from reachmap_collector.topology.lint import lint
from reachmap_collector.topology.load import load_profile, parse_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared.names import ServiceName

needs_loopback = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 as it is"
)


def topology_of(demo: Deployment) -> Topology:
    return parse_topology(demo.topology(), Path("topology.toml"))


def test_every_role_of_the_profile_is_there() -> None:
    """On hosts whose names are made up, and whose addresses are nobody's."""
    assert {role for host in HOSTS for role in host.roles} == set(load_profile("openuem").roles)
    assert len({host.name for host in HOSTS}) == len({host.address for host in HOSTS}) == len(HOSTS)
    assert all(ipaddress.ip_address(host.address).is_loopback for host in HOSTS)
    assert "127.0.0.1" not in {host.address for host in HOSTS}


def test_its_topology_makes_sense() -> None:
    """Nothing in it is wrong, and nothing deserves a look."""
    topology = topology_of(Deployment({}))
    assert lint(topology) == ()
    assert list(topology.hosts) == [host.name for host in HOSTS]
    assert (topology.checks.interval_s, topology.checks.timeout_s) == (2.0, 1.0)


def test_every_row_of_the_port_table_has_flows_in_it() -> None:
    """What the demo shows is the whole table; its cluster has two members for row 12."""
    topology = topology_of(Deployment({}))
    flows = planner.expected_flows(topology, planner.members(topology, {}))
    rows = {topology.listener(flow.service).table_row for flow in flows} | {
        connection.table_row for flow in flows for connection in flow.connections
    }
    assert set(topology.rows) <= rows


def test_a_port_that_moved_is_overridden_on_its_host_alone() -> None:
    """As an administrator would write it."""
    demo = Deployment({("nats-1", CLIENTS): 24433, ("pc-2", ServiceName("agent", 2022)): 22022})
    assert demo.port("nats-1", CLIENTS) == 24433
    assert demo.port("nats-1", CLUSTER) == 4444
    assert demo.port("nats-2", CLIENTS) == 4433
    hosts = topology_of(demo).hosts
    assert {name: host.ports for name, host in hosts.items() if host.ports} == {
        "nats-1": {"nats-server:4433": 24433},
        "pc-2": {"agent:2022": 22022},
    }


@contextlib.contextmanager
def held(address: str, port: int) -> Iterator[None]:
    """A port that somebody listens on, whether it is us or who was there before."""
    with socket.socket() as holder:
        with contextlib.suppress(OSError):
            holder.bind((address, port))
            holder.listen(1)
        yield


@needs_loopback
def test_a_port_that_is_taken_moves_by_twenty_thousand() -> None:
    """So that it is recognised; the others stay where they are."""
    address = HOSTS[0].address
    with held(address, 4433):
        moved = deployment.plan().moved
    assert moved["nats-1", CLIENTS] >= 1024
    with held(address, 4433), held(address, 24433):
        elsewhere = deployment.plan().moved["nats-1", CLIENTS]
    assert elsewhere not in (4433, 24433)


@needs_loopback
def test_the_ports_of_a_plan_are_free() -> None:
    """Each can be listened on, at its own host's address."""
    demo = deployment.plan()
    for host, service in deployment._services(HOSTS):
        with socket.create_server((host.address, demo.port(host.name, service))) as server:
            assert server.getsockname()[0] == host.address


def test_a_free_port_is_free() -> None:
    """For whoever asks next."""
    port = deployment.free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", port)):
        assert port >= 1024


def test_a_machine_without_such_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the addresses that it lacks, and how to add them."""

    def free_port(address: str) -> int:
        raise OSError(f"no address {address}")

    monkeypatch.setattr(deployment, "free_port", free_port)
    with pytest.raises(ServerError) as caught:
        deployment.plan()
    text = str(caught.value)
    assert "ifconfig lo0 alias" in text
    assert all(host.address in text for host in HOSTS)


@needs_loopback
def test_two_demos_have_a_network_each() -> None:
    """The first is where the text says; who comes while it runs is elsewhere, and then it is free."""
    with contextlib.ExitStack() as running:
        had = [running.enter_context(deployment.network()) for _ in range(2)]
        first, second = ({host.address for host in deployment.hosts_in(one)} for one in had)
        assert not first & second
    with deployment.network() as again:
        assert again <= had[0]


@needs_loopback
def test_no_more_demos_run_than_there_are_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, rather than disturb one."""
    with deployment.network() as taken:
        monkeypatch.setattr(deployment, "NETWORKS", (taken,))
        with pytest.raises(ServerError, match="run on this machine already"), deployment.network():
            pass


def test_its_hosts_are_the_same_in_every_network() -> None:
    """All but their addresses."""
    assert deployment.hosts_in(0) == HOSTS
    moved = deployment.hosts_in(100)
    assert [(host.name, host.roles) for host in moved] == [(h.name, h.roles) for h in HOSTS]
    assert moved[0].address == "127.77.100.11"
    assert topology_of(Deployment({}, moved)).hosts["nats-1"].addresses == ["127.77.100.11"]
