"""What is to be kept is kept, or waits until it can be."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.keeper import Keeper, keeping
from reachmap_collector.ledger import Ledger
from reachmap_collector.store.api import Batch, DeadLetter, Keep, Kept


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reachmap_collector.keeper._RETRY_S", 0.02)


@asynccontextmanager
async def run(store: Any, **keep: Any) -> AsyncIterator[Keeper]:
    async with keeping(store, time.time, Keep(**keep)) as keeper, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        yield keeper
        running.cancel()


def letter(number: int) -> Batch:
    return Batch(dead_letters=(DeadLetter("s", str(number), b"", float(number)),))


def reasons(kept: Any) -> list[str]:
    return [one.reason for one in reversed(kept.dead_letters(10_000))]


async def test_what_comes_together_is_committed_together(
    store: Any, kept: Any, eventually: Any
) -> None:
    """And the last one, which speaks for all, is told of once they are kept, not before."""
    done: list[int] = []

    def told(number: int) -> None:
        assert str(number) in reasons(kept)
        done.append(number)

    async with run(store) as keeper:
        for number in range(10):
            keeper.add(letter(number), None, 100, lambda number=number: told(number))
        assert (keeper.waiting, keeper.octets, done) == (10, 1000, [])
        await keeper.next_commit()
    assert done == [9]
    assert (keeper.waiting, keeper.octets, keeper.trouble) == (0, 0, "")


async def test_a_store_that_is_away_loses_nothing(store: Any, kept: Any, eventually: Any) -> None:
    """What comes meanwhile waits, in order; nothing is said to be kept, and the reason is told."""
    done: list[int] = []
    store.is_away = True
    async with run(store) as keeper:
        keeper.add(letter(0), done=lambda: done.append(0))
        await eventually(lambda: keeper.trouble == "the disk is full")
        keeper.add(letter(1), done=lambda: done.append(1))
        await asyncio.sleep(0.1)
        assert (done, keeper.waiting, keeper.letters, reasons(kept)) == ([], 2, 0, [])
        store.is_away = False
        await eventually(lambda: done == [1])
    assert (keeper.trouble, keeper.letters, reasons(kept)) == ("", 2, ["0", "1"])


async def test_the_last_word_is_kept(store: Any, kept: Any) -> None:
    """What was added a moment before the end is there after it."""
    async with run(store) as keeper:
        keeper.add(letter(7))
        await asyncio.sleep(0)
    assert reasons(kept) == ["7"]


async def test_accounts_are_kept_as_they_stood_with_their_reports(
    store: Any, kept: Any, eventually: Any
) -> None:
    """A report that came while others were written is not said to be there before it is."""
    ledger = Ledger()
    account = ledger.account("pc-1", "boot-1")
    async with run(store) as keeper:
        account.sequences.add(0)
        keeper.add(letter(0), account)
        store.is_away = True
        await eventually(lambda: keeper.trouble)
        account.sequences.add(1)
        keeper.add(letter(1), account)
        assert list(kept.received()) == []
        store.is_away = False
        await eventually(lambda: keeper.waiting == 0)
    [row] = kept.received()
    assert row.ranges == ((0, 2),)
    assert len(reasons(kept)) == 2


async def test_a_flood_of_rubbish_does_not_fill_the_disk(store: Any, kept: Any) -> None:
    """The latest of it are kept: they tell as much as all would."""
    async with run(store) as keeper:
        for number in range(1000):
            keeper.add(letter(number))
        await keeper.next_commit()
    assert reasons(kept) == [str(number) for number in range(900, 1000)]


async def test_the_last_of_a_name_is_what_is_kept(store: Any, kept: Any) -> None:
    """However many there were."""
    async with run(store) as keeper:
        for number in range(5):
            keeper.add(Batch(kept=(Kept("area", "key", bytes([number])),)))
        await keeper.next_commit()
    assert [one.value for one in kept.kept("area")] == [b"\4"]


async def test_what_is_too_old_is_let_go_of(
    store: Any, kept: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From time to time, after a commit."""
    monkeypatch.setattr("reachmap_collector.keeper._PRUNE_EVERY_S", 0.0)
    async with run(store, dead_letters=3) as keeper:
        for number in range(20):
            keeper.add(letter(number))
        await keeper.next_commit()

        async def is_pruned() -> bool:
            keeper.add(Batch())
            return len(reasons(kept)) == 3

        await eventually(is_pruned)
    assert reasons(kept) == ["17", "18", "19"]


async def test_a_question_that_cannot_be_answered_says_why(store: Any) -> None:
    """Whoever asks has to bear it."""
    store.is_away = True
    async with keeping(store, time.time) as keeper:
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await keeper.read(lambda one: list(one.beginning().latest))


async def test_of_a_flood_more_is_committed_together(
    store: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few messages are kept at once, many wait for more; the end keeps them all the same."""
    monkeypatch.setattr("reachmap_collector.keeper._FLOOD", 3)
    monkeypatch.setattr("reachmap_collector.keeper._GATHER_IN_FLOOD_S", 3600.0)
    async with run(store) as keeper:
        for number in range(3):
            keeper.add(letter(number))
        await keeper.next_commit()
        for number in range(3, 7):
            keeper.add(letter(number))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await keeper.next_commit()
    assert len(reasons(kept)) == 7
