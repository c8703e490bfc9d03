"""The lab: four network namespaces in a row, with a firewall in each, and a client in the first.

    A (client) --- R --- R2 === B (server)

Run as a program of its own under `unshare`: it reads what to set up and what to check as JSON, and
writes what the checks saw. The namespaces are held by its open descriptors alone, so they are gone
with it, however it ends. It never leaves them: nothing that it sends reaches the host's network.

B is reached over two links; the second takes only MTU bytes at R2's end. S is alone.
"""

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from reachmap_agent import clock
from reachmap_agent.engine.engine import Engine
from reachmap_agent.prober import Job, Prober
from reachmap_agent.protocols import REGISTRY, Protocol
from reachmap_agent.wire.exchange import Exchange, Target, Verdict
from reachmap_shared.messages import CheckSpec, Observation
from reachmap_shared.vocabulary import Outcome, Transport

NAMES: Final = ("a", "r", "r2", "b", "s")
MTU: Final = 1300

CLONE_NEWNET: Final = 0x40000000
PR_SET_PDEATHSIG: Final = 1

LINKS: Final = (
    # One end and the other, and the network between them: 10.77.N.0/24 and fd77:N::/64.
    ("a", "r", 1),
    ("r", "r2", 2),
    ("r2", "b", 3),
    ("r2", "b", 4),
)

ROUTES: Final = {
    "a": ("10.77.0.0/16 via 10.77.1.2", "fd77::/16 via fd77:1::2"),
    "r": (
        "10.77.3.0/24 via 10.77.2.2",
        "10.77.4.0/24 via 10.77.2.2",
        "10.77.8.0/24 via 10.77.2.2",
        "10.77.9.0/24 via 10.77.2.2",
        "fd77:3::/64 via fd77:2::2",
        "fd77:4::/64 via fd77:2::2",
        "fd77:8::/64 via fd77:2::2",
        "fd77:9::/64 via fd77:2::2",
        # Where A's other addresses are; B does not know of 10.88 and fd88.
        "10.88.0.0/24 via 10.77.1.1",
        "10.89.0.0/24 via 10.77.1.1",
        "fd88::/64 via fd77:1::1",
        "fd89::/64 via fd77:1::1",
    ),
    "r2": (
        "10.77.1.0/24 via 10.77.2.1",
        "10.77.9.0/24 via 10.77.2.1",  # where R says that it is here: a loop
        "10.88.0.0/24 via 10.77.2.1",
        "10.89.0.0/24 via 10.77.2.1",
        "fd77:1::/64 via fd77:2::1",
        "fd77:9::/64 via fd77:2::1",
        "fd88::/64 via fd77:2::1",
        "fd89::/64 via fd77:2::1",
    ),
    "b": (
        "10.77.0.0/16 via 10.77.3.1",
        "10.89.0.0/24 via 10.77.3.1",
        "fd77::/16 via fd77:3::1",
        "fd89::/64 via fd77:3::1",
    ),
}

SETTINGS: Final = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # Addresses are there at once, and nobody announces routers.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    # All rows are run at once, so that a router has much to say to one client.
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratelimit": "0",
}
WHERE_THERE_IS_SUCH: Final = {
    # Newer kernels have these for each namespace; on older ones they are the host's business.
    "ipv4/icmp_msgs_per_sec": "10000",
    "ipv4/icmp_msgs_burst": "10000",
}

FIREWALL: Final = "add table inet lab\n" + "".join(
    f"add chain inet lab {hook} {{ type filter hook {hook} priority 0; }}\n"
    for hook in ("input", "forward", "output")
)

_libc = ctypes.CDLL(None, use_errno=True)


class Impossible(Exception):
    """The lab cannot be set up here."""


def _call(function: str, *arguments: int) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise Impossible(f"{function}: {os.strerror(code)}")


