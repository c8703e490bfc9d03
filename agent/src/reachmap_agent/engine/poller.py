"""Which sockets are ready: an epoll of our own hung into asyncio's loop, or the loop itself.

An epoll instance is a descriptor that is readable when any of its sockets is ready, so one reader
in asyncio's loop serves thousands of checks, and none of them costs a task, a future or a timer.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

Ready = Callable[[int], None]
"""Is given the descriptor of a socket that connected, failed, or has something to read; it must
not raise. It may be called for no reason too: a number may have been another socket's before."""

_EVENTS_A_TURN: Final = 64
"""So that timers and the bus get their turn even when thousands of sockets are ready at once: what
is done about this many takes a few milliseconds, and nobody's check starts later by more."""


class Poller(Protocol):
    """Tells when sockets are ready."""

    def connecting(self, descriptor: int) -> None:
        """Watch a socket whose connection is under way."""

    def connecting_again(self, descriptor: int) -> None:
        """Watch one that was watched before, and forgotten, but never closed."""

    def reading(self, descriptor: int) -> None:
        """Watch a connected socket for something to read, or its end."""

    def sending(self, descriptor: int) -> None:
        """Tell once when a connected socket takes more, after it did not take all."""

    def forget(self, descriptor: int) -> None:
        """Watch it no more; called before it is closed, once, whether or not it was watched."""

    def close(self) -> None:
        """Give up everything."""


class EpollPoller:
    """Linux: each socket is registered once, edge-triggered, and closing it is enough to end it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready
        self._epoll = select.epoll()
        self._register, self._poll = self._epoll.register, self._epoll.poll
        loop.add_reader(self._epoll.fileno(), self._drain)
        self._mask = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

    def connecting(self, descriptor: int) -> None:
        """Watch a socket for everything that may ever happen to it."""
        self._register(descriptor, self._mask)

    def connecting_again(self, descriptor: int) -> None:
        """Nothing to do: it is watched still. What it has to tell is looked up as it is told."""

    def reading(self, descriptor: int) -> None:
        """Nothing to do: it is watched for everything already."""

    def sending(self, descriptor: int) -> None:
        """Nothing to do: that it did not take all arms the edge."""

    def forget(self, descriptor: int) -> None:
        """Nothing to do: the kernel forgets it when it is closed."""

    def close(self) -> None:
        """Take the instance out of the loop and close it."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _drain(self) -> None:
        ready = self._ready
        for descriptor, _events in self._poll(0, _EVENTS_A_TURN):
            ready(descriptor)


class LoopPoller:
    """Everywhere else: asyncio's own loop watches each socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Ready) -> None:
        self._loop = loop
        self._ready = ready

    def connecting(self, descriptor: int) -> None:
        """Watch a socket until it can be written to: then it is connected, or has failed."""
        self._loop.add_writer(descriptor, self._writable, descriptor)

    connecting_again = connecting

    def reading(self, descriptor: int) -> None:
        """Watch it for something to read."""
        self._loop.add_reader(descriptor, self._ready, descriptor)

    def sending(self, descriptor: int) -> None:
        """Watch it until it can be written to again."""
        self._loop.add_writer(descriptor, self._writable, descriptor)

    def forget(self, descriptor: int) -> None:
        """Take it out of the loop, whatever it was watched for."""
        self._loop.remove_reader(descriptor)
        self._loop.remove_writer(descriptor)

    def close(self) -> None:
        """Nothing of our own is in the loop."""

    def _writable(self, descriptor: int) -> None:
        # It stays writable from now on, which is no news.
        self._loop.remove_writer(descriptor)
        self._ready(descriptor)


def best_poller(loop: asyncio.AbstractEventLoop, ready: Ready) -> Poller:
    """The cheapest that this system has."""
    return EpollPoller(loop, ready) if hasattr(select, "epoll") else LoopPoller(loop, ready)
