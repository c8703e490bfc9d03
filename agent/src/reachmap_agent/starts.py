"""The accounts of this start and of those before it: what each made, and what has become of it.

An account stays open while the spool has something of its start. Then it is over, and is told for a
while longer: the bus may lose a start's last words after it took them.
"""

from dataclasses import dataclass
from typing import Final

from reachmap_agent.account import Account
from reachmap_agent.backlog import MAX_AGE_MS, Backlog
from reachmap_agent.clock import Clock
from reachmap_agent.segment_files import SegmentFiles
from reachmap_shared.messages import MAX_EARLIER, Earlier

_TOLD_MS: Final = MAX_AGE_MS
"""As long as reports are kept for a collector that is away. It remembers a start for longer; of one
that it had forgotten, all would seem to have vanished."""


@dataclass(frozen=True, slots=True)
class _Over:
    """A start of which nothing waits."""

    closed_ms: int
    last_ms: int
    """Both by the wall clock."""
    standing: Earlier


class Starts:
    """Every start that the spool knows of.

    Args:
        files: Where the accounts are.
        backlog: What of them waits.
        boot: This start.
        clock: For when an account was closed.
    """

    def __init__(self, files: SegmentFiles, backlog: Backlog, boot: str, clock: Clock) -> None:
        self._files = files
        self._backlog = backlog
        self._boot = boot
        self._clock = clock
        self._open: dict[str, Account] = {}
        self._over: dict[str, _Over] = {}

    @property
    def own(self) -> Account:
        """This start's."""
        return self._open[self._boot]

    def __getitem__(self, boot: str) -> Account:
        """That of a start of which something waits."""
        return self._open[boot]

    def get(self, boot: str) -> Account | None:
        """That of any start; None when it is over, or not known."""
        return self._open.get(boot)

    def boots(self) -> list[str]:
        """All starts with an account that is not over."""
        return list(self._open)

    def open(self, boot: str, *, on_disk: bool = True) -> None:
        """Take up a start's account. Raises OSError where the disk does not take it."""
        self._open[boot] = self._files.account(boot) if on_disk else Account(None)

    def keep(self) -> None:
        """Have this start's on disk, if that took nothing when it began. Raises OSError."""
        if not self.own.is_kept:
            self._files.keep_account(self._boot, self.own)

    def standing(self, boot: str) -> Earlier:
        """How a start's account stands: what is nowhere any more is lost."""
        account = self._open[boot]
        waiting, changes_waiting = self._backlog.waiting(boot)
        beyond, changes_beyond = self._backlog.beyond(boot)
        kept = account.delivered + beyond + waiting
        changes_kept = account.changes_delivered + changes_beyond + changes_waiting
        # Of an account that the disk did not take, at least what is left is known.
        account.made = account.made or kept
        account.told = account.told or changes_kept
        # More than all there was is kept where a disk did not take what was delivered already.
        lost, changes_lost = account.made - kept, account.told - changes_kept
        return Earlier(boot, account.made, max(0, lost), waiting, max(0, changes_lost))

    def close(self, boot: str) -> None:
        """A start's last words are in the spool."""
        self._open[boot].closed_ms = max(1, self._clock.wall_ms())

    def forget(self, boot: str) -> None:
        """Nothing waits of a start, if that is so."""
        if boot == self._boot or self._backlog.has(boot):
            return
        standing = self.standing(boot)
        account = self._open.pop(boot)
        closed_ms = account.closed_ms or self._clock.wall_ms()
        self._over[boot] = _Over(closed_ms, account.last_ms, standing)
        account.close()
        told = {one.boot for one in self.earlier()}
        for over in self._over.keys() - told:
            del self._over[over]
            self._files.remove_account(over)

    def earlier(self) -> tuple[Earlier, ...]:
        """The starts before this one that are to be told of, the latest last."""
        oldest_ms = self._clock.wall_ms() - _TOLD_MS
        closed = {boot: account.closed_ms for boot, account in self._open.items()}
        del closed[self._boot]
        for boot, over in self._over.items():
            if over.last_ms >= oldest_ms:
                closed[boot] = over.closed_ms
        latest = sorted(closed, key=closed.__getitem__)[-MAX_EARLIER:]
        return tuple(
            self._over[boot].standing if boot in self._over else self.standing(boot)
            for boot in latest
        )

    def end(self) -> None:
        """Let go of the files."""
        for account in self._open.values():
            account.close()
