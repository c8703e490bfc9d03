"""What must survive the collector: alerts, acknowledgements, silences, what waits to be told.

Pure: a store is somebody else's.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from reachmap_collector.store.api import Kept

ALERTS: Final = "alerts"
TOLD: Final = "alerts-told"
ACKS: Final = "alerts-acknowledged"
SILENCES: Final = "alerts-silences"
QUEUE: Final = "alerts-queue"
AREAS: Final = (ALERTS, TOLD, ACKS, SILENCES, QUEUE)


class Memory(Protocol):
    """Small things under names, in areas."""

    async def load(self) -> None:
        """Take up what was kept before; waits until that can be read."""

    def kept(self, area: str) -> Mapping[str, bytes]:
        """All that is kept in an area, by key."""

    def keep(self, area: str, key: str, value: bytes | None) -> None:
        """Keep something from now on; None forgets it."""


class Mirror:
    """A memory that has all of itself at hand, and writes each change down elsewhere.

    Args:
        write: Writes one thing down, at once or soon.
    """

    def __init__(self, write: Callable[[Kept], None]) -> None:
        self._areas: dict[str, dict[str, bytes]] = {}
        self._write = write

    def begin(self, rows: Iterable[Kept]) -> None:
        """Take up what was written down before; what was kept since then stays."""
        for row in rows:
            if row.value is not None:
                self._areas.setdefault(row.area, {}).setdefault(row.key, row.value)

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
