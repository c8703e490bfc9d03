"""The check engine at full load, as `connect.c` prints it; run by run.py in a process of its own.

engine.py ADDRESS PORT COUNT IN_FLIGHT
"""

import asyncio
import sys
import time

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_shared.vocabulary import Outcome, Transport


async def main(address: str, port: int, count: int, in_flight: int) -> None:
    """Check one address and port `count` times, `in_flight` at once."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop)
    finished = loop.create_future()
    started = ended = opened = 0

    def done(attempt: Attempt) -> None:
        nonlocal ended, opened
        assert attempt.verdict is not None
        ended += 1
        opened += attempt.verdict.outcome is Outcome.OPEN
        if ended == count:
            finished.set_result(None)
        elif started < count:
            begin()  # as Checks does with what waits for room

    def begin() -> None:
        nonlocal started
        if started < count:
            started += 1
            attempt = Attempt(Transport.TCP, (address, port), None, None, reset=True, done=done)
            engine.start(attempt, 3.0)

    began, worked = time.perf_counter(), time.process_time()
    for _ in range(in_flight):
        begin()
    await finished
    took, work = time.perf_counter() - began, time.process_time() - worked
    print(f"{count / took:.0f} {work * 1e6 / count:.2f} {opened}")
    engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
