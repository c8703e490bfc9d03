"""The fault matrix, with everything real: faults in namespaces, told by a whole deployment.

    a (source) --- r --- r2 === b (destination)        each row has these for itself
         \\__________ hub __________/                   where the collector and the bus are

Collector and NATS server run once, for all rows. A row's network and agents are made for it alone,
since a host's counters, the kernel's memory of routes and what an agent has looked into lately are
no part of its fault. All is well at first; then the fault comes, is found, and goes again. Run like
lab.py: it reads the rows as JSON, and writes what the map said of each of their flows.
"""

import asyncio
import datetime
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from deployment import PATIENCE_S, Deployment, Failed, end, until
from false_agent import FALSEHOODS
from lab import FIREWALL, PR_SET_PDEATHSIG, Impossible, Lab, _call
from services import NEAR, Services, write_certificate

from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable

Json = dict[str, Any]

AT_ONCE: Final = 10
"""Rows mostly wait; but each starts two agents, and what is late on a busy machine is no fault."""
STAYS_WELL_S: Final = 8.0
"""For how long a flow has to be well under a fault that does not touch it: a few checks, and the
pulse that tells of them."""

TOPOLOGY: Final = """
checks = {{ interval_s = 2.0, timeout_s = 3.5 }}
{roles}
"""
ROLES: Final = """
[roles.s{number}]
[roles.s{number}.listens]
"s{number}:{port}" = {{ protocol = "{protocol}", transport = "{transport}", listen = "{listen}" }}
[roles.c{number}]
connects = [{connects}]
[hosts.a-{number}]
roles = ["c{number}"]
addresses = ["10.77.1.1"]
[hosts.b-{number}]
roles = ["s{number}"{more}]
addresses = {addresses}
agent = {has_agent}
"""
NEARBY: Final = """
[roles.n{number}.listens]
"n{number}:{port}" = {{ protocol = "tcp", listen = "never" }}
"""
NEIGHBOUR: Final = """
[hosts.n-{number}]
roles = ["n{number}"]
addresses = {addresses}
agent = false
"""


def topology(rows: list[Json]) -> str:
    """A source and a destination for each row, and what works beside it."""
    roles = ""
    for number, row in enumerate(rows):
        services = [f"s{number}:{row['port']}"] + [f"n{number}:{NEAR}"] * row["near"]
        roles += ROLES.format(
            number=number,
            port=row["port"],
            protocol=row["protocol"],
            transport=row["transport"],
            listen="never" if row["server"] else "on-demand",
            connects=", ".join(f'"{service}"' for service in services),
            more=f', "n{number}"' if row["near"] and not row["near_dial"] else "",
            addresses=json.dumps(row["dial"]),
            has_agent=json.dumps(row["witness"] != "none"),
        )
        if row["near"]:
            roles += NEARBY.format(number=number, port=NEAR)
        if row["near_dial"]:
            addresses = json.dumps(row["near_dial"])
            roles += NEIGHBOUR.format(number=number, addresses=addresses)
    return TOPOLOGY.format(roles=roles)


