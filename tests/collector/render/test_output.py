"""Where output goes and in which form."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from reachmap_collector.render import FORMATS, console, print_trimmed, show

ROWS: list[dict[str, Any]] = [
    {"name": "a", "count": 1, "facts": ["one", "two; three"], "nested": {"x": [1]}},
    {"name": 'b "quoted", with comma', "count": None, "facts": [], "extra": True},
]
ANSWER: dict[str, Any] = {"by": "role", "rows": ROWS}


def as_text(answer: Any, _width: int) -> Text:
    return Text(f"{len(answer['rows'])} rows")


def printed(
    capsys: pytest.CaptureFixture[str], style: str, rows: list[Any] = ROWS, **options: Any
) -> str:
    show(style, ANSWER, table=as_text, rows=lambda: rows, **options)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_json_is_the_answer_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """One document, so that a program can read all of standard output."""
    assert json.loads(printed(capsys, "json")) == ANSWER


def test_ndjson_is_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Each a document of its own."""
    lines = printed(capsys, "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_csv_is_a_header_and_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists of texts joined, deeper things as JSON, what is not there empty."""
    text = printed(capsys, "csv")
    assert text.splitlines() == [
        "name,count,facts,nested,extra",
        'a,1,one; two; three,"{""x"": [1]}",',
        '"b ""quoted"", with comma",,,,True',
    ]
    found = list(csv.DictReader(io.StringIO(text)))
    assert found[1]["name"] == 'b "quoted", with comma'


def test_csv_of_nothing_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads columns finds them; where none are known, a blank line is no header."""
    assert printed(capsys, "csv", [], columns=("name", "count")) == "name,count\n"
    assert printed(capsys, "csv", []) == ""


def test_csv_has_its_columns_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the first row has, and with all that the rows have besides."""
    lines = printed(capsys, "csv", columns=("count", "other")).splitlines()
    assert lines[0] == "count,other,name,facts,nested,extra"
    assert lines[1].startswith("1,,a,")


def test_csv_spreads_an_object_over_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is told to; NDJSON keeps it as it is."""
    rows = [{"name": "a", "checks": {"made": 2, "open": 1}}]
    columns = ("name", "checks_made", "checks_open")
    options = {"columns": columns, "spread": ("checks",)}
    assert printed(capsys, "csv", rows, **options) == "name,checks_made,checks_open\na,2,1\n"
    assert json.loads(printed(capsys, "ndjson", rows, **options)) == rows[0]


@pytest.mark.parametrize("style", FORMATS)
def test_what_rows_leave_out_is_said(capsys: pytest.CaptureFixture[str], style: str) -> None:
    """On standard error, and only where it is left out."""
    show(style, ANSWER, table=as_text, rows=lambda: ROWS, left_out="hosts")
    told = f"reachmap: {style} leaves out hosts; --format json has it all\n"
    assert capsys.readouterr().err == (told if style in ("ndjson", "csv") else "")


def test_ndjson_of_nothing_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No row, no line."""
    assert printed(capsys, "ndjson", []) == ""


def test_a_table_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """For people."""
    assert printed(capsys, "table") == "2 rows\n"


def test_there_are_just_these_formats() -> None:
    """As the contract has them."""
    assert FORMATS == ("table", "json", "ndjson", "csv")


def table_of(*cells: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number in range(len(cells)):
        table.add_column(f"column {number}")
    table.add_row(*cells)
    return table


@pytest.mark.parametrize(
    "text",
    [
        "[fd00::5]:4433 refused",
        "[bold]not bold",
        "expected a NATS INFO line, got '[/]'",
        "[/closing] what was never opened",
        ":smile: 10.0.0.1:80:81",
        "\\[escaped]",
    ],
)
def test_what_others_said_is_printed_as_they_said_it(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Brackets of an IPv6 address, or of a stranger's greeting, are no marks of ours."""
    show("table", ANSWER, table=lambda *_: table_of(text, text), rows=list)
    assert capsys.readouterr().out.count(text) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red\x1b[31m", "red\ufffd[31m"),
        ("bell\x07", "bell\ufffd"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("back\u202ewards", "back\ufffdwards"),
        ("c1\x9b2J", "c1\ufffd2J"),
        ("fine: \u00e9\u4e2d\u2713", "fine: \u00e9\u4e2d\u2713"),
    ],
)
def test_what_others_said_gives_a_terminal_no_orders(
    capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    """Agents and the services that they dial may send anything: none of it moves the cursor."""
    answer = {"rows": [{"evidence": [text], text: 1}]}
    show(
        "table",
        answer,
        table=lambda found, _: table_of(found["rows"][0]["evidence"][0]),
        rows=list,
    )
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("style", ["json", "ndjson"])
def test_programs_get_what_others_said_untouched(
    capsys: pytest.CaptureFixture[str], style: str
) -> None:
    """JSON has its own way to write it."""
    row = {"evidence": ["\x1b[31m\u202e"]}
    show(style, row, table=as_text, rows=lambda: [row])
    out = capsys.readouterr().out
    assert json.loads(out) == row
    assert "\x1b" not in out


def test_lines_end_where_their_text_does(capsys: pytest.CaptureFixture[str]) -> None:
    """The blanks that pad a table's last column hurt whoever copies lines."""
    table = table_of("a", "b")
    table.add_row("a", "a longer cell")
    print_trimmed(console(), table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)


def test_a_pipe_has_room_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody's screen is filled, so nothing needs to be broken; there is no colour either."""
    print_trimmed(console(), Text("x" * 150, "bold red"))
    assert capsys.readouterr().out == "x" * 150 + "\n"
    assert console().width == 200
    assert console(max_width=100).width == 100


_SHOWS_LINES = """
import sys
from rich.text import Text
from reachmap_collector.render import show
lines = "\\n".join(f"line {number}" for number in range(int(sys.argv[1])))
show("table", lines, table=lambda _, width: Text(lines), rows=list)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize(("lines", "is_paged"), [(9, False), (10, True)])
def test_what_is_taller_than_the_terminal_is_paged(
    tmp_path: Path, lines: int, is_paged: bool
) -> None:
    """By the reader's own pager; what fits, with the prompt below it, is just printed."""
    import pty
    import termios

    pager, seen = tmp_path / "pager", tmp_path / "seen"
    pager.write_text(f"#!/bin/sh\ncat > {seen}\n")
    pager.chmod(0o700)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (10, 80))
    environment = {**os.environ, "PAGER": str(pager), "TERM": "xterm"}
    for name in ("LINES", "COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-c", _SHOWS_LINES, str(lines)]
    try:
        subprocess.run(
            command, stdin=theirs, stdout=theirs, env=environment, check=True, timeout=60
        )
        printed = b"" if is_paged else os.read(ours, 10_000)
    finally:
        os.close(theirs)
        os.close(ours)
    expected = [f"line {number}" for number in range(lines)]
    if is_paged:
        assert seen.read_text().splitlines() == expected
    else:
        assert not seen.exists()
        assert printed.decode().split("\r\n") == [*expected, ""]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_pipe_is_never_paged(tmp_path: Path) -> None:
    """However long it is."""
    environment = {**os.environ, "PAGER": str(tmp_path / "none")}
    command = [sys.executable, "-c", _SHOWS_LINES, "500"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == 500
