"""Questions to the store while it is being written to."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.keeper import keeping
from reachmap_collector.reader import AT_ONCE, reading
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Kept, Store


@pytest.fixture
def beside(store: Any) -> Callable[[], Any]:
    """Opens more connections to the same store."""
    store.open()
    return partial(open_store, store.url, migrate=False)


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


async def test_a_long_question_holds_up_no_other(store: Any, beside: Any) -> None:
    """What changed in a year takes its time; one flow does not. Each has a connection alone."""
    store.commit(Batch(kept=(Kept("a", "first", b""),)))
    go_on, asking = threading.Event(), list[Store]()

    def long(one: Store) -> list[str]:
        asking.append(one)
        assert go_on.wait(10)
        return kept(one)

    async with reading(beside) as reader, asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(reader.read(long)) for _ in range(AT_ONCE - 1)]
        for _ in range(20):
            assert await reader.read(kept) == ["first"]
        go_on.set()
        assert [await one for one in waiting] == [["first"]] * (AT_ONCE - 1)
    assert len(set(map(id, asking))) == AT_ONCE - 1


async def test_a_store_that_is_away_is_told_and_asked_again(store: Any) -> None:
    """Each question finds out for itself."""
    store.open()
    async with reading(lambda: store) as reader:
        store.is_away = True
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await reader.read(kept)
        store.is_away = False
        assert await reader.read(kept) == []
