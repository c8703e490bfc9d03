"""What must survive the collector: alerts, acknowledgements, silences, what waits to be told."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Kept
from reachmap_shared import log

ALERTS: Final = "alerts"
TOLD: Final = "alerts-told"
ACKS: Final = "alerts-acknowledged"
SILENCES: Final = "alerts-silences"
QUEUE: Final = "alerts-queue"
AREAS: Final = (ALERTS, TOLD, ACKS, SILENCES, QUEUE)

_log = log.get("alerts")


class Memory(Protocol):
    """Small things under names, in areas."""

    def kept(self, area: str) -> Mapping[str, bytes]:
        """All that is kept in an area, by key."""

    def keep(self, area: str, key: str, value: bytes | None) -> None:
        """Keep something from now on; None forgets it."""


class Mirror:
    """A memory that has all of itself at hand, and writes each change down elsewhere.

    Args:
        rows: What was written down before.
        write: Writes one thing down, at once or soon.
    """

    def __init__(self, rows: Iterable[Kept], write: Callable[[Kept], None]) -> None:
        self._areas: dict[str, dict[str, bytes]] = {}
        self._write = write
        for row in rows:
            if row.value is not None:
                self._areas.setdefault(row.area, {})[row.key] = row.value

    def kept(self, area: str) -> Mapping[str, bytes]:
        """All that is kept in an area, by key."""
        return dict(self._areas.get(area, {}))

    def keep(self, area: str, key: str, value: bytes | None) -> None:
        """Keep something from now on; None forgets it."""
        here = self._areas.setdefault(area, {})
        if here.get(key) == value:
            return
        if value is None:
            del here[key]
        else:
            here[key] = value
        self._write(Kept(area, key, value))


@contextmanager
def store_memory(url: str) -> Iterator[Mirror]:
    """A memory in a store; raises StoreRefused and StoreUnavailable where there is none."""
    with contextlib.closing(open_store(url)) as store:
        store.open()
        rows = [row for area in AREAS for row in store.kept(area)]

        def write(one: Kept) -> None:
            try:
                store.commit(Batch(kept=(one,)))
            except StoreUnavailable as error:
                # People are told all the same; only a restart would tell them once more.
                _log.warning("not written down", area=one.area, reason=str(error))

        yield Mirror(rows, write)
