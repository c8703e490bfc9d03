"""The lab with a whole deployment in it: collector, NATS server and agents as real processes.

    a (sources) --- r --- r2 --- b (destination)

The bus has a way of its own (s, where collector and NATS server are, has a link to a and one to b),
so that no fault touches it. Faults come in rounds, and heal. Run like lab.py: it reads the rounds as
JSON, and writes what `reachmap flows` and `reachmap explain` said of each fault.
"""

import asyncio
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lab import FIREWALL, PR_SET_PDEATHSIG, Impossible, Lab, Server, _bound, _call, _libc

from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_shared import bus
from reachmap_shared.access import write_secret
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.permissions import Party
from reachmap_shared.vocabulary import Transport

Json = dict[str, Any]

NEAR: Final = 9000
"""A port of b's that always works."""
ELSEWHERE: Final = 7002
"""Where r2 has a server of its own."""
BUS: Final = {"a": "10.99.1.1", "b": "10.99.2.1"}
"""Where each of them finds the bus."""
BUS_PORT: Final = 4222
PATIENCE_S: Final = 30.0

TOPOLOGY: Final = """
checks = {{ interval_s = 1.0, timeout_s = 1.5 }}
[roles.server]
listens = {{ {listens} }}
[hosts.b]
roles = ["server"]
addresses = ["10.77.3.2", "fd77:3::2"]
{sources}
"""
SOURCE: Final = """
[roles.{name}]
connects = [{connects}]
[hosts.{name}]
roles = ["{name}"]
addresses = ["10.77.1.1"]
"""


def topology(faults: list[Json]) -> str:
    """Each source dials the ports of its faults, and one that works."""
    ports = [fault["port"] for fault in faults]
    listens = ", ".join(f'"server:{port}" = {{ protocol = "tcp" }}' for port in (*ports, NEAR))
    sources = ""
    for name in sorted({fault["source"] for fault in faults}):
        own = [fault["port"] for fault in faults if fault["source"] == name]
        connects = ", ".join(f'"server:{port}"' for port in (*own, NEAR))
        sources += SOURCE.format(name=name, connects=connects)
    return TOPOLOGY.format(listens=listens, sources=sources)


class Failed(Exception):
    """Something did not come about."""


