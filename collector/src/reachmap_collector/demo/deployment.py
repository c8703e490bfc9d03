"""The demo's deployment: which hosts there are, and the topology that says so.

Every host is an address of its own on loopback, 127.77.0.N, where its agent and services listen
on the ports that OpenUEM really uses. A port that something on this machine holds already is moved,
by the same override that a real host would use. A second demo beside the first takes a network of
its own, for to the agents of each the other's listeners would be strangers on their ports.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import tomli_w

from reachmap_collector.errors import ServerError
from reachmap_collector.topology.load import load_profile
from reachmap_shared.names import ServiceName

PROFILE: Final = "openuem"
INTERVAL_S: Final = 2.0
TIMEOUT_S: Final = 1.0

_MOVE_BY: Final = 20_000


@dataclass(frozen=True, slots=True)
class DemoHost:
    """One host of the demo."""

    name: str
    address: str
    roles: tuple[str, ...]


HOSTS: Final = (
    DemoHost("nats-1", "127.77.0.11", ("nats-server",)),
    DemoHost("nats-2", "127.77.0.12", ("nats-server",)),
    DemoHost("db-1", "127.77.0.13", ("postgres",)),
    DemoHost("ocsp-1", "127.77.0.14", ("ocsp-responder",)),
    DemoHost("console-1", "127.77.0.15", ("console",)),
    DemoHost(
        "worker-1", "127.77.0.16", ("agent-worker", "cert-manager-worker", "notification-worker")
    ),
    DemoHost("updater-1", "127.77.0.17", ("server-updater",)),
    DemoHost("admin-1", "127.77.0.18", ("admin-browser",)),
    DemoHost("pc-1", "127.77.0.21", ("agent", "agent-updater")),
    DemoHost("pc-2", "127.77.0.22", ("agent", "agent-updater")),
    DemoHost("pc-3", "127.77.0.23", ("agent", "agent-updater")),
)

NETWORKS: Final = (0, *range(100, 110))
"""The third octets that demos may have, one each."""

_HELD: Final = 7_700
"""The port of a network's first address that shows that a demo has it: nobody else's, for it is
only bound."""

CLIENTS: Final = ServiceName("nats-server", 4433)
CLUSTER: Final = ServiceName("nats-server", 4444)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The demo's hosts, with the ports that were free for them."""

    moved: Mapping[tuple[str, ServiceName], int]
    """Ports that had to move, by host and service."""
    hosts: tuple[DemoHost, ...] = HOSTS

    def address(self, name: str) -> str:
        """Where a host is."""
        return next(host.address for host in self.hosts if host.name == name)

    def port(self, host: str, service: ServiceName) -> int:
        """Where a service of a host listens."""
        return self.moved.get((host, service), service.port)

    def topology(self) -> str:
        """The topology, as TOML."""
        hosts: dict[str, dict[str, object]] = {}
        for host in self.hosts:
            ports = {
                str(service): port
                for (name, service), port in self.moved.items()
                if name == host.name
            }
            hosts[host.name] = {"roles": list(host.roles), "addresses": [host.address]}
            if ports:
                hosts[host.name]["ports"] = ports
        checks = {"interval_s": INTERVAL_S, "timeout_s": TIMEOUT_S}
        return tomli_w.dumps({"profiles": [PROFILE], "checks": checks, "hosts": hosts})


@contextlib.contextmanager
def network() -> Iterator[int]:
    """Have a network that no other demo on this machine has, as long as the block lasts.

    Raises:
        ServerError: Others have them all.
    """
    for number in NETWORKS:
        with socket.socket() as held:
            try:
                held.bind((f"127.77.{number}.1", _HELD))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                # Who may not bind it, or has no such address, is no other demo: `plan` knows more.
            yield number
            return
    raise ServerError(f"{len(NETWORKS)} demos run on this machine already")


def hosts_in(number: int) -> tuple[DemoHost, ...]:
    """The demo's hosts in one of its networks."""
    return tuple(
        replace(host, address=host.address.replace(".0.", f".{number}.")) for host in HOSTS
    )


def plan(hosts: tuple[DemoHost, ...] = HOSTS) -> Deployment:
    """Find a free port for every service of every host.

    Raises:
        ServerError: This machine has no loopback addresses beyond 127.0.0.1.
    """
    try:
        free_port(hosts[0].address)
    except OSError as error:
        raise ServerError(
            f"the demo needs loopback addresses such as {hosts[0].address}, and this machine has "
            "none (on macOS: sudo ifconfig lo0 alias ADDRESS, for each of "
            f"{', '.join(host.address for host in hosts)})"
        ) from error
    return Deployment(
        {
            (host.name, service): _free_near(host.address, service.port + _MOVE_BY)
            for host, service in _services(hosts)
            if not _is_free(host.address, service.port)
        },
        hosts,
    )


def free_port(address: str) -> int:
    """A port that nothing listens on; raises OSError where there is no such address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _services(hosts: tuple[DemoHost, ...]) -> Iterator[tuple[DemoHost, ServiceName]]:
    roles = load_profile(PROFILE).roles
    for host in hosts:
        for role in host.roles:
            for service in roles[role].listens:
                yield host, ServiceName.parse(service)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _free_near(address: str, port: int) -> int:
    return port if _is_free(address, port) else free_port(address)
