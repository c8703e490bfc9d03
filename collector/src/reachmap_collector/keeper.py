"""Keeps things in the store, in a thread of its own, and bears it when the store cannot.

What came since the last commit is committed together. When that fails it stays in memory, and is
tried again with what came since; nobody is told that it is kept before it is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from reachmap_collector.alerts.kept import AREAS, Mirror
from reachmap_collector.errors import StoreError
from reachmap_collector.ledger import Account
from reachmap_collector.reports import kept_account
from reachmap_collector.store.api import Batch, Keep, Kept, Store
from reachmap_shared import log

_GATHER_S: Final = 0.05
"""What comes within it is committed together."""

_RETRY_S: Final = 1.0

_PRUNE_EVERY_S: Final = 600.0

_MAX_LETTERS: Final = 100
"""Dead letters in one commit: whoever sends rubbish without end must not fill the disk."""

Result = TypeVar("Result")

_log = log.get("store")


@dataclass(frozen=True, slots=True)
class _Item:
    batch: Batch
    octets: int
    done: Callable[[], None] | None


class Keeper:
    """The store's only user. Make one with `keeping`."""

    def __init__(self, store: Store, now: Callable[[], float], keep: Keep) -> None:
        self.trouble = ""
        """Why the store does not take anything right now; empty while it does."""
        self.letters = 0
        """Dead letters kept since the start."""
        self.transitions = 0
        """How many were committed; those that the store had already count too."""
        self._store = store
        self._now = now
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, "store")
        self._items: list[_Item] = []
        self._accounts: dict[tuple[str, str], Account] = {}
        self._octets = 0
        self._some = asyncio.Event()
        self._commit_ended = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many messages are not kept yet."""
        return len(self._items)

    @property
    def octets(self) -> int:
        """How large those messages are."""
        return self._octets

    def add(
        self,
        batch: Batch,
        account: Account | None = None,
        octets: int = 0,
        done: Callable[[], None] | None = None,
    ) -> None:
        """Keep a batch, and how its account stands then; `done` is called once that is kept."""
        self._items.append(_Item(batch, octets, done))
        self._octets += octets
        if account is not None:
            self._accounts[account.agent, account.boot] = account
        self._some.set()

    async def next_commit(self) -> None:
        """Wait until something more is kept."""
        await self._commit_ended.wait()

    async def read(self, question: Callable[[Store], Result]) -> Result:
        """What the store says. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, question, self._store)

    async def run(self) -> None:
        """Commit until cancelled; then once more, what there is."""
        pruned = time.monotonic()
        try:
            while True:
                await self._some.wait()
                await asyncio.sleep(_GATHER_S)
                if not await self._commit():
                    await asyncio.sleep(_RETRY_S)
                elif time.monotonic() - pruned > _PRUNE_EVERY_S:
                    pruned = time.monotonic() if not await self._prune() else pruned
        finally:
            if self._items:
                await self._commit()

    async def _commit(self) -> bool:
        items, accounts = self._items[:], self._accounts
        batch = _gathered(items, accounts.values())
        self._accounts = {}
        try:
            await self.read(lambda store: store.commit(batch))
        except StoreError as error:
            self._accounts = accounts | self._accounts
            self._stumbled(error)
            return False
        except BaseException:
            self._accounts = accounts | self._accounts
            raise
        if self.trouble:
            self.trouble = ""
            _log.info("store takes again what is to be kept", messages=len(items))
        self.letters += len(batch.dead_letters)
        self.transitions += len(batch.transitions)
        del self._items[: len(items)]
        self._octets -= sum(item.octets for item in items)
        if not self._items:
            self._some.clear()
        for item in items:
            if item.done is not None:
                item.done()
        self._commit_ended.set()
        self._commit_ended = asyncio.Event()
        return True

    async def _prune(self) -> bool:
        try:
            return await self.read(lambda store: store.prune(self._now(), self._keep))
        except StoreError as error:
            self._stumbled(error)
            return False

    def _stumbled(self, error: StoreError) -> None:
        if not self.trouble:
            _log.warning("store unavailable, what is new waits in memory", reason=str(error))
        self.trouble = str(error) or type(error).__name__

    def close(self) -> None:
        """Let go of the thread; the store is whoever's who opened it."""
        self._thread.shutdown(wait=True)


class StoreMemory(Mirror):
    """What alerting remembers, kept in the store."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(lambda one: keeper.add(Batch(kept=(one,))))
        self._keeper = keeper

    async def load(self) -> None:
        """Take up what was kept before; waits until that can be read."""
        while True:
            try:
                rows = await self._keeper.read(_remembered)
            except StoreError as error:
                _log.warning("the store cannot be read, alerts wait for it", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return self.begin(rows)


def _remembered(store: Store) -> list[Kept]:
    return [row for area in AREAS for row in store.kept(area)]


def _gathered(items: Sequence[_Item], accounts: Iterable[Account]) -> Batch:
    """All items as one batch, with how the accounts stand at this moment."""
    batches = [item.batch for item in items]
    letters = tuple(row for batch in batches for row in batch.dead_letters)
    return Batch(
        transitions=tuple(row for batch in batches for row in batch.transitions),
        rollups=tuple(row for batch in batches for row in batch.rollups),
        received=tuple(map(kept_account, accounts)),
        plans=tuple(row for batch in batches for row in batch.plans),
        dead_letters=letters[-_MAX_LETTERS:],
        # The last of each name is what counts.
        kept=tuple({(row.area, row.key): row for batch in batches for row in batch.kept}.values()),
    )


@asynccontextmanager
async def keeping(
    store: Store, now: Callable[[], float], keep: Keep | None = None
) -> AsyncIterator[Keeper]:
    """A keeper for as long as the block lasts."""
    keeper = Keeper(store, now, keep or Keep())
    try:
        yield keeper
    finally:
        keeper.close()
