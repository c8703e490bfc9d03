"""What people read when something is refused."""

from pathlib import Path

import pytest

from reachmap_collector.errors import (
    InvalidFile,
    Problem,
    ServerError,
    StoreRefused,
    StoreUnavailable,
)
from reachmap_shared.errors import ReachmapError


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("hosts.a", "expected roles"), "hosts.a: expected roles"),
        (Problem("line 7", "no cells"), "line 7: no cells"),
        (Problem("", "cannot be read"), "cannot be read"),
    ],
)
def test_a_problem_says_where_it_is(problem: Problem, text: str) -> None:
    """As far as it has a place."""
    assert str(problem) == text


def test_a_refused_file_has_a_line_for_each_problem() -> None:
    """Each with the file's name, as compilers do, so that editors jump there."""
    error = InvalidFile(Path("t.toml"), [Problem("a", "one"), Problem("", "two")])
    assert str(error) == "t.toml: a: one\nt.toml: two"
    assert [problem.message for problem in error.problems] == ["one", "two"]
    assert error.path == Path("t.toml")


@pytest.mark.parametrize(("count", "last"), [(20, "19"), (21, "and 1 more problems")])
def test_a_file_with_very_many_problems_names_some(count: int, last: str) -> None:
    """And says how many there are besides; all of them can be asked for."""
    error = InvalidFile("t.toml", [Problem("", str(number)) for number in range(count)])
    lines = str(error).splitlines()
    assert len(lines) == min(count, 21)
    assert lines[-1] == f"t.toml: {last}"
    assert len(error.problems) == count


@pytest.mark.parametrize("kind", [InvalidFile, ServerError, StoreRefused, StoreUnavailable])
def test_all_of_them_are_ours(kind: type[Exception]) -> None:
    """Whoever catches ReachmapError catches everything that a person may be told about."""
    assert issubclass(kind, ReachmapError)
