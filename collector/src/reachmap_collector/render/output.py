"""Where output goes and in which form: one place for terminals, pipes, JSON and CSV."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import click
from rich.console import Console, RenderableType

FORMATS: Final = ("table", "json", "ndjson", "csv")

_WIDE: Final = 200
"""Columns where no terminal says otherwise: a pipe has room for everything."""

Json = dict[str, Any]


def console(max_width: int = _WIDE) -> Console:
    """Standard output, as wide as its terminal or, where there is none, as anyone wants."""
    # Text is taken as it is: `[fd00::5]:22` is an address, and no markup.
    out = Console(highlight=False, markup=False, emoji=False)
    out.width = min(out.width if out.is_terminal else _WIDE, max_width)
    return out


def print_trimmed(out: Console, what: RenderableType) -> None:
    """Print without the blanks that pad a table's last column: they hurt whoever copies lines."""
    _write(out, _trimmed(out, what))


def _trimmed(out: Console, what: RenderableType) -> list[str]:
    with out.capture() as captured:
        out.print(what, crop=False)
    return [line.rstrip() for line in captured.get().splitlines()]


def _write(out: Console, lines: Sequence[str]) -> None:
    out.file.write("\n".join(lines) + "\n")
    out.file.flush()


def _page(out: Console, lines: Sequence[str]) -> None:
    """Print what fits the terminal; show what is taller page by page, where somebody sits there."""
    if len(lines) < out.height or not (out.is_terminal and sys.stdin.isatty()):
        _write(out, lines)
        return
    # As others do: colours are kept, and what was read stays on the screen.
    os.environ.setdefault("LESS", "-FRX")
    click.echo_via_pager("\n".join(lines))


def show(
    style: str,
    answer: Any,
    *,
    table: Callable[[Any, int], RenderableType],
    rows: Callable[[], Sequence[Json]],
    columns: Sequence[str] = (),
    spread: Sequence[str] = (),
    left_out: str = "",
) -> None:
    """Print an answer in one of FORMATS.

    Args:
        style: Which.
        answer: What was answered, ready for JSON.
        table: Makes of the answer what people read, for a terminal of so many columns.
        rows: Makes of the answer flat rows, for a line each.
        columns: What CSV has in its header in any case, in this order.
        spread: Fields that hold an object, of which CSV makes a column for each of its keys.
        left_out: What of the answer the rows do not have, for standard error.
    """
    if style == "table":
        out = console()
        _page(out, _trimmed(out, table(printable(answer), out.width)))
    elif style == "json":
        click.echo(json.dumps(answer, indent=2))
    elif style == "ndjson":
        for row in rows():
            click.echo(json.dumps(row))
    else:
        click.echo(csv_text(rows(), columns, spread), nl=False)
    if left_out and style in ("ndjson", "csv"):
        click.echo(f"reachmap: {style} leaves out {left_out}; --format json has it all", err=True)


def printable(answer: Any) -> Any:
    """The answer without what a terminal would obey: agents and strangers said much of it."""
    if isinstance(answer, str):
        spaced = (" " if character.isspace() else character for character in answer)
        return "".join(character if character.isprintable() else "\ufffd" for character in spaced)
    if isinstance(answer, list):
        return [printable(item) for item in answer]
    if isinstance(answer, dict):
        return {key: printable(item) for key, item in answer.items()}
    return answer


def _spread(row: Json, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name in names and isinstance(value, dict):
            yield from ((f"{name}_{key}", item) for key, item in value.items())
        else:
            yield name, value


def csv_text(rows: Iterable[Json], columns: Sequence[str], spread: Sequence[str] = ()) -> str:
    """A header and a line a row; lists are joined by `; ` and what is nested deeper is JSON.

    Args:
        rows: One a line.
        columns: What the header has in any case, in this order.
        spread: Fields that hold an object, of which each key becomes a column.
    """
    flat = [dict(_spread(row, spread)) for row in rows]
    names = list(dict.fromkeys([*columns, *(column for row in flat for column in row)]))
    if not names:  # a blank line is no header
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in flat:
        writer.writerow({column: _cell(value) for column, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "; ".join(value)
    return json.dumps(value) if isinstance(value, list | dict) else value