class Site:
    """One row's network, with what runs there."""

    def __init__(
        self, deployment: Deployment, connection: Bus, number: int, row: Json, certificate: Path
    ) -> None:
        self._deployment = deployment
        self._connection = connection
        self._number = number
        self._row = row
        self._certificate = certificate
        self._source, self._destination = f"a-{number}", f"b-{number}"
        self._lab: Lab
        self._services: Services
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._before: dict[str, dict[str, str]] = {}
        self._flows: list[Json] = []
        self._proven: dict[str, set[tuple[str, str | None]]] = {}
        """What was said to be proven, at any time, by the address dialled."""

    async def told(self) -> list[Json]:
        """Break it, hear what is told of it, and heal it."""
        try:
            await self._set_up()
            await until(self._are_ok, "all is well at first")
            broken_at = time.time()
            await self._break()
            took = await self._found(broken_at)
            results = [
                {
                    "name": self._row["name"],
                    "raw": self._row["raw"],
                    "family": _family(flow["address"]),
                    "flow": flow,
                    "detected_s": _seconds(flow["since"]) - broken_at,
                    "took_s": took.get(flow["address"], (0.0, 0.0))[0],
                    "starved_s": took.get(flow["address"], (0.0, 0.0))[1],
                }
                for flow in self._looked_into()
            ]
            if self._row["tells"]:
                where = f"{self._destination}:{self._row['port']}"
                text = await asyncio.to_thread(
                    self._deployment.reachmap, "explain", self._source, where
                )
                results = [{**result, "explained": text} for result in results]
            await self._heal()
            await until(self._are_ok, "all is well again")
        except Failed as error:
            names = [*self._agents, "collector"]
            seen = "\n".join(json.dumps(flow, indent=1) for flow in self._flows)
            said = f"{self._row['name']}: {error}\n{self._deployment.said(*names)}\n{seen}"
            raise Failed(said) from error
        finally:
            await self._take_down()
        for result in results:
            result["proven"] = sorted(self._proven.get(result["flow"]["address"], ()), key=str)
        return results

    async def _set_up(self) -> None:
        row = self._row
        self._lab = await asyncio.to_thread(_made, self._deployment, self._number, row)
        self._services = Services(self._lab, row, self._certificate)
        await self._services.start()
        ends = {"a": self._source, "b": self._destination}
        if row["witness"] == "none":
            del ends["b"]
        is_false = row["witness"] in (*FALSEHOODS, "slow")
        for where, name in ends.items():
            self._agents[name] = await asyncio.to_thread(
                self._deployment.agent,
                self._lab,
                where,
                name,
                raw=row["raw"],
                falsehood=row["witness"] if is_false and where == "b" else "",
                shows=self._certificate,
            )

    async def _break(self) -> None:
        if self._row["witness"] == "silent":
            self._agents[self._destination].send_signal(signal.SIGSTOP)
        await asyncio.to_thread(self._change, "routes")
        await self._services.turn()

    def _change(self, routes: str) -> None:
        row, lab = self._row, self._lab
        for name, settings in row["settings"].items():
            self._before[name] = lab.get(name, settings)
            lab.set(name, settings)
        for name, lines in row["firewall"].items():
            lab.run(name, "nft", "-f", "-", given="\n".join(lines))
        for name, lines in row[routes].items():
            lab.run(name, "ip", "-batch", "-", given="\n".join(lines))

    async def _heal(self) -> None:
        await asyncio.to_thread(self._undo)
        await self._services.heal()
        for agent in self._agents.values():
            agent.send_signal(signal.SIGCONT)

    def _undo(self) -> None:
        row, lab = self._row, self._lab
        for name in row["firewall"]:
            lab.run(name, "nft", "-f", "-", given=f"flush ruleset\n{FIREWALL}")
        for name, lines in row["heals"].items():
            lab.run(name, "ip", "-batch", "-", given="\n".join(lines))
        for name, settings in self._before.items():
            lab.set(name, settings)

    async def _look(self) -> None:
        """Ask for this row's flows."""
        asked = {"filters": {"source": self._source}, "details": True}
        # Who asks again before the answer is there only makes a busy collector busier.
        try:
            answer = await self._connection.query("flows", asked, PATIENCE_S)
        except BusUnavailable as error:
            raise Failed(str(error)) from error
        self._flows = answer["flows"]
        for flow in self._flows:
            if flow["confidence"] == "proven":
                said = self._proven.setdefault(flow["address"], set())
                said.add((flow["cause"], flow["at"]))

    def _looked_into(self) -> list[Json]:
        """The flows that the row is about: one of each family."""
        return [flow for flow in self._flows if flow["port"] == self._row["port"]]

    async def _are_ok(self) -> bool:
        await self._look()
        count = len(self._row["dial"]) * (1 + self._row["near"])
        # What went up and down is not called well before some time has passed.
        fine = ("ok", "degraded") if self._row["luck"] else ("ok",)
        return len(self._flows) == count and all(flow["state"] in fine for flow in self._flows)

    async def _found(self, broken_at: float) -> dict[str, tuple[float, float]]:
        """Wait until each broken flow was looked into.

        Returns:
            By address, how long that took, and for how much of it somebody waited for a processor.
        """
        took: dict[str, tuple[float, float]] = {}
        starved = {}
        if self._row["heals_s"]:
            await self._half_way()
            broken_at = time.time()

        async def are_found() -> bool:
            await self._look()
            for flow in self._looked_into():
                address = flow["address"]
                if self._is_well(flow):
                    if _seconds(flow["checked"]) > broken_at + STAYS_WELL_S:
                        took.setdefault(address, (0.0, 0.0))
                elif flow["state"] == "broken" and flow["diagnosis"]:
                    waited_s = _starved_s() - starved.get(address, _starved_s())
                    took.setdefault(address, (time.time() - _seconds(flow["since"]), waited_s))
                else:  # or it broke anew, and is looked into again
                    if flow["state"] != "broken":
                        starved[address] = _starved_s()
                    took.pop(address, None)
            return len(took) == len(self._row["dial"])

        await until(are_found, "found")
        return took

    def _is_well(self, flow: Json) -> bool:
        """Whether it is one of those that stay well."""
        return _family(flow["address"]) in self._row["well"] and flow["state"] in ("ok", "degraded")

    async def _half_way(self) -> None:
        """Heal it while it is looked into."""

        async def are_broken() -> bool:
            await self._look()
            return all(flow["state"] == "broken" for flow in self._looked_into())

        await until(are_broken, "broken")
        since = max(_seconds(flow["since"]) for flow in self._looked_into())
        # The fault lasts just as long as this, from when it is known.
        await asyncio.sleep(max(0.0, since + self._row["heals_s"] - time.time()))
        await self._heal()

    async def _take_down(self) -> None:
        for agent in self._agents.values():
            await asyncio.to_thread(end, agent)
        if hasattr(self, "_services"):
            await self._services.stop()
            self._lab.close()


