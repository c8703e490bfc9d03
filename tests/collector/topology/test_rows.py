"""Rows of a port table, by whatever a person types to mean one."""

import re
from pathlib import Path

import pytest

from reachmap_collector.topology.load import load_topology, parse_topology
from reachmap_collector.topology.rows import find_rows

ROWS = parse_topology('profiles = ["openuem"]', Path("topology.toml")).rows
EACH = pytest.mark.parametrize("number", range(1, 22))


def numbers(text: str) -> list[int]:
    return [row.number for row in find_rows(ROWS, text)]


@EACH
def test_each_of_the_21_rows_has_many_names(number: int) -> None:
    """Its number, with its profile or alone; its port, component and direction; all its text."""
    row = ROWS[number - 1]
    spoken = f"{row.row.component} {row.row.port} {row.row.traffic}".upper()
    for text in (str(number), f" {number} ", f"openuem:{number}", spoken, str(row)):
        assert numbers(text) == [number], text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4433 agent worker", [7]),
        ("4433/NATS Server", [10]),
        ("5432", [13, 14, 15, 16, 17, 18]),
        ("sftp", [2]),  # of the description, since no component is called so
        ("cluster port", [12]),
        ("ocsp responder", [17, 19]),
        ("22", []),
        ("openuem:22", []),
        ("other:7", []),
        ("0", []),
        ("", []),
        (" : ", []),
        ("nonsense", []),
        ("\u0667", []),
        ("9" * 30, []),
    ],
)
def test_words_mean_all_rows_that_have_them(text: str, meant: list[int]) -> None:
    """And what fits none means none."""
    assert numbers(text) == meant


def test_a_number_is_of_every_table_unless_its_profile_is_named(tmp_path: Path) -> None:
    """Two profiles, both with a row 1."""
    row = 'rows = [{ port = 80, component = "Shop", traffic = "inbound" }]\n'
    (tmp_path / "shop.toml").write_text(row)
    path = tmp_path / "topology.toml"
    path.write_text('profiles = ["openuem", "./shop.toml"]')
    rows = load_topology(path).rows
    both = find_rows(rows, "1")
    assert len(both) == 2
    for one in both:
        assert find_rows(rows, f"{one.profile}:1") == [one]


def test_the_rows_of_the_table_are_21() -> None:
    """As they are documented: what is asked about here is all of it."""
    assert len(ROWS) == 21
    assert not re.search(r"[^\x20-\x7e]", "".join(map(str, ROWS)))
