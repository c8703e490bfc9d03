"""Which of the listeners' sockets have something to read, and a bounded share of the loop for them.

Not the engine's poller: that one is told each thing once, for sockets that are read to their end;
here what is not served in one turn is told again, so a flood waits while the checks run.
"""

import asyncio
import functools
import select
import time
from typing import Final, Protocol

_TURN_S: Final = 0.005
"""After that the loop is left to the checks. Only a TLS handshake is dear: a fraction of a
millisecond."""

_EVENTS_A_TURN: Final = 64
"""So that no port takes all of a turn from the others."""


class Watched(Protocol):
    """What hangs in a watcher."""

    def ready(self, until: float) -> None:
        """Deal with what there is, till `until` on the monotonic clock; the rest is told again."""


class EpollWatcher:
    """Linux: one descriptor in asyncio's loop for all; what is not served now is told again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watched: dict[int, Watched]) -> None:
        self._loop = loop
        self._watched = watched
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._turn)
        self.add = functools.partial(self._epoll.register, eventmask=select.EPOLLIN)
        # Closing it would not do while a process that was forked meanwhile holds a copy (epoll(7),
        # question 6), and what nobody serves would be told for ever.
        self.remove = self._epoll.unregister

    def close(self) -> None:
        """Take the instance out of the loop and close it."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _turn(self) -> None:
        until = time.monotonic() + _TURN_S
        for descriptor, _events in self._epoll.poll(0, _EVENTS_A_TURN):
            # It may have gone since, and its number be another's: that one finds nothing then.
            if (watched := self._watched.get(descriptor)) is not None:
                watched.ready(until)
                if time.monotonic() >= until:
                    return  # the kernel puts those it has told behind those it has not


class LoopWatcher:
    """Everywhere else: asyncio's own loop watches each socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watched: dict[int, Watched]) -> None:
        self._loop = loop
        self._watched = watched

    def add(self, descriptor: int) -> None:
        """Watch one more socket."""
        self._loop.add_reader(descriptor, self._ready, descriptor)

    def remove(self, descriptor: int) -> None:
        """Watch it no more."""
        self._loop.remove_reader(descriptor)

    def close(self) -> None:
        """Nothing of our own is in the loop."""

    def _ready(self, descriptor: int) -> None:
        if (watched := self._watched.get(descriptor)) is not None:
            watched.ready(time.monotonic() + _TURN_S)


Watcher = EpollWatcher | LoopWatcher


def best_watcher(loop: asyncio.AbstractEventLoop, watched: dict[int, Watched]) -> Watcher:
    """The cheapest that this system has, for what is in `watched` by its descriptor."""
    return (EpollWatcher if hasattr(select, "epoll") else LoopWatcher)(loop, watched)
