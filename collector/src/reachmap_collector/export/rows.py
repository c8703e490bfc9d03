"""Flows as JSON, as a line of JSON each, and as CSV: what `reachmap flows` gives. Pure."""

import json

from reachmap_collector.export.snapshot import Json, Options, Snapshot
from reachmap_collector.render.output import csv_text
from reachmap_collector.render.tables import FLOW_COLUMNS, flow_rows

_DETAILS = ("advice", "settled_by", "requests", "diagnosis")
"""What only `explain` has."""


def as_json(snapshot: Snapshot, _options: Options) -> str:
    """One array, as its schema `flows` says."""
    return json.dumps(_flows(snapshot), indent=2) + "\n"


def as_ndjson(snapshot: Snapshot, _options: Options) -> str:
    """A flow a line."""
    return "".join(json.dumps(row) + "\n" for row in flow_rows(_flows(snapshot)))


def as_csv(snapshot: Snapshot, _options: Options) -> str:
    """A header, and a flow a line."""
    return csv_text(flow_rows(_flows(snapshot)), FLOW_COLUMNS, spread=("checks",))


def _flows(snapshot: Snapshot) -> list[Json]:
    return [
        {key: value for key, value in flow.items() if key not in _DETAILS}
        for flow in snapshot.flows
    ]
