"""When checks run out of time: one timer for all of them, and no timeout for a stalled loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from reachmap_agent.engine.attempt import Attempt

TICK_S: Final = 0.025

_STALL_S: Final = 0.25
"""How late a tick may be before the loop counts as stalled. Beyond that no deadline gets nearer:
answers lay in the kernel while nobody could look."""


class Deadlines:
    """The times of all checks under way.

    Args:
        loop: Whose clock counts.
        out_of_time: Is given each attempt whose time is up; it must not raise.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, out_of_time: Callable[[Attempt], None]
    ) -> None:
        self._loop = loop
        self._out_of_time = out_of_time
        self._queues: dict[float, deque[tuple[float, Attempt]]] = {}
        """A queue for each timeout, so that each is in order by itself: checks share a few."""
        self._stalled_s = 0.0
        self._tick: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def set(self, attempt: Attempt, after_s: float) -> None:
        """Give it so much time from now, whatever it was given before."""
        attempt.deadline = deadline = self._loop.time() - self._stalled_s + after_s
        queue = self._queues.get(after_s)
        if queue is None:
            queue = self._queues[after_s] = deque()
            if self._tick is None:
                self._tick = self._loop.call_later(TICK_S, self._expire)
        queue.append((deadline, attempt))

    def rest(self) -> None:
        """Forget them all: no check is under way, and nobody is woken until one is."""
        self._queues.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _expire(self) -> None:
        assert self._tick is not None
        now = self._loop.time()
        self._stalled_s += max(0.0, now - self._tick.when() - _STALL_S)
        self._tick = None
        now -= self._stalled_s
        for after_s, queue in list(self._queues.items()):
            while queue:
                deadline, attempt = queue[0]
                if deadline > now and attempt.verdict is None:
                    break
                queue.popleft()
                # Its time may have been set anew since, and it stands in another queue too.
                if attempt.verdict is None and attempt.deadline <= now:
                    self._out_of_time(attempt)
            else:
                # Whoever was told may have let all rest, and others begin.
                if self._queues.get(after_s) is queue:
                    del self._queues[after_s]
        if self._queues and self._tick is None:
            self._tick = self._loop.call_later(TICK_S, self._expire)
