"""How late checks start when 10,000 a second are due, through the agent's own schedule and engine.

A plan of as many checks as make 10,000 a second is applied to `Checks`, as an agent does: they are
started, connected, talked to and judged. Each has another address of loopback, for a place of its
own in the interval; one accept loop answers them all. Lateness is the time from when the schedule
says that a check is due to when the prober is told to start it. The first rounds are not counted,
while whatever is made once is made.
"""

import asyncio
import time

from common import accepting, figure, percentile

from reachmap_agent import clock
from reachmap_agent.checks import Checks, _Due, _Round
from reachmap_agent.credentials import Contexts
from reachmap_shared.messages import CheckSpec, Plan
from reachmap_shared.vocabulary import Transport

A_SECOND = 10_000
INTERVAL_S = 2.0
ROUNDS = 5
GOAL_MS = 5.0


def main() -> None:
    """Run a plan of 10,000 checks a second, and print how late they were."""
    print(f"\nlateness of {A_SECOND:,} checks a second")
    asyncio.run(_measure())


async def _measure() -> None:
    late_s: list[float] = []
    ended = 0

    def see(*_: object) -> None:
        nonlocal ended
        ended += 1

    async with asyncio.TaskGroup() as tasks:
        checks = Checks("a", tasks, _nobody, see, clock.system(), see_again=see)
        with accepting() as port:
            plan = Plan("a", "one", INTERVAL_S, 3.0, "", "", "", (), _specs(port))
            checks.apply(plan, Contexts.from_pem(""))
            start = checks._start

            def note_start(current: _Round, due: _Due) -> None:
                late_s.append(time.monotonic() - due.at)
                start(current, due)

            await asyncio.sleep(2 * INTERVAL_S)
            checks._start = note_start  # type: ignore[method-assign]
            began, worked, ended = time.monotonic(), time.process_time(), 0
            await asyncio.sleep(ROUNDS * INTERVAL_S)
            took, work = time.monotonic() - began, time.process_time() - worked
            rate = ended / took
            await checks.stop(5.0)
    figure("checks that ended, a second", f"{rate:,.0f}", "9,500 or more", rate >= 9_500)
    figure("of one core", f"{100 * work / took:.0f} %")
    figure("lateness, median", f"{percentile(late_s, 50) * 1e3:.2f} ms")
    at_99 = percentile(late_s, 99) * 1e3
    figure(
        "lateness, 99th percentile", f"{at_99:.2f} ms", f"{GOAL_MS:g} ms or less", at_99 <= GOAL_MS
    )
    figure("lateness, worst", f"{max(late_s) * 1e3:.2f} ms")


def _specs(port: int) -> tuple[CheckSpec, ...]:
    addresses = (
        f"127.{1 + n // 62_500}.{n // 250 % 250}.{1 + n % 250}"
        for n in range(int(A_SECOND * INTERVAL_S))
    )
    return tuple(
        CheckSpec("b", f"web:{place}", address, port, Transport.TCP, "tcp", "", False)
        for place, address in enumerate(addresses)
    )


async def _nobody(_spec: CheckSpec, _seconds: float) -> None:
    """No window is asked for."""
