"""A real NATS server with the stream and the bucket, and real agents on it, for the benchmarks."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from common import ADDRESS, free_port, on_core
from nats.aio.client import Client

from reachmap_shared import codec, keys, subjects
from reachmap_shared.messages import CheckSpec, Plan, Pulse, Report
from reachmap_shared.vocabulary import Transport

PATIENCE_S = 20.0


class Deployment:
    """One server, and who talks to it."""

    def __init__(self, folder: Path, port: int, monitor: int) -> None:
        self.folder = folder
        self.url = f"nats://{ADDRESS}:{port}"
        self._monitor = monitor
        self.client = Client()
        self.reports: list[tuple[float, int, Report]] = []
        """When each came, the bytes of its payload, and what it says."""
        self.pulse = Pulse("", "", 0, 0, 0, "", 0, 0)
        """The latest of any agent."""
        self.pulsed = asyncio.Event()
        """Set with each."""

    async def prepare(self, *, listening: bool) -> None:
        """Make the stream and the bucket, and perhaps listen to reports as they come."""
        await self.client.connect(self.url)
        streams: tuple[tuple[str, str, dict[str, Any]], ...] = (
            (subjects.REPORT_STREAM, subjects.ALL_REPORTS, {}),
            (
                subjects.PLAN_STREAM,
                f"$KV.{subjects.PLAN_BUCKET}.>",
                {"allow_direct": True, "max_msgs_per_subject": 1},
            ),
        )
        for name, subject, its in streams:
            await self.ask(
                f"STREAM.CREATE.{name}", name=name, subjects=[subject], discard="new", **its
            )
        if not listening:
            return

        async def hear(message: Any) -> None:
            report = codec.decode(Report, message.data)
            self.reports.append((time.monotonic(), len(message.data), report))

        async def feel(message: Any) -> None:
            self.pulse = codec.decode(Pulse, message.data)
            self.pulsed.set()

        await self.client.subscribe(subjects.ALL_REPORTS, cb=hear)
        await self.client.subscribe(subjects.ALL_PULSES, cb=feel)

    async def ask(self, what: str, **body: Any) -> dict[str, Any]:
        """Ask JetStream."""
        reply = await self.client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=5)
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    async def put_plan(self, plan: Plan) -> None:
        """Put a plan into the bucket."""
        await self.client.publish(subjects.plan(plan.agent), codec.encode(plan))
        await self.client.flush()

    def payload_bytes(self, agent: str) -> int:
        """What the server counts of an agent's connection: bytes of payload that came from it."""
        with urllib.request.urlopen(f"http://{ADDRESS}:{self._monitor}/connz?limit=9999") as page:
            connections = json.load(page)["connections"]
        named = f"reachmap-agent {agent}"
        return sum(one["in_bytes"] for one in connections if one.get("name") == named)

    @contextmanager
    def agent(self, name: str, core: int | None = None) -> Iterator[int]:
        """A real agent; its process's number."""
        command = [
            *(sys.executable, "-m", "reachmap_agent", "run", "--id", name, "--nats", self.url),
            *("--address", ADDRESS, "--state", str(self.folder / "state")),
        ]
        command = command if core is None else on_core(core, command)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield process.pid
            finally:
                process.terminate()


@asynccontextmanager
async def deployed(*, listening: bool = True) -> AsyncIterator[Deployment]:
    """A server on free ports, ready, and its traffic heard if wanted; it goes with the block."""
    found = shutil.which(
        "nats-server", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin"
    )
    if found is None:
        sys.exit("no nats-server is installed")
    with tempfile.TemporaryDirectory() as name:
        folder, port, monitor = Path(name), free_port(), free_port()
        configuration = folder / "nats-server.conf"
        configuration.write_text(
            f'listen: "{ADDRESS}:{port}"\nhttp: "{ADDRESS}:{monitor}"\n'
            f'jetstream {{ store_dir: "{folder}/jetstream" }}\n'
        )
        command = on_core(1, [found, "--config", str(configuration)])
        with _running(command):
            made = Deployment(folder, port, monitor)
            await until(lambda: _answers(monitor))
            await made.prepare(listening=listening)
            try:
                yield made
            finally:
                await made.client.close()


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def plan(agent: str, flows: int, port: int, interval_s: float) -> Plan:
    """Checks of one accept loop, each at another address of loopback."""
    checks = tuple(
        CheckSpec("b", f"web:{n + 1}", _address(n), port, Transport.TCP, "tcp", "", False)
        for n in range(flows)
    )
    secret = b"benchmark"
    return Plan(
        agent,
        f"{flows:016x}",
        interval_s,
        3.0,
        "",
        keys.to_text(keys.deployment_key(secret)),
        keys.to_text(keys.host_key(secret, agent)),
        (),
        checks,
    )


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("the deployment does not come up")
        await asyncio.sleep(0.05)


def cpu_s(process: int) -> float:
    """The seconds of CPU that a process has taken so far, all its threads together."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def core_wait_s(process: int) -> float:
    """For how long the threads of a process had something to do, and no core to do it on."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9


def rss_kib(process: int) -> int:
    """A process's memory now."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _address(number: int) -> str:
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


def _answers(monitor: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{monitor}/healthz", timeout=1) as page:
            return bool(page.status == 200)
    except OSError:
        return False
