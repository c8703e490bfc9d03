"""The demo's processes: collector, NATS servers and agents, and what they leave behind."""

import asyncio
import contextlib
import os
import statistics
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reachmap_collector import embedded
from reachmap_collector.demo.deployment import CLIENTS, CLUSTER, DemoHost, Deployment
from reachmap_collector.errors import ServerError
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_collector.process import own_program, start, stop
from reachmap_shared.access import Access, write_secret
from reachmap_shared.permissions import Party


class Fleet:
    """Every process of the demo, by name; `stop_all` ends them together."""

    def __init__(self, folder: Path, deployment: Deployment, bus_port: int) -> None:
        self._folder = folder
        self._deployment = deployment
        self._nats_hosts = [host for host in deployment.hosts if "nats-server" in host.roles]
        self._bus_port = bus_port
        self._processes: dict[str, Process] = {}
        self._server = Path()
        self._store = Store(folder / "collector")

    @property
    def access(self) -> Access:
        """How the command line connects to the collector's own NATS server."""
        return self._store.access(Party.OPERATOR, Mode.JWT)

    @property
    def bus_url(self) -> str:
        """Where the collector's own NATS server is."""
        return f"nats://{embedded.HOST}:{self._bus_port}"

    async def start_all(self) -> None:
        """Start everything: the services that are real first, so that agents find them."""
        self._server = await embedded.find_server()
        (self._folder / "topology.toml").write_text(self._deployment.topology())
        self._store.prepare()
        self._store.seeds()
        await self._start_collector()
        for host in self._nats_hosts:
            await self.start_nats(host.name)
        for host in self._deployment.hosts:
            await self._start_agent(host)

    async def stop_all(self) -> None:
        """End every process."""
        await stop(*self._processes.values())
        self._processes.clear()

    async def start_nats(self, name: str) -> None:
        """Start the NATS server that is one of the deployment's services, and wait for it."""
        host = next(host for host in self._nats_hosts if host.name == name)
        port = self._deployment.port(name, CLIENTS)
        config = self._folder / f"{name}.conf"
        config.write_text(self._nats_configuration(host))
        process = await self._start(f"nats-server on {name}", str(self._server), "-c", str(config))
        await embedded.until_it_answers(
            process, host.address, port, self._log(f"nats-server on {name}")
        )

    async def stop_nats(self, name: str) -> None:
        """Stop it again."""
        await stop(self._processes.pop(f"nats-server on {name}"))

    def must_be_well(self) -> None:
        """Raise ServerError with a process's last words when one has ended by itself."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                lines = self._log(name).read_text(errors="replace").splitlines()
                raise ServerError("\n".join([f"{name} ended by itself:", *lines[-5:]]))

    def agent_memory_mb(self) -> float | None:
        """Median resident memory of the agents; None where the system does not tell."""
        sizes = [size for name in self._processes if (size := self._memory_mb(name)) is not None]
        return statistics.median(sizes) if sizes else None

    def _memory_mb(self, name: str) -> float | None:
        if not name.startswith("agent"):
            return None
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._processes[name].pid}/status").read_text()
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return None

    async def _start_collector(self) -> None:
        await self._start(
            "collector",
            *_command("reachmap_collector", "reachmap"),
            "serve",
            *("--topology", str(self._folder / "topology.toml")),
            *("--data", str(self._folder / "collector")),
            *("--nats", "embedded", "--nats-port", str(self._bus_port)),
        )

    async def _start_agent(self, host: DemoHost) -> None:
        credentials = self._folder / f"{host.name}.creds"
        write_secret(credentials, self._store.enroll(host.name, Mode.JWT).credentials)
        await self._start(
            f"agent on {host.name}",
            *_command("reachmap_agent", "reachmap-agent"),
            "run",
            *("--id", host.name, "--address", host.address, "--nats", self.bus_url),
            *("--nats-credentials", str(credentials)),
            *("--state", str(self._folder / "state"), "--config", os.devnull),
        )

    async def _start(self, name: str, *command: str) -> Process:
        with self._log(name).open("ab") as output:
            self._processes[name] = await start(*command, output=output)
        return self._processes[name]

    def _log(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '-')}.log"

    def _nats_configuration(self, host: DemoHost) -> str:
        routes = ", ".join(
            f'"nats-route://{other.address}:{self._deployment.port(other.name, CLUSTER)}"'
            for other in self._nats_hosts
            if other is not host
        )
        return (
            f'server_name: "{host.name}"\n'
            f'listen: "{host.address}:{self._deployment.port(host.name, CLIENTS)}"\n'
            f'cluster {{ name: "openuem", routes: [{routes}],\n'
            f'  listen: "{host.address}:{self._deployment.port(host.name, CLUSTER)}" }}\n'
        )


def _command(module: str, name: str) -> tuple[str, ...]:
    command = own_program(module, name)
    if command is None:
        raise ServerError("the demo needs the agent too: install reachmap-agent")
    return command


@asynccontextmanager
async def fleet(folder: Path, deployment: Deployment, bus_port: int) -> AsyncIterator[Fleet]:
    """Start the demo's processes, and end them whatever happens."""
    _command("reachmap_agent", "reachmap-agent")  # or say at once that it is not there
    processes = Fleet(folder, deployment, bus_port)
    try:
        await processes.start_all()
        yield processes
    finally:
        await processes.stop_all()


@asynccontextmanager
async def impostor(address: str, port: int, greeting: bytes) -> AsyncIterator[None]:
    """A service that does not belong on a port: it greets in a protocol of its own."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(greeting)
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, address, port)
    try:
        yield
    finally:
        server.close()
