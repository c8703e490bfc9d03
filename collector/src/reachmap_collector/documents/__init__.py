"""What `--format json` and the HTTP API give, as pydantic models: the source of its JSON Schemas.

Readers must bear fields that a later version adds, so no schema here forbids them; tests hold what
reachmap itself gives to just these fields. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from reachmap_collector.documents.agents import AbsentAgent, Agent, Agents
from reachmap_collector.documents.errors import Problem
from reachmap_collector.documents.flows import ExplainedFlow, Explanation, Flow, FlowPage
from reachmap_collector.documents.overview import Matrix, PortTable, Status
from reachmap_collector.documents.past import (
    Changes,
    Difference,
    DifferencePage,
    HistoryPage,
    Transition,
    Trend,
)
from reachmap_collector.documents.topology import Topology

__all__ = [
    "DIALECT",
    "DOCUMENTS",
    "Agents",
    "Changes",
    "DifferencePage",
    "Explanation",
    "FlowPage",
    "HistoryPage",
    "Matrix",
    "PortTable",
    "Problem",
    "Status",
    "Topology",
    "Trend",
    "schema",
]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS: Final[Mapping[str, Any]] = {
    "agents": list[Agent | AbsentAgent],
    "diff": Difference,
    "explain": list[ExplainedFlow],
    "flows": list[Flow],
    "history": list[Transition],
    "map": Matrix | PortTable,
    "status": Status,
    "topology": Topology,
    "trend": Trend,
}
"""What each command prints with `--format json`."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints; `name` is one of DOCUMENTS."""
    made = TypeAdapter(DOCUMENTS[name]).json_schema()
    return {"$schema": DIALECT, "$id": f"urn:reachmap:{name}", **made}
