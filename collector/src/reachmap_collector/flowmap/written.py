"""From changes of flows to what a row has of them, and back. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.columns import Rows
from reachmap_collector.flowmap.records import FlowRecord, Told
from reachmap_shared.messages import Observation

WORDS: Final = 10_000
"""Above so many, and twice those in use, the words that no row has any more are forgotten."""


class Written:
    """What rows say, with the words that they have in common."""

    def __init__(self) -> None:
        self.words = columns.Words()
        self._most = WORDS

    def row(self, record: FlowRecord, told: Told, of_topology: int) -> tuple[float | int, ...]:
        """What a row has of a flow.

        Args:
            record: The flow.
            told: Its latest change.
            of_topology: The flags that say what the topology wants of it.
        """
        seen = told.seen
        flags = columns.HEALTHY * seen.healthy | columns.WINDOW * seen.window
        return (
            told.at,
            record.changed,
            min(told.number, columns.MOST),
            self.words.code(told.boot),
            self.words.code(_without_port(seen.local)),
            min(max(0, seen.connect_us), columns.MOST),
            columns.certificate(seen.certificate_until),
            columns.OUTCOME_CODES[seen.outcome],
            columns.ANSWER_CODES[seen.answered_by],
            of_topology | flags,
        )

    def go_on(
        self, record: FlowRecord, row: np.void, address: str = "", resolved: tuple[str, ...] = ()
    ) -> None:
        """Let a record begin with what its row has, if anything was told of it.

        Args:
            record: Of the flow.
            row: Its row.
            address: Which address of a name it leads to, if it leads to one.
            resolved: All that the name has.
        """
        at, since, number, boot, local, connect_us, ends, outcome, answered, flags = row.item()
        if outcome == columns.NOTHING:
            return
        seen = Observation(
            slot=0,
            at_ms=0,
            outcome=columns.OUTCOMES[outcome],
            answered_by=columns.ANSWERS[answered],
            healthy=bool(flags & columns.HEALTHY),
            name_us=0,
            connect_us=connect_us,
            answer_us=0,
            local=self.words.text(local),
            evidence=(),
            window=bool(flags & columns.WINDOW),
            certificate_until=None if ends == columns.NO_CERTIFICATE else ends,
            address=address,
            resolved=resolved,
        )
        record.go_on(Told(at, self.words.text(boot), number, seen), since)

    def has(self, row: np.void, boot: str, number: int) -> bool:
        """Whether a change is what a row was written from."""
        is_told = row["outcome"] != columns.NOTHING and row["number"] == number
        return bool(is_told) and self.words.text(row["boot"]) == boot

    def codes(self, texts: Iterable[str]) -> NDArray[np.uint32]:
        """The numbers that rows have for some words."""
        return self.words.codes(texts)

    def forget(self, every: Sequence[Rows]) -> None:
        """Forget the words that no row has any more, if they are many."""
        if len(self.words) > self._most:  # each start of an agent brought one
            self.words = self.words.in_use(every, ("boot", "local"))
            self._most = WORDS + 2 * len(self.words)


def _without_port(local: str) -> str:
    """All that many flows have in common of where a check came from."""
    host, colon, _ = local.rpartition(":")
    return f"{host}:0" if colon else ""
