"""Looks things up in the store for whoever asks, beside the keeper's commits.

It has a thread and connections of its own: both databases let who reads go on while somebody
writes, and a commit of much takes as long as nobody waits for an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from reachmap_collector.store.api import Store

Result = TypeVar("Result")


class Reader:
    """Asks one store, one question after the other. Make one with `reading`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "reader")

    async def read(self, question: Callable[[Store], Result]) -> Result:
        """What the store says. Raises StoreError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, question, self._store)

    def close(self) -> None:
        """Let go of the thread; the store is whoever's who opened it."""
        self._thread.shutdown(wait=True)


@asynccontextmanager
async def reading(store: Store) -> AsyncIterator[Reader]:
    """A reader for as long as the block lasts.

    Args:
        store: What the keeper commits to, by a connection that nobody else uses.
    """
    reader = Reader(store)
    try:
        yield reader
    finally:
        reader.close()