class Lab:
    """The namespaces; the thread that makes them is in the last one then."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self._descriptors: dict[str, int] = {}
        for name in names:
            _call("unshare", CLONE_NEWNET)
            self._descriptors[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._now = names[-1]

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be in a namespace; sockets stay where they were made."""
        before, self._now = self._now, name
        _call("setns", self._descriptors[name], CLONE_NEWNET)
        try:
            yield
        finally:
            self._now = before
            _call("setns", self._descriptors[before], CLONE_NEWNET)

    def path(self, name: str) -> str:
        """Where other programs find a namespace, as long as this one holds it."""
        return f"/proc/{os.getpid()}/fd/{self._descriptors[name]}"

    def close(self) -> None:
        """Let go of the namespaces."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def numbers(self) -> list[int]:
        """What the kernel calls the namespaces."""
        return [os.fstat(descriptor).st_ino for descriptor in self._descriptors.values()]

    def run(self, name: str, *command: str, given: str) -> None:
        """Run a program in a namespace; it reads what to do."""
        path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        with self.inside(name):
            done = subprocess.run(
                [path or command[0], *command[1:]],
                input=given,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise Impossible(f"{' '.join(command)} in {name}: {done.stderr.strip()}\n{given}")

    def build(self) -> None:
        """Make the links, addresses, routes and empty firewalls."""
        batches: dict[str, list[str]] = {name: ["link set lo up"] for name in NAMES}
        for one, other, net in LINKS:
            peer = f"peer name n{net} netns {self.path(other)}"
            batches[one].append(f"link add n{net} type veth {peer}")
        for one, other, net in LINKS:
            for place, name in enumerate((one, other), start=1):
                batches[name] += [
                    f"address add 10.77.{net}.{place}/24 dev n{net}",
                    f"address add fd77:{net}::{place}/64 dev n{net} nodad",
                    f"link set n{net} up",
                ]
        batches["r2"].append(f"link set n4 mtu {MTU}")
        for net in (3, 4):
            # Without preference, or it would be what B sends datagrams from.
            batches["b"] += [
                f"address add 10.77.{net}.3/24 dev n{net}",
                f"address add fd77:{net}::3/64 dev n{net} nodad preferred_lft 0",
            ]
        for net in (88, 89):
            batches["a"] += [
                f"address add 10.{net}.0.1/32 dev lo",
                f"address add fd{net}::1/128 dev lo nodad",
            ]
        for name, routes in ROUTES.items():
            batches[name] += [f"route add {route}" for route in routes]
        for name in NAMES:
            self.set(name, SETTINGS)
            with contextlib.suppress(Impossible):
                self.set(name, WHERE_THERE_IS_SUCH)
            self.run(name, "ip", "-batch", "-", given="\n".join(batches[name]))
            self.run(name, "nft", "-f", "-", given=FIREWALL)

    def wait(self) -> None:
        """Until each neighbour knows the others, so that no first packet waits for that."""
        for host in ("10.77.3.2", "fd77:3::2", "10.77.4.2", "fd77:4::2"):
            for _ in range(50):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                with self.inside("a"), socket.socket(family) as dialler:
                    dialler.settimeout(0.1)
                    if dialler.connect_ex((host, 1)) == errno.ECONNREFUSED:
                        break
            else:
                raise Impossible(f"{host} is not there")

    def get(self, name: str, settings: Iterable[str]) -> dict[str, str]:
        """Read under /proc/sys/net."""
        with self.inside(name):
            return {key: Path("/proc/sys/net", key).read_text() for key in settings}

    def set(self, name: str, settings: dict[str, str]) -> None:
        """Write under /proc/sys/net."""
        with self.inside(name):
            for key, value in settings.items():
                try:
                    Path("/proc/sys/net", key).write_text(value)
                except OSError as error:
                    raise Impossible(f"/proc/sys/net/{key}: {error.strerror}") from error


class Server:
    """What is on one port of B.

    Kinds: `answers` to what it is asked, is `silent`, or `resets` what it has accepted.
    """

    def __init__(
        self, kind: str, bound: socket.socket, transport: Transport, answer: bytes = b"!"
    ) -> None:
        self.kind = kind
        self._answer = answer
        self._bound = bound
        self._held: list[socket.socket] = []
        ready = self._accept if transport is Transport.TCP else self._datagram
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(bound, ready)

    def hang_up(self) -> None:
        """Close what it has accepted."""
        for accepted in self._held:
            self.loop.remove_reader(accepted)
            accepted.close()
        self._held.clear()

    def _accept(self) -> None:
        accepted, _ = self._bound.accept()
        if self.kind == "resets":
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            accepted.close()
            return
        accepted.setblocking(False)
        self._held.append(accepted)
        self.loop.add_reader(accepted, self._receive, accepted)

    def _receive(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if accepted.recv(100_000):
                if self.kind == "answers":
                    accepted.send(self._answer)
                return
        self.loop.remove_reader(accepted)

    def _datagram(self) -> None:
        _, peer = self._bound.recvfrom(1000)
        if self.kind == "answers":
            self._bound.sendto(self._answer, peer)


def _bound(host: str, port: int, transport: Transport) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    bound = socket.socket(family, kind)
    bound.setblocking(False)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_STREAM:  # a service that comes again finds what it left
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    if kind == socket.SOCK_STREAM:
        bound.listen(16)
    return bound


def _asking(size: int) -> Protocol:
    """Ask in so many bytes, and be content with any answer."""

    def check(_: Target) -> Exchange:
        answer = yield bytes(size)
        return Verdict(Outcome.OPEN if answer else Outcome.RESET)

    return Protocol(check, REGISTRY["tcp"].stand_in)


async def observe(lab: Lab, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run all checks of all rows at once."""
    loop = asyncio.get_running_loop()
    servers = []
    with lab.inside("b"):
        for row in rows:
            if row["server"]:
                transport = Transport(row["transport"])
                servers += [
                    Server(row["server"], _bound(host, row["port"], transport), transport)
                    for host in ("0.0.0.0", "::")
                ]
    results: list[dict[str, Any]] = []
    over = asyncio.Event()
    wanted = sum(len(row["dial"]) for row in rows)

    engine = Engine(loop)
    prober = Prober(engine, clock.system())

    def start(row: dict[str, Any], family: str, address: str) -> None:
        began = time.monotonic()

        def done(seen: Observation) -> None:
            results.append(
                {
                    "name": row["name"],
                    "family": family,
                    "outcome": seen.outcome,
                    "evidence": seen.evidence,
                    "local": seen.local,
                    "offender": seen.offender,
                    "seconds": time.monotonic() - began,
                }
            )
            if len(results) == wanted:
                over.set()

        transport = Transport(row["transport"])
        spec = CheckSpec("b", "b:1", address, row["port"], transport, "tcp", "")
        plain = Target(address, transport=transport)
        job = Job(0, spec, _asking(row["size"]), (address, row["port"]), plain)
        with lab.inside(row["source"]):
            prober.start(job, row["timeout_s"], done)

    for row in rows:
        for family, address in row["dial"].items():
            start(row, family, address)
    await over.wait()
    engine.close()
    return results


def main() -> None:
    """Set up, check, tell."""
    # Whoever started it may be killed before it ends.
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    given = json.loads(sys.stdin.read())
    try:
        lab = Lab()
        _tell(lab.numbers())
        lab.build()
        lab.wait()
        for name in NAMES:
            firewall = [rule for row in given for rule in row["firewall"].get(name, ())]
            routes = [route for row in given for route in row["routes"].get(name, ())]
            lab.run(name, "nft", "-f", "-", given="\n".join(firewall))
            lab.run(name, "ip", "-batch", "-", given="\n".join(routes))
            for row in given:
                lab.set(name, row["settings"].get(name, {}))
    except Impossible as error:
        sys.exit(f"impossible: {error}")
    _tell(asyncio.run(observe(lab, given)))


def _tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
