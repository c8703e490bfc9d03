"""How fast a collector takes in what agents report: from the bus to the map to the store, durable.

A real `reachmap serve` has one core, a real nats-server with its stream in files the other. The
stream is filled while the collector is away, with the roll-ups of agents as they write them; then
the collector comes back, takes them into its map and its SQLite file, commits, and acknowledges
after that. It is done when the stream knows all of them as acknowledged. Pulses go past the stream:
many at once, and then one that names a hello which the collector does not know, so that it asks.

What a report costs does not depend on how many observations its octets count. So its rate is
measured once and told twice: as agents roll up by default, six rounds of checks in each report, and
for the harsher case that each report holds one round. Wall time belongs to the machine and to
whatever else runs on it, so what the goal is held against is the rate by the time that the
collector's process, all its threads together, had of its core; the wall's stands beside it.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from common import ADDRESS, figure, on_core
from deployment import Deployment, cpu_s, deployed

from reachmap_shared import codec, subjects
from reachmap_shared.messages import (
    Ask,
    Change,
    Changes,
    Hello,
    Observation,
    Plan,
    Presence,
    Pulse,
    Question,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import AnsweredBy, Outcome

ROUNDS = 6
"""Of checks in a roll-up, by default."""

AT_ONCE = 200
"""Messages between two looks at whether the server has them."""

PULSES = 40_000
PULSES_GOAL = 20_000

PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """Agents of one size, and what is wanted."""

    flows: int
    agents: int
    reports: int
    """Of each agent."""
    goal: int
    """Observations a second."""


CASES = (Case(50, 200, 1000, 2_000_000), Case(1000, 20, 2000, 10_000_000))


def main() -> None:
    """Either size of agents, and pulses with the first."""
    for case in CASES:
        print(f"\ntaking in what {case.agents} agents of {case.flows:,} flows report")
        asyncio.run(_measure(case))


async def _measure(case: Case) -> None:
    async with deployed(listening=False) as there:
        names = [f"pc-{n:03}" for n in range(case.agents)]
        (there.folder / "topology.toml").write_text(_topology(names, case.flows))
        with _collector(there):
            plans = [await _plan(there, name) for name in names]
        await _send(there, (_state(plan) for plan in plans))
        settled = await _settled(there)
        reports = (_roll_up(plan, n) for n in range(case.reports) for plan in plans)
        await _send(there, reports)
        with _collector(there) as process:
            rate, by_wall = await _drained(there, process, settled)
            for rounds, what in ((ROUNDS, "by default"), (1, "if each held one round")):
                each = case.flows * rounds
                figure(
                    f"observations a second, {what}",
                    f"{rate * each / 1e6:.2f} M",
                    f"{case.goal / 1e6:g} M or more",
                    rate * each >= case.goal,
                )
                figure("  by the wall's clock", f"{by_wall * each / 1e6:.2f} M")
            figure("reports a second", f"{rate:,.0f}")
            figure("the collector, for each report", f"{1e6 / rate:.0f} us")
            if case is CASES[0]:
                await _pulses(there, process, plans)
    figure("load average of the machine", f"{os.getloadavg()[0]:.1f}")


async def _settled(there: Deployment) -> int:
    """Let a collector take what is in the stream; returns up to where that is."""
    with _collector(there):
        return await _until_acknowledged(there)


async def _drained(there: Deployment, process: int, settled: int) -> tuple[float, float]:
    """Reports a second of CPU, and of wall time, from the first commit to the last."""
    first = 0
    async with asyncio.timeout(PATIENCE_S):
        while first <= settled:
            await asyncio.sleep(0.01)
            first = await _floor(there)
    began, work = time.monotonic(), cpu_s(process)
    last = await _until_acknowledged(there)
    took, worked = time.monotonic() - began, cpu_s(process) - work
    return (last - first) / worked, (last - first) / took


async def _until_acknowledged(there: Deployment) -> int:
    """Wait until a collector has taken all that is in the stream; returns the last one's number."""
    last = (await there.ask(f"STREAM.INFO.{subjects.REPORT_STREAM}"))["state"]["last_seq"]
    floor = 0
    async with asyncio.timeout(PATIENCE_S):
        while floor < last:
            await asyncio.sleep(0.05)
            floor = await _floor(there)
    return last


async def _floor(there: Deployment) -> int:
    """Up to where all is acknowledged."""
    path = f"{subjects.REPORT_STREAM}.{subjects.REPORT_CONSUMER}"
    try:
        info = await there.ask(f"CONSUMER.INFO.{path}")
    except RuntimeError:  # it is made anew right now
        return 0
    floor: int = info["ack_floor"]["stream_seq"]
    return floor


