"""The memory: in a real store, and the same for who comes after."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from reachmap_collector.alerts.kept import ACKS, QUEUE
from reachmap_collector.keeper import StoreMemory, keeping
from reachmap_collector.store import open_store


async def test_what_is_kept_is_there_for_the_next(tmp_path: Path) -> None:
    """And what is forgotten is not; what was said before the store could be read stays."""
    with contextlib.closing(open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")) as store:
        store.open()
        async with keeping(store, time.time) as keeper, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(keeper.run())
            memory = StoreMemory(keeper)
            memory.keep(QUEUE, "hook/a-1/on", b"one")
            memory.keep(QUEUE, "hook/a-2/on", b"two")
            memory.keep(ACKS, "a-1", b"ann")
            memory.keep(QUEUE, "hook/a-1/on", None)
            await keeper.next_commit()
            running.cancel()
        async with keeping(store, time.time) as keeper:
            again = StoreMemory(keeper)
            again.keep(ACKS, "a-1", b"bob")
            await again.load()
            assert again.kept(QUEUE) == {"hook/a-2/on": b"two"}
            assert again.kept(ACKS) == {"a-1": b"bob"}


def test_what_has_not_changed_is_not_written(disk: Any) -> None:
    """Nor what was not there to forget."""
    memory = disk.memory()
    for _ in range(3):
        memory.keep(ACKS, "a", b"1")
        memory.keep(ACKS, "b", None)
    assert disk.writes == 1
