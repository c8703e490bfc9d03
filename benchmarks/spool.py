"""A long outage: what an observation costs on disk, and how a million of them get away.

A spool is filled with the roll-ups of a million observations, as an agent of 50 flows writes them.
Then it is delivered to a real stream, while fresh reports are put in all the time.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path

from common import figure, percentile
from deployment import Deployment, deployed

from reachmap_agent import clock
from reachmap_agent.delivery import Delivery
from reachmap_agent.spool import Record, Spool
from reachmap_shared import bus, codec
from reachmap_shared.messages import ReportKind, RollUp

OBSERVATIONS = 1_000_000
FLOWS = 50
ROUNDS = 6
BYTES_GOAL = 10.0
DRAINED_GOAL_S = 60.0
FRESH_GOAL_S = 1.0


def main() -> None:
    """Fill a spool, and empty it."""
    print(f"\na spool with {OBSERVATIONS:,} observations of {FLOWS} flows")
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name), "pc-17", "boot", clock.system())
        began = time.process_time()
        count = OBSERVATIONS // (FLOWS * ROUNDS)
        for _ in range(count):
            _put(spool)
        worked = time.process_time() - began
        size = sum(path.stat().st_size for path in Path(name).glob("r*"))
        each = size / (count * FLOWS * ROUNDS)
        met = each <= BYTES_GOAL
        figure("each, on disk", f"{each:.2f} B", f"{BYTES_GOAL:g} B or less", met)
        figure("to write a roll-up", f"{worked / count * 1e6:.0f} us")
        asyncio.run(_deliver(spool))
        spool.close()


def _put(spool: Spool) -> Record:
    """One roll-up."""
    dice = random.Random(spool.account.sequence)
    latency = bytes(dice.choices(range(70, 90), k=FLOWS))
    now_ms = 60_000 * spool.account.sequence
    body = RollUp(
        "0123456789abcdef", now_ms, now_ms + 60_000, bytes([ROUNDS] * FLOWS), latency=latency
    )
    spool.account.made += FLOWS * ROUNDS
    return spool.put(ReportKind.ROLL_UP, codec.pack(body), made=FLOWS * ROUNDS)


async def _deliver(spool: Spool) -> None:
    async with deployed() as there, bus.staying([there.url], "benchmark") as connection:
        way = Delivery(spool, "pc-17")
        inbox = connection.new_inbox()
        await connection.listen(f"{inbox}.*", way.answered)
        began, worked = time.monotonic(), time.process_time()
        way.join(connection, inbox)
        late_s: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(way.run())
            while not way.is_idle:
                late_s.append(await _fresh(spool, way, there))
                await asyncio.sleep(0.2)
            took, work = time.monotonic() - began, time.process_time() - worked
            running.cancel()
    met = took <= DRAINED_GOAL_S and not spool.waiting
    figure("until all were acknowledged", f"{took:.1f} s", f"{DRAINED_GOAL_S:g} s or less", met)
    figure("of one core meanwhile, listening included", f"{100 * work / took:.0f} %")
    worst = max(late_s)
    met = worst <= FRESH_GOAL_S and len(late_s) > 3
    figure(
        f"fresh ones meanwhile ({len(late_s)}), the latest",
        f"{worst:.3f} s",
        f"{FRESH_GOAL_S:g} s or less",
        met,
    )
    figure("fresh ones, median", f"{percentile(late_s, 50):.3f} s")


async def _fresh(spool: Spool, way: Delivery, there: Deployment) -> float:
    """How long one takes that is put in now until somebody else hears it."""
    put = time.monotonic()
    record = _put(spool)
    way.put(record)
    place = len(there.reports)
    while True:
        for at, _, report in there.reports[place:]:
            if report.sequence == record.entry.sequence:
                return at - put
        place = len(there.reports)
        await asyncio.sleep(0.002)