async def _pulses(there: Deployment, process: int, plans: list[Plan]) -> None:
    """Agents that are known say again and again that all is as before."""
    for plan in plans:
        await there.client.publish(subjects.hello(plan.agent), codec.encode(_hello(plan)))
    await _heard_all(there, plans[0])
    await asyncio.sleep(2)  # the plans are made anew after hellos, and alerts look at the map
    said = [(subjects.pulse(plan.agent), codec.encode(_pulse(plan, 0))) for plan in plans]
    began, work = time.monotonic(), cpu_s(process)
    for _ in range(PULSES // len(said)):
        for subject, payload in said:
            await there.client.publish(subject, payload)
        await there.client.flush()
    await _heard_all(there, plans[1])
    took, worked = time.monotonic() - began, cpu_s(process) - work
    rate = PULSES / worked
    figure("pulses a second", f"{rate:,.0f}", f"{PULSES_GOAL:,} or more", rate >= PULSES_GOAL)
    figure("  by the wall's clock", f"{PULSES / took:,.0f}")


async def _heard_all(there: Deployment, plan: Plan) -> None:
    """The collector has come to a pulse that names a hello it does not know, and asks for it."""
    asked = asyncio.Event()

    async def hear(message: Any) -> None:
        if codec.decode(Ask, message.data).question is Question.HELLO:
            asked.set()

    await there.client.subscribe(subjects.ask(plan.agent), cb=hear)
    await there.client.publish(subjects.pulse(plan.agent), codec.encode(_pulse(plan, 1)))
    async with asyncio.timeout(PATIENCE_S):
        await asked.wait()


@contextmanager
def _collector(there: Deployment) -> Iterator[int]:
    """A collector on a core of its own; its process's number."""
    command = [
        *(sys.executable, "-m", "reachmap_collector", "serve", "--nats", there.url),
        *("--topology", str(there.folder / "topology.toml")),
        *("--data", str(there.folder / "collector")),
    ]
    with subprocess.Popen(on_core(0, command), stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


async def _plan(there: Deployment, agent: str) -> Plan:
    """What the collector would have an agent do."""
    place = subjects.last_plan(agent)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await there.client.request(place, b"", timeout=5)
            if not (answer.headers or {}).get("Status"):
                return codec.decode(Plan, answer.data)
            await asyncio.sleep(0.05)


async def _send(there: Deployment, reports: Iterable[Report]) -> None:
    """Put reports into the stream."""
    for number, report in enumerate(reports, 1):
        subject, payload = subjects.report(report.agent), codec.encode(report)
        if number % AT_ONCE:
            await there.client.publish(subject, payload)
        else:
            answer = json.loads((await there.client.request(subject, payload, timeout=30)).data)
            assert "error" not in answer, answer
    await there.client.flush()


def _topology(names: list[str], flows: int) -> str:
    """Many that dial one host, which has as many services."""
    services = [f"server:{10_000 + n}" for n in range(flows)]
    listens = "\n".join(f'"{service}" = {{ protocol = "tcp" }}' for service in services)
    hosts = "\n".join(
        f'[hosts.{name}]\nroles = ["pc"]\naddresses = ["10.1.{n >> 8}.{n & 255}"]'
        for n, name in enumerate(names)
    )
    return (
        f"[roles.server.listens]\n{listens}\n[roles.pc]\nconnects = {json.dumps(services)}\n"
        f'[hosts.server]\nroles = ["server"]\naddresses = ["10.0.0.1"]\n{hosts}\n'
    )


def _state(plan: Plan) -> Report:
    """All flows are open."""
    changes = tuple(
        Change(slot, Observation(slot, 0, Outcome.OPEN, AnsweredBy.SERVICE, True, 0, 900, 300,
                                 f"{ADDRESS}:40000", ("connected; it greeted",)))
        for slot in range(len(plan.checks))
    )  # fmt: skip
    return _report(plan, 0, ReportKind.CHANGES, Changes(plan.revision, changes))


def _roll_up(plan: Plan, number: int) -> Report:
    """All were checked, and are open."""
    flows = len(plan.checks)
    latency = _latency(number % 10, flows)
    begins_ms = 60_000 * number
    made = bytes([ROUNDS]) * flows
    body = RollUp(plan.revision, begins_ms, begins_ms + 60_000, made, latency=latency)
    return _report(plan, number + 1, ReportKind.ROLL_UP, body)


@cache
def _latency(seed: int, flows: int) -> bytes:
    return bytes(random.Random(seed).choices(range(70, 90), k=flows))


def _report(plan: Plan, number: int, kind: ReportKind, body: object) -> Report:
    packed = codec.pack(body)
    wall_ms = int(time.time() * 1000)
    return Report(plan.agent, "boot", number, 60_000 * number, wall_ms, kind, packed)


def _hello(plan: Plan) -> Hello:
    return Hello(
        plan.agent, "boot", Presence.HERE, plan.agent, "1", "Linux", ("pc",), (), ("tcp",), 5.0, 0
    )


def _pulse(plan: Plan, hello: int) -> Pulse:
    wall_ms, told = int(time.time() * 1000), len(plan.checks)
    return Pulse(plan.agent, "boot", 0, wall_ms, hello, plan.revision, told, 5000, made=told)


if __name__ == "__main__":
    main()
