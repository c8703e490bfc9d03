"""Looks things up in the store for whoever asks, beside the keeper's commits.

It has threads and connections of its own: both databases let who reads go on while somebody writes,
and a commit of much takes as long as nobody waits for an answer. There are a few, for some
questions are long: what changed in a year, while somebody asks for one flow.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Final, TypeVar

from reachmap_collector.store.api import Store

AT_ONCE: Final = 3
"""Questions that are looked into; the next one waits."""

Result = TypeVar("Result")


class Reader:
    """Asks a store, a few questions at once. Make one with `reading`."""

    def __init__(self, free: "SimpleQueue[Store]") -> None:
        self._free = free
        self._threads = ThreadPoolExecutor(AT_ONCE, "reader")

    async def read(self, question: Callable[[Store], Result]) -> Result:
        """What the store says. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, question)

    def _ask(self, question: Callable[[Store], Result]) -> Result:
        store = self._free.get()
        try:
            return question(store)
        finally:
            self._free.put(store)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=True)


@asynccontextmanager
async def reading(connect: Callable[[], Store]) -> AsyncIterator[Reader]:
    """A reader for as long as the block lasts.

    Args:
        connect: Opens the store that the keeper commits to: each time by a connection of its own.
    """
    with contextlib.ExitStack() as stack:
        free: SimpleQueue[Store] = SimpleQueue()
        for _ in range(AT_ONCE):
            free.put(stack.enter_context(contextlib.closing(connect())))
        reader = Reader(free)
        try:
            yield reader
        finally:
            reader.close()
