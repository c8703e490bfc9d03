"""Rows of port tables by what a person types: a number, `openuem:7`, or some of its words. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from reachmap_collector.topology.model import TableRow

_WORD: Final = re.compile(r"\w+")


def find_rows(rows: Sequence[TableRow], text: str) -> list[TableRow]:
    """The rows that `text` means; none where it fits nothing.

    A number is a row's number, if there is such a row; in several profiles, it is a row of each.
    Anything else is words: those of the whole row, as it is shown, or some that all stand in its
    port, component and traffic, or where there is no such row in its description too.
    """
    profile, colon, number = text.strip().rpartition(":")
    if number.isascii() and number.isdigit() and len(number) <= 6:
        numbered = [
            row
            for row in rows
            if row.number == int(number) and (not colon or row.profile == profile)
        ]
        if numbered or colon:
            return numbered
    words = _words(text)
    if not words:
        return []
    whole = [row for row in rows if words == _words(str(row))]
    if whole:
        return whole
    wanted = set(words)
    narrow = [row for row in rows if wanted <= set(_words(_head(row)))]
    return narrow or [row for row in rows if wanted <= {row.profile, *_words(str(row))}]


def _head(row: TableRow) -> str:
    return f"{row.profile} {row.row.port} {row.row.component} {row.row.traffic}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