def _made(deployment: Deployment, number: int, row: Json) -> Lab:
    lab = Lab()
    lab.build()
    deployment.attach(lab, number)
    lab.wait()
    for name, lines in row["before"].items():
        lab.run(name, "ip", "-batch", "-", given="\n".join(lines))
    return lab


def _starved_s() -> float:
    """For how long, since it was started, somebody waited for a processor of this machine."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:  # no kernel has to count that
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def _family(address: str) -> str:
    return "v6" if ":" in address else "v4"


def _seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()


async def observe(deployment: Deployment, rows: list[Json], certificate: Path) -> list[Json]:
    """Bring each fault about, and hear what is told of it."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * AT_ONCE))
    room = asyncio.Semaphore(AT_ONCE)
    await deployment.serve(topology(rows))

    async def told(number: int, row: Json, connection: Bus) -> list[Json]:
        async with room:
            try:
                return await Site(deployment, connection, number, row, certificate).told()
            except Failed as error:
                failed = {"name": row["name"], "raw": row["raw"], "error": str(error)}
                return [{**failed, "family": _family(address)} for address in row["dial"]]

    async with deployment.asking() as connection, asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(told(number, row, connection)) for number, row in enumerate(rows)]
    return [result for task in made for result in task.result()]


def main() -> None:
    """Set up, break, tell."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    rows = json.load(sys.stdin)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "shown.pem")
        write_certificate(certificate)
        deployment = None
        try:
            deployment = Deployment(Path(folder))
            results = asyncio.run(observe(deployment, rows, certificate))
        except* Impossible as errors:
            sys.exit(f"impossible: {errors.exceptions[0]}")
        except* Failed as errors:
            said = deployment.said("collector") if deployment is not None else ""
            sys.exit(f"{errors.exceptions[0]}\n{said}")
        finally:
            if deployment is not None:
                deployment.stop()
    sys.stdout.write(json.dumps(results) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
