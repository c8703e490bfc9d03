"""Flows for programs: the same in every format, and as `reachmap flows` gives them."""

import csv
import io
import json
from typing import Any

import jsonschema

from reachmap_collector import documents, render
from reachmap_collector.export import Options, Snapshot, rows


def test_json_is_what_its_schema_says(mixed: Snapshot) -> None:
    """The one of `flows`: without what only `explain` has."""
    found = json.loads(rows.as_json(mixed, Options()))
    jsonschema.Draft202012Validator(documents.schema("flows")).validate(found)
    assert len(found) == len(mixed.flows)
    assert not {"advice", "settled_by", "requests", "diagnosis"} & found[0].keys()


def test_lines_and_csv_have_the_same_rows(mixed: Snapshot) -> None:
    """With a header of all columns."""
    lines = [json.loads(line) for line in rows.as_ndjson(mixed, Options()).splitlines()]
    reader = csv.DictReader(io.StringIO(rows.as_csv(mixed, Options())))
    table = [*reader]
    assert tuple(reader.fieldnames or ()) == render.FLOW_COLUMNS
    assert [row["source"] for row in table] == [line["source"] for line in lines]
    assert lines[0]["rows"] == table[0]["rows"].split("; ")


def test_no_flow_is_an_export_too(quiet: Snapshot) -> None:
    """Valid in each format."""
    assert json.loads(rows.as_json(quiet, Options())) == []
    assert rows.as_ndjson(quiet, Options()) == ""
    assert rows.as_csv(quiet, Options()).splitlines() == [",".join(render.FLOW_COLUMNS)]


def test_a_line_stays_a_line(hostile: Any) -> None:
    """Whatever is in it."""
    assert len(rows.as_ndjson(hostile, Options()).splitlines()) == len(hostile.flows)
    assert (
        len([*csv.reader(io.StringIO(rows.as_csv(hostile, Options())))]) == len(hostile.flows) + 1
    )
