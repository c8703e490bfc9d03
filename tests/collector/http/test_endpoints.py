"""Parameters of a request, read strictly."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import queries, recall, views
from reachmap_collector.http.endpoints import ENDPOINTS, MAX_VALUE, from_cursor, read, to_cursor
from reachmap_shared.errors import QueryRefused

OF = {endpoint.query: endpoint.parameters for endpoint in ENDPOINTS}


def refusal(query: str, *given: tuple[str, str]) -> tuple[str, str]:
    with pytest.raises(QueryRefused) as caught:
        read(OF[query], given)
    return caught.value.code, str(caught.value)


def test_every_query_of_the_bus_is_there(collector_of: Any) -> None:
    """With every filter that the bus has; the bus alone has what preflight waits for."""
    assert OF.keys() == queries.Queries(collector_of()).endpoints().keys() - {"progress"}
    for query, names in (
        *(("flows", queries.FILTERS), ("map", queries.FILTERS)),
        *((past, recall.FILTERS) for past in ("history", "diff", "changes")),
    ):
        filters = [parameter.name for parameter in OF[query] if parameter.filters]
        assert sorted(filters) == sorted(names)


def test_parameters_become_a_question() -> None:
    """Filters together, and the rest beside them."""
    assert read(OF["flows"], []) == {}
    asked = read(OF["flows"], [("state", "ok"), ("row", "4433 console"), ("details", "true")])
    assert asked == {"filters": {"state": "ok", "row": "4433 console"}, "details": True}
    assert read(OF["map"], [("by", "row")]) == {"by": views.By.ROW}
    ends = [("source", "a"), ("destination", "b"), ("port", "80")]
    assert read(OF["explain"], ends) == {"source": "a", "destination": "b", "port": 80}


@pytest.mark.parametrize(
    ("query", "given", "message"),
    [
        ("status", [("a", "b")], "unknown parameter 'a': expected none"),
        (
            "map",
            [("port", "1")],
            "unknown parameter 'port': expected by, source, destination, role, service, state, "
            "row, after",
        ),
        ("map", [("by", "colour")], "by: expected one of role, host, row"),
        ("map", [("by", "row"), ("by", "row")], "by: given twice"),
        ("flows", [("details", "yes")], "details: expected true or false"),
        (
            "flows",
            [("state", "fine")],
            "state: expected one of ok, degraded, broken, exposed, unknown",
        ),
        ("flows", [("row", "x" * 301)], f"row: longer than {MAX_VALUE} characters"),
        ("explain", [("source", "a")], "destination: expected it"),
        ("explain", [("port", "0")], "port: expected a number from 1 to 65535"),
        ("explain", [("port", "65536")], "port: expected a number from 1 to 65535"),
        ("explain", [("port", "+80")], "port: expected a number from 1 to 65535"),
        ("explain", [("port", "\u0668")], "port: expected a number from 1 to 65535"),
    ],
)
def test_a_wrong_parameter_is_refused(query: str, given: Any, message: str) -> None:
    """With what was expected."""
    assert refusal(query, *given) == ("400", message)


@given(st.lists(st.text() | st.integers(), max_size=5))
def test_a_cursor_comes_back_as_it_went(place: list[str | int]) -> None:
    """In one word that a URL takes as it is."""
    word = to_cursor(place)
    assert word is not None
    assert word.replace("-", "").replace("_", "").isalnum()
    assert from_cursor(word) == json.loads(json.dumps(place))


@given(st.text())
def test_a_cursor_that_nobody_gave_leads_nowhere(text: str) -> None:
    """Whatever it is, it is refused or understood, and nothing fails."""
    with contextlib.suppress(QueryRefused):
        from_cursor(text)


@pytest.mark.parametrize("text", ["!", "a", "WyJ4Il", "\u00e9", "W" * 299])
def test_a_broken_cursor_is_no_page(text: str) -> None:
    """Not found, since there is no such page."""
    with pytest.raises(QueryRefused) as caught:
        from_cursor(text)
    assert caught.value.code == "404"


def test_the_last_page_has_no_next() -> None:
    assert to_cursor(None) is None
