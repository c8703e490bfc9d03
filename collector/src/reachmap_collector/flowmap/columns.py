"""What is remembered of every flow in a few octets: one row a flow, an agent's rows side by side.

A deployment has a million flows, and nearly all of them are well. Of such a one the map needs to
know when it was told last, since when it has been so, and the few numbers that people see; the
sentences are in the store, for whoever looks at it. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_shared.vocabulary import AnsweredBy, Outcome

Rows = NDArray[np.void]
"""Rows of ROW."""

Bits = NDArray[np.bool_]
"""One for each row."""

ROW: Final = np.dtype(
    [
        ("at", "f8"),  # when the latest change was, in seconds since the epoch
        ("since", "f8"),  # since when it has been as that says; since when it is known, before any
        ("number", "u4"),  # of that change
        ("boot", "u4"),  # by its place among the words
        ("local", "u4"),  # the address that was dialled from, by its place among the words
        ("connect_us", "u4"),
        ("certificate", "u4"),  # when it ends, in seconds since the epoch
        ("outcome", "u1"),  # by its place in OUTCOMES
        ("answered", "u1"),  # by its place in ANSWERS
        ("flags", "u1"),
    ]
)

OUTCOMES: Final = (*Outcome,)
ANSWERS: Final = (None, *AnsweredBy)

NOTHING: Final = 255
"""The outcome of a flow that nobody told of yet."""

MOST: Final = (1 << 32) - 1
"""The highest that the numbers of a row can be; what is more is held as this."""

NO_CERTIFICATE: Final = MOST
"""It never ends. Those that end after 2106 are held as ending then."""

HEALTHY: Final = 1
WINDOW: Final = 2
FORBIDDEN: Final = 4
"""The topology wants it blocked."""
UNADDRESSED: Final = 8
"""Nobody knows where to dial."""

OUTCOME_CODES: Final = {outcome: code for code, outcome in enumerate(OUTCOMES)}
ANSWER_CODES: Final = {answer: code for code, answer in enumerate(ANSWERS)}


def blank(count: int, now: float) -> Rows:
    """Rows of flows that nobody told of."""
    rows: Rows = np.zeros(count, ROW)
    rows["since"] = now
    rows["certificate"] = NO_CERTIFICATE
    rows["outcome"] = NOTHING
    return rows


def certificate(until: int | None) -> int:
    """When a certificate ends, as a row has it."""
    return NO_CERTIFICATE if until is None else min(max(0, until), NO_CERTIFICATE - 1)


class Words:
    """Texts that many rows share, by a number for each."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {"": 0}
        self._texts = [""]

    def code(self, text: str) -> int:
        """The number of a text."""
        if text not in self._codes:
            self._codes[text] = len(self._texts)
            self._texts.append(text)
        return self._codes[text]

    def codes(self, texts: Iterable[str]) -> "NDArray[np.uint32]":
        """The numbers of several."""
        return np.array([*map(self.code, texts)], np.uint32)

    def text(self, code: int) -> str:
        """The text of a number."""
        return self._texts[code]

    def __len__(self) -> int:
        return len(self._texts)

    def in_use(self, every: Sequence[Rows], names: Sequence[str]) -> "Words":
        """Those that some columns of rows have, whose numbers are changed for it."""
        words = Words()
        for rows in every:
            for name in names:
                codes, places = np.unique(rows[name], return_inverse=True)
                rows[name] = words.codes(map(self.text, codes.tolist()))[places]
        return words
