"""Keeps things in the store, in a thread of its own, and bears it when the store cannot.

What came since the last commit is committed together. When that fails it stays in memory, and is
tried again with what came since; nobody is told that it is kept before it is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, Self, TypeVar

from reachmap_collector.alerts.kept import AREAS, Mirror
from reachmap_collector.errors import StoreError
from reachmap_collector.ledger import Account
from reachmap_collector.reports import kept_account
from reachmap_collector.store.api import (
    Batch,
    DeadLetter,
    Keep,
    Kept,
    PackedRollUp,
    PlanSlots,
    Store,
    Transition,
)
from reachmap_shared import log

_GATHER_S: Final = 0.05
"""What comes within it is committed together."""

_FLOOD: Final = 1000
"""Messages in that time, above which is waited for more: a commit writes every page of every index
that any of them touches, so that of few large ones each message costs a quarter less."""

_GATHER_IN_FLOOD_S: Final = 0.25

_RETRY_S: Final = 1.0

_PRUNE_EVERY_S: Final = 600.0

_MAX_LETTERS: Final = 100
"""Dead letters in one commit: whoever sends rubbish without end must not fill the disk."""

Result = TypeVar("Result")

_log = log.get("store")


class _Gathered:
    """What is to be committed together."""

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0
        self.done: Callable[[], None] | None = None
        self._transitions: list[Transition] = []
        self._rollups: list[PackedRollUp] = []
        self._plans: list[PlanSlots] = []
        self._letters: list[DeadLetter] = []
        self._kept: dict[tuple[str, str], Kept] = {}
        """By area and key: the last of each is what counts."""
        self._accounts: dict[tuple[str, str], Account] = {}

    def add(self, batch: Batch, account: Account | None, octets: int) -> None:
        """Take one message's up."""
        self.messages += 1
        self.octets += octets
        transitions, rollups, received, plans, letters, kept = batch
        assert not received  # they come of the accounts
        self._transitions += transitions
        self._rollups += rollups
        self._plans += plans
        self._letters += letters
        for one in kept:
            self._kept[one.area, one.key] = one
        if account is not None:
            self._accounts[account.agent, account.boot] = account

    def __iadd__(self, later: "_Gathered") -> Self:
        """And all that came after it."""
        self.messages += later.messages
        self.octets += later.octets
        self.done = later.done or self.done
        self._transitions += later._transitions
        self._rollups += later._rollups
        self._plans += later._plans
        self._letters += later._letters
        self._kept |= later._kept
        self._accounts |= later._accounts
        return self

    def batch(self) -> Batch:
        """All of it, with how the accounts stand at this moment."""
        return Batch(
            tuple(self._transitions),
            tuple(self._rollups),
            tuple(map(kept_account, self._accounts.values())),
            tuple(self._plans),
            tuple(self._letters[-_MAX_LETTERS:]),
            tuple(self._kept.values()),
        )


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
        self._waiting = _Gathered()
        self._going = _Gathered()
        """What is being committed right now."""
        self._some = asyncio.Event()
        self._commit_ended = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many messages are not kept yet."""
        return self._going.messages + self._waiting.messages

    @property
    def octets(self) -> int:
        """How large those messages are."""
        return self._going.octets + self._waiting.octets

    def add(
        self,
        batch: Batch,
        account: Account | None = None,
        octets: int = 0,
        done: Callable[[], None] | None = None,
    ) -> None:
        """Keep a batch, and how its account stands then.

        `done` is called once that is kept; of those kept at once the last one alone, for it speaks
        for all before it.
        """
        self._waiting.add(batch, account, octets)
        if done is not None:
            self._waiting.done = done
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
                if self._waiting.messages > _FLOOD:
                    await asyncio.sleep(_GATHER_IN_FLOOD_S - _GATHER_S)
                if not await self._commit():
                    await asyncio.sleep(_RETRY_S)
                elif time.monotonic() - pruned > _PRUNE_EVERY_S:
                    pruned = time.monotonic() if not await self._prune() else pruned
        finally:
            if self._waiting.messages:
                await self._commit()

    async def _commit(self) -> bool:
        going, self._waiting = self._waiting, _Gathered()
        self._going = going
        self._some.clear()
        batch = going.batch()
        try:
            await self.read(lambda store: store.commit(batch))
        except BaseException as error:
            going += self._waiting
            self._waiting = going
            self._some.set()
            if not isinstance(error, StoreError):
                raise
            self._stumbled(error)
            return False
        finally:
            self._going = _Gathered()
        if self.trouble:
            self.trouble = ""
            _log.info("store takes again what is to be kept", messages=going.messages)
        self.letters += len(batch.dead_letters)
        self.transitions += len(batch.transitions)
        if going.done is not None:
            going.done()
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
