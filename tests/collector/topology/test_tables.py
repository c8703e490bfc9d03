"""Tables in Markdown: what is one, what its cells say, and on which line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.topology.tables import find_tables, split_cells


def cells(text: str) -> list[list[list[str]]]:
    """The cells of each table, its header first."""
    tables, _ = find_tables(text)
    return [[line.cells for line in (table.header, *table.rows)] for table in tables]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("| a | b |", [" a ", " b "]),
        ("a | b", ["a ", " b"]),
        ("| a | b", [" a ", " b"]),
        (r"| a \| b | c |", [r" a \| b ", " c "]),
        ("| | |", [" ", " "]),
        ("||", [""]),
        ("> > | a | b |", [" a ", " b "]),
        ("text", ["text"]),
        ("", []),
    ],
)
def test_a_row_is_split_at_each_bar_that_is_not_escaped(line: str, expected: list[str]) -> None:
    """Outer bars are optional, and a block's marks in front are no cell."""
    assert split_cells(line) == expected


def test_a_table_is_found_with_the_lines_of_its_rows() -> None:
    """Lines count from 1, in the file as it is."""
    [table], _ = find_tables("Ports\n\n| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nEnd\n")
    assert table.header.number == 3
    assert [(row.number, row.written, row.cells) for row in table.rows] == [
        (5, 2, ["1", "2"]),
        (6, 2, ["3", "4"]),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts_once(newline: str) -> None:
    """What else Unicode calls a line's end is none in Markdown."""
    text = newline.join(["\x0b \x85 \u2028 x", "", "| A |", "|---|", "| 1 |"])
    [table], _ = find_tables(text)
    assert [table.header.number, *(row.number for row in table.rows)] == [3, 5]


@pytest.mark.parametrize(
    ("cell", "plain"),
    [
        ("**4433**", "4433"),
        ("`4433`", "4433"),
        ("[NATS](https://nats.example) _server_", "NATS server"),
        ("![logo](a.png) Agent", "logo Agent"),
        (r"a \| b", "a | b"),
        ("R&amp;D", "R&D"),
        ("one<br>two", "one two"),
        ("  a \t b\u00a0c ", "a b c"),
        ("a\x1b[31mb\x00", "a [31mb\ufffd"),
        ("", ""),
    ],
)
def test_a_cell_is_plain_text(cell: str, plain: str) -> None:
    """Marks, entities, HTML and what cannot be seen are no part of a name."""
    [[_, [_, found]]] = cells(f"| A | B |\n|---|---|\n| 1 | {cell} |")
    assert found == plain


def test_a_ragged_row_tells_how_many_cells_it_has() -> None:
    """Markdown makes every row as wide as the header; the line itself knows better."""
    [table], _ = find_tables("| A | B |\n|---|---|\n| 1 |\n| 1 | 2 | 3 |\nafterthought\n")
    assert [(row.written, len(row.cells)) for row in table.rows] == [(1, 2), (3, 2), (1, 2)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```\n| A |\n|---|\n| 1 |\n```", id="a fence"),
        pytest.param("~~~md\n| A |\n|---|\n| 1 |\n", id="a fence without end"),
        pytest.param("    | A |\n    |---|\n    | 1 |", id="indented code"),
        pytest.param("<!--\n| A |\n|---|\n| 1 |\n-->", id="a comment"),
        pytest.param("---\nx: |\n---\n", id="a front matter with a bar"),
        pytest.param("---\n| A |\n|---|\n| 1 |\n...\n", id="a front matter with a table"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_looks_like_a_table_elsewhere_is_none(text: str) -> None:
    """Code, comments and front matters are not the document's tables."""
    assert find_tables(text) == ([], [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("---\nx: [\n  y ]\n---\n| A |\n|---|\n| 1 |", 5, id="below a front matter"),
        pytest.param("---\n\n| A |\n|---|\n| 1 |\n\n---\n", 3, id="between two rules"),
        pytest.param("---\nx: 1\n\n| A |\n|---|\n| 1 |", 4, id="below a rule never closed"),
        pytest.param("> | A |\n> |---|\n> | 1 |", 1, id="in a quotation"),
        pytest.param("- item\n\n  | A |\n  |---|\n  | 1 |", 3, id="in a list"),
        pytest.param("text\n| A |\n|---|\n| 1 |", 2, id="right below text"),
    ],
)
def test_a_table_is_found_wherever_markdown_has_one(text: str, line: int) -> None:
    """And its rows have as many cells as they are written with."""
    [table], _ = find_tables(text)
    assert table.header.number == line
    assert [(row.written, row.cells) for row in table.rows] == [(1, ["1"])]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Ports:\n\n| **A** | B |\n|---|\n| 1 | 2 |", id="a rule too short"),
        pytest.param("Ports:\n\n| A | `B` |\n---\n| 1 | 2 |", id="a rule of a heading"),
        pytest.param("Ports:\n\n| A | B |\n| 1 | 2 |", id="no rule"),
    ],
)
def test_a_table_that_is_none_for_its_rule_is_told_as_prose(text: str) -> None:
    """Markdown takes it for text, and whoever looks for the table has to know."""
    tables, prose = find_tables(text)
    assert tables == []
    assert (prose[0].number, prose[0].cells) == (3, ["A", "B"])


cell_text = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters=" |"), max_size=8
)


@given(st.lists(st.lists(cell_text, min_size=3, max_size=3), min_size=2, max_size=6))
def test_what_is_written_as_a_table_is_read_as_it(rows: list[list[str]]) -> None:
    """Whatever stands in the cells, once its bars are escaped."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    [table], _ = find_tables("\n".join([lines[0], "|---|---|---|", *lines[1:]]))
    found = [table.header, *table.rows]
    assert [line.cells for line in found] == [[" ".join(c.split()) for c in row] for row in rows]
    assert {line.written for line in found} == {3}


@given(st.text(max_size=200))
def test_any_text_at_all_is_read(text: str) -> None:
    """No text makes the reading fail, and every line that is told is one of the text's."""
    tables, prose = find_tables(text)
    lines = text.count("\n") + text.count("\r") + 1
    for line in [*prose, *(line for table in tables for line in (table.header, *table.rows))]:
        assert 1 <= line.number <= lines
