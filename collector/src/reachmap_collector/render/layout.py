"""Tables that fit their terminal: some columns are left out, some fold, and some stay whole.

rich would cut what does not fit; here nothing is ever cut. Where even the whole columns are too
wide, lines are longer than the terminal, which breaks them by itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP: Final = 2
"""Blanks between columns."""

_LEAST: Final = 24
"""No word keeps a column that folds wider than this: a longer one is broken somewhere."""

_PIECES: Final = re.compile(r"[^\s:-]*(?:[:-]|\s+)?")
"""What stays together where a cell folds: words, and the parts of `nats-server:4433`."""

Cell = str | Text


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a table takes part."""

    name: str
    right: bool = False
    """Whether its cells stand at the right."""
    whole: bool = False
    """Whether its cells stay in one piece: what people look for and copy."""
    spare: int = 0
    """Left out where there is no room; the highest goes first, and 0 never does."""
    sparse: bool = False
    """Left out too where all its cells are empty."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> Table:
    """A plain table of `rows` for a terminal of `width` columns."""
    lines = list(rows)
    wide: dict[int, int] = {}
    least: dict[int, int] = {}
    for index, column in enumerate(columns):
        texts = [_plain(line[index]) for line in lines]
        if column.sparse and not any(texts):
            continue
        wide[index] = max(cell_len(part) for text in (column.name, *texts) for part in _parts(text))
        least[index] = wide[index]
        if not (column.whole or column.spare):
            pieces = (cell_len(piece.rstrip()) for text in texts for piece in _PIECES.findall(text))
            least[index] = max(cell_len(column.name), min(_LEAST, max(pieces, default=0)))
    _leave_out(wide, columns, width)
    _narrow(wide, least, width)
    made = Table(
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        header_style="bold",
        width=_total(wide),
    )
    for index, of_column in wide.items():
        made.add_column(
            columns[index].name,
            justify="right" if columns[index].right else "left",
            overflow="fold",
            width=of_column,
        )
    for line in lines:
        made.add_row(*(_folded(line[index], of_column) for index, of_column in wide.items()))
    return made


def _leave_out(wide: dict[int, int], columns: Sequence[Column], width: int) -> None:
    """Take spare columns away until the rest fits, or none is left."""
    for index in sorted(wide, key=lambda at: -columns[at].spare):
        if columns[index].spare and _total(wide) > width:
            del wide[index]


def _narrow(wide: dict[int, int], least: Mapping[int, int], width: int) -> None:
    """Narrow the columns that may fold, the widest first, until all fit or none can any more."""
    while _total(wide) > width:
        foldable = [index for index in wide if wide[index] > least[index]]
        if not foldable:
            return
        wide[max(foldable, key=lambda index: wide[index])] -= 1


def _total(wide: Mapping[int, int]) -> int:
    return sum(wide.values()) + _GAP * (len(wide) - 1)


def _folded(cell: Cell, width: int) -> Cell:
    """A cell in lines of that width; a piece that is longer is left to rich, which breaks it."""
    if isinstance(cell, Text) or max(map(cell_len, _parts(cell))) <= width:
        return cell
    lines: list[str] = []
    for part in _parts(cell):
        line = ""
        for piece in _PIECES.findall(part):
            if line and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _parts(text: str) -> Sequence[str]:
    return text.splitlines() or [""]


def _plain(cell: Cell) -> str:
    return cell.plain if isinstance(cell, Text) else cell
