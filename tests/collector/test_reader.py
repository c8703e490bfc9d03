"""Questions to the store while it is being written to."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.keeper import keeping
from reachmap_collector.reader import reading
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Kept, Store


@pytest.fixture
def beside(store: Any) -> Iterator[Any]:
    """Another connection to the same store."""
    store.open()
    with contextlib.closing(open_store(store.url, migrate=False)) as made:
        yield made


def kept(store: Store) -> list[str]:
    return [one.key for one in store.kept("a")]


async def test_a_question_waits_for_no_commit(store: Any, beside: Any) -> None:
    """It is answered by what was committed before."""
    commits, go_on, began = store.commit, threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def commit(batch: Batch) -> None:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(10)
        commits(batch)

    async with (
        keeping(store, time.time) as keeper,
        reading(beside) as reader,
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(keeper.run())
        keeper.add(Batch(kept=(Kept("a", "first", b""),)))
        await keeper.next_commit()
        store.commit = commit
        keeper.add(Batch(kept=(Kept("a", "second", b""),)))
        await began.wait()
        assert await reader.read(kept) == ["first"]
        go_on.set()
        await keeper.next_commit()
        assert await reader.read(kept) == ["first", "second"]
        running.cancel()


async def test_a_store_that_is_away_is_told_and_asked_again(store: Any) -> None:
    """Each question finds out for itself."""
    store.open()
    async with reading(store) as reader:
        store.is_away = True
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await reader.read(kept)
        store.is_away = False
        assert await reader.read(kept) == []
