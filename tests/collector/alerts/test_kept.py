"""The memory: in a real store, and the same for who comes after."""

from pathlib import Path
from typing import Any

from reachmap_collector.alerts.kept import ACKS, QUEUE, store_memory


def test_what_is_kept_is_there_for_the_next(tmp_path: Path) -> None:
    """And what is forgotten is not."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    with store_memory(url) as memory:
        memory.keep(QUEUE, "hook/a-1/on", b"one")
        memory.keep(QUEUE, "hook/a-2/on", b"two")
        memory.keep(ACKS, "a-1", b"ann")
        memory.keep(QUEUE, "hook/a-1/on", None)
    with store_memory(url) as memory:
        assert memory.kept(QUEUE) == {"hook/a-2/on": b"two"}
        assert memory.kept(ACKS) == {"a-1": b"ann"}


def test_what_has_not_changed_is_not_written(disk: Any) -> None:
    """Nor what was not there to forget."""
    memory = disk.memory()
    for _ in range(3):
        memory.keep(ACKS, "a", b"1")
        memory.keep(ACKS, "b", None)
    assert disk.writes == 1
