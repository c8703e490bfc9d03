"""A deployment in namespaces: the collector with its NATS server, and agents, as real processes.

The bus is in a namespace of its own, and has a link of its own to each host that has an agent, so
that no fault on the hosts' network touches it.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lab import PR_SET_PDEATHSIG, Lab, _libc

from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_shared import bus
from reachmap_shared.access import write_secret
from reachmap_shared.bus import Bus
from reachmap_shared.permissions import Party

Json = dict[str, Any]

HUB: Final = "hub"
BUS: Final = "10.90.0.1"
"""Where everybody finds the bus."""
BUS_PORT: Final = 4222
PATIENCE_S: Final = 90.0

PR_CAPBSET_DROP: Final = 24
CAP_NET_RAW: Final = 13


class Failed(Exception):
    """Something did not come about."""


class Deployment:
    """The bus and the collector, and whatever joins them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = Store(folder / "data")
        self._hub = Lab((HUB,))
        self._hub.run(
            HUB, "ip", "-batch", "-", given=f"link set lo up\naddress add {BUS}/32 dev lo"
        )
        self._collector: subprocess.Popen[bytes] | None = None

    def attach(self, lab: Lab, number: int) -> None:
        """Give both ends of a lab a way to the bus."""
        for net, name in ((98, "a"), (99, "b")):
            link, place = f"{name}{number}", f"10.{net}.{number}"
            batches = {
                HUB: [
                    f"link add {link} type veth peer name bus netns {lab.path(name)}",
                    f"address add {place}.1/24 dev {link}",
                    f"link set {link} up",
                ],
                name: [
                    f"address add {place}.2/24 dev bus",
                    "link set bus up",
                    f"route add {BUS}/32 via {place}.1",
                ],
            }
            for namespace, batch in batches.items():
                where = self._hub if namespace == HUB else lab
                where.run(namespace, "ip", "-batch", "-", given="\n".join(batch))

    async def serve(self, topology: str) -> None:
        """Start the collector with a NATS server of its own."""
        path = self._folder / "topology.toml"
        path.write_text(topology)
        self._collector = self._start(
            self._hub,
            HUB,
            "collector",
            *("-m", "reachmap_collector", "serve", "--topology", str(path)),
            *("--data", str(self._folder / "data"), "--nats", "embedded"),
            *("--nats-port", str(BUS_PORT), "--nats-listen", "0.0.0.0", "--nats-name", BUS),
        )
        await until((self._store.folder / "place.json").exists, "the collector's server is up")

    def agent(
        self, lab: Lab, where: str, name: str, *, raw: bool, falsehood: str = "", shows: Path
    ) -> subprocess.Popen[bytes]:
        """Start an agent; a false one is none that ought to be believed."""
        bundle = self._store.enroll(name, Mode.JWT)
        credentials, ca = self._folder / f"{name}.creds", self._folder / f"{name}.pem"
        write_secret(credentials, bundle.credentials)
        ca.write_text(bundle.ca)
        false = Path(__file__).with_name("false_agent.py")
        return self._start(
            lab,
            where,
            name,
            *([str(false)] if falsehood else ["-m", "reachmap_agent"]),
            *("run", "--id", name, "--config", os.devnull),
            *("--nats", f"tls://{BUS}:{BUS_PORT}", "--nats-ca", str(ca)),
            *("--nats-credentials", str(credentials), "--state", str(self._folder / name)),
            *("--certificate", str(shows), "--key", str(shows)),
            environment={"FALSEHOOD": falsehood},
            raw=raw,
        )

    def _start(
        self,
        lab: Lab,
        where: str,
        log: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        raw: bool = True,
    ) -> subprocess.Popen[bytes]:
        def prepare() -> None:
            # If this program is killed, its children may not outlive it.
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if not raw:  # root would have it again after exec, were it not out of bounds
                _libc.prctl(PR_CAPBSET_DROP, CAP_NET_RAW)

        with (self._folder / f"{log}.log").open("ab") as output, lab.inside(where):
            return subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                preexec_fn=prepare,
            )

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Bus]:
        """A connection of an operator's."""
        access = self._store.access(Party.OPERATOR, Mode.JWT)
        async with bus.connected([f"tls://{BUS}:{BUS_PORT}"], "lab", access) as connection:
            yield connection

    def reachmap(self, *arguments: str) -> str:
        """What the command line prints."""
        access = self._store.access(Party.OPERATOR, Mode.JWT)
        with self._hub.inside(HUB):
            done = subprocess.run(
                [sys.executable, "-m", "reachmap_collector", *arguments],
                env={
                    **os.environ,
                    "COLUMNS": "140",
                    "REACHMAP_NATS_URL": f"tls://{BUS}:{BUS_PORT}",
                    "REACHMAP_NATS_CREDENTIALS": str(access.credentials),
                    "REACHMAP_NATS_CA": str(access.ca),
                },
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode not in (0, 1):  # 1: something is broken, as it should be
            raise Failed(f"reachmap {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def said(self, *names: str) -> str:
        """The ends of what some processes said."""
        found = [self._folder / f"{name}.log" for name in names]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in found)

    def stop(self) -> None:
        """End the collector."""
        if self._collector is not None:
            end(self._collector)
        self._hub.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a process end, in order if it can."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds, which may have to be awaited."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        holds = condition()
        if asyncio.iscoroutine(holds):
            holds = await holds
        if holds:
            return
        if time.monotonic() > deadline:
            raise Failed(f"not within {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(0.3)
