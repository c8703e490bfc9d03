r"""Tables in Markdown text: their cells as plain text, and the line that each row stands on. Pure.

This module knows nothing of ports. Markdown is that of GitHub: a row is split at each | but \|,
and what stands in a code fence, an HTML block or a front matter is no table.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_NEWLINE: Final = re.compile(r"\r\n?|\n")
"""markdown-it's own idea of a line's end, so that both count lines alike."""

_SEPARATOR: Final = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class TableLine:
    """One row of a table as it stands in the text."""

    number: int
    """Its line, counted from 1."""
    written: int
    """The cells that the line has: markdown-it fills up or cuts off `cells` without a word."""
    cells: list[str] = field(default_factory=list)
    """As many as the header has, without marks such as ** or `."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its header and the rows below."""

    header: TableLine
    rows: list[TableLine] = field(default_factory=list)


def find_tables(text: str) -> tuple[list[Table], list[TableLine]]:
    """Find the tables in a text, and the lines of prose that hold separators.

    The latter are what became of a table whose second line does not fit its header: Markdown
    takes it for a paragraph, and says nothing.
    """
    lines = _without_front_matter(_NEWLINE.split(text))
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    return list(_tables(tokens, lines)), list(_prose(tokens))


def split_cells(line: str) -> list[str]:
    r"""Split a row at each | but \|; the outer ones are optional."""
    # Within a quotation or a list, a line carries that block's marks in front.
    cells = _SEPARATOR.split(line.lstrip(" \t>").rstrip())
    if cells and not cells[0]:
        cells = cells[1:]
    if cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _tables(tokens: Sequence[Token], lines: Sequence[str]) -> Iterator[Table]:
    rows: list[TableLine] = []
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            line = _first_line(token)
            rows.append(TableLine(line + 1, len(split_cells(lines[line]))))
        elif token.type in {"th_open", "td_open"}:
            rows[-1].cells.append(_plain(tokens[index + 1]))
        elif token.type == "table_close":
            yield Table(rows[0], rows[1:])


def _prose(tokens: Sequence[Token]) -> Iterator[TableLine]:
    for index, token in enumerate(tokens):
        # A line of dashes alone below it makes a lost header a heading.
        if token.type in {"paragraph_open", "heading_open"}:
            inline = tokens[index + 1]
            for number, line in enumerate(inline.content.split("\n"), _first_line(inline) + 1):
                cells = [" ".join(cell.strip("*_` ").split()) for cell in split_cells(line)]
                if len(cells) > 1:
                    yield TableLine(number, len(cells), cells)


def _without_front_matter(lines: list[str]) -> list[str]:
    """Make a YAML front matter blank, whose text could pass for Markdown.

    As pandoc has it, an opening line with a blank one below is a mere rule.
    """
    if len(lines) > 1 and lines[0].rstrip() == "---" and lines[1].strip():
        for index, line in enumerate(lines[1:], 1):
            if line.rstrip() in {"---", "..."}:
                return [""] * (index + 1) + lines[index + 1 :]
    return lines


def _first_line(token: Token) -> int:
    """Where a token begins, counted from 0."""
    assert token.map is not None, f"{token.type} has no lines"
    return token.map[0]


def _plain(inline: Token) -> str:
    text = "".join(
        " " if child.type == "html_inline" else child.content for child in inline.children or ()
    )
    # What cannot be seen (control characters among it) has no place in a name or a message.
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
