"""A thousand checks a second of one address and port for a minute: as cheap at the end as at first.

A check that ends with FIN leaves its port in TIME_WAIT for a minute. To one destination there are
28,000 ports; a kernel that has half of them taken looks for long for a free one, and one that has
all taken finds none. Loopback hides this by default (tcp_tw_reuse is 2), so it is set to 0 here, in
a network namespace of the benchmark's own. The engine ends with RST where a protocol allows. For
comparison the same is done with FIN, faster, so that it shows within seconds.

    one_destination.py                     what `make bench` runs
    one_destination.py HOW RATE SECONDS    within the namespace; HOW is rst or fin
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import ADDRESS, accepting, figure, in_a_network_of_its_own, left_out, stay_on_core

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_shared.vocabulary import Transport

RATE, SECONDS, PART_S = 1_000, 60, 10
FIN_RATE, FIN_SECONDS = 2_000, 16

FLAT = 1.2
"""What the last ten seconds may cost of the first ten: caches and other tenants make as much."""

TURN_S = 0.002


def main() -> None:
    """The engine as it is for a minute, then with FIN for less."""
    print(f"\n{RATE:,} checks a second of one address and port, tcp_tw_reuse=0")
    kept = _run("rst", RATE, SECONDS)
    if kept is None:
        left_out("no network namespace can be made")
        return
    costs = _parts(kept, PART_S)
    first, last = costs[0], costs[-1]
    done, open_ = sum(kept["ended"]), kept["outcomes"].get("open", 0)
    figure("checks ended", f"{done:,}", f"{RATE * SECONDS:,}", done == RATE * SECONDS)
    figure("of these open", f"{open_:,}", "all", open_ == done)
    figure("EADDRNOTAVAIL", f"{kept['no_port']:,}", "0", not kept["no_port"])
    figure("CPU for each check, first 10 s", f"{first:.1f} us")
    figure("CPU for each check, last 10 s", f"{last:.1f} us")
    figure("last / first", f"{last / first:.2f}", f"{FLAT:g} or less", last / first <= FLAT)
    figure("TIME_WAIT at the end", f"{kept['time_wait']:,}", "0", not kept["time_wait"])
    shut = _run("fin", FIN_RATE, FIN_SECONDS)
    assert shut is not None
    costs = _parts(shut, 2)
    print(f"  for comparison, {FIN_RATE:,} a second that end with FIN:")
    figure("  CPU for each check, first 2 s", f"{costs[0]:.1f} us")
    figure("  CPU for each check, dearest 2 s", f"{max(costs):.1f} us")
    wanted = FIN_RATE * FIN_SECONDS
    figure("  checks ended", f"{sum(shut['ended']):,} of {wanted:,}")
    figure("  EADDRNOTAVAIL", f"{shut['no_port']:,}")


def _parts(seen: dict[str, Any], seconds: int) -> list[float]:
    """Microseconds of CPU for each check, by stretches of so many seconds."""
    cpu, ended = seen["cpu"], seen["ended"]
    return [
        1e6 * sum(cpu[at : at + seconds]) / max(1, sum(ended[at : at + seconds]))
        for at in range(0, len(cpu) - seconds + 1, seconds)
    ]


def _run(how: str, rate: int, seconds: int) -> dict[str, Any] | None:
    printed = in_a_network_of_its_own("one_destination.py", [how, str(rate), str(seconds)])
    return None if printed is None else json.loads(printed)


def inside(how: str, rate: int, seconds: int) -> None:
    """Set the namespace up and check in it; what came of it goes out as JSON."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/tcp_tw_reuse").write_text("0")
    with accepting("hold") as port:
        stay_on_core(0)
        seen = asyncio.run(_check(port, how == "rst", rate, seconds))
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        json.dump({**seen, "time_wait": sum(row.split()[3] == "06" for row in rows)}, sys.stdout)


async def _check(port: int, reset: bool, rate: int, seconds: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    engine = Engine(loop)
    outcomes: Counter[str] = Counter()
    no_port = started = 0

    def done(attempt: Attempt) -> None:
        nonlocal no_port
        verdict = attempt.verdict
        assert verdict is not None
        outcomes[verdict.outcome] += 1
        no_port += any("EADDRNOTAVAIL" in fact for fact in verdict.evidence)

    def begin() -> None:
        nonlocal started
        started += 1
        attempt = Attempt(Transport.TCP, (ADDRESS, port), None, None, reset=reset, done=done)
        engine.start(attempt, 3.0)

    began = time.monotonic()
    cpu, ended = [], []
    worked = time.process_time()
    for second in range(1, seconds + 1):
        before, due = outcomes.total(), 0.0
        while due < rate * second:
            passed = time.monotonic() - began
            due = min(passed, second) * rate
            # Where one check takes long, those that are due would take the next seconds' time.
            while started < due and time.monotonic() - began < second + 0.5:
                begin()
            await asyncio.sleep(TURN_S)
        worked, before_cpu = time.process_time(), worked
        cpu.append(worked - before_cpu)
        ended.append(outcomes.total() - before)
    async with asyncio.timeout(10):
        while outcomes.total() < started:  # noqa: ASYNC110  the last few are a matter of moments
            await asyncio.sleep(TURN_S)
    ended[-1] += outcomes.total() - sum(ended)
    engine.close()
    return {
        "cpu": cpu,
        "ended": ended,
        "outcomes": outcomes,
        "no_port": no_port,
    }


if __name__ == "__main__":
    inside(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
