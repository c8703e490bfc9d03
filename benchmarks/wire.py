"""What an observation costs on the wire, as the NATS server counts real agents' payload.

Agents with 10, 50, 200 and 500 flows, a check of each every ten seconds, as by default. All that an
agent publishes is counted over one whole roll-up period in which nothing changes: pulses and the
roll-up. The worst case is a plan's first round, in which every observation is a change. Beside
them, the same observations as others would send them.
"""

import asyncio
import json
import time
from contextlib import ExitStack
from dataclasses import asdict

import msgpack
from common import accepting, figure
from deployment import Deployment, deployed, plan, until

from reachmap_shared import codec
from reachmap_shared.messages import Changes, Observation, ReportKind, RollUp

FLOWS = (10, 50, 200, 500)
INTERVAL_S = 10.0
PERIOD_S = 60.0
BATCH_GOAL = 8.0
STEADY_GOAL = 1.5


def main() -> None:
    """Run the agents for a good minute, and print what they cost."""
    print(f"\nbytes on the wire for each observation, every {INTERVAL_S:g} s")
    asyncio.run(_measure())


async def _measure() -> None:
    names = {f"pc-{flows}": flows for flows in FLOWS}
    async with deployed() as there:
        with accepting() as port, ExitStack() as agents:
            for name in names:
                agents.enter_context(there.agent(name))
            for name, flows in names.items():
                await there.put_plan(plan(name, flows, port, INTERVAL_S))
            # The first period is the first round's too; the second is all steady.
            for name, flows in names.items():
                await until(lambda name=name, flows=flows: _told(there, name) >= flows)
            await asyncio.sleep(8)  # so that the period's end is well within what is counted
            before = {name: there.payload_bytes(name) for name in names}
            began = time.monotonic()
            await asyncio.sleep(PERIOD_S)
            spent = {name: there.payload_bytes(name) - before[name] for name in names}
            took = time.monotonic() - began
            seen = _sample(there, "pc-500")
        for name, flows in names.items():
            each = spent[name] / (flows * took / INTERVAL_S)
            goal = STEADY_GOAL if flows >= 200 else BATCH_GOAL if flows >= 50 else None
            what = f"steady, {flows} flows: each, pulses and all"
            _print(what, each, goal)
        for name, flows in names.items():
            changes = [
                (size, len(codec.decode(Changes, report.body).changes))
                for _, size, report in there.reports
                if report.agent == name and report.kind is ReportKind.CHANGES
            ]
            each = sum(size for size, _ in changes) / sum(count for _, count in changes)
            _print(f"every one a change, {flows} flows", each, None)
        rolled = [
            report
            for _, _, report in there.reports
            if report.agent == "pc-500" and report.kind is ReportKind.ROLL_UP
        ]
        assert sum(codec.decode(RollUp, rolled[-1].body).made) > 500
    for what, size in _others(seen).items():
        figure(f"the same as {what}", f"{size:.1f} B")


def _print(what: str, each: float, goal: float | None) -> None:
    if goal is None:
        figure(what, f"{each:.2f} B")
    else:
        figure(what, f"{each:.2f} B", f"{goal:g} B or less", each <= goal)


def _told(there: Deployment, name: str) -> int:
    return sum(
        len(codec.decode(Changes, report.body).changes)
        for _, _, report in there.reports
        if report.agent == name and report.kind is ReportKind.CHANGES
    )


def _sample(there: Deployment, name: str) -> list[Observation]:
    return [
        change.seen
        for _, _, report in there.reports
        if report.agent == name and report.kind is ReportKind.CHANGES
        for change in codec.decode(Changes, report.body).changes
    ]


def _others(seen: list[Observation]) -> dict[str, float]:
    labels = 'source="pc-500",destination="b",service="web:{0}",address="127.1.0.1",port="80"'
    text = sum(
        len(f"probe_success{{{labels.format(one.slot)}}} 1\n")
        + len(f"probe_duration_seconds{{{labels.format(one.slot)}}} {one.connect_us / 1e6:.6f}\n")
        for one in seen
    )
    as_json = sum(len(json.dumps(asdict(one), separators=(",", ":"))) + 1 for one in seen)
    rows = sum(len(msgpack.packb(list(asdict(one).values()))) for one in seen)
    count = len(seen)
    return {
        "Prometheus text, success and duration": text / count,
        "JSON": as_json / count,
        "msgpack rows": rows / count,
    }