class Deployment:
    """The processes, and the command line."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._store = Store(folder / "data")

    def link(self) -> None:
        """The bus's own links."""
        for number, name in enumerate(BUS, start=1):
            where = f"/proc/{os.getpid()}/fd/{self._lab._descriptors[name]}"
            batches = {
                "s": [
                    f"link add to-{name} type veth peer name bus netns {where}",
                    f"address add 10.99.{number}.1/24 dev to-{name}",
                    f"link set to-{name} up",
                ],
                name: [f"address add 10.99.{number}.2/24 dev bus", "link set bus up"],
            }
            for namespace, batch in batches.items():
                self._lab.run(namespace, "ip", "-batch", "-", given="\n".join(batch))

    async def serve(self, text: str) -> None:
        """Start the collector with a NATS server of its own."""
        path = self._folder / "topology.toml"
        path.write_text(text)
        names = [word for address in BUS.values() for word in ("--nats-name", address)]
        self._start(
            *("s", "reachmap_collector", "serve", "--topology", str(path)),
            *("--data", str(self._folder / "data"), "--nats", "embedded"),
            *("--nats-port", str(BUS_PORT), "--nats-listen", "0.0.0.0", *names),
        )
        await until((self._store.folder / "place.json").exists, "the collector's server is up")

    def agent(self, where: str, name: str) -> None:
        """Start an agent."""
        bundle = self._store.enroll(name, Mode.JWT)
        credentials, ca = self._folder / f"{name}.creds", self._folder / "ca.pem"
        write_secret(credentials, bundle.credentials)
        ca.write_text(bundle.ca)
        self._start(
            *(where, "reachmap_agent", "run", "--id", name, "--config", os.devnull),
            *("--nats", f"tls://{BUS[where]}:{BUS_PORT}", "--nats-ca", str(ca)),
            *("--nats-credentials", str(credentials), "--state", str(self._folder / name)),
        )

    def _start(self, where: str, module: str, *arguments: str) -> None:
        with (
            (self._folder / f"{len(self._running)}.log").open("wb") as output,
            self._lab.inside(where),
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # If this program is killed, its children may not outlive it.
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        self._running.append(process)

    @contextlib.asynccontextmanager
    async def asking(self) -> Any:
        """A connection of an operator's."""
        access = self._store.access(Party.OPERATOR, Mode.JWT)
        url = f"tls://{BUS['a']}:{BUS_PORT}"
        async with bus.connected([url], "lab", access) as connection:
            yield connection

    def reachmap(self, *arguments: str) -> str:
        """What the command line prints."""
        access = self._store.access(Party.OPERATOR, Mode.JWT)
        done = subprocess.run(
            [sys.executable, "-m", "reachmap_collector", *arguments],
            env={
                **os.environ,
                "COLUMNS": "140",
                "REACHMAP_NATS_URL": f"tls://{BUS['a']}:{BUS_PORT}",
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

    def logs(self) -> str:
        """The ends of what all processes said."""
        found = sorted(self._folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in found)

    def stop(self) -> None:
        """End all processes, the collector last."""
        for process in reversed(self._running):
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
        await asyncio.sleep(0.1)


class Watch:
    """The flows, asked again and again."""

    def __init__(self, connection: Bus) -> None:
        self._connection = connection
        self.flows: list[Json] = []

    async def look(self) -> None:
        """Ask for all flows."""
        with contextlib.suppress(BusUnavailable):  # it has a moment to answer, or is asked again
            self.flows = (await self._connection.query("flows", {}))["flows"]

    def of(self, fault: Json) -> list[Json]:
        """The flows of a fault: one of each family."""
        return [
            one
            for one in self.flows
            if (one["source"], one["port"]) == (fault["source"], fault["port"])
        ]

    async def are_ok(self) -> bool:
        """Whether every flow is well, and there are some."""
        await self.look()
        return bool(self.flows) and all(one["state"] == "ok" for one in self.flows)


async def found(deployment: Deployment, watch: Watch, faults: list[Json]) -> list[Json]:
    """Wait until each of the round's flows was looked into, and hear what is told of it."""
    took: dict[tuple[str, str, int], float] = {}

    async def are_found() -> bool:
        await watch.look()
        for flow in [flow for fault in faults for flow in watch.of(fault)]:
            place = flow["source"], flow["address"], flow["port"]
            if flow["state"] == "broken" and flow["confidence"] != "unknown" and place not in took:
                asked = {"source": place[0], "destination": "b", "port": place[2]}
                told = (await watch._connection.query("explain", asked))["flows"]
                if any(one["diagnosis"] and one["address"] == place[1] for one in told):
                    since = datetime.datetime.fromisoformat(flow["since"]).timestamp()
                    took[place] = time.time() - since
        return len(took) == 2 * len(faults)

    try:
        await until(are_found, f"{' and '.join(fault['name'] for fault in faults)}: found")
    except Failed as error:
        seen = [json.dumps(flow, indent=1) for fault in faults for flow in watch.of(fault)]
        raise Failed(f"{error}\n{chr(10).join(seen)}") from error
    told = json.loads(deployment.reachmap("flows", "--format", "json"))
    results = []
    for fault in faults:
        text = deployment.reachmap("explain", fault["source"], f"b:{fault['port']}")
        for flow in told:
            place = flow["source"], flow["address"], flow["port"]
            if (place[0], place[2]) == (fault["source"], fault["port"]):
                family = "v6" if ":" in flow["address"] else "v4"
                results.append(
                    {"name": fault["name"], "family": family, "took_s": took[place]}
                    | {"flow": flow, "explained": text}
                )
    near = [flow for flow in told if flow["port"] == NEAR]
    results += [{"name": "open", "family": "", "flow": flow} for flow in near]
    return results


def serve(lab: Lab, faults: list[Json]) -> dict[int, list[Server]]:
    """The services: those that stop are there at first."""
    servers: dict[int, list[Server]] = {}
    for fault in faults:
        if fault["stops"]:
            with lab.inside("b"):
                bound = [_bound(host, fault["port"], Transport.TCP) for host in ("0.0.0.0", "::")]
            servers[fault["port"]] = [Server("answers", one, Transport.TCP) for one in bound]
    with lab.inside("r2"):
        bound = [_bound(host, ELSEWHERE, Transport.TCP) for host in ("0.0.0.0", "::")]
    servers[ELSEWHERE] = [Server("answers", one, Transport.TCP) for one in bound]
    return servers


async def observe(lab: Lab, deployment: Deployment, rounds: list[list[Json]]) -> list[Json]:
    """Bring each fault about, and hear what is told of it."""
    faults = [fault for some in rounds for fault in some]
    servers = serve(lab, faults)
    await deployment.serve(topology(faults))
    deployment.agent("b", "b")
    for name in sorted({fault["source"] for fault in faults}):
        deployment.agent("a", name)
    results: list[Json] = []
    async with deployment.asking() as connection:
        watch = Watch(connection)
        await until(watch.are_ok, "all is well at first")
        for some in rounds:
            for fault in some:
                for name, rules in fault["firewall"].items():
                    lab.run(name, "nft", "-f", "-", given="\n".join(rules))
                if fault["stops"]:
                    for server in servers[fault["port"]]:
                        asyncio.get_running_loop().remove_reader(server._bound)
                        server._bound.close()
            results += await found(deployment, watch, some)
            for name in ("r", "r2", "b"):
                lab.run(name, "nft", "-f", "-", given=f"flush ruleset\n{FIREWALL}")
            for fault in some:
                if not fault["stops"]:
                    await until(lambda fault=fault: healed(watch, fault), f"{fault['name']}: heals")
        results += [{"name": "healed", "family": "", "flow": flow} for flow in watch.flows]
    return results


async def healed(watch: Watch, fault: Json) -> bool:
    """Whether the flows of a fault are well again."""
    await watch.look()
    return all(flow["state"] == "ok" for flow in watch.of(fault))


def main() -> None:
    """Set up, break, tell."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    rounds = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        try:
            lab = Lab()
            lab.build()
            lab.wait()
            deployment = Deployment(lab, Path(folder))
            deployment.link()
        except Impossible as error:
            sys.exit(f"impossible: {error}")
        try:
            results = asyncio.run(observe(lab, deployment, rounds))
        except Failed as error:
            sys.exit(f"{error}\n{deployment.logs()}")
        finally:
            deployment.stop()
    sys.stdout.write(json.dumps(results) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
