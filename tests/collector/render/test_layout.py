"""Tables that fit their terminal, and that never lose a letter."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from reachmap_collector.render import console
from reachmap_collector.render.layout import Column, table

COLUMNS = (
    Column("host", whole=True),
    Column("service"),
    Column("ms", right=True, spare=2),
    Column("who", spare=1),
    Column("late", sparse=True),
)
ROWS = [
    ("a-long-host-name", "nats-server:4433", "1.0", "service", ""),
    ("b", "web:80", "12.0", "-", ""),
]


def shown(columns: Any, rows: Any, width: int) -> list[str]:
    """The lines of a table, without what pads them."""
    out: Console = console(max_width=width)
    with out.capture() as captured:
        out.print(table(columns, rows, width), crop=False)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            80,
            [
                "host              service             ms  who",
                "a-long-host-name  nats-server:4433   1.0  service",
                "b                 web:80            12.0  -",
            ],
        ),
        (
            48,
            [
                "host              service           who",
                "a-long-host-name  nats-server:4433  service",
                "b                 web:80            -",
            ],
        ),
        (
            42,
            [
                "host              service",
                "a-long-host-name  nats-server:4433",
                "b                 web:80",
            ],
        ),
        (
            33,
            [
                "host              service",
                "a-long-host-name  nats-server:",
                "                  4433",
                "b                 web:80",
            ],
        ),
        (
            25,
            [
                "host              service",
                "a-long-host-name  nats-",
                "                  server:",
                "                  4433",
                "b                 web:80",
            ],
        ),
    ],
)
def test_what_does_not_fit_is_left_out_or_folds(width: int, expected: list[str]) -> None:
    """Spare columns go by their rank, then the rest folds where a reader would break it."""
    assert shown(COLUMNS, ROWS, width) == expected


def test_what_is_whole_stays_whole_on_any_terminal() -> None:
    """Then lines are longer than it, and it breaks them by itself."""
    assert shown(COLUMNS, ROWS, 5) == shown(COLUMNS, ROWS, 25)


def test_a_sparse_column_is_there_where_it_says_something() -> None:
    """For one row is enough."""
    rows = [ROWS[0], ("b", "web:80", "12.0", "-", "3 ms")]
    assert shown(COLUMNS, rows, 80)[0].endswith("  late")


def test_a_cell_may_have_lines_and_colour() -> None:
    """A line of its own each, and what has a colour is not touched."""
    columns = (Column("a"), Column("b", whole=True))
    assert shown(columns, [("x\ny", Text("z", "red")), ("", "")], 80) == [
        "a  b",
        "x  z",
        "y",
        "",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    """Nobody has to ask whether there are any."""
    assert shown(COLUMNS, [], 80) == ["host  service  ms  who"]


words = st.text("ab-: .x", max_size=40).map(str.strip)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.integers(1, 100))
def test_no_letter_is_lost(rows: list[tuple[str, str]], width: int) -> None:
    """However narrow the terminal is: blanks may go where a cell folds, and nothing else."""
    columns = (Column("one"), Column("two", whole=True))
    lines = shown(columns, rows, width)
    said = sorted("".join(line.split()) for line in lines)
    assert sorted("".join(said)) == sorted(
        letter for letter in "onetwo" + "".join(map("".join, rows)) if not letter.isspace()
    )
