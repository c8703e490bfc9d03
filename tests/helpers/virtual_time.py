"""A loop on which nobody waits: when nothing is ready, time goes to the next timer.

For what keeps a schedule and touches no socket, thread or process: those take real time.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

P = ParamSpec("P")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time passes only in waiting, or where a test has the process held up."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def hold_up(self, seconds: float) -> None:
        """Let time go by in which nothing gets its turn."""
        self._now += seconds

    def _run_once(self) -> None:
        waiting = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and waiting:  # type: ignore[attr-defined]
            self._now = max(self._now, min(waiting))
        super()._run_once()  # type: ignore[misc]


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test on a loop of virtual time; its fixtures are those of a test that is no coroutine."""

    @functools.wraps(test)
    def run(*its: P.args, **more: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*its, **more))

    return run
