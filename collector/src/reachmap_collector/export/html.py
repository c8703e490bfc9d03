"""The map as one page for people: no other file, and nothing to run for who reads it. Pure.

A template with every value escaped makes it; the page's own policy lets no script run but the one
that filters.
"""

import base64
import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from reachmap_collector.export.snapshot import (
    Json,
    Options,
    Snapshot,
    place,
    source_roles,
    states,
)
from reachmap_collector.views import WORST_FIRST, worst
from reachmap_shared.vocabulary import State

_SHOWN: Final = 20
"""Flows of a group that are told in full; of the rest, the sources' names."""

_MARKS: Final = {
    State.OK: "\u2713",
    State.DEGRADED: "~",
    State.BROKEN: "\u2717",
    State.EXPOSED: "!",
    State.UNKNOWN: "?",
}

_SCRIPT: Final = """
const box = document.getElementById("filter");
document.getElementById("filtering").hidden = false;
box.addEventListener("input", () => {
  const wanted = box.value.toLowerCase().split(/\\s+/);
  for (const one of document.querySelectorAll("[data-text]")) {
    one.hidden = !wanted.every((word) => one.dataset.text.includes(word));
  }
});
"""

_ENVIRONMENT: Final = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    loader=PackageLoader("reachmap_collector.export", "templates"),
)


def page(snapshot: Snapshot, _options: Options) -> str:
    """The whole page."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return _ENVIRONMENT.get_template("page.html").render(
        moment=snapshot.status["now"],
        state=snapshot.status["state"],
        counts=[(state, count) for state in State if (count := states(snapshot.flows)[state])],
        marks=_MARKS,
        matrix=_matrix(snapshot.flows),
        groups=_groups(snapshot.flows),
        agents=[row for row in snapshot.agents if row["state"] != "fresh" or row["notes"]],
        script=_SCRIPT,
        digest=digest,
        place=place,
    )


def _matrix(flows: Sequence[Json]) -> Json:
    """Roles against services: the worst state of each cell, and how many of how many flows."""
    cells: dict[str, dict[str, list[Json]]] = {}
    for flow in flows:
        for role in source_roles(flow):
            cells.setdefault(role, {}).setdefault(flow["service"], []).append(flow)
    services = sorted({service for row in cells.values() for service in row})
    return {
        "services": services,
        "rows": [
            (role, [_cell(row.get(service, ())) for service in services])
            for role, row in sorted(cells.items())
        ],
    }


def _cell(flows: Sequence[Json]) -> tuple[str, int, int] | None:
    counted = states(flows)
    state = worst(counted)
    return None if state is None else (state, counted[state], len(flows))


def _groups(flows: Sequence[Json]) -> list[Json]:
    """Flows that are not as they should be, those alike together, the worst first."""
    troubled = sorted((flow for flow in flows if flow["state"] != State.OK), key=_alike)
    made = []
    for key, group in groupby(troubled, key=_alike):
        found = [*group]
        rest = found[_SHOWN:]
        made.append(
            {
                "state": found[0]["state"],
                "title": " ".join(key[1:]),
                "count": len(found),
                "flows": found[:_SHOWN],
                "rest": [f"{flow['source']} to {place(flow)}" for flow in rest],
                "text": " ".join([*key, *(flow["source"] for flow in found)]).lower(),
            }
        )
    return sorted(made, key=lambda one: WORST_FIRST.index(State(one["state"])))


def _alike(flow: Json) -> tuple[str, ...]:
    """What flows have in common that probably have one cause in common."""
    return (
        str(flow["state"]),
        str(flow["destination"]),
        str(flow["service"]),
        str(flow["outcome"] or "not checked"),
        f"cause {flow['cause']}" if flow["cause"] else "",
    )
