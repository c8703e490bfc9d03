"""What the API has: its paths, their parameters, and what each gives. Pure.

One table, of which both the routes and the OpenAPI document are made.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from reachmap_collector import documents
from reachmap_collector.queries import MOST_FLOWS
from reachmap_collector.recall import PAGE
from reachmap_collector.trend import MAX_STEPS
from reachmap_collector.views import By
from reachmap_shared.errors import QueryRefused
from reachmap_shared.vocabulary import State

Json = dict[str, Any]

MAX_VALUE: Final = 300
"""Characters in a parameter: the longest name there is has fewer."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter in a request's query string."""

    name: str
    what: str
    schema: Mapping[str, Any]
    convert: Callable[[str], Any] = str
    """From its text; raises ValueError."""
    required: bool = False
    filters: bool = False
    """Whether it is one of the query's filters."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path that answers a query in JSON."""

    path: str
    query: str
    """Its name on the bus."""
    what: str
    gives: tuple[type[BaseModel], ...]
    """One of these."""
    parameters: tuple[Parameter, ...] = ()


_TEXT: Final = {"type": "string", "maxLength": MAX_VALUE}


def boolean(text: str) -> bool:
    """`true` or `false`."""
    return {"true": True, "false": False}[text]


def _between(lowest: int, highest: int) -> Callable[[str], int]:
    """Reads a number in decimal digits, and no other way to write one."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not lowest <= int(text) <= highest:
            raise ValueError(text)
        return int(text)

    return convert


def _number(name: str, what: str, lowest: int, highest: int) -> Parameter:
    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Parameter(name, what, schema, _between(lowest, highest))


def to_cursor(place: Sequence[str | int] | str | None) -> str | None:
    """The bus's cursor as one word for a URL."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def from_cursor(text: str) -> Any:
    """The bus's cursor; raises QueryRefused where no answer ever gave it."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise QueryRefused("404", "after: expected what a page gave as `next`") from None


_AFTER: Final = Parameter("after", "What the page before gave as `next`.", _TEXT, from_cursor)

_PAST_FILTERS: Final = (
    Parameter("source", "From this host.", _TEXT, filters=True),
    Parameter("destination", "To this host.", _TEXT, filters=True),
    Parameter("role", "With this role on either end.", _TEXT, filters=True),
    Parameter("service", "To this service, as `nats-server:4433`.", _TEXT, filters=True),
)

_FILTERS: Final = (
    *_PAST_FILTERS,
    Parameter("state", "In this state.", {"enum": [*State]}, State, filters=True),
    Parameter(
        "row", "Of this row of a port table: `7`, `openuem:7`, or words.", _TEXT, filters=True
    ),
)


def _moment(name: str, what: str) -> Parameter:
    return Parameter(name, what, {"type": "string", "format": "date-time", "maxLength": MAX_VALUE})


_MOST: Final = (1 << 63) - 1
"""The highest number that a store gives a change."""

_ENDS: Final = (
    Parameter("source", "From this host, or the one of this address.", _TEXT, required=True),
    Parameter("destination", "To this host, or the one of this address.", _TEXT, required=True),
    _number("port", "On this port.", 1, 65535),
)

ENDPOINTS: Final = (
    Endpoint(
        "/api/v1/map",
        "map",
        "Who must reach what, and whether they do; by host a page at a time.",
        (documents.Matrix, documents.PortTable),
        (
            Parameter("by", "What the rows are.", {"enum": [*By], "default": By.ROLE}, By),
            *_FILTERS,
            _AFTER,
        ),
    ),
    Endpoint(
        "/api/v1/flows",
        "flows",
        "Flows, a page at a time.",
        (documents.FlowPage,),
        (
            *_FILTERS,
            _AFTER,
            Parameter(
                "details",
                "Whether each flow comes with what `explain` adds.",
                {"type": "boolean", "default": False},
                boolean,
            ),
        ),
    ),
    Endpoint(
        "/api/v1/explain",
        "explain",
        "Everything known of the flows from one host to another.",
        (documents.Explanation,),
        _ENDS,
    ),
    Endpoint(
        "/api/v1/agents",
        "agents",
        "Who reports, from where, how fresh; a page at a time.",
        (documents.Agents,),
        (_AFTER,),
    ),
    Endpoint(
        "/api/v1/history",
        "history",
        "What became of flows, newest first, a page at a time.",
        (documents.HistoryPage,),
        (
            *_PAST_FILTERS,
            _moment("since", "From then on."),
            _moment("until", "Before then."),
            _number("limit", "Changes on a page at most.", 1, PAGE),
            _AFTER,
        ),
    ),
    Endpoint(
        "/api/v1/diff",
        "diff",
        "What changed between two times, a page at a time; of one moment where `until` is given.",
        (documents.DifferencePage,),
        (
            *_PAST_FILTERS,
            replace(_moment("since", "Compare how it was then."), required=True),
            _moment("until", "How it was then; now, without it."),
            _AFTER,
        ),
    ),
    Endpoint(
        "/api/v1/changes",
        "changes",
        "What was kept after a change, oldest first: ask again with the answer's `last`.",
        (documents.Changes,),
        (
            *_PAST_FILTERS,
            _number(
                "after",
                "An earlier answer's `last`; just where things stand, without it.",
                0,
                _MOST,
            ),
        ),
    ),
    Endpoint(
        "/api/v1/trend",
        "trend",
        "How flows between two hosts fared over a span: checks, those open, time to connect.",
        (documents.Trend,),
        (
            *_ENDS,
            _moment("since", "From then on; an hour before `until`, without it."),
            _moment("until", "Before then; now, without it."),
            _number("steps", "Into how many steps the time is cut; 12 without it.", 1, MAX_STEPS),
        ),
    ),
    Endpoint("/api/v1/status", "status", "The whole in one line's worth.", (documents.Status,)),
    Endpoint(
        "/api/v1/topology",
        "topology",
        "The topology in force, its hosts a page at a time.",
        (documents.Topology,),
        (_AFTER,),
    ),
)

PER_FLOW: Final = "per_flow"
"""The parameter of metrics that asks for series for each flow."""

METRICS: Final = (
    Parameter(
        PER_FLOW,
        f"Whether there are series for each flow that fits the filters, of which there may be "
        f"{MOST_FLOWS:,} at most: more are refused. The filters narrow nothing else.",
        {"type": "boolean", "default": False},
        boolean,
    ),
    *_FILTERS,
)
"""What metrics can be asked with."""


def read(parameters: Sequence[Parameter], given: Sequence[tuple[str, str]]) -> Json:
    """A request's parameters as the query takes them; raises QueryRefused."""
    known = {parameter.name: parameter for parameter in parameters}
    found: Json = {}
    for name, text in given:
        if name not in known:
            expected = ", ".join(known) or "none"
            raise QueryRefused("400", f"unknown parameter {name!r}: expected {expected}")
        if name in found:
            raise QueryRefused("400", f"{name}: given twice")
        if len(text) > MAX_VALUE:
            raise QueryRefused("400", f"{name}: longer than {MAX_VALUE} characters")
        try:
            found[name] = known[name].convert(text)
        except (ValueError, KeyError):
            raise QueryRefused("400", f"{name}: {_expected(known[name].schema)}") from None
    for parameter in parameters:
        if parameter.required and parameter.name not in found:
            raise QueryRefused("400", f"{parameter.name}: expected it")
    filters = {name: value for name, value in found.items() if known[name].filters}
    rest = {name: value for name, value in found.items() if name not in filters}
    return rest | ({"filters": filters} if filters else {})


def _expected(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"expected one of {', '.join(schema['enum'])}"
    if schema["type"] == "boolean":
        return "expected true or false"
    return f"expected a number from {schema['minimum']} to {schema['maximum']}"
